"""The pipeline at NSD's real shape on a small machine, without NSD: seconds, own and mapped memory.

    # writes benchmarks/real_size.json; 30 GB of disk, 24 GB of memory, two hours on two cores
    python benchmarks/real_size.py
    # one part, merged into the file; parts find the inputs of the part before in the folder
    python benchmarks/real_size.py --scratch DIR --only extract,inputs

One subject with 40 sessions of random betas (real_trees.py: one session under 40 names), 15,724
voxels and 10,000 images, whose CLIP tokens (257 x 768 twice, 77 x 768) are random, too. Every
decoder is trained at the widths of presets/nsd.yaml, on all training images, with all tokens
mapped. What takes hours on a CPU is cut: networks take a few steps in each of two epochs, closed
forms try three penalties. The scores say nothing; memory is that of a real training, and the time
of a step, too.

Each measurement is a process of its own. Every tenth of a second the memory of the process and its
children is read from /proc: RssAnon is what the process needs (peak_ram_gb), RssFile is files that
it looks at, libraries included, which the system drops where it needs the room (mapped_gb). 1 GB is
10^9 bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import real_trees  # noqa: E402
from real_trees import PREPARATION, SUBJECT, Grid, Widths  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402

from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.trials import list_images, write_betas, write_voxels  # noqa: E402
from fmri2clip.core import stage  # noqa: E402
from fmri2clip.core.params import Clip, Dataset, Labels, Norm, Params  # noqa: E402
from fmri2clip.core.strict import build  # noqa: E402

RESULT = ROOT / "benchmarks" / "real_size.json"
CLIP = "vit_l14"
GB = 1e9
POLL_S = 0.1
N_CACHED = 200  # pictures through the real ViT-L/14
FULL = (37_000, 73_000)  # pictures of four subjects, of all
ON_CPU: dict[str, Any] = {"precision": "fp32", "batch_size": 64}  # of the CLIP model
MANY_SUBJECTS = tuple(f"subj{s:02d}" for s in range(1, 9))
FEW = {"n_alphas": 3}  # penalties of the closed forms: 13 take the same memory and more time
# Runs of the drive: decoder, its overrides, steps of an epoch (0: closed form or all of them).
RUNS: dict[str, tuple[str, dict[str, Any], int]] = {
    "ridge": ("ridge", FEW, 0),
    "ridge_lowrank": ("ridge", {"tokens": "components", **FEW}, 0),
    "brainclip": ("brainclip", {"max_epochs": 2, "patience": 2}, 0),
    "brainmclip": ("brainmclip", {"max_epochs": 2, "patience": 2}, 4),
    "clip_mused": ("clip_mused", {"max_epochs": 2, "patience": 2}, 10),
    "label_ridge": ("label_ridge", FEW, 0),
}
TOY_WIDTHS: dict[str, dict[str, Any]] = {
    "ridge": {"n_alphas": 2, "n_folds": 2},
    "brainclip": {"hidden": 16, "batch_size": 128},
    "brainmclip": {"hidden": 16, "blocks": 1, "token_rank": 4, "nce_tokens": 2},
    "clip_mused": {"components": 4, "width": 16, "layers": 1, "heads": 2, "hidden": 16},
    "label_ridge": {"components": 4, "n_alphas": 2, "n_folds": 2},
}
SMALL_WIDTHS = {"hidden": 64, "blocks": 1, "token_rank": 16, "max_epochs": 2, "patience": 2}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the drive is."""

    grid: Grid = real_trees.REAL
    widths: Widths = real_trees.REAL_WIDTHS
    n_validation: int = 300
    n_sessions: tuple[int, ...] = (1, 4, 12, 40)
    n_cached: int = N_CACHED
    n_pictures: tuple[int, ...] = (1_000, 3_000, 10_000)
    picture_size: int = 425
    n_subjects: tuple[int, ...] = (1, 2, 4, 8)
    subject_voxels: int = 4_000
    subject_images: int = 1_500
    subject_widths: Widths = real_trees.SMALL_WIDTHS
    free_gb: float = 30.0


REAL = Size()
TOY = Size(
    grid=real_trees.TOY,
    widths=Widths(T=5, U=4, D=16, W=8, P=6),
    n_validation=50,
    n_sessions=(1, 2),
    n_cached=6,
    n_pictures=(10, 20),
    picture_size=32,
    n_subjects=(1, 2),
    subject_voxels=300,
    subject_images=100,
    subject_widths=Widths(T=5, U=4, D=16, W=8, P=6),
    free_gb=0.5,
)


def main() -> None:
    """Measure the parts asked for and merge them into the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scratch", type=Path, help="folder for inputs; default: a temporary one")
    parser.add_argument("--only", default="", help="parts, separated by commas; default: all")
    parser.add_argument("--toy", action="store_true", help="everything small, in minutes")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON file")
    parser.add_argument("--limit", type=float, default=590.0, help="seconds of one measurement")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--options", default="{}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = TOY if given.toy else REAL
    if given.child:
        run_child(given.child, given.scratch, size, json.loads(given.options))
        return
    wanted = [name for name in given.only.split(",") if name] or list(PARTS)
    real_trees.check_names(wanted, list(PARTS), "part")
    if given.scratch:
        given.scratch.mkdir(parents=True, exist_ok=True)
        drive(wanted, given.scratch, size, given)
    else:
        with tempfile.TemporaryDirectory() as folder:
            drive(wanted, Path(folder), size, given)


def drive(wanted: list[str], scratch: Path, size: Size, given: argparse.Namespace) -> None:
    """The parts one after the other; the file is written after each."""
    free = shutil.disk_usage(scratch).free / GB
    if free < size.free_gb:
        raise ValueError(f"{scratch} has {free:.0f} GB free, {size.free_gb:.0f} are needed")
    meter = Meter(scratch, given.toy, given.limit)
    for name in wanted:
        if name == "plan":
            add_plan(given.out)
        else:
            try:
                PARTS[name](meter, size)
            finally:  # rows of a part that a later measurement ends stay
                merge(given.out, meter.rows, given.toy)


def merge(path: Path, rows: Mapping[str, dict[str, Any]], toy: bool) -> None:
    """Put rows into the file beside those that it has, and work out growth anew."""
    table: dict[str, Any] = {"rows": {}}
    if path.is_file():
        table = json.loads(path.read_text())
    table["size"] = "toy" if toy else "real"
    table["machine"] = f"{os.cpu_count()} cores of a {platform.machine()} CPU"
    table["rows"] |= rows
    table["growth"] = describe_growth(table["rows"])
    path.write_text(json.dumps(table, indent=1) + "\n")


# Measuring


class Meter:
    """Runs a task in a process of its own and keeps a row of what it took."""

    def __init__(self, scratch: Path, toy: bool, limit_s: float) -> None:
        self.scratch = scratch
        self.toy = toy
        self.limit_s = limit_s
        self.rows: dict[str, dict[str, Any]] = {}

    def prepare(self, task: str, **options: Any) -> None:
        """Run a task that nobody measures, such as the writing of inputs."""
        self._run(task, options)

    def measure(self, name: str, task: str, stage: str, size: str, **options: Any) -> None:
        """Row `name` of a task of `stage`."""
        row: dict[str, Any] = {"stage": stage, "size": size}
        row |= self._run(task, options)
        self.rows[name] = row | {"plan_gb": None, "ratio": None}
        peaks = f"{row['peak_ram_gb']:.2f} GB own, {row['mapped_gb']:.2f} GB mapped"
        print(f"{name}: {size}: {peaks}, {row['seconds']:.0f} s {row.get('more', '')}", flush=True)

    def _run(self, task: str, options: Mapping[str, Any]) -> dict[str, Any]:
        command = [sys.executable, str(Path(__file__).resolve()), "--child", task]
        command += ["--scratch", str(self.scratch), "--options", json.dumps(options)]
        command += ["--toy"] * self.toy
        log = self.scratch / "logs" / f"{task}-{'-'.join(map(str, options.values()))}.log"
        log.parent.mkdir(exist_ok=True)
        started = time.monotonic()
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
            own, mapped = watch_memory(process, started + self.limit_s)
        seconds = time.monotonic() - started
        if process.returncode != 0:
            end = log.read_text()[-2000:]
            why = f"stopped after {seconds:.0f} s" if process.returncode < 0 else "failed"
            raise RuntimeError(f"{task} {dict(options)} {why}: {end}")
        assert process.stdout is not None
        result: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
        found = {"peak_ram_gb": own / GB, "mapped_gb": mapped / GB, "seconds": seconds}
        return {name: round(value, 3) for name, value in found.items()} | result


def watch_memory(process: subprocess.Popen[str], deadline: float) -> tuple[int, int]:
    """Largest RssAnon and largest RssFile, bytes, of a process and its children until it ends."""
    peaks = [0, 0]
    while process.poll() is None:
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
        found = [read_memory(pid) for pid in list_tree(process.pid)]
        for i in range(2):
            peaks[i] = max(peaks[i], sum(one[i] for one in found))
        time.sleep(POLL_S)
    return peaks[0], peaks[1]


def list_tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from list_tree(int(child))


def read_memory(pid: int) -> tuple[int, int]:
    """RssAnon and RssFile of one process, bytes; zeros for one that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kilobytes = [int(values.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile")]
    return 1024 * kilobytes[0], 1024 * kilobytes[1]


# Parts


def part_extract(meter: Meter, size: Size) -> None:
    """Extraction of the first sessions and of all; the last one stays, as input of trainings."""
    meter.prepare("write_tree")
    shape = "one subject, {} sessions of 750 x {} x {} x {}"
    for n in size.n_sessions:
        text = shape.format(n, *reversed(size.grid.shape))
        meter.measure(f"extract_{n}", "extract", "extract_rois", text, n_sessions=n)


def part_inputs(meter: Meter, size: Size) -> None:
    """CLIP caches of the training and the test images, areas, pictures of the test images."""
    text = f"{size.grid.n_images:,} images with tokens"
    meter.measure("write_clip", "write_inputs", "writer of the CLIP cache", text)


def part_run(name: str) -> Callable[[Meter, Size], None]:
    """Training and scoring of one run."""

    def measure(meter: Meter, size: Size) -> None:
        if lack := lacking(name):
            print(f"train_{name}: skipped, {lack}", flush=True)
            return
        n_train = size.grid.n_images - size.grid.n_shared
        images = f"{n_train - size.n_validation:,} + {size.n_validation:,} images"
        voxels = f"{size.grid.n_ribbon:,} voxels"
        meter.measure(f"train_{name}", "train", "train", f"{images}, {voxels}", run=name)
        text = f"{size.grid.n_shared:,} test images"
        meter.measure(f"evaluate_{name}", "evaluate", "evaluate", text, run=name)

    return measure


def lacking(run: str) -> str:
    """A setting of the run that its decoder does not have; '' for none."""
    from fmri2clip.decoders import load_decoder

    decoder, overrides, _ = RUNS[run]
    known = {field.name for field in fields(load_decoder(decoder).Config)}
    unknown = sorted(set(overrides) - known)
    return f"{decoder} has no {', '.join(unknown)}" if unknown else ""


def part_cache(meter: Meter, size: Size) -> None:
    """Pictures and captions through a ViT-L/14 with random weights; what all of them would take."""
    meter.prepare("make_vit")
    text = f"{size.n_cached:,} pictures, ViT-L/14 in float32 on the CPU"
    name = f"cache_clip_{size.n_cached}"
    meter.measure(name, "cache", "cache_clip", text, n_pictures=size.n_cached)
    row = meter.rows[name]
    for n in FULL:
        row[f"hours_{n}"] = round(row["s_per_picture"] * n / 3600, 1)


def part_pictures(meter: Meter, size: Size) -> None:
    """Memory of caching against the number of pictures, by a thin tower with real tokens."""
    for n in size.n_pictures:
        text = f"{n:,} pictures, one thin block"
        meter.measure(f"cache_pictures_{n}", "cache_thin", "cache_clip", text, n_pictures=n)


def part_subjects(meter: Meter, size: Size) -> None:
    """Memory of a training against the number of subjects that have models of their own."""
    meter.prepare("write_subjects")
    for n in size.n_subjects:
        text = f"{n} subjects, {size.subject_images:,} images, {size.subject_voxels:,} voxels"
        meter.measure(f"train_subjects_{n}", "train_subjects", "train", text, n_subjects=n)


def part_plan(meter: Meter, size: Size) -> None:
    """Nothing is measured: drive puts the plan beside what was."""


PARTS: dict[str, Callable[[Meter, Size], None]] = {
    "extract": part_extract,
    "inputs": part_inputs,
    **{run: part_run(run) for run in RUNS},
    "cache": part_cache,
    "subjects": part_subjects,
    "pictures": part_pictures,
    "plan": part_plan,
}


# Tasks, each in a process of its own


def run_child(task: str, scratch: Path, size: Size, options: Mapping[str, Any]) -> None:
    """Do one task and print what it says about itself."""
    stage.set_threads(2)
    print(json.dumps(TASKS[task](scratch, size, **options) or {}))


def write_tree(scratch: Path, size: Size) -> None:
    """A betas tree with one session under all names."""
    folder = real_trees.tree(scratch, ".hdf5")
    shutil.rmtree(folder, ignore_errors=True)
    real_trees.write_trees(scratch, {".hdf5": max(size.n_sessions)}, {".hdf5": 1}, size.grid)


def extract(scratch: Path, size: Size, n_sessions: int) -> dict[str, Any]:
    """extract_rois of the first sessions."""
    from fmri2clip.datasets.nsd.recordings import NsdRecordings
    from fmri2clip.datasets.nsd.sessions import LocalSource
    from fmri2clip.stages.extract_rois import extract as extraction

    root = real_trees.tree(scratch, ".hdf5")
    out = scratch / ("drive" if n_sessions == max(size.n_sessions) else "first_sessions")
    dataset = Dataset(preparation=PREPARATION, sessions=n_sessions)
    source = LocalSource(root, SUBJECT, PREPARATION)
    started = time.perf_counter()
    extraction.extract_subject(
        Paths(out, nsd=root),
        SUBJECT,
        recordings=NsdRecordings(root, SUBJECT, dataset, source),
        rois={"all": ["nsdgeneral"]},
        norm=Norm(),
        workers=2,
        resume_root=out / "resume",
    )
    seconds = time.perf_counter() - started
    shutil.rmtree(scratch / "first_sessions", ignore_errors=True)
    return {"s_per_session": round(seconds / n_sessions, 3)}


def write_inputs(scratch: Path, size: Size) -> None:
    """All that trainings and scoring read beside the betas."""
    paths = Paths(scratch / "drive")
    real_trees.name_areas(paths, SUBJECT)
    files = (
        (paths.clip_train(CLIP, SUBJECT), paths.train_betas(SUBJECT)),
        (paths.clip_shared(CLIP), paths.test_betas(SUBJECT)),
    )
    for seed, (path, betas) in enumerate(files):
        partial = scratch / "partial"
        real_trees.write_clip(path, list_images(betas), size.widths, seed, partial)
    ids = list_images(paths.train_betas(SUBJECT))
    real_trees.write_components(paths, CLIP, SUBJECT, ids, size.widths)
    real_trees.write_test_pictures(paths, size.picture_size)


def train(scratch: Path, size: Size, run: str) -> dict[str, Any]:
    """Stages select and train of one run."""
    from fmri2clip.stages.select.select import select
    from fmri2clip.stages.train.run import train_run

    params = load_params(size, RUNS)
    paths = Paths(scratch / "drive")
    started = time.perf_counter()
    select(run, CLIP, [SUBJECT], paths, params.compute.threads)
    selected_s = time.perf_counter() - started
    steps = cut_epochs(RUNS[run][2])
    train_run(run, params, paths, resume_root=scratch / "resume")
    found: dict[str, Any] = {"select_s": round(selected_s, 1)}
    if steps:
        found |= {"n_steps": len(steps), "s_per_step": round(statistics.median(steps), 3)}
    return found


def cut_epochs(n_steps: int) -> list[float]:
    """Let every epoch end after so many steps (0: at its end); returns a list that the seconds of
    each step but the first of an epoch are put into.

    An epoch of brainmclip takes ten minutes on two cores; nothing of its memory grows with steps.
    """
    from fmri2clip.stages.train import batches as drawn

    seconds: list[float] = []

    def shorten(whole: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def batches(self: Any) -> Iterator[Any]:
            before = 0.0
            for i, batch in enumerate(itertools.islice(whole(self), n_steps or None)):
                if i > 1:
                    seconds.append(time.perf_counter() - before)
                before = time.perf_counter()
                yield batch

        return batches

    for kind in (drawn.EpochBatches, drawn.MixedBatches):
        kind.__iter__ = shorten(kind.__iter__)  # type: ignore[method-assign]
    return seconds


def evaluate(scratch: Path, size: Size, run: str) -> None:
    """Stage evaluate of one run, tokens and readout of pictures included."""
    from fmri2clip.stages.evaluate.evaluation import evaluate_run

    evaluate_run(run, load_params(size, RUNS), Paths(scratch / "drive"))


def load_params(size: Size, runs: Mapping[str, tuple[str, dict[str, Any], int]]) -> Params:
    """params.yaml with the decoders of presets/nsd.yaml, and these runs on the CPU."""
    yaml = YAML(typ="safe")
    content = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    preset = yaml.load((ROOT / "presets" / "nsd.yaml").read_text(encoding="utf-8"))
    toy = TOY_WIDTHS if size == TOY else {}
    content["decoders"] = {
        name: {**section, **preset["decoders"].get(name, {}), **toy.get(name, {})}
        for name, section in content["decoders"].items()
    }
    common = {"clip": CLIP, "subjects": [SUBJECT], "voxels": "all", "seed": 0}
    content["runs"] = {
        name: {**common, "decoder": decoder, "overrides": overrides}
        for name, (decoder, overrides, _) in runs.items()
    }
    content["split"]["n_validation"] = size.n_validation
    content["compute"] |= {"threads": 2, "device": "cpu"}
    content |= {"clips": {CLIP: preset["clips"][CLIP] | ON_CPU}, "subjects": [SUBJECT]}
    content |= {"generators": {}, "reconstructions": {}}
    if size == TOY:
        content["evaluation"] |= {"n_way": 20, "n_hard": 5, "n_bootstrap": 20}
    return build(Params, content, "params.yaml")


def make_vit(scratch: Path, size: Size) -> None:
    """Random weights of the architecture that is cached."""
    import open_clip
    from safetensors.torch import save_file

    clip = vit_clip(scratch, size)
    Path(clip.pretrained).parent.mkdir(parents=True, exist_ok=True)
    if clip.config:
        write_thin_tower(Path(clip.config), size)
        open_clip.add_model_config(Path(clip.config))
    model = open_clip.create_model(clip.model)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, clip.pretrained)


def vit_clip(scratch: Path, size: Size) -> Clip:
    """Entry vit_l14 of presets/nsd.yaml with random weights, as a CPU takes it."""
    weights = str(scratch / "vit" / "weights.safetensors")
    if size == TOY:
        return thin_clip(scratch / "vit")
    yaml = YAML(typ="safe")
    preset = yaml.load((ROOT / "presets" / "nsd.yaml").read_text(encoding="utf-8"))
    clip = build(Clip, preset["clips"][CLIP], "presets/nsd.yaml", f"clips.{CLIP}")
    return replace(clip, pretrained=weights, **ON_CPU)


def thin_clip(folder: Path) -> Clip:
    """A tower of one thin block."""
    return Clip(
        model="thin",
        config=str(folder / "thin.json"),
        pretrained=str(folder / "weights.safetensors"),
        batch_size=256,
        low_level=True,
        tokens=True,
        detail_layers=(1,),
    )


def write_thin_tower(path: Path, size: Size) -> None:
    """Architecture of the thin tower: 257 tokens of width 768 come out of it at real size."""
    pixels = 224 if size == REAL else 28
    config = {
        "embed_dim": size.widths.D,
        "vision_cfg": {"image_size": pixels, "layers": 1, "width": 64, "patch_size": 14},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 1,
        },
    }
    path.write_text(json.dumps(config))


def cache(scratch: Path, size: Size, n_pictures: int) -> dict[str, Any]:
    """Stage cache_clip with the real tower."""
    return run_cache(scratch, size, n_pictures, vit_clip(scratch, size), noise=True)


def cache_thin(scratch: Path, size: Size, n_pictures: int) -> dict[str, Any]:
    """Stage cache_clip with a thin tower."""
    import open_clip
    from safetensors.torch import save_file

    folder = scratch / "thin"
    folder.mkdir(exist_ok=True)
    clip = thin_clip(folder)
    write_thin_tower(Path(clip.config), size)
    open_clip.add_model_config(Path(clip.config))
    state = open_clip.create_model("thin").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, clip.pretrained)
    return run_cache(scratch, size, n_pictures, clip, noise=False)


def run_cache(
    scratch: Path, size: Size, n_pictures: int, clip: Clip, *, noise: bool
) -> dict[str, Any]:
    """cache_clip of so many pictures; the time of each without that of loading the model."""
    from fmri2clip.clip import encoder
    from fmri2clip.stages.cache_clip.cache import cache_clip

    out = scratch / f"pictures_{n_pictures}"
    shutil.rmtree(out, ignore_errors=True)
    real_trees.write_pictures(
        out / "nsd", n_pictures, max(1, n_pictures // 10), size.picture_size, noise=noise
    )
    loading: list[float] = []
    load = encoder.load

    def load_timed(*arguments: Any) -> encoder.Encoder:
        started = time.perf_counter()
        model = load(*arguments)
        loading.append(time.perf_counter() - started)
        return model

    encoder.load = load_timed
    started = time.perf_counter()
    cache_clip(
        Paths(out, nsd=out / "nsd"),
        CLIP,
        clip,
        [SUBJECT],
        Dataset(),
        Labels(),
        threads=2,
        resume_root=out / "resume",
    )
    seconds = time.perf_counter() - started - sum(loading)
    shutil.rmtree(out)
    return {"load_s": round(sum(loading), 1), "s_per_picture": round(seconds / n_pictures, 4)}


def write_subjects(scratch: Path, size: Size) -> None:
    """Small inputs of eight subjects, made directly."""
    paths = Paths(scratch / "many")
    rng = np.random.default_rng(0)
    n_images = size.subject_images
    n_voxels = size.subject_voxels
    for s, subject in enumerate(MANY_SUBJECTS[: max(size.n_subjects)]):
        nsd_id_I = np.arange(n_images) + s * n_images
        nsd_id_N = rng.permutation(np.repeat(nsd_id_I, 3))
        trials = np.arange(1, len(nsd_id_N) + 1)
        betas = {
            "betas_NV": rng.standard_normal((len(nsd_id_N), n_voxels), np.float32),
            "nsd_id_N": nsd_id_N,
            "session_N": np.ones_like(trials),
            "trial_N": trials,
            "repetition_N": np.ones_like(trials),
        }
        write_betas(paths.train_betas(subject), betas)
        areas = real_trees.areas_of(n_voxels)
        ones_SV = np.ones((1, n_voxels), np.float32)
        voxels = {
            "ijk_V3": np.zeros((n_voxels, 3), np.int16),
            "roi_VG": np.stack(list(areas.values()), axis=1),
            "roi_names_G": list(areas),
            "ncsnr_V": ones_SV[0],
            "ncsnr_train_V": ones_SV[0],
            "mean_SV": ones_SV,
            "std_SV": ones_SV,
            "invalid_SV": np.zeros((1, n_voxels), bool),
        }
        write_voxels(paths.voxels(subject), voxels)
        path = paths.clip_train(CLIP, subject)
        real_trees.write_clip(path, nsd_id_I, size.subject_widths, s, scratch / "partial")
        real_trees.write_components(paths, CLIP, subject, nsd_id_I, size.subject_widths)


def train_subjects(scratch: Path, size: Size, n_subjects: int) -> dict[str, Any]:
    """A run of brainmclip with small widths: a model for each of so many subjects."""
    from fmri2clip.stages.select.select import select
    from fmri2clip.stages.train.run import train_run

    name = f"many_{n_subjects}"
    params = load_params(size, {name: ("brainmclip", SMALL_WIDTHS, 0)})
    subjects = MANY_SUBJECTS[:n_subjects]
    run = replace(params.runs[name], subjects=subjects)
    params = replace(params, runs={name: run}, subjects=subjects)
    paths = Paths(scratch / "many")
    select(name, CLIP, subjects, paths, params.compute.threads)
    cut_epochs(5)
    train_run(name, params, paths, resume_root=scratch / "resume")
    return {}


TASKS: dict[str, Callable[..., dict[str, Any] | None]] = {
    task.__name__: task
    for task in (
        write_tree,
        extract,
        write_inputs,
        train,
        evaluate,
        make_vit,
        cache,
        cache_thin,
        write_subjects,
        train_subjects,
    )
}


# What the rows say


def add_plan(path: Path) -> None:
    """plan_gb, what `make plan` says of the stage's memory, and ratio, measured over planned."""
    from fmri2clip.stages.check_params.plan import make_plan

    table = json.loads(path.read_text())
    rows = table["rows"]
    runs = {name: run for name, run in RUNS.items() if not lacking(name)}
    params = load_params(REAL, runs)
    for name, row in rows.items():
        wanted = find_stage(name)
        if wanted is None:
            continue
        stage_name, item, sessions = wanted
        dataset = replace(params.dataset, source="s3", sessions=sessions)
        plan = make_plan(replace(params, dataset=dataset), ROOT, "cpu2")
        for need in plan.needs:
            if (need.stage, need.item) == (stage_name, item):
                row["plan_gb"] = round(need.ram / GB, 3)
                row["ratio"] = round(row["peak_ram_gb"] / row["plan_gb"], 2)
    path.write_text(json.dumps(table, indent=1) + "\n")


def find_stage(row: str) -> tuple[str, str, str | int] | None:
    """Stage, item and sessions that a row measured at real size; None where there is no plan."""
    task, _, rest = row.partition("_")
    if task in ("train", "evaluate") and rest in RUNS:
        return task, rest, "released"
    if task == "extract":
        return "extract_rois", SUBJECT, int(rest)
    return ("cache_clip", CLIP, "released") if row.startswith("cache_clip_") else None


def describe_growth(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Own memory against sessions, subjects and pictures: at the ends, and how much more each
    one more takes.
    """
    found = {}
    for title, prefix in (
        ("sessions", "extract_"),
        ("subjects", "train_subjects_"),
        ("pictures", "cache_pictures_"),
    ):
        sizes = sorted(
            int(name.removeprefix(prefix))
            for name in rows
            if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
        )
        if len(sizes) < 2:
            continue
        peaks = [rows[f"{prefix}{n}"]["peak_ram_gb"] for n in sizes]
        slope = float(np.polyfit(sizes, peaks, 1)[0])
        growth = {
            "peak_ram_gb": dict(zip(map(str, sizes), peaks, strict=True)),
            "mb_each": round(1000 * slope, 4),
            "last_over_first": round(peaks[-1] / peaks[0], 2),
        }
        if title == "pictures":
            growth["peak_ram_gb_at_73000"] = round(peaks[-1] + slope * (FULL[1] - sizes[-1]), 2)
        found[title] = growth
    return found


if __name__ == "__main__":
    main()
