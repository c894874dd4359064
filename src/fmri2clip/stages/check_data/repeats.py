"""The noise ceiling of every voxel, from sessions that are read one after the other.

Of each picture the sums of z and of z^2 over its presentations are kept, in float16: 0.7 GB at real
size. What rounding does to one picture (a part in a thousand) averages out over thousands.

Axis letters: N trials, T trials of a session, I pictures, V voxels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout

BLOCK = 256  # pictures in float32 at once


class Repeats:
    """Sums over the presentations of the pictures that were shown `repetitions` times."""

    def __init__(
        self, nsd_id_N: NDArray[np.int64], n_voxels: int, repetitions: int = layout.REPETITIONS
    ) -> None:
        self.repetitions = repetitions
        _, image_N, shown_I = np.unique(nsd_id_N, return_inverse=True, return_counts=True)
        complete_I = shown_I == repetitions
        self.row_N = np.where(complete_I[image_N], np.cumsum(complete_I)[image_N] - 1, -1)
        self.sum_IV = np.zeros((int(complete_I.sum()), n_voxels), dtype=np.float16)
        self.square_IV = np.zeros_like(self.sum_IV)

    def add(self, trial_T: NDArray[np.int64], z_TV: NDArray[np.float32]) -> None:
        """One session; trial_T: places of its trials among N; NaN z = missing."""
        for row, z_V in zip(self.row_N[trial_T], z_TV, strict=True):
            if row >= 0:
                self.sum_IV[row] += z_V
                self.square_IV[row] += z_V**2

    def ncsnr(self) -> NDArray[np.float64]:
        """sqrt(max(0, 1 - n) / n) of each voxel, n = mean over pictures of the unbiased variance of
        z over the presentations; a picture with a missing one does not count for the voxel.
        """
        total_V, count_V = self.total_count()
        with np.errstate(divide="ignore", invalid="ignore"):
            noise_V = total_V / count_V
            return np.sqrt(np.maximum(0, 1 - noise_V) / noise_V)

    def total_count(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each voxel, the sum over pictures of that variance, and the number of pictures."""
        total_V = np.zeros(self.sum_IV.shape[1])
        count_V = np.zeros_like(total_V)
        for start in range(0, len(self.sum_IV), BLOCK):
            sum_IV = self.sum_IV[start : start + BLOCK].astype(np.float32)
            square_IV = self.square_IV[start : start + BLOCK].astype(np.float32)
            variance_IV = (square_IV - sum_IV**2 / self.repetitions) / (self.repetitions - 1)
            count_V += np.isfinite(variance_IV).sum(axis=0)
            total_V += np.nansum(variance_IV, axis=0, dtype=np.float64)
        return total_V, count_V
