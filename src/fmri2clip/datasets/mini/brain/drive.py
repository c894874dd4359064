"""What pictures do to voxels before any noise: drive D, its change with gaze, response R(D).

Letters: I images, V voxels, C channels or units of a map, P its places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fmri2clip.datasets.mini import filters
from fmri2clip.datasets.mini.brain.network import (
    LATE_SIDE,
    MIDDLE_PLACES,
    Areas,
    area_maps,
)
from fmri2clip.datasets.mini.brain.voxels import (
    EARLY,
    LATE,
    LATE_FIELD,
    MIDDLE,
    MIDDLE_FIELD,
    Voxels,
)

LATE_POWER = 0.8
MIDDLE_POWER = 0.7
SIDES = {EARLY: filters.SIDE, MIDDLE: MIDDLE_PLACES, LATE: LATE_SIDE}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How one kind of features is read: weights (V, C), windows (V, P) and their slopes, power.

    members_V: the voxels that read this kind at all; the arrays have those rows only.
    """

    members_V: np.ndarray
    weight_VC: np.ndarray
    window_VP: np.ndarray
    slope_x_VP: np.ndarray
    slope_y_VP: np.ndarray
    power_V: np.ndarray


def draw_tuning(
    voxels: Voxels, areas: Areas, rng: np.random.Generator, seed: int, likeness: float
) -> dict[str, Tuning]:
    """Of every kind of features."""
    n_middle = areas.network.shape.middle
    size_V, power_V = voxels.fields(rng)
    early_VC = rng.gamma(0.4, size=(voxels.n, filters.N_CHANNELS)) - 0.15
    kept = rng.random((voxels.n, n_middle)) < 0.2
    middle_VC = rng.normal(size=(voxels.n, n_middle)) * kept
    late_VC = voxels.late_tuning(areas.selectivity_KU, rng, seed, likeness)
    mixture = voxels.mixture()
    drawn = {
        EARLY: (early_VC, size_V, power_V),
        MIDDLE: (middle_VC, np.full(voxels.n, MIDDLE_FIELD), np.full(voxels.n, MIDDLE_POWER)),
        LATE: (late_VC, np.full(voxels.n, LATE_FIELD), np.full(voxels.n, LATE_POWER)),
    }
    found = {}
    for kind, (weight_VC, width_V, power) in drawn.items():
        members_V = np.flatnonzero(mixture[kind] > 0)
        side = SIDES[kind]
        window_VP = voxels.windows(side, width_V)[members_V]
        slope_x_VP, slope_y_VP = voxels.window_slopes(side, width_V)
        found[kind] = Tuning(
            members_V=members_V,
            weight_VC=weight_VC[members_V],
            window_VP=window_VP,
            slope_x_VP=slope_x_VP[members_V],
            slope_y_VP=slope_y_VP[members_V],
            power_V=power[members_V],
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a cortex is used to, of one kind of features: mean of each unit before competition, mean
    and deviation of each channel after it, (C).
    """

    activity_C: np.ndarray
    mean_C: np.ndarray
    deviation_C: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Feature maps (I, C, P) and their scales, by kind."""

    maps: dict[str, np.ndarray]
    scales: dict[str, Scale]


def see(
    images_IHWC: np.ndarray,
    areas: Areas,
    pair_K2: np.ndarray,
    threads: int,
    used_to: Maps | None = None,
) -> Maps:
    """Maps of pictures, scaled by the pictures themselves or, if given, as other maps were.

    Late units compete: each is divided by the activity around it (Heeger 1992, normalisation).
    pair_K2: units of the subject's conjunctions, whose maps follow those of the units: the
    geometric mean of two units is active where both are.
    """
    early = filters.early_maps(images_IHWC, threads)
    middle, late = area_maps(areas.network, images_IHWC)
    raw = {
        EARLY: early.reshape(*early.shape[:2], -1),
        MIDDLE: middle.reshape(*middle.shape[:2], -1),
        LATE: late.reshape(*late.shape[:2], -1),
    }
    maps = {}
    scales = {}
    for kind, map_ICP in raw.items():
        scale = used_to.scales[kind] if used_to else None
        activity_C = scale.activity_C if scale else map_ICP.mean(axis=(0, 2)) + 1e-6
        if kind == LATE:
            map_ICP = map_ICP / activity_C[:, None]
            around = map_ICP.mean(axis=1, keepdims=True)
            map_ICP = map_ICP / (1.0 + around + around.mean(axis=2, keepdims=True))
            both_IKP = np.sqrt(map_ICP[:, pair_K2[:, 0]] * map_ICP[:, pair_K2[:, 1]])
            map_ICP = np.concatenate([map_ICP, both_IKP], axis=1)
        if scale is None:
            # Early channels are energies: their zero is that of an empty picture.
            mean_C = map_ICP.mean(axis=(0, 2)) * (kind != EARLY)
            deviation_C = map_ICP.std(axis=(0, 2)) + 1e-6
            scale = Scale(activity_C=activity_C, mean_C=mean_C, deviation_C=deviation_C)
        scales[kind] = scale
        centred = map_ICP - scale.mean_C[:, None]
        maps[kind] = (centred / scale.deviation_C[:, None]).astype(np.float32)
    return Maps(maps=maps, scales=scales)


def read(map_ICP: np.ndarray, weight_VC: np.ndarray, window_VP: np.ndarray) -> np.ndarray:
    """Drive (I, V): sum over channels and places of weight x window x map."""
    n_images, n_channels, n_places = map_ICP.shape
    weights_VF = (weight_VC[:, :, None] * window_VP[:, None, :]).reshape(len(weight_VC), -1)
    flat_IF = torch.from_numpy(map_ICP.reshape(n_images, n_channels * n_places))
    drive: np.ndarray = (flat_IF @ torch.from_numpy(weights_VF.astype(np.float32)).T).numpy()
    return drive


def respond(drive_IV: torch.Tensor, power_V: torch.Tensor, rectified: bool) -> torch.Tensor:
    """Power of the drive: of its positive part in early areas, else with its sign (compressive
    summation, Kay et al. 2013).
    """
    if rectified:
        return drive_IV.clamp(min=0).pow(power_V)
    return drive_IV.sign() * drive_IV.abs().pow(power_V)
