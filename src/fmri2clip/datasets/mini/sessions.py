"""From percent signal change to stored sessions: scanner faults, quantisation, and the ncsnr of
what was stored.

Axis letters: V voxels of the brain mask in C order over (X, Y, Z), T the 750 trials of a session, S
sessions, I images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmri2clip.datasets.mini.volume import Volume
from fmri2clip.datasets.nsd import layout

# Voxels of each kind inside nsdgeneral, and as many outside.
N_DEAD = 3
N_SPIKY = 3
SPIKES_PER_SESSION = 6
SPIKE_PSC = 150.0  # beyond both int16 limits at 300 a percent
# Of the brain mask and of nsdgeneral: lowest voxels, which slip out of the slab.
MISSING_FRACTION = 0.01
P_SLIP = 0.4  # sessions in which some of them do


@dataclass(frozen=True, eq=False, kw_only=True)
class Faults:
    """Voxels that the scanner spoils: without signal in every session, with spikes, without signal
    in some sessions.
    """

    dead_V: np.ndarray
    spiky_V: np.ndarray
    missing_SV: np.ndarray

    def invalid_V(self, session: int) -> np.ndarray:
        """Voxels stored as zero in all trials of a session (0-based)."""
        return self.dead_V | self.missing_SV[session]


def make_faults(volume: Volume, n_sessions: int, seed: tuple[int, ...]) -> Faults:
    """Faults of one subject; with one session only, no voxel is partly missing."""
    rng = np.random.default_rng(seed)
    general_V = volume.nsdgeneral[volume.brainmask]
    height_V = np.nonzero(volume.brainmask)[2]
    groups = [np.flatnonzero(general_V), np.flatnonzero(~general_V)]
    dead: list[int] = []
    spiky: list[int] = []
    lowest: list[np.ndarray] = []
    for group in groups:
        picked = rng.choice(group, N_DEAD + N_SPIKY, replace=False)
        dead.extend(picked[:N_DEAD])
        spiky.extend(picked[N_DEAD:])
        rest = np.setdiff1d(group, picked)
        lowest.append(
            rest[np.argsort(height_V[rest], kind="stable")[: round(MISSING_FRACTION * group.size)]]
        )
    missing_SV = np.zeros((n_sessions, general_V.size), dtype=bool)
    if n_sessions > 1:
        depth_S = rng.random(n_sessions) * (rng.random(n_sessions) < P_SLIP)
        # Every voxel is there once, and every one is missing once.
        depth_S[rng.permutation(n_sessions)[:2]] = (0.0, 1.0)
        for session, depth in enumerate(depth_S):
            for voxels in lowest:
                missing_SV[session, voxels[: round(depth * voxels.size)]] = True
    everything = np.arange(general_V.size)
    return Faults(
        dead_V=np.isin(everything, dead), spiky_V=np.isin(everything, spiky), missing_SV=missing_SV
    )


def quantise(
    psc_TV: np.ndarray, faults: Faults, session: int, rng: np.random.Generator
) -> np.ndarray:
    """Stored betas (T, V) int16 of a session (0-based): faults added, x 300, rounded, saturated at
    the int16 limits.
    """
    scaled_TV = psc_TV * np.float32(layout.BETA_SCALE)
    for v in np.flatnonzero(faults.spiky_V):
        trials = rng.choice(psc_TV.shape[0], SPIKES_PER_SESSION, replace=False)
        scaled_TV[trials, v] += (
            SPIKE_PSC * layout.BETA_SCALE * (-1.0) ** np.arange(SPIKES_PER_SESSION)
        )
    scaled_TV[:, faults.invalid_V(session)] = 0
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(scaled_TV), limits.min, limits.max).astype(np.int16)


class NoiseCeiling:
    """ncsnr over sessions as the release defines it (main/export_noiseceiling.m), without keeping
    the trials.

    Each voxel is z-scored within its session; over images with three valid presentations, noise
    variance is the mean of the unbiased variance, signal = max(0, 1 - noise), ncsnr = sqrt(signal /
    noise). NaN where undefined.
    """

    def __init__(self, n_images: int, n_voxels: int) -> None:
        self._sum_IV = np.zeros((n_images, n_voxels), dtype=np.float32)
        self._squares_IV = np.zeros((n_images, n_voxels), dtype=np.float32)
        self._count_IV = np.zeros((n_images, n_voxels), dtype=np.int8)

    def add(self, betas_TV: np.ndarray, image_T: np.ndarray) -> None:
        """Adds a session: betas in any unit and the image index of each trial."""
        values_TV = betas_TV.astype(np.float32)
        std_V = values_TV.std(axis=0, ddof=1)
        valid_V = std_V > 0
        z_TV = (values_TV - values_TV.mean(axis=0)) / np.where(valid_V, std_V, 1)
        for z_V, image in zip(z_TV, image_T, strict=True):
            self._sum_IV[image] += z_V
            self._squares_IV[image] += z_V**2
            self._count_IV[image] += valid_V

    def ncsnr_V(self) -> np.ndarray:
        """(V,) float32."""
        n = layout.REPETITIONS
        complete_IV = self._count_IV == n
        variance_IV = (self._squares_IV - self._sum_IV**2 / n) / (n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            noise_V = np.where(complete_IV, variance_IV, 0).sum(
                axis=0, dtype=np.float64
            ) / complete_IV.sum(axis=0)
            ncsnr_V = np.sqrt(np.maximum(0, 1 - noise_V) / noise_V)
        return ncsnr_V.astype(np.float32)
