"""Simulated cortex: betas computed from the picture, never from CLIP, labels, captions.

    r_t = session gain x adaptation x R(f(x) + n_t) + local noise + global noise

f(x) are feature maps of the picture (drive.py), read by each voxel as voxels.py says; R is a
compressive power. n_t, the noise in the features, is what attention and memory might do: the maps
of a random scene of another seed less their mean, one shift of gaze for all areas, and a gain. It
has the share PHI of each voxel's noise, so it lies on the axes of the signal, and it is the part
that averaging over voxels does not remove. Local noise, correlated over neighbours and within
runs, and brain-wide patterns fill up to the voxel's drawn ncsnr. This world has known truth; it
says nothing about real brains.

Letters: N trials, I images, M scenes of the noise, V voxels of the brain mask in C order over (X,
Y, Z), T trials of a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from fmri2clip.core.params import World
from fmri2clip.datasets.mini.brain.drive import Maps, Tuning, draw_tuning, read, respond, see
from fmri2clip.datasets.mini.brain.network import load_areas
from fmri2clip.datasets.mini.brain.voxels import EARLY, KINDS, Voxels
from fmri2clip.datasets.mini.pictures.scene import render_many
from fmri2clip.datasets.mini.volume import Volume
from fmri2clip.datasets.nsd import layout

# Median ncsnr in nsdgeneral of the real subjects (func1pt8mm, b3), rounded as in the data's own
# summary.
NCSNR_MEDIANS = dict(
    zip(layout.SUBJECTS, (0.36, 0.36, 0.32, 0.30, 0.42, 0.34, 0.28, 0.23), strict=True)
)
EARLY_NCSNR = 1.15  # early areas are a little less noisy
NCSNR_SPREAD = 0.45  # standard deviation of log ncsnr over voxels
PHI = 0.185  # share of the noise that is noise in features; by bisection on noise.snr_leading
LEAST_LOCAL = 0.2  # share of the noise that is local and global at least
N_NOISE_SCENES = 1000
NOISE_SCENES_SEED = 5001  # never a world seed
N_DRAWS = 64  # of noise behind a noise-free response
GAZE = 0.015  # standard deviation of the shift of gaze, fraction of the picture
TRIAL_GAIN = 0.1  # standard deviation of the gain of a trial
AUTOCORRELATION = 0.3  # of local and global noise between successive trials of a run
NOISE_SMOOTHNESS = 0.9  # voxels
# variance fraction and number of brain-wide patterns in what is not noise of features
GLOBAL_NOISE = 0.15
N_GLOBAL_NOISE = 6
# standard deviations over sessions, of the gain and in units of the voxel's sd
GAIN_DRIFT = 0.08
OFFSET_DRIFT = 0.25
ADAPTATION = 0.04  # loss of response with each repetition
RUN_LENGTHS = layout.TRIALS_PER_RUN * (layout.RUNS_PER_SESSION // 2)
HEAVY_FREEDOM = 4  # degrees of freedom of heavy noise
HEAVY_GROWTH = 0.5  # growth of its deviation with the response


@dataclass(frozen=True, kw_only=True)
class Brains:
    """What all subjects of a world have in common.

    network: weights behind the category areas. hierarchy: 1 (voxels keep to their area) to 0
    (flat). likeness: 1 (subjects share prototypes) to 0 (unlike). noise: features (partly on the
    axes of the signal) | isotropic (in each voxel) | heavy (tails of t, growing with the response).
    """

    seed: int
    network: Path
    hierarchy: float = 1.0
    likeness: float = 1.0
    noise: Literal["features", "isotropic", "heavy"] = "features"

    @classmethod
    def of(cls, world: World) -> Brains:
        """As params.yaml asks for."""
        return cls(
            seed=world.seed,
            network=Path(world.network),
            hierarchy=world.hierarchy_strength,
            likeness=world.likeness,
            noise=world.noise,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Channel:
    """One kind of features in the voxels that read it.

    drive_IV, slope_x_IV, slope_y_IV: drive of the pictures and its change with gaze; noise_MV: of
    the scenes of the noise, less their mean, scaled to PHI.
    power_V: of the response; share_V: of the voxel's variance.
    """

    members_V: Tensor
    drive_IV: Tensor
    slope_x_IV: Tensor
    slope_y_IV: Tensor
    noise_MV: Tensor
    power_V: Tensor
    share_V: Tensor
    rectified: bool

    def answer(self, image_T: Tensor, scene_T: Tensor, gain_T: Tensor, gaze_T2: Tensor) -> Tensor:
        """Responses (T, V) of trials with noise in their features."""
        drive_TV = self.drive_IV[image_T]
        drive_TV = drive_TV + gaze_T2[:, :1] * self.slope_x_IV[image_T]
        drive_TV += gaze_T2[:, 1:] * self.slope_y_IV[image_T]
        drive_TV *= 1 + gain_T[:, None]
        drive_TV += self.noise_MV[scene_T]
        return respond(drive_TV, self.power_V, self.rectified)


@dataclass(frozen=True, eq=False, kw_only=True)
class SubjectSimulation:
    """Everything drawn for one subject; ``sessions()`` yields the betas.

    ncsnr_V: ratio of signal to noise standard deviation.
    """

    volume: Volume
    channels: dict[str, Channel]
    ncsnr_V: np.ndarray
    baseline_V: np.ndarray
    scale_V: np.ndarray
    image_N: np.ndarray
    repetition_N: np.ndarray
    noise: str
    seed: tuple[int, ...]

    @cached_property
    def _truth(self) -> tuple[Tensor, Tensor, Tensor]:
        """Noise-free responses (I, V) of mean 0 and deviation 1 over the subject's
        pictures, and the mean and deviation of what they were before.
        """
        generator = torch.Generator().manual_seed(_integer((*self.seed, 0x7207)))
        image_I = torch.arange(len(next(iter(self.channels.values())).drive_IV))
        total_IV = torch.zeros(len(image_I), len(self.ncsnr_V))
        for channel, (mean_V, deviation_V) in zip(
            self.channels.values(), self._scales.values(), strict=True
        ):
            answer_IV = torch.zeros(len(image_I), len(channel.members_V))
            # The same draws for every picture: what they share is no pattern, and a picture's
            # response depends on no other picture.
            for _ in range(N_DRAWS):
                drawn = _draw_trials(generator, channel, 1)
                shared = (part.expand(len(image_I), *part.shape[1:]) for part in drawn)
                answer_IV += channel.answer(image_I, *shared)
            z_IV = (answer_IV / N_DRAWS - mean_V) / deviation_V
            total_IV[:, channel.members_V] += channel.share_V.sqrt() * z_IV
        mean_V, deviation_V = _moments(total_IV)
        return (total_IV - mean_V) / deviation_V, mean_V, deviation_V

    @cached_property
    def _scales(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and deviation of each kind's response without noise, over the subject's pictures."""
        return {
            kind: _moments(respond(channel.drive_IV, channel.power_V, channel.rectified))
            for kind, channel in self.channels.items()
        }

    @property
    def signal_IV(self) -> np.ndarray:
        """Noise-free responses, deviation 1 over the subject's pictures."""
        return self._truth[0].numpy()

    @property
    def noise_free_IV(self) -> np.ndarray:
        """Mean betas without noise and drift over repetitions 1 to 3, PSC, (I, voxels of nsdgeneral
        in C order).
        """
        inside = self.volume.nsdgeneral[self.volume.brainmask]
        adapted = 1 - ADAPTATION * (layout.REPETITIONS - 1) / 2
        psc_IV = self.baseline_V + self.scale_V * self._signal_share() * adapted * self.signal_IV
        return psc_IV[:, inside].astype(np.float32)

    def answer(self, generator: torch.Generator, image_T: Tensor) -> np.ndarray:
        """Responses (T, V) with noise in their features, in the units of signal_IV."""
        _, mean_V, deviation_V = self._truth
        total_TV = torch.zeros(len(image_T), len(self.ncsnr_V))
        gain_T = TRIAL_GAIN * torch.randn(len(image_T), generator=generator)
        gaze_T2 = GAZE * torch.randn(len(image_T), 2, generator=generator)
        for kind, channel in self.channels.items():
            mean_k_V, deviation_k_V = self._scales[kind]
            scene_T = _draw_scenes(generator, channel, len(image_T))
            answer_TV = channel.answer(image_T, scene_T, gain_T, gaze_T2)
            z_TV = (answer_TV - mean_k_V) / deviation_k_V
            total_TV[:, channel.members_V] += channel.share_V.sqrt() * z_TV
        answered: np.ndarray = ((total_TV - mean_V) / deviation_V).numpy()
        return answered

    @cached_property
    def feature_noise_V(self) -> np.ndarray:
        """Variance of the noise of features in each voxel, in units of its signal's variance."""
        if self.noise == "isotropic":
            return np.zeros(len(self.ncsnr_V))
        generator = torch.Generator().manual_seed(_integer((*self.seed, 0xFEA7)))
        image_T = torch.randint(len(self.signal_IV), (3000,), generator=generator)
        deviation_TV = self.answer(generator, image_T) - self.signal_IV[image_T.numpy()]
        return np.asarray(deviation_TV.var(axis=0))

    def sessions(self) -> Iterator[np.ndarray]:
        """Betas of one session after the other, float32 (750 trials, V), PSC."""
        rng = np.random.default_rng((*self.seed, 0x5E55))
        generator = torch.Generator().manual_seed(_integer((*self.seed, 0x7121)))
        n_voxels = len(self.scale_V)
        patterns = rng.normal(size=(N_GLOBAL_NOISE, n_voxels)) / np.sqrt(N_GLOBAL_NOISE)
        share_V = self._signal_share()
        # In units of the signal: the rest of the noise after that of the features.
        total_V = np.divide(1.0, self.ncsnr_V**2, out=np.zeros(n_voxels), where=self.ncsnr_V > 0)
        rest_V = np.sqrt(np.maximum(total_V - self.feature_noise_V, LEAST_LOCAL * total_V))
        for start in range(0, len(self.image_N), layout.TRIALS_PER_SESSION):
            trials = slice(start, start + layout.TRIALS_PER_SESSION)
            gain = 1 + GAIN_DRIFT * rng.normal()
            offset_V = OFFSET_DRIFT * rng.normal(size=n_voxels)
            adapted = (1 - ADAPTATION * (self.repetition_N[trials] - 1))[:, None]
            image_T = self.image_N[trials]
            if self.noise == "isotropic":
                answer_TV = self.signal_IV[image_T]
                rest_TV = rng.standard_normal(answer_TV.shape)
            else:
                answer_TV = self.answer(generator, torch.from_numpy(image_T))
                rest_TV = _rest(rng, self.volume.brainmask, patterns)
            if self.noise == "heavy":
                rest_TV = _make_heavy(rng, rest_TV, answer_TV)
            signal_TV = gain * adapted * share_V * answer_TV
            # Where nothing is seen, the noise has the whole variance.
            loud_V = np.where(self.ncsnr_V > 0, share_V * rest_V, 1.0)
            psc_TV = self.baseline_V + self.scale_V * (offset_V + signal_TV + loud_V * rest_TV)
            yield psc_TV.astype(np.float32)

    def _signal_share(self) -> np.ndarray:
        return self.ncsnr_V / np.sqrt(1 + self.ncsnr_V**2)


def simulate_subject(
    images_IHWC: np.ndarray,
    image_N: np.ndarray,
    volume: Volume,
    brains: Brains,
    subject: str,
    threads: int = 1,
) -> SubjectSimulation:
    """Responses of one subject.

    images_IHWC: the subject's pictures, uint8.
    image_N: row of ``images_IHWC`` shown in each trial, in time order.
    volume: the subject's geometry.
    threads: of the filters; the responses do not depend on it.
    """
    number = layout.subject_number(subject)
    rng = np.random.default_rng((brains.seed, number, 0xC0DE))
    areas = load_areas(brains.network)
    voxels = Voxels(volume, rng, hierarchy=brains.hierarchy)
    ncsnr_V = _draw_ncsnr(rng, voxels, NCSNR_MEDIANS[subject])
    tuning = draw_tuning(voxels, areas, rng, brains.seed, brains.likeness)
    pair_K2 = voxels.draw_pairs(rng, areas.network.shape.late)
    own = see(images_IHWC, areas, pair_K2, threads)
    scenes = render_many(NOISE_SCENES_SEED + number, range(N_NOISE_SCENES), threads=threads)
    noise = see(np.stack([scene.image for scene in scenes]), areas, pair_K2, threads, own)
    channels = {
        kind: _make_channel(kind, tuning[kind], own, noise, voxels, ncsnr_V)
        for kind in KINDS
        if len(tuning[kind].members_V)
    }
    return SubjectSimulation(
        volume=volume,
        channels=channels,
        ncsnr_V=ncsnr_V,
        baseline_V=rng.normal(0.5, 0.5, size=voxels.n),
        scale_V=1.2 * np.exp(rng.normal(0, 0.35, size=voxels.n)),
        image_N=image_N,
        repetition_N=_repetition(image_N),
        noise=brains.noise,
        seed=(brains.seed, number),
    )


def _make_channel(
    kind: str,
    tuning: Tuning,
    own: Maps,
    noise: Maps,
    voxels: Voxels,
    ncsnr_V: np.ndarray,
) -> Channel:
    def drive(maps: Maps, window_VP: np.ndarray) -> np.ndarray:
        return read(maps.maps[kind], tuning.weight_VC, window_VP)

    drive_IV = drive(own, tuning.window_VP)
    deviation_V = drive_IV.std(axis=0) + 1e-6
    noise_MV = drive(noise, tuning.window_VP)
    noise_MV = (noise_MV - noise_MV.mean(axis=0)) / (noise_MV.std(axis=0) + 1e-6)
    ncsnr = ncsnr_V[tuning.members_V]
    scale_V = np.divide(np.sqrt(PHI), ncsnr, out=np.zeros(len(ncsnr)), where=ncsnr > 0)
    rectified = kind == EARLY
    # With a sign, a power needs drives of one size; a rectified drive keeps its zero.
    unit_V = np.ones_like(deviation_V) if rectified else deviation_V
    tensors = {
        "drive_IV": drive_IV / unit_V,
        "slope_x_IV": drive(own, tuning.slope_x_VP) / unit_V,
        "slope_y_IV": drive(own, tuning.slope_y_VP) / unit_V,
        "noise_MV": noise_MV * scale_V * (deviation_V / unit_V),
        "power_V": tuning.power_V,
        "share_V": voxels.mixture()[kind][tuning.members_V],
    }
    return Channel(
        members_V=torch.from_numpy(tuning.members_V),
        rectified=rectified,
        **{k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in tensors.items()},
    )


def _moments(values_IV: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (V) over pictures; infinite where a voxel is constant, so that it becomes
    0 when divided.
    """
    mean_V = values_IV.mean(dim=0)
    deviation_V = (values_IV - mean_V).square().mean(dim=0).sqrt()
    return mean_V, torch.where(deviation_V > 1e-6, deviation_V, torch.inf)


def _draw_trials(
    generator: torch.Generator, channel: Channel, n_trials: int
) -> tuple[Tensor, Tensor, Tensor]:
    gain_T = TRIAL_GAIN * torch.randn(n_trials, generator=generator)
    gaze_T2 = GAZE * torch.randn(n_trials, 2, generator=generator)
    return _draw_scenes(generator, channel, n_trials), gain_T, gaze_T2


def _draw_scenes(generator: torch.Generator, channel: Channel, n: int) -> Tensor:
    return torch.randint(len(channel.noise_MV), (n,), generator=generator)


def _integer(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _draw_ncsnr(rng: np.random.Generator, voxels: Voxels, median: float) -> np.ndarray:
    """Log-normal over voxels, with the given median in nsdgeneral, lower outside, 0 where nothing
    is seen.
    """
    ncsnr = np.exp(rng.normal(0, NCSNR_SPREAD, size=voxels.n))
    ncsnr *= np.where((voxels.prf > 0) & ~voxels.flat, EARLY_NCSNR, 1.0)
    ncsnr *= median / np.median(ncsnr[voxels.inside])
    return np.where(voxels.sees, np.where(voxels.inside, ncsnr, 0.5 * ncsnr), 0.0)


def _rest(rng: np.random.Generator, mask: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Noise of one session (750, V) with unit variance: local, brain-wide, autocorrelated within
    runs.
    """
    local = rng.standard_normal((layout.TRIALS_PER_SESSION, *mask.shape), dtype=np.float32)
    local = gaussian_filter(local, (0, *(NOISE_SMOOTHNESS,) * 3), mode="wrap")[:, mask]
    local /= local.std()
    wide = rng.standard_normal((layout.TRIALS_PER_SESSION, len(patterns))) @ patterns
    noise = np.sqrt(1 - GLOBAL_NOISE) * local + np.sqrt(GLOBAL_NOISE) * wide
    start = 0
    for length in RUN_LENGTHS:
        for t in range(start + 1, start + length):
            noise[t] = AUTOCORRELATION * noise[t - 1] + np.sqrt(1 - AUTOCORRELATION**2) * noise[t]
        start += length
    return noise


def _make_heavy(rng: np.random.Generator, rest_TV: np.ndarray, answer_TV: np.ndarray) -> np.ndarray:
    """Noise with Student's t tails, one draw a trial, whose deviation grows with the response; its
    variance over all trials stays 1.
    """
    chi_T = rng.chisquare(HEAVY_FREEDOM, size=len(rest_TV)) / (HEAVY_FREEDOM - 2)
    grown_TV = 1 + HEAVY_GROWTH * np.maximum(answer_TV, 0)
    heavy_TV = rest_TV / np.sqrt(chi_T)[:, None] * grown_TV
    return heavy_TV / np.sqrt((grown_TV**2).mean(axis=0))


def _repetition(image_N: np.ndarray) -> np.ndarray:
    """1 for an image's first trial, 2 for its second, and so on."""
    order = np.argsort(image_N, kind="stable")
    ordered = image_N[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
    repetition = np.empty(len(order), dtype=np.int64)
    repetition[order] = rank + 1
    return repetition
