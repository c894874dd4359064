"""Noise ceiling signal-to-noise ratio of every voxel: as shipped, and recomputed on training trials
only.

The shipped ncsnr was made from all trials, those of the test pictures included (nsddatapaper,
main/export_noiseceiling.m). Letters: N trials, I images, V voxels, S sessions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels.rois import read_volume
from fmri2clip.stages.extract_rois.zscore import cut

Floats = NDArray[np.floating[Any]]
CHUNK_V = 128  # voxels at a time where float64 copies of all trials are made


def read_ncsnr(root: Path, subject: str, preparation: str, mask: NDArray[np.bool_]) -> Floats:
    """Shipped ncsnr of the voxels of a mask (X, Y, Z), shape (V,); NaN where the release has none.

    ValueError for a volume of another shape and for one without any number inside the mask.
    """
    path = layout.ncsnr_path(root, subject, preparation)
    volume = read_volume(path)
    if volume.shape != mask.shape:
        raise ValueError(
            f"{path} has shape {volume.shape}, but {layout.GENERAL_ROI} of {subject} has "
            f"{mask.shape}"
        )
    ncsnr_V: Floats = volume[mask]
    if np.isnan(ncsnr_V).all():
        raise ValueError(
            f"{path} is NaN in all {ncsnr_V.size} voxels of {layout.GENERAL_ROI} of {subject}; "
            "download it again"
        )
    return ncsnr_V


def compute_ncsnr(
    bands: Iterable[Floats], session_N: NDArray[np.integer[Any]], image_N: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """ncsnr of every voxel, NaN where undefined.

        noise = mean over images of the unbiased variance over three presentations
        ncsnr = sqrt(max(0, 1 - noise)) / sqrt(noise)

    of the betas z-scored within session (Allen et al. 2022; nsddatapaper,
    main/export_noiseceiling.m). For a voxel, images count that have three presentations among these
    trials, all in sessions where it has signal.

    bands: betas (N, v) of the voxels in order, some at a time. session_N: sorted.
    """
    assert np.all(np.diff(session_N) >= 0), "trials are not in the order of sessions"
    thrice_I3 = _shown_thrice(image_N)
    parts = [
        _noise(band_NV[:, part], session_N, thrice_I3)
        for band_NV in bands
        for part in cut(band_NV.shape[1], CHUNK_V)
    ]
    noise_V: NDArray[np.float64] = np.concatenate(parts)
    noise_V[noise_V == 0] = np.nan  # equal presentations: a ratio of signal to nothing
    return np.asarray(np.sqrt(np.maximum(0, 1 - noise_V) / noise_V), dtype=np.float32)


def agreement(shipped_V: Floats, recomputed_V: Floats) -> float | None:
    """Pearson r over the voxels where both are numbers; None where it is undefined."""
    both_V = np.isfinite(shipped_V) & np.isfinite(recomputed_V)
    first_V = shipped_V[both_V].astype(np.float64)
    second_V = recomputed_V[both_V].astype(np.float64)
    # Without spread in either, r would be 0 / 0.
    if not both_V.any() or not (np.ptp(first_V) and np.ptp(second_V)):
        return None
    return float(np.corrcoef(first_V, second_V)[0, 1])


def _shown_thrice(image_N: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
    """Trials of the images with three presentations, one row an image."""
    _, image_of_N, shown_I = np.unique(image_N, return_inverse=True, return_counts=True)
    # Sorted by image, the presentations of one stand side by side, so a reshape makes the rows.
    order_N = np.argsort(image_of_N, kind="stable")
    is_thrice_N = shown_I[image_of_N[order_N]] == layout.REPETITIONS
    return order_N[is_thrice_N].reshape(-1, layout.REPETITIONS)


def _noise(
    betas_NV: Floats, session_N: NDArray[np.integer[Any]], thrice_I3: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Noise variance, z-scored within session; NaN for a voxel without an image that counts."""
    z_NV = betas_NV.astype(np.float64)
    sessions_S, starts_S = np.unique(session_N, return_index=True)
    signal_SV = np.empty((len(sessions_S), z_NV.shape[1]), dtype=bool)
    # np.split gives views of z_NV: it is z-scored in place, session by session.
    for row, z_TV in enumerate(np.split(z_NV, starts_S[1:])):
        signal_SV[row] = z_TV.max(axis=0) > z_TV.min(axis=0)
        mean_V = z_TV.mean(axis=0)
        std_V = z_TV.std(axis=0, ddof=1)
        z_TV -= mean_V
        z_TV /= np.maximum(std_V, 1e-9)
    # An image counts for a voxel only if the voxel had signal in all three of its sessions.
    session_I3 = np.searchsorted(sessions_S, session_N)[thrice_I3]
    counted_IV = signal_SV[session_I3].all(axis=1)
    sum_V = np.sum(z_NV[thrice_I3].var(axis=1, ddof=1), axis=0, where=counted_IV)
    n_counted_V = np.where(counted_IV.any(axis=0), counted_IV.sum(axis=0), np.nan)
    return np.asarray(sum_V / n_counted_V, dtype=np.float64)
