"""Simulated cortex: betas computed from the picture, never from CLIP, labels or captions.

Early areas (V1, V2, V3, hV4) have receptive fields of growing size over oriented-energy and
colour-opponent maps with a compressive non-linearity (in the manner of Kay et al. 2013, the
compressive spatial summation model). Category areas and streams read, through broad and
contralateral windows, the code of a small network with its own task (``network.py``), after
competition between positions and units. Noise is correlated over neighbouring voxels, over the
whole brain and over the trials of a run; gain and baseline drift by session; responses shrink with
repetition. This world has known truth; it says nothing about real brains.

Axis letters: N trials, I images, V voxels of the brain mask in C order over (X, Y, Z), F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from fmri2clip.core.params import World
from fmri2clip.datasets.mini import filters
from fmri2clip.datasets.mini.network import (
    CODE_CHANNELS,
    CODE_SIDE,
    MIDDLE_CHANNELS,
    load_network,
    network_maps,
)
from fmri2clip.datasets.mini.volume import Volume
from fmri2clip.datasets.nsd import layout

# Median ncsnr in nsdgeneral of the real subjects (func1pt8mm, b3), rounded as in the data's own
# summary.
NCSNR_MEDIANS = dict(
    zip(layout.SUBJECTS, (0.36, 0.36, 0.32, 0.30, 0.42, 0.34, 0.28, 0.23), strict=True)
)
EARLY_NCSNR = 1.15  # early areas are a little less noisy
NCSNR_SPREAD = 0.45  # standard deviation of log ncsnr over voxels
# Gaussian width, fraction of the picture.
FIELD_SIZE = {"V1": 0.05, "V2": 0.08, "V3": 0.11, "hV4": 0.16}
EXPONENT = {"V1": 0.6, "V2": 0.5, "V3": 0.45, "hV4": 0.4}  # smaller is more compressive
FLAT_FIELD = 0.12
FLAT_EXPONENT = 0.5
TOLERANCE = 0.3  # Gaussian width of a category voxel's window
# tuning prototypes of an area and the network units that each reads
N_PROTOTYPES = 12
N_UNITS = 8
# strength of voxel-specific and subject-specific tuning beside the prototype
OWN_TUNING = 0.5
SUBJECT_TUNING = 0.3
AUTOCORRELATION = 0.3  # of the noise between successive trials of a run
NOISE_SMOOTHNESS = 0.9  # voxels
# variance fraction and number of brain-wide noise patterns
SHARED_NOISE = 0.25
N_SHARED_NOISE = 6
# standard deviations over sessions, of the gain and in units of the voxel's sd
GAIN_DRIFT = 0.08
OFFSET_DRIFT = 0.25
ADAPTATION = 0.04  # loss of response with each repetition
RUN_LENGTHS = layout.TRIALS_PER_RUN * (layout.RUNS_PER_SESSION // 2)
FLOC_ROIS = ("floc-faces", "floc-words", "floc-places", "floc-bodies")

# kinds of features that a voxel reads
EARLY = "early"
MIDDLE = "middle"
CATEGORY = "category"


@dataclass(frozen=True, eq=False, kw_only=True)
class SubjectSimulation:
    """Everything drawn for one subject; ``sessions()`` yields the betas.

    signal_IV: unit-variance noise-free responses, 0 for voxels that see nothing.
    baseline_V, scale_V: mean and standard deviation of the voxel's betas in percent signal change.
    ncsnr_V: ratio of signal to noise standard deviation.
    """

    volume: Volume
    signal_IV: np.ndarray
    baseline_V: np.ndarray
    scale_V: np.ndarray
    ncsnr_V: np.ndarray
    image_N: np.ndarray
    repetition_N: np.ndarray
    seed: tuple[int, ...]

    @property
    def noise_free_IV(self) -> np.ndarray:
        """Betas of a first presentation without noise and drift, PSC, (I, voxels of nsdgeneral in C
        order).
        """
        inside = self.volume.nsdgeneral[self.volume.brainmask]
        psc_IV = self.baseline_V + self.scale_V * self._signal_share() * self.signal_IV
        return psc_IV[:, inside].astype(np.float32)

    def sessions(self) -> Iterator[np.ndarray]:
        """Betas of one session after the other, float32 (750 trials, V), PSC."""
        rng = np.random.default_rng((*self.seed, 0x5E55))
        patterns = rng.normal(size=(N_SHARED_NOISE, len(self.scale_V))) / np.sqrt(N_SHARED_NOISE)
        noise_share = 1 / np.sqrt(1 + self.ncsnr_V**2)
        for start in range(0, len(self.image_N), layout.TRIALS_PER_SESSION):
            trials = slice(start, start + layout.TRIALS_PER_SESSION)
            gain = 1 + GAIN_DRIFT * rng.normal()
            offset_V = OFFSET_DRIFT * rng.normal(size=len(self.scale_V))
            adapted = (1 - ADAPTATION * (self.repetition_N[trials] - 1))[:, None]
            signal = gain * adapted * self._signal_share() * self.signal_IV[self.image_N[trials]]
            noise = _noise(rng, self.volume.brainmask, patterns)
            psc_TV = self.baseline_V + self.scale_V * (offset_V + signal + noise_share * noise)
            yield psc_TV.astype(np.float32)

    def _signal_share(self) -> np.ndarray:
        return self.ncsnr_V / np.sqrt(1 + self.ncsnr_V**2)


def simulate_subject(
    images_IHWC: np.ndarray,
    image_N: np.ndarray,
    volume: Volume,
    world: World,
    subject: str,
    threads: int = 1,
) -> SubjectSimulation:
    """Responses of one subject.

    images_IHWC: the subject's pictures, uint8.
    image_N: row of ``images_IHWC`` shown in each trial, in time order.
    volume: the subject's geometry.
    world: seed, hierarchy ('graded' or 'flat') and the network's weights file.
    threads: of the filters; the responses do not depend on it.
    """
    return _simulate(images_IHWC, len(images_IHWC), image_N, volume, world, subject, threads)


def respond(
    images_IHWC: np.ndarray,
    probes_JHWC: np.ndarray,
    volume: Volume,
    world: World,
    subject: str,
    threads: int = 1,
) -> np.ndarray:
    """Noise-free betas (J, voxels of nsdgeneral) of any pictures, as
    ``SubjectSimulation.noise_free_IV``.

    images_IHWC: the subject's pictures, whose statistics the cortex has adapted to; the probes
    change none of them.
    """
    stacked = np.concatenate([images_IHWC, probes_JHWC])
    n = len(images_IHWC)
    return _simulate(stacked, n, np.arange(n), volume, world, subject, threads).noise_free_IV[n:]


def _simulate(
    images_IHWC: np.ndarray,
    n_adapted: int,
    image_N: np.ndarray,
    volume: Volume,
    world: World,
    subject: str,
    threads: int,
) -> SubjectSimulation:
    number = layout.subject_number(subject)
    rng = np.random.default_rng((world.seed, number, 0xC0DE))
    voxels = _Voxels(volume, rng, flat=world.hierarchy == "flat")
    early_IF = filters.early_maps(images_IHWC, n_adapted, threads)
    middle_IF, code_IF = _network_features(images_IHWC, Path(world.network), n_adapted)
    responses = {
        EARLY: _early_responses(early_IF, voxels, rng),
        MIDDLE: _middle_responses(middle_IF, voxels, rng),
        CATEGORY: _category_responses(code_IF, voxels, rng, world.seed),
    }
    mixture = voxels.mixture()
    signal = sum(_unit(responses[kind], n_adapted) * np.sqrt(mixture[kind]) for kind in responses)
    ncsnr_V = _draw_ncsnr(rng, voxels, NCSNR_MEDIANS[subject])
    return SubjectSimulation(
        volume=volume,
        signal_IV=_unit(signal, n_adapted).astype(np.float32),
        ncsnr_V=ncsnr_V,
        image_N=image_N,
        baseline_V=rng.normal(0.5, 0.5, size=voxels.n),
        scale_V=1.2 * np.exp(rng.normal(0, 0.35, size=voxels.n)),
        repetition_N=_repetition(image_N),
        seed=(world.seed, number),
    )


class _Voxels:
    """Area, window and feature mixture of every voxel of the brain mask."""

    def __init__(self, volume: Volume, rng: np.random.Generator, flat: bool) -> None:
        mask = volume.brainmask
        self.flat = flat  # no voxel differs from another by its area
        self.n = int(mask.sum())
        self.prf = volume.rois["prf-visualrois"][mask]
        self.streams = volume.rois["streams"][mask]
        self.eccentricity = volume.rois["prf-eccrois"][mask]
        self.inside = volume.nsdgeneral[mask]
        self.left = volume.lh[mask]
        floc = {roi: volume.rois[roi][mask] > 0 for roi in FLOC_ROIS}
        self.area = np.where(self.streams > 0, self.streams, 0).astype(int)
        for k, members in enumerate(floc.values()):
            self.area[members & (self.prf <= 0)] = 10 + k
        self.is_category = self.area >= 10
        self.sees = (self.prf > 0) | self.is_category | (self.streams > 0)
        self.centre_V2 = self._centres(rng)

    def _centres(self, rng: np.random.Generator) -> np.ndarray:
        """Window centres (x, y) as fractions of the picture: contralateral; ventral areas see the
        upper field.
        """
        bands = [(self.eccentricity == k) & (not self.flat) for k in range(1, 6)]
        radius = np.select(bands, (0.04, 0.1, 0.2, 0.32, 0.45), 0.22) * np.exp(
            rng.normal(0, 0.2, size=self.n)
        )
        labels = layout.ROI_LABELS["prf-visualrois"]
        upper = np.isin(self.prf, [k + 1 for k, name in enumerate(labels) if name.endswith("v")])
        lower = np.isin(self.prf, [k + 1 for k, name in enumerate(labels) if name.endswith("d")])
        angle = rng.uniform(-0.5, 0.5, size=self.n) * np.pi
        if not self.flat:
            angle = np.where(upper, np.abs(angle), np.where(lower, -np.abs(angle), angle))
        side = np.where(self.left, 1.0, -1.0)
        return 0.5 + radius[:, None] * np.stack([side * np.cos(angle), -np.sin(angle)], axis=1)

    def mixture(self) -> dict[str, np.ndarray]:
        """Share of variance that each kind of feature has in each voxel; the same for all voxels if
        flat.
        """
        early = np.select([(self.prf > 0) & (self.prf < 7), self.prf == 7], (1.0, 0.6), 0.0)
        middle_areas = [self.prf == 7, np.isin(self.streams, (1, 2, 3, 4))]
        middle = np.select(middle_areas, (0.4, 0.5), 0.0) * (early < 1)
        parietal = 0.3 * ((self.streams == 7) & (self.prf <= 0))
        early = np.where(self.is_category, 0.0, early + parietal)
        middle = np.where(self.is_category, 0.0, middle)
        if self.flat:
            early = np.full(self.n, 0.5)
            middle = np.zeros(self.n)
        return {
            kind: share * self.sees
            for kind, share in ((EARLY, early), (MIDDLE, middle), (CATEGORY, 1 - early - middle))
        }

    def windows(self, side: int, width_V: np.ndarray) -> np.ndarray:
        """Gaussian windows over a side x side map, (V, side * side), each summing to 1."""
        ticks = (np.arange(side) + 0.5) / side
        x, y = np.meshgrid(ticks, ticks)
        across = x.ravel() - self.centre_V2[:, :1]
        down = y.ravel() - self.centre_V2[:, 1:]
        distance = across**2 + down**2
        # 1e-9: a window far outside of the picture is flat, not 0 / 0.
        window = np.exp(-distance / (2 * width_V[:, None] ** 2)) + 1e-9
        return window / window.sum(axis=1, keepdims=True)


def _early_responses(maps_IF: np.ndarray, voxels: _Voxels, rng: np.random.Generator) -> np.ndarray:
    """Receptive field times channel weights over the filter maps, then a power law."""
    names = [name.rstrip("vd") for name in layout.ROI_LABELS["prf-visualrois"]]
    areas = [voxels.prf == k + 1 for k in range(7)]
    size = np.select(areas, [FIELD_SIZE[n] for n in names], FLAT_FIELD)
    power = np.select(areas, [EXPONENT[n] for n in names], FLAT_EXPONENT)
    if voxels.flat:
        size = np.full(voxels.n, FLAT_FIELD)
        power = np.full(voxels.n, FLAT_EXPONENT)
    size = size * np.exp(rng.normal(0, 0.25, size=voxels.n))
    tuning = rng.gamma(0.4, size=(voxels.n, filters.N_CHANNELS)) - 0.15
    drive = _read(maps_IF, tuning, voxels.windows(filters.SIDE, size))
    return np.maximum(drive, 0) ** power


def _middle_responses(maps_IF: np.ndarray, voxels: _Voxels, rng: np.random.Generator) -> np.ndarray:
    tuning = rng.normal(size=(voxels.n, MIDDLE_CHANNELS)) * (
        rng.random((voxels.n, MIDDLE_CHANNELS)) < 0.2
    )
    drive = _read(maps_IF, tuning, voxels.windows(8, np.full(voxels.n, 0.18)))
    return np.sign(drive) * np.abs(drive) ** 0.7


def _category_responses(
    code_IF: np.ndarray, voxels: _Voxels, rng: np.random.Generator, seed: int
) -> np.ndarray:
    """Sparse, area-specific reading of the competing code through a broad window."""
    tuning = np.zeros((voxels.n, CODE_CHANNELS))
    for area in np.unique(voxels.area):
        members = np.flatnonzero(voxels.area == area)
        shared = _sparse(np.random.default_rng((seed, int(area), 0xA2EA)), N_PROTOTYPES)
        own_area = shared + SUBJECT_TUNING * _sparse(rng, N_PROTOTYPES)
        prototype = own_area[rng.integers(N_PROTOTYPES, size=len(members))]
        tuning[members] = prototype + OWN_TUNING * _sparse(rng, len(members))
    drive = _read(code_IF, tuning, voxels.windows(CODE_SIDE, np.full(voxels.n, TOLERANCE)))
    return np.sign(drive) * np.abs(drive) ** 0.7


def _sparse(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tuning vectors (n, units) with N_UNITS non-zero entries on average."""
    return rng.normal(size=(n, CODE_CHANNELS)) * (
        rng.random((n, CODE_CHANNELS)) < N_UNITS / CODE_CHANNELS
    )


def _read(maps_IF: np.ndarray, tuning_VC: np.ndarray, window_VP: np.ndarray) -> np.ndarray:
    """Sum over channels and positions of tuning x window x map, (I, V); features are
    channel-major.
    """
    weights_VF = (tuning_VC[:, :, None] * window_VP[:, None, :]).reshape(len(tuning_VC), -1)
    return maps_IF @ weights_VF.T.astype(np.float32)


def _network_features(
    images_IHWC: np.ndarray, weights: Path, n_adapted: int
) -> tuple[np.ndarray, np.ndarray]:
    """Middle maps pooled to 8 x 8, and the code after competition: each unit divided by the
    activity around it.
    """
    middle, code = network_maps(load_network(weights), images_IHWC)
    n = len(images_IHWC)
    middle = middle.reshape(n, MIDDLE_CHANNELS, 8, 2, 8, 2).mean(axis=(3, 5))
    middle = _standardise_units(middle, n_adapted, 0.0)
    # Divided by its mean, each unit competes with the same weight.
    code = code / (code[:n_adapted].mean(axis=(0, 2, 3), keepdims=True) + 1e-6)
    rivals = code.mean(axis=1, keepdims=True) + code.mean(axis=(2, 3), keepdims=True)
    code = _standardise_units(code / (1.0 + rivals), n_adapted, 1e-6)
    return middle.reshape(n, -1), code.reshape(n, -1).astype(np.float32)


def _standardise_units(maps: np.ndarray, n_adapted: int, epsilon: float) -> np.ndarray:
    """Maps (I, C, H, W) with zero mean and unit variance of each unit over the first n_adapted
    pictures.
    """
    adapted = maps[:n_adapted]
    mean = adapted.mean(axis=(0, 2, 3), keepdims=True)
    standardised: np.ndarray = (maps - mean) / (
        adapted.std(axis=(0, 2, 3), keepdims=True) + epsilon
    )
    return standardised


def _unit(values_IV: np.ndarray, n_adapted: int) -> np.ndarray:
    """Zero mean and unit variance over the first n_adapted pictures; voxels that are constant there
    become 0.
    """
    adapted = values_IV[:n_adapted]
    deviation = adapted.std(axis=0)
    return (values_IV - adapted.mean(axis=0)) / np.where(deviation > 1e-6, deviation, np.inf)


def _draw_ncsnr(rng: np.random.Generator, voxels: _Voxels, median: float) -> np.ndarray:
    """Log-normal over voxels, with the given median in nsdgeneral, lower outside, 0 where nothing
    is seen.
    """
    ncsnr = np.exp(rng.normal(0, NCSNR_SPREAD, size=voxels.n))
    ncsnr *= np.where((voxels.prf > 0) & (not voxels.flat), EARLY_NCSNR, 1.0)
    ncsnr *= median / np.median(ncsnr[voxels.inside])
    return np.where(voxels.sees, np.where(voxels.inside, ncsnr, 0.5 * ncsnr), 0.0)


def _noise(rng: np.random.Generator, mask: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Noise of one session (750, V) with unit variance: local, brain-wide, autocorrelated within
    runs.
    """
    local = rng.standard_normal((layout.TRIALS_PER_SESSION, *mask.shape), dtype=np.float32)
    local = gaussian_filter(local, (0, *(NOISE_SMOOTHNESS,) * 3), mode="wrap")[:, mask]
    local /= local.std()
    wide = rng.standard_normal((layout.TRIALS_PER_SESSION, len(patterns))) @ patterns
    noise = np.sqrt(1 - SHARED_NOISE) * local + np.sqrt(SHARED_NOISE) * wide
    start = 0
    for length in RUN_LENGTHS:
        for t in range(start + 1, start + length):
            noise[t] = AUTOCORRELATION * noise[t - 1] + np.sqrt(1 - AUTOCORRELATION**2) * noise[t]
        start += length
    return noise


def _repetition(image_N: np.ndarray) -> np.ndarray:
    """1 for an image's first trial, 2 for its second, and so on."""
    order = np.argsort(image_N, kind="stable")
    ordered = image_N[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    repetition = np.empty(len(order), dtype=np.int64)
    repetition[order] = rank + 1
    return repetition
