"""Numbers of one extracted subject for its report. Letters: V voxels, G ROI groups, S sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmri2clip.datasets.interface import GROUP_PREFIX, Trials
from fmri2clip.stages.extract_rois.ncsnr import Floats, agreement


def count_everything(trials: Trials, voxels: Mapping[str, Any], n_dropped: int) -> dict[str, Any]:
    """Voxels per ROI, dropped and filled voxels, median ncsnr per group and its agreement, trials
    and images.

    voxels: arrays of the voxel file. n_dropped: voxels that it lacks because they have no signal in
    any session.
    `ncsnr_agreement`: Pearson r between shipped ncsnr and that of the training trials; left out
    where undefined.
    """
    roi_VG = voxels["roi_VG"]
    invalid_SV = voxels["invalid_SV"]
    r = agreement(voxels["ncsnr_V"], voxels["ncsnr_train_V"])
    counts, medians = _count_regions(voxels)
    return {
        "sessions": len(invalid_SV),
        "voxels": {
            "kept": len(roi_VG),
            "dropped": n_dropped,
            "filled": int(invalid_SV.any(axis=0).sum()),  # voxels with a session that has no signal
            "filled_sessions": int(invalid_SV.sum()),  # voxel-session pairs filled with 0
        },
        **counts,
        "ncsnr": medians,
        **({} if r is None else {"ncsnr_agreement": round(r, 4)}),
        "train": _count_trials(trials, shared=False),
        "test": _count_trials(trials, shared=True),
    }


def _count_regions(
    voxels: Mapping[str, Any],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Voxels of ROIs, of their labels and of groups; median ncsnr of the groups."""
    counts: dict[str, dict[str, int]] = {"rois": {}, "labels": {}, "groups": {}}
    medians: dict[str, dict[str, float]] = {}
    for name, member_V in zip(voxels["roi_names_G"], voxels["roi_VG"].T, strict=True):
        n_voxels = int(member_V.sum())
        if not name.startswith(GROUP_PREFIX):
            # A label is written 'roi/label', so the slash tells it from an ROI.
            counts["labels" if "/" in name else "rois"][name] = n_voxels
            continue
        group = name.removeprefix(GROUP_PREFIX)
        counts["groups"][group] = n_voxels
        shipped = _finite_median(voxels["ncsnr_V"][member_V], "median")
        train = _finite_median(voxels["ncsnr_train_V"][member_V], "median_train")
        medians[group] = shipped | train
    return counts, medians


def _count_trials(trials: Trials, *, shared: bool) -> dict[str, Any]:
    """Trials, images, and how many images were shown once, twice, three times, and more often
    where any was.
    """
    chosen_N = trials.is_shared_N == shared
    _, shown_I = np.unique(trials.nsd_id_N[chosen_N], return_counts=True)
    counts = sorted({1, 2, 3} | set(shown_I.tolist()))
    return {
        "trials": int(chosen_N.sum()),
        "images": len(shown_I),
        "shown": {str(k): int(np.sum(shown_I == k)) for k in counts},
    }


def _finite_median(values_V: Floats, name: str) -> dict[str, float]:
    finite = values_V[np.isfinite(values_V)]
    return {name: round(float(np.median(finite)), 6)} if finite.size else {}
