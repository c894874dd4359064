"""ROI extraction at real size against what it replaces: synthetic sessions of subj01's grid, made
and deleted here.

    # 5 GB of disk, minutes; writes benchmarks/extract_rois.json
    python benchmarks/extract_rois.py [--scratch DIR]

Sessions are 750 x 83 x 104 x 81 int16 with NSD's chunks, 370,503 voxels of brain and 15,724 of a
ribbon at its back (real_trees.py). Two HDF5 files and one .nii.gz are distinct; further sessions
are hard links to them, and all files come from the page cache. Repetitions are interleaved and
minima taken: what to look at are the ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from real_trees import N_RIBBON, N_TRIALS, PREPARATION, SUBJECT, betas_path, tree, write_trees  # noqa: E402

from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.core.params import Dataset, Norm  # noqa: E402
from fmri2clip.datasets.nsd import layout  # noqa: E402
from fmri2clip.datasets.nsd.recordings import NsdRecordings  # noqa: E402
from fmri2clip.datasets.nsd.sessions import LocalSource  # noqa: E402
from fmri2clip.datasets.nsd.voxels import betas  # noqa: E402
from fmri2clip.stages.extract_rois import extract  # noqa: E402

REPEATS = 3
MEMORY_SESSIONS = (1, 4, 12, 40)
TIMED_SESSIONS = {".hdf5": 12, ".nii.gz": 2}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure ROI extraction on synthetic sessions of real size."
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for the files, 5 GB; default: a temporary one"
    )
    parser.add_argument(
        "--peak", type=int, help=argparse.SUPPRESS
    )  # a child: one extraction, then its peak memory
    given = parser.parse_args()
    if given.peak:
        run_extraction(given.scratch, ".hdf5", given.peak, workers=2)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    if given.scratch:
        given.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        measure(Path(folder))


def measure(scratch: Path) -> None:
    # files are made, and memory is measured, before this process grows: a child inherits the peak
    # of its parent
    sessions = {**TIMED_SESSIONS, ".hdf5": max(MEMORY_SESSIONS)}
    writer = get_context("spawn").Process(target=write_trees, args=(scratch, sessions))
    writer.start()
    writer.join()
    assert writer.exitcode == 0, "the files could not be written"
    peaks = {str(n): round(peak_memory(scratch, n)) for n in MEMORY_SESSIONS}
    seconds = time_everything(scratch)
    ratios = compare(seconds)
    box = betas.bounding_box(np.load(scratch / "ribbon.npy"))
    table: dict[str, dict[str, Any]] = {
        "voxels": {
            "ribbon": N_RIBBON,
            "bounding_box": int(np.prod([side.stop - side.start for side in box])),
        },
        "seconds_per_session": {name: round(value, 3) for name, value in seconds.items()},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "peak_mb_by_sessions": peaks,
        "promises_kept": {
            "extraction_over_raw_box <= 1.5": ratios["extraction_over_raw_box"] <= 1.5,
            "nibabel_over_hdf5 >= 10": ratios["nibabel_over_hdf5"] >= 10,
            "peak_mb <= 1500": max(peaks.values()) <= 1500,
        },
    }
    (ROOT / "benchmarks" / "extract_rois.json").write_text(json.dumps(table, indent=1) + "\n")
    for title, rows in table.items():
        print(title, *(f"  {name:34} {value}" for name, value in rows.items()), sep="\n")


def compare(seconds: dict[str, float]) -> dict[str, float]:
    """Ratios of this run; the name says what stands over what."""
    raw, nibabel, hdf5 = seconds["raw_box"], seconds["nibabel"], seconds["reader_hdf5"]
    return {
        "extraction_over_raw_box": seconds["extraction_hdf5"] / raw,
        "reader_hdf5_over_raw_box": hdf5 / raw,
        "nibabel_over_hdf5": nibabel / hdf5,
        "nibabel_over_nifti": nibabel / seconds["reader_nifti"],
        "naive_over_hdf5": seconds["naive_scaled_from_2_trials"] / hdf5,
        "gain_of_2_workers_hdf5": seconds["extraction_hdf5"] / seconds["extraction_hdf5_2_workers"],
        "gain_of_2_workers_nifti": seconds["extraction_nifti"]
        / seconds["extraction_nifti_2_workers"],
    }


def time_everything(scratch: Path) -> dict[str, float]:
    """Seconds a session of every way to read one; whole extractions divided by their number of
    sessions.
    """
    paths = {suffix: betas_path(scratch, suffix, 1) for suffix in TIMED_SESSIONS}
    mask = np.load(scratch / "ribbon.npy")
    tasks: dict[str, tuple[float, Callable[[], Any]]] = {
        "raw_box": (1, lambda: read_raw_box(paths[".hdf5"], mask)),
        "reader_hdf5": (1, lambda: betas.read_session(paths[".hdf5"], mask)),
        "nibabel": (1, lambda: np.asarray(nib.load(paths[".nii.gz"]).dataobj)[mask]),
        "reader_nifti": (1, lambda: betas.read_session(paths[".nii.gz"], mask)),
    }
    for suffix, n_sessions in TIMED_SESSIONS.items():
        name = "extraction_" + {".hdf5": "hdf5", ".nii.gz": "nifti"}[suffix]
        for workers, ending in ((1, ""), (2, "_2_workers")):
            tasks[name + ending] = (
                n_sessions,
                lambda s=suffix, n=n_sessions, w=workers: run_extraction(scratch, s, n, w),
            )
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        for name, (n_sessions, task) in tasks.items():
            best[name] = min(best.get(name, np.inf), clock(task) / n_sessions)
    best["naive_scaled_from_2_trials"] = (
        clock(lambda: read_trials(paths[".hdf5"], mask, 2)) * N_TRIALS / 2
    )
    return best


def clock(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def read_raw_box(path: Path, mask: np.ndarray) -> np.ndarray:
    """The plain h5py read of the bounding box, without choosing its voxels."""
    with h5py.File(path, "r") as file:
        return file["betas"][(slice(None), *betas.bounding_box(mask)[::-1])]


def read_trials(path: Path, mask: np.ndarray, n_trials: int) -> list[np.ndarray]:
    """The pattern of a loader that fetches one trial at a time; every trial touches every chunk."""
    with h5py.File(path, "r") as file:
        return [file["betas"][trial].T[mask] for trial in range(n_trials)]


def run_extraction(scratch: Path, suffix: str, n_sessions: int, workers: int) -> None:
    """The whole of extract_subject, outputs included."""
    root = tree(scratch, suffix)
    dataset = Dataset(preparation=PREPARATION, sessions=n_sessions)
    source = LocalSource(root, SUBJECT, PREPARATION)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        out = Path(name)
        extract.extract_subject(
            Paths(out, nsd=root),
            SUBJECT,
            recordings=NsdRecordings(root, SUBJECT, dataset, source),
            rois={"all": [layout.GENERAL_ROI]},
            norm=Norm(),
            workers=workers,
            resume_root=out / "resume",
        )


def peak_memory(scratch: Path, n_sessions: int) -> float:
    """MB of a process that extracts so many sessions with two workers."""
    command = [sys.executable, __file__, "--scratch", str(scratch), "--peak", str(n_sessions)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
