"""Ridge regression to many columns, a penalty for each block of them, and what every picture would
be predicted as without itself.

With X and Y centred over pictures, and an eigendecomposition of the smaller of X X^T and X^T X,

    X X^T = U L U^T:   A = X^T U,  B = U,    c = l       where pictures are no more than inputs
    X^T X = V L V^T:   A = V,      B = X V,  c = 1       else
    W     = A (L + alpha I)^-1 B^T Y                     weights
    H     = B diag(c / (l + alpha)) B^T                  Y's prediction is H Y

the residual of picture i by the fit without it, intercept included, is

    e_i = (y_i - (H Y)_i) / (1 - H_ii - 1/n)

(leave-one-out of a linear smoother: Hastie, Tibshirani & Friedman 2009, section 7.10; the 1/n is
the intercept's). Any other pattern x of the same picture, such as one of its trials, is predicted
by that fit as f(x) - s_i(x) e_i, where s_i(x) = (x - m)^T A (L + alpha I)^-1 B_i + 1/n is the
weight of y_i in f(x): the fit without i is the fit with y_i in the place of its own prediction. So
one decomposition serves all penalties, pictures and trials.

Letters: I pictures, N trials, V voxels (inputs), R eigenvectors, Q columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 4096  # trials whose products with all eigenvectors are in memory at a time
COLUMNS = 1024  # whose errors under a penalty are in memory at a time
HOPELESS = 0.99  # of a block's variance: its error is no better, so no penalty is too large for it


@dataclass(frozen=True, kw_only=True)
class BlockedRidge:
    """weight_VQ, bias_Q: the fit to all pictures, for inputs as they are; alpha_Q: penalties;
    left_out_IQ: each picture's prediction without itself; error_IQ: e of the head of this file.
    """

    weight_VQ: Tensor
    bias_Q: Tensor
    alpha_Q: Tensor
    left_out_IQ: Tensor
    error_IQ: Tensor
    mean_V: Tensor
    kernel: Kernel

    @property
    def alphas(self) -> list[float]:
        """Penalties that are used, each once."""
        return sorted(set(self.alpha_Q.tolist()))

    def leave_out(self, x_NV: Tensor, image_N: Tensor) -> Tensor:
        """Predictions (N, Q) of patterns by the fits without their own pictures.

        image_N: row in I of each.
        """
        return torch.cat(
            [
                self._leave_out(x_NV[start : start + ROWS], image_N[start : start + ROWS])
                for start in range(0, len(x_NV), ROWS)
            ]
        )

    def _leave_out(self, x_NV: Tensor, image_N: Tensor) -> Tensor:
        found_NQ = x_NV @ self.weight_VQ + self.bias_Q
        both_NR = ((x_NV - self.mean_V) @ self.kernel.axis_VR) * self.kernel.score_IR[image_N]
        for alpha in self.alphas:
            share_N = (both_NR / (self.kernel.value_R + alpha)).sum(1) + 1 / len(self.error_IQ)
            columns = self.alpha_Q == alpha
            found_NQ[:, columns] -= share_N[:, None] * self.error_IQ[image_N][:, columns]
        return found_NQ


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """l, A, B and c of the head of this file."""

    value_R: Tensor
    axis_VR: Tensor
    score_IR: Tensor
    size_R: Tensor

    @classmethod
    def of(cls, x_IV: Tensor) -> Kernel:
        """Of centred inputs."""
        is_wide = len(x_IV) <= x_IV.shape[1]
        gram = x_IV @ x_IV.T if is_wide else x_IV.T @ x_IV
        value_R, vector = torch.linalg.eigh(gram)
        value_R = value_R.clamp_min(0)  # rounding leaves some a little below
        if is_wide:
            return cls(value_R=value_R, axis_VR=x_IV.T @ vector, score_IR=vector, size_R=value_R)
        size_R = torch.ones_like(value_R)
        return cls(value_R=value_R, axis_VR=vector, score_IR=x_IV @ vector, size_R=size_R)

    def leave_out(self, y_IQ: Tensor, rotated_RQ: Tensor, alpha: float) -> Tensor:
        """e of these columns; rotated_RQ: B^T Y."""
        share_R = self.size_R / (self.value_R + alpha)
        left_IQ = y_IQ - self.score_IR @ (share_R[:, None] * rotated_RQ)
        left_IQ /= (1 - 1 / len(y_IQ) - self.score_IR.square() @ share_R)[:, None]
        return left_IQ


def fit(
    x_IV: Tensor,
    y_IQ: Tensor,
    alphas: Sequence[float],
    blocks: Sequence[int],
    *,
    rescaled: bool = False,
) -> BlockedRidge:
    """blocks: how many columns each has, in order; its penalty has the least left-out error.

    rescaled: the least error behind `calibrate`, for who gives each column its slope. Raises
    ValueError for blocks that do not add up to the columns.
    """
    if sum(blocks) != y_IQ.shape[1]:
        raise ValueError(f"blocks have {sum(blocks)} columns together, expected {y_IQ.shape[1]}")
    mean_V, mean_Q = x_IV.mean(0), y_IQ.mean(0)
    y_IQ = y_IQ - mean_Q
    kernel = Kernel.of(x_IV - mean_V)
    rotated_RQ = kernel.score_IR.T @ y_IQ
    error_AQ = _find_errors(kernel, y_IQ, rotated_RQ, alphas, rescaled)
    alpha_Q = _choose(error_AQ, y_IQ, alphas, list(blocks)).to(y_IQ.device)
    error_IQ = torch.empty_like(y_IQ)
    for alpha in sorted(set(alpha_Q.tolist())):
        columns = alpha_Q == alpha
        part_RQ = rotated_RQ[:, columns]
        error_IQ[:, columns] = kernel.leave_out(y_IQ[:, columns], part_RQ, alpha)
        rotated_RQ[:, columns] = part_RQ / (kernel.value_R + alpha)[:, None]
    weight_VQ = kernel.axis_VR @ rotated_RQ
    return BlockedRidge(
        weight_VQ=weight_VQ,
        bias_Q=mean_Q - mean_V @ weight_VQ,
        alpha_Q=alpha_Q,
        left_out_IQ=y_IQ.add_(mean_Q).sub_(error_IQ),  # in place: y_IQ is a copy
        error_IQ=error_IQ,
        mean_V=mean_V,
        kernel=kernel,
    )


def _find_errors(
    kernel: Kernel, y_IQ: Tensor, rotated_RQ: Tensor, alphas: Sequence[float], rescaled: bool
) -> Tensor:
    """Squared left-out error of each column under each penalty, (A, Q), in float64."""
    found = []
    for start in range(0, y_IQ.shape[1], COLUMNS):
        part_IQ = y_IQ[:, start : start + COLUMNS]
        part_RQ = rotated_RQ[:, start : start + COLUMNS]
        errors = []
        for alpha in alphas:
            left_IQ = kernel.leave_out(part_IQ, part_RQ, alpha)
            if rescaled:
                predicted_IQ = part_IQ - left_IQ
                slope_Q, _ = calibrate(part_IQ, predicted_IQ)
                left_IQ = part_IQ - slope_Q * (predicted_IQ - predicted_IQ.mean(0))
            errors.append(left_IQ.double().square().sum(0))
        found.append(torch.stack(errors))
    return torch.cat(found, 1)


def _choose(error_AQ: Tensor, y_IQ: Tensor, alphas: Sequence[float], blocks: list[int]) -> Tensor:
    """Penalty of each column, (Q,); warns where the candidates are too few."""
    error_AB = torch.stack([part.sum(1) for part in error_AQ.split(blocks, dim=1)], dim=1)
    # What overflows in float32 is no candidate.
    best = error_AB.nan_to_num(nan=torch.inf).min(0)
    best_B = best.indices.cpu()
    variance_B = torch.stack([part.square().sum() for part in y_IQ.split(blocks, dim=1)])
    is_hopeless_B = (best.values > HOPELESS * variance_B).cpu()
    at_border_B = (best_B == 0) | ((best_B == len(alphas) - 1) & ~is_hopeless_B)
    if len(alphas) > 1 and bool(at_border_B.all()):
        warnings.warn(
            f"ridge chose only borders of its candidates, {alphas[0]:g} to {alphas[-1]:g}; widen "
            "log10_alpha_min or log10_alpha_max",
            stacklevel=3,
        )
    return torch.tensor(alphas)[best_B].repeat_interleave(torch.tensor(blocks))


def split_evenly(n: int, width: int) -> list[int]:
    """n columns in blocks of this width, the last one narrower where it must be."""
    return [min(width, n - start) for start in range(0, n, width)]


def calibrate(true_IQ: Tensor, left_out_IQ: Tensor) -> tuple[Tensor, Tensor]:
    """Slope of the truth on left-out predictions, and share of its variance that they explain once
    they have that slope (squared correlation, 0 where the slope is negative), (Q) each.
    """
    y_IQ = true_IQ - true_IQ.mean(0)
    p_IQ = left_out_IQ - left_out_IQ.mean(0)
    covariance_Q = (y_IQ * p_IQ).mean(0)
    slope_Q = (covariance_Q / p_IQ.square().mean(0).clamp_min(1e-12)).clamp_min(0)
    explained_Q = slope_Q * covariance_Q / y_IQ.square().mean(0).clamp_min(1e-12)
    return slope_Q, explained_Q
