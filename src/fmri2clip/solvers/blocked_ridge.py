"""Ridge regression to many columns, a penalty for each block of them, and what every picture would
be predicted as without itself.

With X and Y centred over pictures, K = X X^T = U L U^T and G = (K + alpha I)^-1, the residual of
picture i by the fit without it, intercept included, is

    e_i = alpha (G Y)_i / (alpha G_ii - 1/n)

(leave-one-out of a linear smoother: Hastie, Tibshirani & Friedman 2009, section 7.10; the 1/n is
the intercept's). Any other pattern x of the same picture, such as one of its trials, is predicted
by that fit as f(x) - s_i(x) e_i, where s_i(x) = (x - m)^T X^T G_i + 1/n is the weight of y_i in
f(x): the fit without i is the fit with y_i in the place of its own prediction. So one decomposition
serves all penalties, pictures and trials.

Letters: I pictures, N trials, V voxels (inputs), Q columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 4096  # trials whose products with all pictures are in memory at a time


@dataclass(frozen=True, kw_only=True)
class BlockedRidge:
    """weight_VQ, bias_Q: the fit to all pictures, for inputs as they are; alpha_Q: penalties;
    left_out_IQ: each picture's prediction without itself.
    """

    weight_VQ: Tensor
    bias_Q: Tensor
    alpha_Q: Tensor
    left_out_IQ: Tensor
    mean_V: Tensor
    error_IQ: Tensor  # e of the head of this file
    value_I: Tensor
    vector_II: Tensor
    x_IV: Tensor  # centred

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
        rotated_NI = ((x_NV - self.mean_V) @ self.x_IV.T) @ self.vector_II
        own_NI = self.vector_II[image_N]
        for alpha in self.alphas:
            share_N = (rotated_NI * own_NI / (self.value_I + alpha)).sum(1) + 1 / len(self.x_IV)
            columns = self.alpha_Q == alpha
            found_NQ[:, columns] -= share_N[:, None] * self.error_IQ[image_N][:, columns]
        return found_NQ


def fit(x_IV: Tensor, y_IQ: Tensor, alphas: Sequence[float], blocks: Sequence[int]) -> BlockedRidge:
    """blocks: how many columns each has, in order; its penalty has the least left-out error.

    Raises ValueError for blocks that do not add up to the columns.
    """
    if sum(blocks) != y_IQ.shape[1]:
        raise ValueError(f"blocks have {sum(blocks)} columns together, expected {y_IQ.shape[1]}")
    mean_V, mean_Q = x_IV.mean(0), y_IQ.mean(0)
    x_IV, y_IQ = x_IV - mean_V, y_IQ - mean_Q
    value_I, vector_II = torch.linalg.eigh(x_IV @ x_IV.T)
    value_I = value_I.clamp_min(0)  # rounding leaves some a little below
    rotated_IQ = vector_II.T @ y_IQ
    squared_II = vector_II.square()
    errors = []
    for alpha in alphas:
        inverse_I = 1 / (value_I + alpha)
        dual_IQ = vector_II @ (inverse_I[:, None] * rotated_IQ)
        errors.append(_left_out(dual_IQ, squared_II @ inverse_I, alpha).double().square().sum(0))
    error_AB = torch.stack(
        [part.sum(1) for part in torch.stack(errors).split(list(blocks), dim=1)], dim=1
    )
    # What overflows in float32 is no candidate.
    best_B = error_AB.nan_to_num(nan=torch.inf).argmin(0).cpu()
    if len(alphas) > 1 and bool(((best_B == 0) | (best_B == len(alphas) - 1)).all()):
        warnings.warn(
            f"ridge chose only borders of its candidates, {alphas[0]:g} to {alphas[-1]:g}; widen "
            "log10_alpha_min or log10_alpha_max",
            stacklevel=2,
        )
    alpha_Q = torch.tensor(alphas)[best_B].repeat_interleave(torch.tensor(list(blocks)))
    alpha_Q = alpha_Q.to(x_IV.device)
    dual_IQ = torch.zeros_like(y_IQ)
    error_IQ = torch.zeros_like(y_IQ)
    for alpha in sorted(set(alpha_Q.tolist())):
        columns = alpha_Q == alpha
        inverse_I = 1 / (value_I + alpha)
        part_IQ = vector_II @ (inverse_I[:, None] * rotated_IQ[:, columns])
        dual_IQ[:, columns] = part_IQ
        error_IQ[:, columns] = _left_out(part_IQ, squared_II @ inverse_I, alpha)
    weight_VQ = x_IV.T @ dual_IQ
    return BlockedRidge(
        weight_VQ=weight_VQ,
        bias_Q=mean_Q - mean_V @ weight_VQ,
        alpha_Q=alpha_Q,
        left_out_IQ=y_IQ + mean_Q - error_IQ,
        mean_V=mean_V,
        error_IQ=error_IQ,
        value_I=value_I,
        vector_II=vector_II,
        x_IV=x_IV,
    )


def _left_out(dual_IQ: Tensor, gram_I: Tensor, alpha: float) -> Tensor:
    """e of the head of this file; gram_I: G_ii."""
    return alpha * dual_IQ / (alpha * gram_I - 1 / len(dual_IQ))[:, None]


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
