"""What a run of the whole pipeline takes, and what of it a machine cannot give: from params alone.

    make plan                        params.yaml as it is
    make plan PRESET="nsd nsd8"      as it would be after these presets
    python -m pipeline.plan --json   the numbers

A row a stage, or an item of it: bytes that are fetched and that stay on disk, the peak of RAM (the
process' own; mapped pages are listed apart), the peak of GPU memory, trained weights, and time by
the declared speed of a device (machine.py). Nothing is measured: each number is a formula, which
stands with its source in sizes.py (data and files), training.py and memory.py (trainings), and
needs_*.py (stages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fmri2clip.core.params import Params
from fmri2clip.decoders import load_decoder
from fmri2clip.stages.check_params import needs_data, needs_models, needs_pictures
from fmri2clip.stages.check_params.case import Case, Need
from fmri2clip.stages.check_params.machine import (
    DEVICES,
    GB,
    Device,
    Machine,
    find_gpu_memory,
    find_machine,
)
from fmri2clip.stages.check_params.words import duration, gb, group

# As in dvc.yaml, in its order.
STAGES: Mapping[str, Callable[[Case], list[Need]]] = {
    "check_params": needs_data.check_params,
    "download_stimuli": needs_data.download_stimuli,
    "download": needs_data.download,
    "check_data": needs_data.check_data,
    "extract_rois": needs_data.extract_rois,
    "cache_stimuli": needs_data.cache_stimuli,
    "cache_clip": needs_data.cache_clip,
    "components": needs_data.components,
    "cache_library": needs_data.cache_library,
    "select": needs_data.select,
    "train": needs_models.train,
    "evaluate": needs_models.evaluate,
    "inspect_tokens": needs_models.inspect_tokens,
    "reconstruct": needs_pictures.reconstruct,
    "score_pictures": needs_pictures.score_pictures,
    "references": needs_models.references,
    "hierarchy": needs_models.hierarchy,
    "count_parameters": needs_models.count_parameters,
    "describe_data": needs_models.describe_data,
    "report": needs_models.report,
}
# What to change where a stage does not fit.
ADVICE = {
    "cache_clip": "lower batch_size of the clip",
    "reconstruct": "lower pictures.n_images, or batch_size of generators; offload: model",
    "score_pictures": "lower pictures.n_images, name fewer reconstructions, or brain: false",
    "hierarchy": "lower hierarchy.n_images, or name fewer subjects",
}
OTHER = "take a machine with more, or fewer dataset.sessions"
SIZES = ("hidden", "width", "batch_size")  # what a training's memory grows with
# Of any simulated NSD with decoders of the size of params.yaml: bytes that are enough.
ENOUGH_MEMORY = 6 * GB
ENOUGH_DISK = 10 * GB


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Needs of all stages, the machine they must fit, and the device whose speed counts."""

    needs: Sequence[Need]
    machine: Machine
    device: Device
    params: Params

    @property
    def disk(self) -> float:
        """Bytes of all outputs, of DVC's copies of them, and of the largest passing need."""
        return sum(need.disk for need in self.needs) + self.copied + self.scratch

    @property
    def copied(self) -> float:
        """Bytes that DVC's cache holds once more."""
        return 0.0 if self.machine.links else sum(need.copied for need in self.needs)

    @property
    def scratch(self) -> float:
        """Bytes beside the outputs, at the stage that takes most."""
        return max(need.scratch for need in self.needs)


def make_plan(
    params: Params,
    root: Path,
    device_name: str = "",
    machine: Machine | None = None,
    quick: bool = False,
) -> Plan:
    """The plan of parameters that are valid.

    device_name: of DEVICES, '' for the one like this machine's; then a named GPU is taken to be
    there. machine: what the plan must fit, this one if not given. quick: activations of trainings
    are estimated from their weights, which spares the seconds of a step on the meta device.
    """
    if device_name:
        device = DEVICES[device_name]
    else:
        gpu_memory = find_gpu_memory() if params.compute.device != "cpu" else 0.0
        device = replace(DEVICES["gpu24"], gpu_memory=gpu_memory) if gpu_memory else DEVICES["cpu2"]
    case = Case(params, device, quick)
    return Plan(
        needs=[need for stage in STAGES.values() for need in stage(case)],
        machine=machine or find_machine(root, device.gpu_memory),
        device=device,
        params=params,
    )


# What does not fit


def find_obstacles(params: Params, root: Path) -> list[str]:
    """find_warnings for this machine, in about two seconds.

    Of a simulated NSD none are looked for where the machine has enough for any: a second or two is
    more than the stage that asks takes itself.
    """
    machine = find_machine(root, 0.0)
    is_roomy = machine.memory >= ENOUGH_MEMORY and machine.disk >= ENOUGH_DISK
    if params.dataset.source == "simulated" and is_roomy:
        return []
    return find_warnings(make_plan(params, root, quick=True))


def find_warnings(plan: Plan) -> list[str]:
    """One line for each stage that this machine cannot run, and for a disk that is too small."""
    lines = []
    if plan.disk > plan.machine.disk:
        lines.append(
            f"disk: {gb(plan.disk)} are needed, {gb(plan.machine.disk)} are free or hold outputs "
            f"already; {_disk_advice(plan)}"
        )
    for label, needs in group(plan.needs):
        need = needs[0]
        advice = _advise(plan.params, need)
        if need.ram > plan.machine.memory:
            has = f"this machine has {gb(plan.machine.memory)}"
            lines.append(f"{label}: {gb(need.ram)} of memory are needed, {has}; {advice}")
        elif need.ram + need.pages > plan.machine.memory:
            lines.append(
                f"{label}: its {gb(need.pages)} of tokens do not stay in memory beside "
                f"{gb(need.ram)} of its own: it reads them from the disk again in each epoch, "
                f"{duration(need.pages / plan.device.disk)} each time"
            )
        if need.gpu > plan.machine.gpu_memory:
            has = f"the GPU has {gb(plan.machine.gpu_memory)}"
            lines.append(f"{label}: {gb(need.gpu)} of GPU memory are needed, {has}; {advice}")
        if need.weights is None:
            lines.append(
                f"{label}: weights are unknown and not counted, as the decoder's constructor needs "
                "more than expected_sizes gives; override that method"
            )
    return lines + _find_precisions(plan)


def _find_precisions(plan: Plan) -> list[str]:
    """Settings that need a GPU where there is none, and CLIP models without a file."""
    lines = []
    case = Case(plan.params, plan.device)
    tables = (("clips", plan.params.clips), ("generators", plan.params.generators))
    for table, entries in tables:
        for name, entry in entries.items():
            precision = entry.get("precision") if isinstance(entry, Mapping) else entry.precision
            if precision == "fp16" and not plan.device.gpu_memory:
                lines.append(f"{table}.{name}: precision fp16 needs a GPU; take fp32 or bf16")
    for name, shape in case.clips.items():
        if not shape.is_known:
            model = plan.params.clips[name].model
            lines.append(f"clips.{name}: the size of {model} is not known, counted as ViT-H-14")
    return lines


def _advise(params: Params, need: Need) -> str:
    """What to change so that a stage fits."""
    run = params.runs.get(need.item)
    if need.stage not in ("train", "evaluate") or run is None:
        return ADVICE.get(need.stage, OTHER)
    section = {**params.decoders[run.decoder], **run.overrides}
    options = []
    if names := [name for name in SIZES if name in section]:
        options.append(f"lower {', '.join(names)} of decoders.{run.decoder}")
    if section.get("tokens") == "all":
        options.append(f"set tokens to components for runs.{need.item}")
    if len(run.subjects) > 1 and not load_decoder(run.decoder).Decoder.per_subject:
        options.append(f"name fewer subjects in runs.{need.item}")
    return ", or ".join(options) or OTHER


def _disk_advice(plan: Plan) -> str:
    """What to change so that the disk is large enough, with what each change saves."""
    options = []
    dataset = plan.params.dataset
    betas = sum(need.disk for need in plan.needs if need.stage == "download")
    if dataset.source != "simulated" and dataset.keep_raw:
        options.append(f"dataset.keep_raw: false saves {gb(betas)}")
        if dataset.container == "hdf5":
            options.append(f"dataset.container: nifti about {gb(0.58 * betas)}")
    if plan.copied:
        options.append(f"a file system with links (.dvc/config) {gb(plan.copied)}")
    pictures = sum(need.disk for need in plan.needs if need.stage == "reconstruct")
    if pictures > GB:
        options.append(f"reconstructions: {{}} {gb(pictures)}")
    return ", ".join(options) or "free some, or name fewer subjects"


def as_json(plan: Plan) -> dict[str, Any]:
    """Plain numbers: bytes, weights, seconds; one row an item."""
    rows = [{"name": need.name, **asdict(need), "cached": need.copied} for need in plan.needs]
    return {
        "device": asdict(plan.device),
        "machine": asdict(plan.machine),
        "rows": rows,
        "disk": plan.disk,
        "warnings": find_warnings(plan),
    }
