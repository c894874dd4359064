"""The plan's formulas against things that were built, written or measured."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.datasets.mini.design import make_design
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.stages.check_params import machine, memory, plan, sizes, steps, table, training
from fmri2clip.stages.check_params.machine import GB, Machine
from fmri2clip.stages.train import trainer
from pipeline import check_params as script
from pipeline.plan import read_params
from tests.decoders.settings import make_config
from tests.decoders.test_decoders import small_config
from tests.stages.check_params.training_world import ROOT, Size, make_clip_arrays
from tests.tiny_subject import make_tiny

LARGE = Machine(memory=1e13, disk=1e13, gpu_memory=1e13, links=True)
SMALL = Machine(memory=8 * GB, disk=100 * GB, gpu_memory=8 * GB, links=False)


@pytest.fixture(scope="module")
def default() -> plan.Plan:
    return plan.make_plan(read_params([], ROOT), ROOT, "cpu2", LARGE)


@pytest.fixture(scope="module")
def nsd() -> plan.Plan:
    return plan.make_plan(read_params(["nsd"], ROOT), ROOT, "gpu24", SMALL)


def test_every_stage_has_a_row(default: plan.Plan) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(dict.fromkeys(need.stage for need in default.needs)) == list(plan.STAGES)
    assert set(plan.STAGES) == set(stages)
    tables = {f"${{{n}}}": getattr(default.params, n) for n in ("runs", "clips", "libraries")}
    tables["${subjects}"] = dict.fromkeys(default.params.subjects)
    for name, stage in stages.items():
        items = {need.item for need in default.needs if need.stage == name}
        assert items == set(tables[stage["foreach"]] if "foreach" in stage else [""]), name


def test_the_table_names_every_stage_and_is_narrow(default: plan.Plan, nsd: plan.Plan) -> None:
    for found in (default, nsd):
        text = table.describe(found, "title")
        assert max(map(len, text.splitlines())) <= 100
        assert all(f"\n{stage}" in text for stage in plan.STAGES)
    assert "Everything fits this machine." in table.describe(default, "title")


def test_what_is_too_large_is_marked_and_named(nsd: plan.Plan) -> None:
    nsd = dataclasses.replace(nsd, machine=dataclasses.replace(nsd.machine, gpu_memory=6 * GB))
    text = table.describe(nsd, "title")
    (row,) = [line for line in text.splitlines() if line.startswith("train@brainmclip")]
    assert row.count("!") == 1  # GPU memory
    warnings = plan.find_warnings(nsd)
    (line,) = [w for w in warnings if "train@brainmclip" in w and "GPU memory" in w]
    advice = "lower hidden, batch_size of decoders.brainmclip"
    assert line.endswith(f"the GPU has 6.0 GB; {advice}")
    assert warnings[0].startswith("disk: ") and "dataset.keep_raw: false saves" in warnings[0]
    roomy = dataclasses.replace(nsd, machine=LARGE)
    assert not plan.find_warnings(roomy) and nsd.disk > roomy.disk  # DVC's copies


def test_all_tokens_of_nsd_are_too_many_and_the_plan_says_what_to_do(nsd: plan.Plan) -> None:
    """Review of methods, 8: ridge to all tokens needs 55 GB of GPU memory."""
    runs = nsd.params.runs
    run = dataclasses.replace(runs["ridge_lowrank"], overrides={"tokens": "all"})
    params = dataclasses.replace(nsd.params, runs={"ridge_lowrank": run}, reconstructions={})
    fitting = dataclasses.replace(LARGE, gpu_memory=24 * GB)
    (line,) = plan.find_warnings(plan.make_plan(params, ROOT, "gpu24", fitting))
    assert line.startswith("train@ridge_lowrank") and "set tokens to components for runs." in line


def test_one_gpu_and_64_gb_run_the_preset_nsd(nsd: plan.Plan) -> None:
    fitting = Machine(memory=64 * GB, disk=1000 * GB, gpu_memory=24 * GB, links=True)
    assert plan.find_warnings(dataclasses.replace(nsd, machine=fitting)) == []


def test_all_eight_subjects_take_more(nsd: plan.Plan) -> None:
    more = plan.make_plan(read_params(["nsd", "nsd8"], ROOT), ROOT, "gpu24", LARGE)
    assert {need.item for need in more.needs if need.stage == "download"} == set(
        sizes.layout.SUBJECTS
    )
    assert set(more.params.runs) == set(nsd.params.runs)
    assert all(len(run.subjects) == 8 for run in more.params.runs.values())
    whole = dataclasses.replace(nsd, machine=LARGE)
    assert more.disk > whole.disk


def test_json_holds_the_numbers(default: plan.Plan) -> None:
    content = json.loads(json.dumps(plan.as_json(default)))
    assert {row["name"] for row in content["rows"]} == {need.name for need in default.needs}


@pytest.mark.parametrize("preset", ["smoke", "rois_takagi"])
def test_other_presets_have_a_plan(preset: str) -> None:
    assert plan.make_plan(read_params([preset], ROOT), ROOT, "cpu2", LARGE).needs


@pytest.mark.parametrize(("container", "session"), [("hdf5", 9), ("nifti", 5)])
def test_checking_real_betas_takes_minutes_a_subject(
    nsd: plan.Plan, container: str, session: float
) -> None:
    """More than the disk: at least so many seconds of CPU a session, where sessions are kept."""
    seconds = {}
    for keep_raw in (True, False):
        dataset = dataclasses.replace(nsd.params.dataset, container=container, keep_raw=keep_raw)
        params = dataclasses.replace(nsd.params, dataset=dataset)
        needs = plan.make_plan(params, ROOT, "gpu24", LARGE).needs
        (seconds[keep_raw],) = [need.seconds for need in needs if need.stage == "check_data"]
    n_sessions = sum(sizes.find_subject(nsd.params, s).n_sessions for s in nsd.params.subjects)
    assert 0.9 * session * n_sessions < seconds[True] - seconds[False] < 13 * n_sessions
    assert seconds[False] < 100


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'nsdd' is not known.*did you mean nsd"):
        read_params(["nsdd"], ROOT)


def test_check_params_warns_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = read_params(["smoke"], ROOT)
    script.warn(params, ROOT)
    assert not capsys.readouterr().out or machine.find_memory() < plan.ENOUGH_MEMORY
    small = dataclasses.replace(LARGE, memory=1e6)
    monkeypatch.setattr(plan, "find_machine", lambda *given: small)
    script.warn(params, ROOT)
    lines = capsys.readouterr().out.splitlines()
    assert any("train@brainmclip: " in line for line in lines)
    assert all(line.startswith("warning: ") for line in lines)
    monkeypatch.setattr(plan, "find_machine", lambda *given: 1 / 0)
    script.warn(params, ROOT)
    assert "no plan could be made (ZeroDivisionError" in capsys.readouterr().out


def test_a_simulated_nsd_needs_no_more_than_enough(default: plan.Plan) -> None:
    """So check_params need not plan one."""
    assert max(need.ram for need in default.needs) < plan.ENOUGH_MEMORY / 3
    assert default.disk < plan.ENOUGH_DISK / 3


def test_a_quick_plan_is_near_the_whole_one(nsd: plan.Plan) -> None:
    quick = plan.make_plan(nsd.params, ROOT, "gpu24", SMALL, quick=True)
    for one, two in zip(quick.needs, nsd.needs, strict=True):
        # Without activations; brainmclip's, in centring, are the largest share.
        assert one.ram == pytest.approx(two.ram, rel=0.2), one.name
        assert one.gpu == pytest.approx(two.gpu, rel=0.15), one.name


# Sizes


def test_pictures_seen_are_those_of_the_release() -> None:
    assert sizes.count_seen(30, 40, 0) == (20312, 8302, 2188, 907)


@pytest.mark.parametrize("sessions", sizes.SEEN)
def test_pictures_seen_by_the_formula_are_near_the_counted_ones(sessions: int) -> None:
    planned = sizes.count_seen(sessions, 40, sizes.layout.N_SHARED)  # as of a simulated world
    assert planned == pytest.approx(sizes.SEEN[sessions], rel=0.06, abs=25)


def test_pictures_of_a_simulated_world(default: plan.Plan) -> None:
    """Against its design, whole and cut."""
    world = default.params.world
    design = make_design(world.seed, world.n_sessions, world.n_shared)
    for n_sessions, tolerance in ((12, 0.0), (8, 0.06), (4, 0.06)):
        shown = design.masterordering_N[: 750 * n_sessions].astype(int)
        shared = shown <= world.n_shared
        counted = (sum(~shared), len(set(shown[~shared])), sum(shared), len(set(shown[shared])))
        planned = sizes.count_seen(n_sessions, world.n_sessions, world.n_shared)
        assert planned == pytest.approx(counted, rel=tolerance)


def test_bytes_of_a_clip_cache_are_those_of_a_written_one(
    default: plan.Plan, tmp_path: Path
) -> None:
    shape = sizes.find_clip(default.params.clips["mini"])
    write_cache(tmp_path / "clip.h5", make_clip_arrays(shape, 300))
    written = (tmp_path / "clip.h5").stat().st_size
    assert sizes.count_clip_file(shape, 300, "simulated") == pytest.approx(written, rel=0.02)


@pytest.mark.parametrize(
    ("stage", "path", "tolerance"),
    [
        ("download_stimuli", "data/raw/nsd/nsddata_stimuli", 0.05),
        ("download", "data/raw/nsd/nsddata_betas/ppdata/subj01", 0.05),
        ("extract_rois", "data/rois/train/subj01.h5", 0.05),
        ("cache_stimuli", "data/stimuli/train.h5", 0.05),
        ("train", "models/brainmclip", 0.05),
        ("train", "models/ridge_lowrank", 0.05),
        ("reconstruct", "data/reconstructions", 0.05),
    ],
)
def test_disk_of_the_default_run_is_that_of_the_lock_file(
    stage: str, path: str, tolerance: float, default: plan.Plan
) -> None:
    """dvc.lock holds what `dvc repro` has written; each stage's outputs together."""
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    (outputs,) = [
        stage["outs"]
        for stage in lock.values()
        if any(out["path"] == path for out in stage.get("outs", []))
    ]
    written = sum(out["size"] for out in outputs)
    item = path.removesuffix(".h5").rsplit("/", 1)[1]
    (need,) = [n for n in default.needs if n.stage == stage and n.item in ("", item)]
    assert need.disk == pytest.approx(written, rel=tolerance)


def test_size_of_vit_l_14_is_the_published_one(nsd: plan.Plan) -> None:
    shape = sizes.find_clip(nsd.params.clips["vit_l14"])
    assert shape.n_weights == pytest.approx(427.6e6, rel=0.01)  # open_clip's model card
    assert shape.image_flops == pytest.approx(162e9, rel=0.01)  # 81 G multiply-adds
    assert shape.arrays["text_tokens_IUD"] == (77, 768)


def test_an_unknown_model_is_counted_and_named(default: plan.Plan) -> None:
    clip = dataclasses.replace(default.params.clips["mini"], model="unheard-of", config="")
    assert not sizes.find_clip(clip).is_known
    changed = dataclasses.replace(default.params, clips={"mini": clip})
    warnings = plan.find_warnings(dataclasses.replace(default, params=changed))
    assert warnings == ["clips.mini: the size of unheard-of is not known, counted as ViT-H-14"]


# Decoders


def without_content(data: TrainingData) -> TrainingData:
    return dataclasses.replace(data.to("meta"), ncsnr_V=data.ncsnr_V)


@pytest.mark.parametrize("name", decoders.names())
def test_a_decoder_without_memory_has_the_shapes_of_a_real_one(name: str) -> None:
    kind = decoders.load_decoder(name).Decoder
    config = small_config(name)
    if name == "ridge":
        config = make_config(name, tokens="components")
    tiny = make_tiny()
    real = kind.from_data(config, [tiny], 0)
    empty = training.build(kind, config, [without_content(tiny)])
    shapes = {key: value.shape for key, value in real.state_dict().items()}
    assert {key: value.shape for key, value in empty.state_dict().items()} == shapes
    assert empty.n_parameters() == real.n_parameters()


class Bare(decoders.Decoder):
    """A new decoder that overrides nothing."""

    def __init__(self, config: Any, n_voxels: int, width_D: int, seed: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_voxels, width_D)

    def loss(self, batch: Any, epoch: float) -> dict[str, Tensor]:
        error = self.layer(batch.betas_BV) - batch.image_embedding_BD
        return {"mse": error.square().mean()}

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> decoders.Decoded:
        return decoders.Decoded(embedding_ID=self.layer(betas_IV))


class Peeking(Bare):
    """One whose loss looks into its tensors."""

    def loss(self, batch: Any, epoch: float) -> dict[str, Tensor]:
        rows = (batch.betas_BV[:, 0] > 0).nonzero()[:, 0]
        return {"mse": self.layer(batch.betas_BV[rows]).square().mean()}


class Asking(Bare):
    """One that needs a keyword, and says nowhere which."""

    def __init__(self, config: Any, n_voxels: int, width_D: int, seed: int, *, n: int) -> None:
        super().__init__(config, n_voxels, width_D, seed)


@pytest.mark.parametrize("kind", [Bare, Peeking, Asking])
def test_a_new_decoder_is_planned_without_overriding_anything(
    kind: type, default: plan.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = decoders.load_decoder("brainclip")
    monkeypatch.setattr(module, "Decoder", kind)
    params = read_params([], ROOT)
    found = plan.make_plan(params, ROOT, "cpu2", LARGE)
    (need,) = [n for n in found.needs if n.name == "train@brainclip"]
    unknown = [line for line in plan.find_warnings(found) if "weights are unknown" in line]
    if kind is Asking:
        assert need.weights is None and len(unknown) == 1
    else:
        n_voxels = [subject.n_voxels for subject in sizes.find_subjects(params).values()]
        assert need.weights == (sum(n_voxels) + len(n_voxels)) * 128 and not unknown
        assert need.seconds > 0


def test_a_step_is_counted_as_by_hand() -> None:
    """A linear layer: 2 B V D products. Kept for the backward pass: the error, (B, D), whose square
    is taken; the betas are part of the batch.
    """
    tiny = without_content(make_tiny())
    decoder = training.build(Bare, None, [tiny])
    config = make_config("brainclip", batch_size=16)
    step = steps.measure_step(decoder, config, [tiny])
    assert step.flops == 2 * 16 * 30 * 8
    assert step.saved == 16 * 8 * 4


def test_constants_of_the_trainer_are_the_same() -> None:
    assert memory.DATA_SHARE == trainer.DATA_SHARE


SIZES = {
    "brainclip, narrow": Size(
        decoder="brainclip", n_images=600, n_voxels=4000, overrides={"hidden": 512}
    ),
    "brainclip, wide": Size(
        decoder="brainclip", n_images=600, n_voxels=4000, overrides={"hidden": 2048}
    ),
    "brainclip, many images": Size(
        decoder="brainclip", n_images=1200, n_voxels=4000, overrides={"hidden": 512}
    ),
    "brainmclip": Size(
        decoder="brainmclip", n_images=200, n_voxels=3000, overrides={"hidden": 768}
    ),
    "clip_mused": Size(decoder="clip_mused", n_images=600, n_voxels=3000),
    "ridge": Size(decoder="ridge", n_images=1500, n_voxels=4000),
    "ridge, tokens": Size(
        decoder="ridge", n_images=800, n_voxels=1500, overrides={"tokens": "all"}
    ),
    "ridge, components": Size(
        decoder="ridge",
        n_images=1200,
        n_voxels=2000,
        overrides={"tokens": "components"},
    ),
    "label_ridge": Size(decoder="label_ridge", n_images=900, n_voxels=3000),
}


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[int, int]]:
    """Memory before a training and the peak above it, of all sizes in one process."""
    given = []
    for size in SIZES.values():
        is_closed = decoders.load_decoder(size.decoder).Decoder.closed_form
        short = {"n_alphas": 2, "n_folds": 2} if is_closed else {"max_epochs": 1}
        given.append(dataclasses.asdict(size) | {"overrides": {**size.overrides, **short}})
    module = "tests.stages.check_params.training_world"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, json.dumps(given)],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            # Arrays of real size are above glibc's limit, and go back to the system when freed; so
            # do these.
            "MALLOC_MMAP_THRESHOLD_": str(2**20),
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(SIZES, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", SIZES)
def test_memory_of_a_training_is_as_measured(
    name: str, measured: dict[str, tuple[int, int]]
) -> None:
    before, above = measured[name]
    model = SIZES[name].plan()
    planned = memory.count_ram(model, on_gpu=False) - memory.BASE[model.closed_form]
    assert planned == pytest.approx(above, rel=0.2), f"{planned / 1e6:.0f}, {above / 1e6:.0f} MB"
    assert before < memory.BASE[False]


# The machine


def test_memory_is_that_of_the_machine_or_less() -> None:
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine.find_memory() <= pages


def test_limits_of_a_job_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its control group, of one above it, and what SLURM says, in MiB; 0 stands for all."""
    new, old = tmp_path / "cgroup", tmp_path / "cgroup/memory"
    limits = {"": (new, "memory.max"), "memory": (old, "memory.limit_in_bytes")}
    groups = tmp_path / "own"
    monkeypatch.setattr(machine, "LIMITS", limits)
    monkeypatch.setattr(machine, "OWN_GROUPS", groups)
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    whole = machine.find_memory()
    groups.write_text("0::/slurm/job_1/step_0\n")
    (new / "slurm/job_1/step_0").mkdir(parents=True)
    (new / "slurm/job_1/step_0/memory.max").write_text("max\n")
    assert machine.find_memory() == whole
    (new / "slurm/job_1/memory.max").write_text("5000000\n")
    assert machine.find_memory() == 5e6
    groups.write_text("4:cpu,memory:/slurm/uid_0\n")
    (old / "slurm/uid_0").mkdir(parents=True)
    (old / "slurm/uid_0/memory.limit_in_bytes").write_text("4000000\n")
    assert machine.find_memory() == 4e6
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "3")
    assert machine.find_memory() == 3 * 2**20
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")
    assert machine.find_memory() == 4e6


def test_cores_are_those_that_a_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert machine.count_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.count_cores() == os.cpu_count()


@pytest.mark.parametrize(("kinds", "links"), [("hardlink", True), ("copy", False), ("", False)])
def test_links_are_tried(kinds: str, links: bool, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    if kinds:
        (tmp_path / ".dvc/config").write_text(f"[cache]\n    type = {kinds}\n")
    before = sorted(tmp_path.rglob("*"))
    found = machine.makes_links(tmp_path)
    assert found == links or not kinds  # without an entry DVC tries reflinks: some disks have them
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_reads_the_disk_that_outputs_take(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_bytes(b"x" * 1000)
    assert machine.count_bytes(tmp_path / "data") == 1000
    assert machine.count_bytes(tmp_path / "models") == 0
