"""Covariances of low rank plus diagonal, of many voxels from fewer patterns.

    C = diag(d) + F F^T,   F = sqrt(1 - a) times the R leading axes of the patterns with their
                           deviations,  d = diag(S) - diag(F F^T),  S the sample covariance

With all axes this is S shrunk towards its diagonal by a; with fewer, a factor model by principal
axes. What patterns have beyond a known covariance B is found on the axes on which they differ most
from it: with X B^-1 X^T = N Q diag(l) Q^T over N patterns X, the axes X^T q / sqrt(N l) have
variance 1 under B and l in the patterns, so

    C = B + diag(e) + sum_k (1 - a) (l_k - 1) u_k u_k^T    over the R largest l above 1; e fills up
                                                           the variances of single voxels

R and a are those of largest likelihood of patterns that the fit to the others did not see. Inverse
and determinant are Woodbury's: nothing here is V x V.

Letters: N patterns, V voxels, R axes, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log, pi

import torch
from torch import Tensor

SHARES = (0.1, 0.3, 0.5, 0.8)  # a
LEAST = 1e-3  # of a voxel's variance that its diagonal keeps
N_TESTED = 5  # one in so many patterns is held out where R and a are chosen


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """diagonal_V and factor_VR of the head of this file; share, n_axes: the chosen a and R."""

    diagonal_V: Tensor
    factor_VR: Tensor
    share: float = 0.0

    @property
    def n_axes(self) -> int:
        """R."""
        return self.factor_VR.shape[1]

    def plus(self, other: LowRank, weight: float) -> LowRank:
        """C + weight C', exactly; weight above 0."""
        return LowRank(
            diagonal_V=self.diagonal_V + weight * other.diagonal_V,
            factor_VR=torch.cat([self.factor_VR, weight**0.5 * other.factor_VR], 1),
        )

    @cached_property
    def _inverse(self) -> tuple[Tensor, Tensor, Tensor]:
        """D (V) and G (V, R) with C^-1 = diag(D)^2 - G G^T, and log det C."""
        scale_V = self.diagonal_V.rsqrt()
        thin_VR = self.factor_VR * scale_V[:, None]
        inner_RR = thin_VR.T @ thin_VR
        inner_RR.diagonal().add_(1)
        factor_RR = torch.linalg.cholesky(inner_RR)
        solved_VR = torch.linalg.solve_triangular(factor_RR, thin_VR.T, upper=False).T
        determinant = self.diagonal_V.log().sum() + 2 * factor_RR.diagonal().log().sum()
        return scale_V, solved_VR * scale_V[:, None], determinant

    def solve(self, x_NV: Tensor) -> Tensor:
        """x C^-1."""
        scale_V, low_VR, _ = self._inverse
        return x_NV * scale_V.square() - (x_NV @ low_VR) @ low_VR.T

    def log_likelihood(self, x_NV: Tensor) -> Tensor:
        """log N(x; 0, C) of each row."""
        scale_V, low_VR, determinant = self._inverse
        square_N = (x_NV * scale_V).square().sum(1) - (x_NV @ low_VR).square().sum(1)
        return -(square_N + determinant + x_NV.shape[1] * log(2 * pi)) / 2


def fit(x_NV: Tensor, ranks: Sequence[int], seed: int = 0) -> LowRank:
    """C of patterns of mean 0.

    ranks: candidates for R. Every N_TESTED-th row is held out where R and a are chosen, so rows
    must be independent of each other.
    """
    tested_N = torch.arange(len(x_NV), device=x_NV.device) % N_TESTED == 0
    seen_NV = x_NV[~tested_N]
    axes_VR = find_axes(seen_NV, max(ranks), seed)
    best = (-torch.inf, SHARES[0], ranks[0])
    for rank in ranks:
        for share in SHARES:
            model = combine(seen_NV, axes_VR[:, :rank], share)
            found = float(model.log_likelihood(x_NV[tested_N]).mean())
            best = max(best, (found, share, rank))
    _, share, rank = best
    return combine(x_NV, find_axes(x_NV, rank, seed), share)


def fit_excess(x_NV: Tensor, base: LowRank, ranks: Sequence[int]) -> LowRank:
    """What independent patterns of mean 0 have beyond `base`: C - B of the head of this file."""
    tested_N = torch.arange(len(x_NV), device=x_NV.device) % N_TESTED == 0
    seen_NV = x_NV[~tested_N]
    found = _differ(seen_NV, base)
    best = (-torch.inf, SHARES[0], ranks[0])
    for rank in ranks:
        for share in SHARES:
            excess = _exceed(seen_NV, base, found, rank, share)
            total = float(base.plus(excess, 1.0).log_likelihood(x_NV[tested_N]).mean())
            best = max(best, (total, share, rank))
    _, share, rank = best
    return _exceed(x_NV, base, _differ(x_NV, base), rank, share)


def _differ(x_NV: Tensor, base: LowRank) -> tuple[Tensor, Tensor]:
    """l (N), largest first, and Q (N, N)."""
    value_N, q_NN = torch.linalg.eigh(base.solve(x_NV) @ x_NV.T / len(x_NV))
    return value_N.flip(0), q_NN.flip(1)


def _exceed(
    x_NV: Tensor, base: LowRank, found: tuple[Tensor, Tensor], rank: int, share: float
) -> LowRank:
    value_R, q_NR = found[0][:rank], found[1][:, :rank]
    kept_R = value_R > 1
    value_R, q_NR = value_R[kept_R], q_NR[:, kept_R]
    size_R = ((1 - share) * (value_R - 1) / (value_R * len(x_NV))).sqrt()
    factor_VR = x_NV.T @ (q_NR * size_R)
    known_V = base.diagonal_V + base.factor_VR.square().sum(1)
    left_V = x_NV.square().mean(0) - known_V - factor_VR.square().sum(1)
    return LowRank(diagonal_V=left_V.clamp_min(0), factor_VR=factor_VR, share=share)


def find_axes(x_NV: Tensor, rank: int, seed: int) -> Tensor:
    """Leading principal axes times their deviations, (V, R), by falling deviation.

    Exact where patterns or voxels are at most 4 times as many as axes, else by a randomised
    projection (Halko, Martinsson & Tropp 2011).
    """
    rank = min(rank, *x_NV.shape)
    if min(x_NV.shape) <= 4 * rank:
        # Of the smaller of X X^T and X^T X: an SVD takes several times as long.
        is_wide = len(x_NV) < x_NV.shape[1]
        value_K, vector_KK = torch.linalg.eigh(x_NV @ x_NV.T if is_wide else x_NV.T @ x_NV)
        leading_KR = vector_KK[:, -rank:].flip(1)
        if is_wide:
            return x_NV.T @ leading_KR / len(x_NV) ** 0.5
        return leading_KR * (value_K[-rank:].flip(0).clamp_min(0) / len(x_NV)).sqrt()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, value_R, axis_VR = torch.svd_lowrank(x_NV, q=rank + 16, niter=4)
    return (axis_VR * value_R)[:, :rank] / len(x_NV) ** 0.5


def combine(x_NV: Tensor, axes_VR: Tensor, share: float) -> LowRank:
    """C with this share kept to the diagonal."""
    variance_V = x_NV.square().sum(0) / len(x_NV)
    factor_VR = (1 - share) ** 0.5 * axes_VR
    diagonal_V = variance_V - factor_VR.square().sum(1)
    # A voxel without variance, or one that the axes hold whole, must stay invertible.
    least_V = (LEAST * variance_V).clamp_min(1e-8)
    return LowRank(diagonal_V=torch.maximum(diagonal_V, least_V), factor_VR=factor_VR, share=share)
