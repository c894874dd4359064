"""What responses have beside the encoding model: error of the model and noise of trials.

Letters: I images, N trials, V voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers import low_rank
from fmri2clip.solvers.low_rank import LowRank

LEAST_RANK = 16
LEAST_VARIANCE = 1e-12  # of a voxel over pictures; one of less never changes
LEAST_CONTRASTS = 20  # a fifth of them chooses rank and shrinkage (solvers/low_rank.py)


def measure_explained(mean_IV: Tensor, residual_IV: Tensor) -> Tensor:
    """Share (V) of the variance of the means that residuals lack; 0 for a voxel that has none."""
    variance_V = (mean_IV - mean_IV.mean(0)).square().mean(0)
    explained_V = 1 - residual_IV.square().mean(0) / variance_V.clamp_min(LEAST_VARIANCE)
    return torch.where(variance_V > LEAST_VARIANCE, explained_V, 0.0)


def fit_noise(
    data: TrainingData, residual_IV: Tensor, max_rank: int, seed: int
) -> tuple[LowRank, LowRank]:
    """S_model and S_trial of decoder.py.

    residual_IV: of the means of training pictures, each by a fit without it. Raises ValueError
    where too few training pictures have repeats.
    """
    ranks = [max_rank]
    while ranks[-1] // 4 >= LEAST_RANK:
        ranks.append(ranks[-1] // 4)
    train_N = ~data.is_validation_I[data.image_N]
    n_trials_I = torch.bincount(data.image_N[train_N])
    n_trials_I = n_trials_I[n_trials_I > 0]
    n_contrasts = int((n_trials_I - 1).sum())
    if n_contrasts < LEAST_CONTRASTS:
        raise ValueError(
            f"training pictures of {data.subject} have {n_contrasts} repeats in all, expected at "
            f"least {LEAST_CONTRASTS}, as encoding learns the noise of a trial from them; extract "
            "more sessions, or leave this run out"
        )
    trial = low_rank.fit(contrast_trials(data), ranks, seed)
    share = float((1 / n_trials_I).mean())
    of_mean = LowRank(diagonal_V=share * trial.diagonal_V, factor_VR=share**0.5 * trial.factor_VR)
    model = low_rank.fit_excess(residual_IV - residual_IV.mean(0), of_mean, ranks)
    return model, trial


def contrast_trials(data: TrainingData) -> Tensor:
    """Helmert contrasts of the trials of each training picture, (trials - pictures, V).

    Independent rows with the covariance of a trial: (x_1 - x_2) / sqrt(2), (x_1 + x_2 - 2 x_3) /
    sqrt(6), ...; the first of all pictures, then the second.
    """
    train_N = ~data.is_validation_I[data.image_N]
    betas_NV = data.betas_NV[train_N]
    image_N = data.image_N[train_N]
    order = torch.argsort(image_N, stable=True)
    betas_NV, image_N = betas_NV[order], image_N[order]
    starts = torch.searchsorted(image_N, image_N)
    place_N = torch.arange(len(image_N), device=image_N.device) - starts
    found = []
    for k in range(1, int(place_N.max()) + 1):
        rows = torch.nonzero(place_N == k)[:, 0]
        total_IV = torch.stack([betas_NV[rows - back] for back in range(1, k + 1)]).sum(0)
        found.append((total_IV - k * betas_NV[rows]) / (k * (k + 1)) ** 0.5)
    return torch.cat(found)
