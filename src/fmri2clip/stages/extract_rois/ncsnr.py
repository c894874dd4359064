"""Noise ceiling signal-to-noise ratio of every voxel: as shipped, and recomputed on training trials
only.

The shipped ncsnr was made from all trials, those of the test pictures included (nsddatapaper,
main/export_noiseceiling.m). Letters: N trials, I images, R presentations, V voxels, S sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.stages.extract_rois.zscore import cut

Floats = NDArray[np.floating[Any]]
CHUNK_V = 128  # voxels at a time where float64 copies of all trials are made


def compute_ncsnr(
    bands: Iterable[Floats],
    session_N: NDArray[np.integer[Any]],
    image_N: NDArray[np.integer[Any]],
    repetitions: int = 3,
) -> NDArray[np.float32]:
    """ncsnr of every voxel, NaN where undefined.

        noise = mean over images of the unbiased variance over their presentations
        ncsnr = sqrt(max(0, 1 - noise)) / sqrt(noise)

    of the betas z-scored within session (Allen et al. 2022; nsddatapaper,
    main/export_noiseceiling.m). For a voxel, images count that have `repetitions` presentations
    among these trials (0: any number above one), all in sessions where it has signal.

    bands: betas (N, v) of the voxels in order, some at a time. session_N: sorted.
    """
    assert np.all(np.diff(session_N) >= 0), "trials are not in the order of sessions"
    shown = _list_repeated(image_N, repetitions)
    parts = [
        _noise(band_NV[:, part], session_N, shown)
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


def _list_repeated(image_N: NDArray[np.integer[Any]], repetitions: int) -> list[NDArray[np.intp]]:
    """Trials of the images that count, one row an image: an array for each number of
    presentations.
    """
    _, image_of_N, shown_I = np.unique(image_N, return_inverse=True, return_counts=True)
    # Sorted by image, the presentations of one stand side by side, so a reshape makes the rows.
    order_N = np.argsort(image_of_N, kind="stable")
    shown_N = shown_I[image_of_N[order_N]]
    counts = [repetitions] if repetitions else np.unique(shown_I[shown_I > 1]).tolist()
    return [order_N[shown_N == count].reshape(-1, count) for count in counts]


def _noise(
    betas_NV: Floats, session_N: NDArray[np.integer[Any]], shown: Sequence[NDArray[np.intp]]
) -> NDArray[np.float64]:
    """Noise variance, z-scored within session; NaN for a voxel without an image that counts."""
    z_NV = betas_NV.astype(np.float64)
    sessions_S, starts_S = np.unique(session_N, return_index=True)
    signal_SV = np.empty((len(sessions_S), z_NV.shape[1]), dtype=bool)
    # np.split gives views of z_NV: it is z-scored in place, session by session.
    for row, z_TV in enumerate(np.split(z_NV, starts_S[1:])):
        signal_SV[row] = z_TV.max(axis=0) > z_TV.min(axis=0)
        mean_V = z_TV.mean(axis=0)
        std_V = z_TV.std(axis=0, ddof=1) if len(z_TV) > 1 else np.zeros(z_TV.shape[1])
        z_TV -= mean_V
        z_TV /= np.maximum(std_V, 1e-9)
    sum_V = np.zeros(z_NV.shape[1])
    n_counted_V = np.zeros(z_NV.shape[1])
    for trial_IR in shown:
        # An image counts for a voxel only if the voxel had signal in all of its sessions.
        session_IR = np.searchsorted(sessions_S, session_N)[trial_IR]
        counted_IV = signal_SV[session_IR].all(axis=1)
        sum_V += np.sum(z_NV[trial_IR].var(axis=1, ddof=1), axis=0, where=counted_IV)
        n_counted_V += counted_IV.sum(axis=0)
    n_counted_V[n_counted_V == 0] = np.nan
    return np.asarray(sum_V / n_counted_V, dtype=np.float64)
