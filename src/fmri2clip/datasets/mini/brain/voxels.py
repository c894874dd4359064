"""What each voxel of a simulated brain reads: area, window, kinds of features, tuning.

Early areas (V1, V2, V3, hV4) have receptive fields of growing size; category areas read the late
maps of a network that recognises (network.py) through broad windows, towards what their area is
known for and, more or less, towards something else. A fraction of the voxels ignores its area:
none in the default world, all where the hierarchy is flat.

Letters: V voxels of the brain mask in C order over (X, Y, Z), U units, C channels, P places.
"""

from __future__ import annotations

import numpy as np

from fmri2clip.datasets.mini.brain.network import DOMAINS
from fmri2clip.datasets.mini.volume import Volume
from fmri2clip.datasets.nsd import layout

EARLY = "early"
MIDDLE = "middle"
LATE = "late"
KINDS = (EARLY, MIDDLE, LATE)
FLOC_ROIS = tuple(f"floc-{domain}" for domain in DOMAINS)
# Gaussian width of a receptive field, fraction of the picture, and power of its response
FIELD_SIZE = {"V1": 0.05, "V2": 0.08, "V3": 0.11, "hV4": 0.16}
EXPONENT = {"V1": 0.6, "V2": 0.5, "V3": 0.45, "hV4": 0.4}
FLAT_FIELD = 0.12
FLAT_EXPONENT = 0.5
MIDDLE_FIELD = 0.18
LATE_FIELD = 0.45  # Gaussian width of a category voxel's window
N_PROTOTYPES = 24  # of an area, the same in all subjects
N_UNITS = 10  # units that a prototype reads, on average
# strength of tuning of the voxel's own and of the subject's own, beside the prototype
OWN_TUNING = 0.4
SUBJECT_TUNING = 0.3
# Share of the tuning of a floc voxel that is towards its domains: uniform from 0 to this
DOMAIN_SHARES = {"faces": 0.9, "words": 0.9, "places": 0.45, "bodies": 0.9}
N_CONJUNCTIONS = 96  # pairs of units that a subject has cells for, drawn for each
CONJUNCTIONS = 0.6  # share of the tuning (squared) of a late voxel that reads them
UNLIKE_UNITS = 0.35  # units that any one subject has where subjects are unlike


class Voxels:
    """Drawn for one subject of a world.

    hierarchy: 1 as in the default world, 0 flat; between, the fraction of voxels that keep their
    area.
    """

    def __init__(self, volume: Volume, rng: np.random.Generator, hierarchy: float) -> None:
        mask = volume.brainmask
        self.n = int(mask.sum())
        self.prf = volume.rois["prf-visualrois"][mask]
        self.streams = volume.rois["streams"][mask]
        self.eccentricity = volume.rois["prf-eccrois"][mask]
        self.inside = volume.nsdgeneral[mask]
        self.left = volume.lh[mask]
        self.floc = np.stack([volume.rois[roi][mask] > 0 for roi in FLOC_ROIS], axis=1)
        self.is_category = self.floc.any(axis=1) & (self.prf <= 0)
        self.sees = (self.prf > 0) | self.is_category | (self.streams > 0)
        self.flat = rng.random(self.n) >= hierarchy
        self.centre_V2 = self._centres(rng)

    def _centres(self, rng: np.random.Generator) -> np.ndarray:
        """Window centres (x, y) as fractions of the picture: contralateral; ventral areas see the
        upper field.
        """
        bands = [(self.eccentricity == k) & ~self.flat for k in range(1, 6)]
        radius = np.select(bands, (0.04, 0.1, 0.2, 0.32, 0.45), 0.22)
        radius = radius * np.exp(rng.normal(0, 0.2, size=self.n))
        labels = layout.ROI_LABELS["prf-visualrois"]
        upper = np.isin(self.prf, [k + 1 for k, name in enumerate(labels) if name.endswith("v")])
        lower = np.isin(self.prf, [k + 1 for k, name in enumerate(labels) if name.endswith("d")])
        angle = rng.uniform(-0.5, 0.5, size=self.n) * np.pi
        angle = np.where(upper & ~self.flat, np.abs(angle), angle)
        angle = np.where(lower & ~self.flat, -np.abs(angle), angle)
        side = np.where(self.left, 1.0, -1.0)
        return 0.5 + radius[:, None] * np.stack([side * np.cos(angle), -np.sin(angle)], axis=1)

    def mixture(self) -> dict[str, np.ndarray]:
        """Share of variance that each kind of feature has in each voxel, (V,)."""
        early = np.select([(self.prf > 0) & (self.prf < 7), self.prf == 7], (1.0, 0.6), 0.0)
        middle_areas = [self.prf == 7, np.isin(self.streams, (1, 2, 3, 4))]
        middle = np.select(middle_areas, (0.4, 0.5), 0.0) * (early < 1)
        parietal = 0.3 * ((self.streams == 7) & (self.prf <= 0))
        early = np.where(self.is_category, 0.0, early + parietal)
        middle = np.where(self.is_category, 0.0, middle)
        early = np.where(self.flat, 0.5, early)
        middle = np.where(self.flat, 0.0, middle)
        shares = {EARLY: early, MIDDLE: middle, LATE: 1 - early - middle}
        return {kind: share * self.sees for kind, share in shares.items()}

    def fields(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Width of the receptive field and exponent of each early voxel, (V,)."""
        names = [name.rstrip("vd") for name in layout.ROI_LABELS["prf-visualrois"]]
        areas = [(self.prf == k + 1) & ~self.flat for k in range(7)]
        size = np.select(areas, [FIELD_SIZE[n] for n in names], FLAT_FIELD)
        power = np.select(areas, [EXPONENT[n] for n in names], FLAT_EXPONENT)
        return size * np.exp(rng.normal(0, 0.25, size=self.n)), power

    def late_tuning(
        self, selectivity_KU: np.ndarray, rng: np.random.Generator, seed: int, likeness: float
    ) -> np.ndarray:
        """Weights (V, U + K) of the units and of the subject's conjunctions, of norm 1.

        CONJUNCTIONS of them, squared, are random over the subject's conjunctions. Over the units, a
        floc voxel mixes the direction of its domains with a prototype of its area; any other has
        the prototype alone. likeness: 1, prototypes are those of the world; 0, everything is drawn
        for the subject, who has a part of the units only.
        """
        n_units = selectivity_KU.shape[1]
        domain_KU = _unit_rows(find_directions(selectivity_KU))
        area = np.where(self.is_category, 10 + self.floc.argmax(axis=1), self.streams.clip(0))
        tuning_VU = np.zeros((self.n, n_units))
        for code in np.unique(area):
            members = np.flatnonzero(area == code)
            shared = _sparse(
                np.random.default_rng((seed, int(code), 0xA2EA)), N_PROTOTYPES, n_units
            )
            drawn = _sparse(rng, N_PROTOTYPES, n_units)
            own_area = likeness * shared + (SUBJECT_TUNING + 1 - likeness) * drawn
            prototype = own_area[rng.integers(N_PROTOTYPES, size=len(members))]
            tuning = prototype + OWN_TUNING * _sparse(rng, len(members), n_units)
            tuning_VU[members] = _unit_rows(tuning)
        most_V = (self.floc * list(DOMAIN_SHARES.values())).max(axis=1)
        share_V = most_V * rng.uniform(size=self.n) * self.is_category * ~self.flat
        towards_VU = _unit_rows(self.floc @ domain_KU)  # areas overlap
        mixed_VU = share_V[:, None] * towards_VU + np.sqrt(1 - share_V**2)[:, None] * tuning_VU
        if likeness < 1:
            kept_U = rng.random(n_units) < UNLIKE_UNITS + (1 - UNLIKE_UNITS) * likeness
            mixed_VU = mixed_VU * kept_U
        own_VK = _unit_rows(_sparse(rng, self.n, N_CONJUNCTIONS))
        parts = (np.sqrt(1 - CONJUNCTIONS) * _unit_rows(mixed_VU), np.sqrt(CONJUNCTIONS) * own_VK)
        return np.concatenate(parts, axis=1)

    @staticmethod
    def draw_pairs(rng: np.random.Generator, n_units: int) -> np.ndarray:
        """Units of each conjunction, (N_CONJUNCTIONS, 2): two different ones."""
        first = rng.integers(n_units, size=N_CONJUNCTIONS)
        second = (first + rng.integers(1, n_units, size=N_CONJUNCTIONS)) % n_units
        return np.stack([first, second], axis=1)

    def windows(self, side: int, width_V: np.ndarray) -> np.ndarray:
        """Gaussian windows over a side x side map, (V, P), each summing to 1."""
        return self._weigh(side, width_V)[0]

    def window_slopes(self, side: int, width_V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change (V, P) of the windows with a shift of gaze by the whole picture to the right, and
        down.
        """
        window, across, down = self._weigh(side, width_V)
        return window * across, window * down

    def _weigh(self, side: int, width_V: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ticks = (np.arange(side) + 0.5) / side
        x, y = np.meshgrid(ticks, ticks)
        across = x.ravel() - self.centre_V2[:, :1]
        down = y.ravel() - self.centre_V2[:, 1:]
        square = width_V[:, None] ** 2
        # 1e-9: a window far outside of the picture is flat, not 0 / 0.
        window = np.exp(-(across**2 + down**2) / (2 * square)) + 1e-9
        window = window / window.sum(axis=1, keepdims=True)
        mean_across = (window * across).sum(axis=1, keepdims=True)
        mean_down = (window * down).sum(axis=1, keepdims=True)
        # d log(window) / d centre = distance / width^2, less its mean, as a window sums to 1.
        return window, (across - mean_across) / square, (down - mean_down) / square


def find_directions(selectivity_KU: np.ndarray) -> np.ndarray:
    """Weights (K, U): how much more selective a unit is for the domain than for any other, 0 where
    it is less.
    """
    found = []
    for k, own_U in enumerate(selectivity_KU):
        other_U = np.delete(selectivity_KU, k, axis=0).max(axis=0)
        found.append(np.maximum(own_U - np.maximum(other_U, 0), 0))
    return np.stack(found)


def _sparse(rng: np.random.Generator, n: int, n_units: int) -> np.ndarray:
    """Tuning vectors (n, U) with N_UNITS non-zero entries on average."""
    return rng.normal(size=(n, n_units)) * (rng.random((n, n_units)) < N_UNITS / n_units)


def _unit_rows(weight_VU: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(weight_VU, axis=1, keepdims=True)
    return np.divide(weight_VU, norm, out=np.zeros_like(weight_VU), where=norm > 0)
