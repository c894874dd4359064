"""Ridge regression by himalaya's kernel solver, with one penalty for all targets, chosen by folds over images."""

from __future__ import annotations

import warnings
from typing import Protocol

import torch
from torch import Tensor


class Penalties(Protocol):
    """Candidates for the penalty, evenly spaced in log10, and the folds that choose."""

    @property
    def n_alphas(self) -> int: ...
    @property
    def log10_alpha_min(self) -> float: ...
    @property
    def log10_alpha_max(self) -> float: ...
    @property
    def n_folds(self) -> int: ...


def solve(x_IV: Tensor, y_ID: Tensor, config: Penalties, seed: int) -> tuple[Tensor, float, float]:
    """Ridge weights (V, D), chosen alpha and cross-validated mean squared error of centred x and y.

    Raises ValueError if there are fewer images than folds.
    """
    from himalaya.backend import get_backend, set_backend
    from himalaya.kernel_ridge import primal_weights_kernel_ridge, solve_kernel_ridge_cv_eigenvalues
    from sklearn.model_selection import KFold

    if len(x_IV) < config.n_folds:
        raise ValueError(
            f"ridge has {len(x_IV)} training images for {config.n_folds} folds; lower n_folds of the decoder"
        )
    alphas = torch.logspace(config.log10_alpha_min, config.log10_alpha_max, config.n_alphas, device=x_IV.device)
    before = get_backend()
    set_backend("torch_cuda" if x_IV.is_cuda else "torch")
    try:
        best, dual_ID, score = solve_kernel_ridge_cv_eigenvalues(
            x_IV @ x_IV.T,
            y_ID,
            alphas=alphas,
            cv=KFold(config.n_folds, shuffle=True, random_state=seed),
            local_alpha=False,
            n_alphas_batch=1,
        )
        weight_VD = primal_weights_kernel_ridge(dual_ID.to(x_IV), x_IV)
    finally:
        set_backend(before)
    alpha = float(best[0])
    if config.n_alphas > 1 and not 1.001 * float(alphas[0]) < alpha < 0.999 * float(alphas[-1]):
        warnings.warn(
            f"ridge chose alpha {alpha:g}, the border of its candidates; widen log10_alpha_min or log10_alpha_max",
            stacklevel=2,
        )
    return weight_VD.to(x_IV), alpha, -float(score.mean())
