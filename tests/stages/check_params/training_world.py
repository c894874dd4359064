"""One subject of any size for trainings whose memory is planned and measured.

    python -m tests.stages.check_params.training_world '[{"decoder": "ridge", ...}, ...]'

trains them one after the other in a process of its own, and prints for each what memory it had
before and the peak above that.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.components import write_basis, write_components
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import write_betas, write_voxels
from fmri2clip.core import params
from fmri2clip.stages.check_params import sizes
from fmri2clip.stages.check_params.sizes import CAPTION_BYTES, ClipShape, Subject
from fmri2clip.stages.check_params.training import Model, find_models

ROOT = Path(__file__).resolve().parents[3]
SUBJECT = "subj01"
RUN = "measured"


@dataclass(frozen=True, kw_only=True)
class Size:
    """A training: a decoder with settings of its own, images shown three times, voxels."""

    decoder: str
    n_images: int
    n_voxels: int
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Subject:
        """As a plan knows it."""
        return Subject(
            name=SUBJECT,
            n_sessions=12,
            n_train_trials=3 * self.n_images,
            n_train_images=self.n_images,
            n_test_trials=0,
            n_test_images=0,
            n_voxels=self.n_voxels,
            grid=(18, 20, 18),
            n_brain=3000,
        )

    @property
    def params(self) -> params.Params:
        """params.yaml with this run alone."""
        settings = params.load(ROOT / "params.yaml")
        run = params.Run(
            decoder=self.decoder,
            clip="mini",
            subjects=(SUBJECT,),
            voxels="all",
            overrides=dict(self.overrides),
        )
        compute = params.Compute(threads=2, device="cpu")
        split = params.Split(n_validation=self.n_images // 10)
        return replace(settings, compute=compute, runs={RUN: run}, split=split)

    @property
    def clip(self) -> ClipShape:
        """The mini CLIP model."""
        return sizes.find_clip(self.params.clips["mini"])

    def plan(self) -> Model:
        """The model without memory."""
        (model,) = find_models(self.params, RUN, {SUBJECT: self.subject}, {"mini": self.clip})
        return model


def make_clip_arrays(shape: ClipShape, n_images: int) -> dict[str, Any]:
    """All arrays of a CLIP cache, random."""
    rng = np.random.default_rng(0)

    def unit(*size: int) -> np.ndarray:
        x = rng.standard_normal(size, dtype=np.float32) + 0.5
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float16)

    n_captions = sizes.N_CAPTIONS * n_images
    arrays = {name: unit(n_images, *size) for name, size in shape.arrays.items()}
    return arrays | {
        "nsd_id_I": np.arange(n_images),
        "text_embedding_KD": unit(n_captions, shape.width_D),
        "caption_K": [f"{k} ".ljust(CAPTION_BYTES["simulated"], "x") for k in range(n_captions)],
        "caption_image_K": np.repeat(np.arange(n_images), sizes.N_CAPTIONS),
        "labels_IC": rng.random((n_images, sizes.N_CATEGORIES)) < 0.1,
        "area_IC": np.zeros((n_images, sizes.N_CATEGORIES), np.float32),
        "n_objects_I": np.ones(n_images, np.int16),
        "category_C": [f"category {c}" for c in range(sizes.N_CATEGORIES)],
        "present_C": np.ones(sizes.N_CATEGORIES, bool),
        "prompt_P": ["a {category}"],
        "prompt_embedding_PCD": unit(1, sizes.N_CATEGORIES, shape.width_D),
    }


def write_token_components(paths: Paths, shape: ClipShape, n_images: int) -> None:
    """Components and the subject's scores on them, random."""
    rng = np.random.default_rng(0)
    basis = {}
    scores: dict[str, Any] = {"nsd_id_I": np.arange(n_images)}
    for stream, size in shape.bases.items():
        basis[f"{stream}_mean_TW"] = np.zeros(size[1:], np.float32)
        basis[f"{stream}_components_PTW"] = rng.standard_normal(size, np.float32).astype(np.float16)
        scores[f"{stream}_components_IP"] = rng.standard_normal((n_images, size[0]), np.float32)
    scores["detail_class_IW"] = np.ones((n_images, shape.width_D), np.float16)
    write_basis(paths.clip_basis("mini"), basis)
    write_components(paths.clip_components("mini", SUBJECT), scores)


def write_files(paths: Paths, size: Size) -> None:
    """Trials, voxels and CLIP cache of the subject."""
    rng = np.random.default_rng(0)
    n_trials = 3 * size.n_images
    numbers = np.arange(1, n_trials + 1)
    write_betas(
        paths.train_betas(SUBJECT),
        {
            "betas_NV": rng.standard_normal((n_trials, size.n_voxels), dtype=np.float32),
            "nsd_id_N": np.arange(n_trials) // 3,
            "session_N": np.ones(n_trials, np.int16),
            "trial_N": numbers,
            "repetition_N": np.arange(n_trials) % 3 + 1,
        },
    )
    groups, rois = sizes.find_members(size.params, size.subject)
    columns = {f"group/{name}": member for name, member in groups.items()} | rois
    floats = {name: np.ones(size.n_voxels, np.float32) for name in ("ncsnr_V", "ncsnr_train_V")}
    floats |= {name: np.ones((1, size.n_voxels), np.float32) for name in ("mean_SV", "std_SV")}
    voxels = {
        "ijk_V3": np.zeros((size.n_voxels, 3), np.int16),
        "roi_VG": np.stack(list(columns.values()), axis=1),
        "roi_names_G": list(columns),
        "invalid_SV": np.zeros((1, size.n_voxels), bool),
    }
    write_voxels(paths.voxels(SUBJECT), {**voxels, **floats})
    write_cache(paths.clip_train("mini", SUBJECT), make_clip_arrays(size.clip, size.n_images))
    write_token_components(paths, size.clip, size.n_images)


def anonymous_bytes() -> int:
    """Memory of this process that is no page of a file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon on this system")


def train(size: Size, root: Path) -> Callable[[], None]:
    """Write the inputs; returns what trains on them."""
    from fmri2clip.stages.select.select import select
    from fmri2clip.stages.train.run import train_run

    paths = Paths(root)
    write_files(paths, size)
    select(RUN, "mini", [SUBJECT], paths, 2)
    return partial(train_run, RUN, size.params, paths, resume_root=root / ".resume")


def warm_up(size: Size, root: Path) -> None:
    """A small training with the same decoder, after which all modules are imported that it uses."""
    train(replace(size, n_images=60, n_voxels=200), root)()


def measure(size: Size, root: Path) -> tuple[int, int]:
    """(bytes before, bytes at the peak above that) of anonymous memory during a training.

    Before: after `warm_up` with its decoder.
    """
    whole = train(size, root / "whole")
    gc.collect()
    # What is free inside the process goes back to the system, so that all that is taken shows.
    ctypes.CDLL(None).malloc_trim(0)
    before = anonymous_bytes()
    peak = before
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    whole()
    done.set()
    watcher.join()
    return before, peak - before


if __name__ == "__main__":
    found = []
    warm: set[str] = set()
    for size in [Size(**given) for given in json.loads(sys.argv[1])]:
        with tempfile.TemporaryDirectory() as folder:
            if size.decoder not in warm:
                warm_up(size, Path(folder) / "small")
                warm.add(size.decoder)
            found.append(measure(size, Path(folder)))
    print(json.dumps(found))
