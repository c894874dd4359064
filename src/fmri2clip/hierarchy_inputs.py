"""What the hierarchy analysis compares: trials of a sample of training images, and a CLIP model's
blocks on them.

A block's tokens are summarised as `patch_mean` (mean of the patch tokens), `class_token` or `grid`
(patch tokens averaged at GRID x GRID places, flattened: it keeps where things are, as the detail
tokens do).

Letters: I images, N trials, V voxels, F features, T tokens, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip import store
from fmri2clip.clip.encoder import Encoder
from fmri2clip.datasets.nsd import stimuli

Array = NDArray[Any]
GROUPS = ("low", "high", "all")
SUMMARIES = ("patch_mean", "class_token", "grid")
GRID = 4
MIN_IMAGES = 10


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Training trials of some images of one subject, sorted by image; columns of each ROI
    group; voxel positions.
    """

    nsd_id_I: NDArray[np.int64]
    image_N: NDArray[np.int64]
    betas_NV: NDArray[np.float32]
    columns: Mapping[str, NDArray[np.intp]]  # low and high without the voxels that are in both
    n_both: int
    ijk_V3: Array


def read_sample(
    betas_path: Path, voxels_path: Path, n_images: int, rng: np.random.Generator
) -> Sample:
    """Trials of at most n_images random training images that were shown at least twice."""
    betas = store.read(betas_path, "betas", ["betas_NV", "nsd_id_N"])
    described = store.read(voxels_path, "voxels", ["ijk_V3", "roi_VG", "roi_names_G"])
    names = [str(name) for name in described["roi_names_G"]]
    missing = [name for name in GROUPS if f"group/{name}" not in names]
    if missing:
        raise ValueError(
            f"{voxels_path} has no voxel group {missing[0]!r}; name low, high and all in rois"
        )
    member = {name: described["roi_VG"][:, names.index(f"group/{name}")] for name in GROUPS}
    nsd_id_I, n_I = np.unique(betas["nsd_id_N"], return_counts=True)
    eligible_I = nsd_id_I[n_I >= 2]
    if len(eligible_I) < MIN_IMAGES:
        raise ValueError(
            f"{betas_path}: only {len(eligible_I)} images were shown twice or more; use more "
            "sessions"
        )
    chosen_I = np.sort(rng.permutation(eligible_I)[:n_images])
    row_N = np.flatnonzero(np.isin(betas["nsd_id_N"], chosen_I))
    row_N = row_N[np.argsort(betas["nsd_id_N"][row_N], kind="stable")]
    both_V = member["low"] & member["high"]
    columns = {name: np.flatnonzero(member[name] & ~both_V) for name in ("low", "high")}
    columns["all"] = np.flatnonzero(member["all"])
    for name, column in columns.items():
        if len(column) < 2:
            raise ValueError(
                f"{voxels_path}: group {name!r} has {len(column)} voxels of its own; change "
                f"rois.{name}"
            )
    return Sample(
        nsd_id_I=chosen_I,
        image_N=np.searchsorted(chosen_I, betas["nsd_id_N"][row_N]),
        betas_NV=betas["betas_NV"][row_N].astype(np.float32),
        columns=columns,
        n_both=int(both_V.sum()),
        ijk_V3=described["ijk_V3"],
    )


def summarise_blocks(
    model: Encoder, root: Path, nsd_id_I: Array, threads: int
) -> dict[str, list[Array]]:
    """Summary -> features (I, F) of every block, from the pictures; one batch of tokens in
    memory at a time.
    """
    model.check_blocks([1])
    blocks = range(1, model.n_blocks + 1)
    parts: dict[str, list[list[Array]]] = {name: [[] for _ in blocks] for name in SUMMARIES}
    for _, images in stimuli.iterate_images(root, nsd_id_I, model.clip.batch_size):
        for block, tokens_ITW in model.blocks(images, blocks, threads).items():
            for name, feature_IF in summarise_tokens(tokens_ITW).items():
                parts[name][block - 1].append(feature_IF)
    return {name: [np.concatenate(part) for part in by_block] for name, by_block in parts.items()}


def summarise_tokens(tokens_ITW: Array) -> dict[str, Array]:
    """Summary -> (I, F) of one block's tokens, class token first, patches row by row in a
    square.
    """
    patches_ITW = tokens_ITW[:, 1:]
    side = round(patches_ITW.shape[1] ** 0.5)
    square = patches_ITW.reshape(len(patches_ITW), side, side, -1)
    edges = np.linspace(0, side, min(GRID, side) + 1).astype(int)
    places = [slice(a, b) for a, b in pairwise(edges)]
    grid = np.concatenate(
        [square[:, y, x].mean(axis=(1, 2)) for y in places for x in places], axis=1
    )
    return {"patch_mean": patches_ITW.mean(axis=1), "class_token": tokens_ITW[:, 0], "grid": grid}
