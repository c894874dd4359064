"""What the hierarchy analysis compares with CLIP's blocks: trials of a sample of training images.

The blocks are summarised in clip/blocks.py. Letters: I images, N trials, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.trials import read_betas, read_voxels
from fmri2clip.core.params import GROUPS

Array = NDArray[Any]
MIN_IMAGES = 10


class TooFew(ValueError):
    """The data are too few for the analysis, which is left out then."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Training trials of some images of one subject, sorted by image, and its ROI groups.

    columns: of each group; ijk_V3: voxel positions.
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
    betas = read_betas(betas_path, ["betas_NV", "nsd_id_N"])
    described = read_voxels(voxels_path, ["ijk_V3", "roi_VG", "roi_names_G"])
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
        raise TooFew(
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
            raise TooFew(
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
