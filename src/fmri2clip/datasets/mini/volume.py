"""Head geometry of the simulated subjects: grid, brain mask, cortical ribbon and the ROI volumes of
NSD.

Two ellipsoidal hemispheres lie along X; the ribbon is a shell inside each. Areas are patches of the
ribbon that grow around a place given in head coordinates, so that they are contiguous, differ
between subjects and overlap between ROI volumes where NSD's do. Values follow the NSD manual: -1
outside the hemisphere's ribbon, 0 unlabelled, 1..N label. The shapes say nothing about real heads;
sizes follow subj01 of the release, relative to its 15,724 nsdgeneral voxels.

Axis letters: X, Y, Z (right, anterior, superior).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from fmri2clip.datasets.nsd import layout

GRIDS = {
    "subj01": (18, 20, 18),
    "subj02": (19, 19, 18),
    "subj03": (19, 18, 19),
    "subj04": (18, 18, 20),
    "subj05": (17, 20, 19),
    "subj06": (20, 18, 18),
    "subj07": (18, 19, 19),
    "subj08": (17, 19, 20),
}
VOXEL_RATIO = 9  # real nsdgeneral voxels per simulated one
BRAIN_FRACTION = 0.45  # of the grid
# Fractions of the brain mask outside and inside the ribbon
RIM = 0.08
CORE = 0.11
EMPTY_LABELS = {("subj07", "floc-words", "mTL-words")}  # an area that a subject does not have
# Occipital pole: (medial to lateral, posterior to anterior, ventral to dorsal), each 0 to 1.
POLE = (0.2, 0.0, 0.5)

# Fractions of nsdgeneral, from the counts of subj01; from the pole outwards.
VENTRAL = {"V1v": 0.038, "V2v": 0.053, "V3v": 0.041, "hV4": 0.044}
DORSAL = {"V1d": 0.048, "V2d": 0.038, "V3d": 0.034}
ECCENTRICITY = (0.08, 0.17, 0.25, 0.30, 0.20)  # of the prf voxels, fovea to periphery
STREAM_EARLY = 0.376
STREAM_MIDDLE = 0.176
STREAM_TOTAL = 0.93  # of the ribbon
# sectors in the plane (medial to lateral, ventral to dorsal); 0 ventral, 1 lateral, 2 parietal
STREAM_PLACES = {
    (0.5, 0.1): 0,
    (0.1, 0.3): 0,
    (0.9, 0.45): 1,
    (0.8, 0.7): 1,
    (0.4, 0.95): 2,
    (0.1, 0.75): 2,
}

# Area: place (medial to lateral, posterior to anterior, ventral to dorsal) and size as a fraction
# of nsdgeneral.
Patches = Mapping[str, tuple[tuple[float, float, float], float]]
AREAS: dict[str, Patches] = {
    "floc-faces": {
        "OFA": ((0.78, 0.16, 0.28), 0.023),
        "FFA-1": ((0.55, 0.38, 0.06), 0.031),
        "FFA-2": ((0.55, 0.54, 0.06), 0.020),
        "mTL-faces": ((0.85, 0.66, 0.25), 0.010),
        "aTL-faces": ((0.70, 0.88, 0.12), 0.009),
    },
    "floc-words": {
        "OWFA": ((0.72, 0.13, 0.22), 0.030),
        "VWFA-1": ((0.66, 0.34, 0.06), 0.049),
        "VWFA-2": ((0.70, 0.58, 0.06), 0.032),
        "mfs-words": ((0.48, 0.46, 0.06), 0.0105),
        "mTL-words": ((0.90, 0.70, 0.30), 0.012),
    },
    "floc-places": {
        "OPA": ((0.65, 0.25, 0.85), 0.085),
        "PPA": ((0.28, 0.56, 0.10), 0.066),
        "RSC": ((0.08, 0.70, 0.60), 0.036),
    },
    "floc-bodies": {
        "EBA": ((0.95, 0.38, 0.45), 0.160),
        "FBA-1": ((0.62, 0.44, 0.08), 0.015),
        "FBA-2": ((0.60, 0.60, 0.08), 0.027),
        "mTL-bodies": ((0.92, 0.72, 0.38), 0.012),
    },
    "Kastner2015": {
        "VO1": ((0.30, 0.30, 0.12), 0.02),
        "VO2": ((0.30, 0.38, 0.10), 0.02),
        "PHC1": ((0.30, 0.46, 0.10), 0.02),
        "PHC2": ((0.30, 0.54, 0.10), 0.02),
        "MST": ((0.95, 0.44, 0.52), 0.01),
        "hMT": ((0.95, 0.38, 0.45), 0.015),
        "LO2": ((0.92, 0.28, 0.45), 0.025),
        "LO1": ((0.86, 0.20, 0.45), 0.025),
        "V3b": ((0.60, 0.20, 0.80), 0.02),
        "V3a": ((0.42, 0.18, 0.80), 0.02),
        "IPS0": ((0.50, 0.28, 0.90), 0.02),
        "IPS1": ((0.50, 0.36, 0.95), 0.02),
        "IPS2": ((0.50, 0.44, 0.95), 0.02),
        "IPS3": ((0.50, 0.52, 0.95), 0.02),
        "IPS4": ((0.50, 0.60, 0.95), 0.01),
        "IPS5": ((0.50, 0.68, 0.95), 0.01),
        "SPL1": ((0.22, 0.52, 0.95), 0.02),
        "FEF": ((0.60, 0.85, 0.85), 0.02),
    },
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Volume:
    """Geometry of one subject; every array has the shape (X, Y, Z).

    ``rois`` maps 'floc-faces', 'lh.floc-faces', 'rh.floc-faces' and so on for every volume of
    ``layout.ROI_LABELS`` to int8 labels: -1 outside the ribbon (of that hemisphere), 0 unlabelled,
    k = ``layout.ROI_LABELS[roi][k - 1]``.
    """

    subject: str
    brainmask: np.ndarray  # bool
    ribbon: np.ndarray  # bool, inside brainmask
    lh: np.ndarray  # bool, left half of the grid
    nsdgeneral: np.ndarray  # bool, inside ribbon
    rois: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the volumes, in voxels."""
        x, y, z = self.brainmask.shape
        return x, y, z

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to millimetres as in the release: 1.8 mm, centred, no rotation."""
        matrix = np.diag((1.8, 1.8, 1.8, 1.0))
        matrix[:3, 3] = (1 - (np.array(self.shape) + 1) / 2) * 1.8
        return matrix

    def member(self, roi: str, label: str = "") -> np.ndarray:
        """Voxels of a whole ROI ('floc-faces'), or of one label of it, as (X, Y, Z) bool."""
        if not label:
            return self.rois[roi] > 0
        both = roi.removeprefix("lh.").removeprefix("rh.")
        return self.rois[roi] == layout.ROI_LABELS[both].index(label) + 1


class _Head:
    """Head coordinates of a grid and the random choices of one subject, while its ROIs are
    drawn.
    """

    def __init__(self, subject: str, world_seed: int) -> None:
        number = layout.subject_number(subject)
        self.shape = GRIDS[subject]
        self.n_general = round(layout.NSDGENERAL_VOXELS[number - 1] / VOXEL_RATIO)
        self.rng = np.random.default_rng((world_seed, number, 0x70C5))
        x, y, z = np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij")
        half = self.shape[0] / 2
        self.lh = x < self.shape[0] // 2
        self.scale = np.array((half, self.shape[1] - 1, self.shape[2] - 1))
        self.places = np.stack((np.abs(x + 0.5 - half), y, z), axis=-1) / self.scale

    def noise(self, sigma: float = 2.0) -> np.ndarray:
        """Smooth random field (X, Y, Z) with unit standard deviation."""
        field = gaussian_filter(self.rng.normal(size=self.shape), sigma, mode="wrap")
        return field / field.std()

    def distance(self, place: ArrayLike) -> np.ndarray:
        """Distance to a place of head coordinates in voxels, a little rough, (X, Y, Z)."""
        steps = (self.places - np.array(place)) * self.scale
        return np.sqrt((steps**2).sum(axis=-1)) + 0.4 * self.noise()

    def size(self, fraction: float, spread: float = 0.15) -> int:
        """Voxels per hemisphere of an area that covers this fraction of nsdgeneral in the average
        subject.
        """
        return max(1, round(fraction * self.n_general / 2 * np.exp(self.rng.normal(0, spread))))


def make_volume(subject: str, world_seed: int) -> Volume:
    """Geometry of a subject, 'subj01' to 'subj08', in a world.

    The same arguments give the same volume.
    """
    head = _Head(subject, world_seed)
    # A slightly rough ellipsoid in each half: brain outside in, then the ribbon as its shell.
    from_centre = (head.places - (0.48, 0.5, 0.5)) / (0.52, 0.54, 0.54)
    depth = np.sqrt((from_centre**2).sum(axis=-1)) + 0.03 * head.noise()
    brainmask = _lowest(depth, np.ones(head.shape, dtype=bool), round(BRAIN_FRACTION * depth.size))
    n_brain = int(brainmask.sum())
    inner = _lowest(depth, brainmask, round((1 - RIM) * n_brain))
    ribbon = inner & ~_lowest(depth, brainmask, round(CORE * n_brain))
    nsdgeneral = _lowest(head.places[..., 1] + 0.04 * head.noise(), ribbon, head.n_general)

    rois = {"nsdgeneral": nsdgeneral.astype(np.int8)}
    rois["prf-visualrois"] = _in_both(head, ribbon, _retinotopic)
    rois["prf-eccrois"] = _in_both(head, rois["prf-visualrois"] > 0, _eccentricity)
    rois["streams"] = _in_both(head, ribbon, _streams)
    # floc areas spare V1 and V2
    taken = {roi: np.isin(rois["prf-visualrois"], (1, 2, 3, 4)) for roi in AREAS}
    taken["Kastner2015"] = rois["prf-visualrois"] > 0
    for roi in AREAS:
        rois[roi] = _in_both(
            head, ribbon & ~taken[roi], partial(_patches, subject=subject, roi=roi)
        )
    rois["Kastner2015"] += rois["prf-visualrois"]  # its labels 1 to 7 are the same areas
    return Volume(
        subject=subject,
        brainmask=brainmask,
        ribbon=ribbon,
        lh=head.lh,
        nsdgeneral=nsdgeneral,
        rois=_with_hemispheres({name: rois[name] for name in layout.ROI_LABELS}, ribbon, head.lh),
    )


def _lowest(score: np.ndarray, mask: np.ndarray, n: int) -> np.ndarray:
    """The n voxels of a mask with the lowest score, as a mask; all of them if there are fewer."""
    order = np.argsort(np.where(mask, score, np.inf), axis=None, kind="stable")
    chosen = np.zeros(mask.shape, dtype=bool)
    chosen.flat[order[: min(n, int(mask.sum()))]] = True
    return chosen


def _grow(score: np.ndarray, mask: np.ndarray, n: int) -> np.ndarray:
    """A connected patch of n voxels of a mask (fewer if its part of the mask is smaller), from its
    lowest score on.
    """
    patch = np.zeros(mask.shape, dtype=bool)
    seen = ~mask
    border: list[tuple[float, tuple[int, ...]]] = []
    if mask.any():
        lowest = np.unravel_index(np.where(mask, score, np.inf).argmin(), mask.shape)
        border.append((0.0, tuple(int(i) for i in lowest)))
    while border and n > 0:
        _, voxel = heapq.heappop(border)
        patch[voxel] = True
        n -= 1
        around = tuple(slice(max(0, i - 1), i + 2) for i in voxel)
        corner = [part.start for part in around]
        for step in np.argwhere(~seen[around]):
            neighbour = tuple(int(i) for i in step + corner)
            if neighbour != voxel:
                heapq.heappush(border, (float(score[neighbour]), neighbour))
        seen[around] = True
    return patch


def _in_both(
    head: _Head, mask: np.ndarray, draw: Callable[[_Head, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Labels drawn in the left and then in the right part of a mask, (X, Y, Z) int8, 0
    elsewhere.
    """
    return draw(head, mask & head.lh) + draw(head, mask & ~head.lh)


def _retinotopic(head: _Head, ribbon: np.ndarray) -> np.ndarray:
    """V1 to hV4 as bands around the occipital pole, ventral and dorsal of it."""
    labels = np.zeros(head.shape, dtype=np.int8)
    distance = head.distance(POLE)
    dorsal = head.places[..., 2] + 0.03 * head.noise() > POLE[2]
    for sequence, part in ((VENTRAL, ~dorsal), (DORSAL, dorsal)):
        for name, fraction in sequence.items():
            patch = _grow(distance, ribbon & part & (labels == 0), head.size(fraction, spread=0.1))
            labels[patch] = layout.ROI_LABELS["prf-visualrois"].index(name) + 1
    return labels


def _eccentricity(head: _Head, visual: np.ndarray) -> np.ndarray:
    """Fovea lateral, periphery medial, over the voxels of the retinotopic areas."""
    labels = np.zeros(head.shape, dtype=np.int8)
    score = -head.places[..., 0] + 0.05 * head.noise()
    n_visual = int(visual.sum())
    for k, reached in enumerate(np.cumsum(ECCENTRICITY), start=1):
        labels[_lowest(score, visual, round(reached * n_visual)) & (labels == 0)] = k
    return labels


def _streams(head: _Head, ribbon: np.ndarray) -> np.ndarray:
    """Early, then a ring of middle areas, then the rest; middle and rest are cut into three
    sectors.
    """
    distance = head.distance(POLE)
    sector_places = np.array(list(STREAM_PLACES))
    plane = head.places[..., (0, 2)] + 0.03 * np.stack((head.noise(), head.noise()), axis=-1)
    nearest = ((plane[..., None, :] - sector_places) ** 2).sum(axis=-1).argmin(axis=-1)
    sector = np.array(list(STREAM_PLACES.values()), dtype=np.int8)[nearest]
    n_early = head.size(STREAM_EARLY, spread=0.05)
    n_middle = head.size(STREAM_MIDDLE, spread=0.05)
    early = _lowest(distance, ribbon, n_early)
    middle = _lowest(distance, ribbon, n_early + n_middle) & ~early
    rest = _lowest(distance, ribbon, round(STREAM_TOTAL * ribbon.sum())) & ~early & ~middle
    return (early * 1 + middle * (2 + sector) + rest * (5 + sector)).astype(np.int8)


def _patches(head: _Head, free: np.ndarray, subject: str, roi: str) -> np.ndarray:
    """Areas of one ROI volume, each around its place; places and sizes vary over subjects and
    hemispheres.
    """
    labels = np.zeros(head.shape, dtype=np.int8)
    for name, (place, fraction) in AREAS[roi].items():
        around = np.array(place) + head.rng.normal(0, 0.02, size=3)
        patch = _grow(head.distance(around), free & (labels == 0), head.size(fraction))
        if (subject, roi, name) not in EMPTY_LABELS:
            labels[patch] = layout.ROI_LABELS[roi].index(name) + 1
    return labels


def _with_hemispheres(
    merged: dict[str, np.ndarray], ribbon: np.ndarray, lh: np.ndarray
) -> dict[str, np.ndarray]:
    """Adds the lh. and rh. volumes and sets everything outside the ribbon to -1."""
    rois: dict[str, np.ndarray] = {}
    for name, labels in merged.items():
        for prefix, where in (("", ribbon), ("lh.", ribbon & lh), ("rh.", ribbon & ~lh)):
            rois[prefix + name] = np.where(where, labels, layout.OUTSIDE_CORTEX).astype(np.int8)
    return rois
