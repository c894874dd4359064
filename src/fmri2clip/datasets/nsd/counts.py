"""Numbers of one extracted subject for its report. Letters: V voxels, G ROI groups, S sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmri2clip.datasets.nsd import design
from fmri2clip.datasets.nsd.ncsnr import Floats, agreement
from fmri2clip.datasets.nsd.rois import GROUP_PREFIX


def count_everything(
    trials: design.Trials, voxels: Mapping[str, Any], n_dropped: int
) -> dict[str, Any]:
    """Voxels per ROI, dropped and filled voxels, median ncsnr per group and its agreement, trials
    and images.

    voxels: arrays of the voxel file. n_dropped: voxels that it lacks because they have no signal in
    any session. `ncsnr_agreement`: Pearson r between shipped ncsnr and that of the training trials;
    left out where undefined.
    """
    names_G, roi_VG, invalid_SV = voxels["roi_names_G"], voxels["roi_VG"], voxels["invalid_SV"]
    r = agreement(voxels["ncsnr_V"], voxels["ncsnr_train_V"])
    counts: dict[str, dict[str, int]] = {"rois": {}, "labels": {}, "groups": {}}
    medians: dict[str, dict[str, float]] = {}
    for name, member_V in zip(names_G, roi_VG.T, strict=True):
        if name.startswith(GROUP_PREFIX):
            group = name.removeprefix(GROUP_PREFIX)
            counts["groups"][group] = int(member_V.sum())
            shipped, train = voxels["ncsnr_V"][member_V], voxels["ncsnr_train_V"][member_V]
            medians[group] = _finite_median(shipped, "median") | _finite_median(
                train, "median_train"
            )
        else:
            counts["labels" if "/" in name else "rois"][name] = int(member_V.sum())
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
        **{
            part: {
                "trials": int(np.sum(trials.is_shared_N == shared)),
                "images": len(design.list_images(trials, shared=shared)),
                "shown": {
                    str(k): n for k, n in design.count_presentations(trials, shared=shared).items()
                },
            }
            for part, shared in (("train", False), ("test", True))
        },
    }


def _finite_median(values_V: Floats, name: str) -> dict[str, float]:
    finite = values_V[np.isfinite(values_V)]
    return {name: round(float(np.median(finite)), 6)} if finite.size else {}
