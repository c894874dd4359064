"""Ridge regression of several targets on one matrix, each with its own penalty, chosen by folds
over images.

With K = X X^T and G = (K + alpha I)^-1, the dual weights are G Y, and what a fold F would be missed
by without its own rows is, exactly and without another decomposition,

    Y_F - prediction from the other rows = (G_FF)^-1 (G Y)_F

(S. An, W. Liu, S. Venkatesh, Pattern Recognition 40, 2154, 2007). So one eigendecomposition of K
serves all penalties, folds and targets; himalaya takes one for each fold of each target. Of a
target with more columns than rows only the triangle of Y^T = Q R is cross-validated: R^T has the
same squared errors as Y.

Letters: I images, V voxels (or other inputs), D columns of a target.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fmri2clip.core.strict import at_least, at_most

MOST_LOG10 = 30  # of a candidate, up and down: float32 ends at 38


class Penalties(Protocol):
    """Candidates for the penalty, evenly spaced in log10."""

    @property
    def n_alphas(self) -> int:
        """Number of candidates."""
        ...

    @property
    def log10_alpha_min(self) -> float:
        """log10 of the smallest candidate."""
        ...

    @property
    def log10_alpha_max(self) -> float:
        """log10 of the largest candidate."""
        ...


class Folds(Penalties, Protocol):
    """The same, and the folds that choose."""

    @property
    def n_folds(self) -> int:
        """Parts that the images are dealt into; each is predicted from the others."""
        ...


def check_penalties(config: Penalties) -> None:
    """Raise ValueError unless there are candidates, in order, and float32 holds them."""
    at_least(config, 1, "n_alphas")
    at_least(config, -MOST_LOG10, "log10_alpha_min", "log10_alpha_max")
    at_most(config, MOST_LOG10, "log10_alpha_min", "log10_alpha_max")
    if config.log10_alpha_min > config.log10_alpha_max:
        raise ValueError(
            f"log10_alpha_min is {config.log10_alpha_min}, expected at most log10_alpha_max "
            f"({config.log10_alpha_max})"
        )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Ridge weights of one target, its penalty, and the mean over folds of the mean squared
    error.
    """

    weight_VD: Tensor
    alpha: float
    error: float


def solve(x_IV: Tensor, y_ID: Tensor, config: Folds, seed: int) -> Fitted:
    """solve_all for one target."""
    return solve_all(x_IV, {"": y_ID}, config, seed)[""]


def solve_all(
    x_IV: Tensor, targets: Mapping[str, Tensor], config: Folds, seed: int
) -> dict[str, Fitted]:
    """Ridge regression from centred x to each centred target (I, D); alpha is common to the columns
    of a target.

    A candidate that float32 cannot solve is left out, with a warning. Raises ValueError if there
    are fewer images than folds, or no candidate can be solved.
    """
    if len(x_IV) < config.n_folds:
        raise ValueError(
            f"ridge has {len(x_IV)} training images for {config.n_folds} folds; lower n_folds of "
            "the decoder"
        )
    alphas = torch.logspace(
        config.log10_alpha_min, config.log10_alpha_max, config.n_alphas
    ).tolist()
    # The one decomposition: (K + alpha I)^-1 = U (L + alpha)^-1 U^T for every alpha.
    value_I, vector_II = torch.linalg.eigh(x_IV @ x_IV.T)
    value_I = value_I.clamp_min(0)  # rounding leaves some a little below
    folds = make_folds(x_IV, config.n_folds, seed)
    errors = cross_validate(value_I, vector_II, targets, alphas, folds)
    found: dict[str, Fitted] = {}
    for name, y_ID in targets.items():
        error_A = errors[name]
        solved = [alpha for alpha, error in zip(alphas, error_A, strict=True) if error.isfinite()]
        if not solved:
            raise ValueError(
                f"ridge cannot be solved with any alpha from {alphas[0]:g} to {alphas[-1]:g}; "
                "change log10_alpha_min and log10_alpha_max of the decoder"
            )
        alpha = alphas[int(error_A.argmin())]
        # With a single candidate the user has chosen; with several, a best one at the border says
        # that the range was too narrow.
        if config.n_alphas > 1 and alpha in (solved[0], solved[-1]):
            warnings.warn(
                f"ridge chose alpha {alpha:g}, the border of its candidates; widen log10_alpha_min "
                "or log10_alpha_max",
                stacklevel=2,
            )
        dual_ID = vector_II @ ((vector_II.T @ y_ID) / (value_I + alpha)[:, None])
        found[name] = Fitted(weight_VD=x_IV.T @ dual_ID, alpha=alpha, error=float(error_A.min()))
    return found


def make_folds(x_IV: Tensor, n: int, seed: int) -> list[Tensor]:
    """Rows of each of n folds, images dealt at random."""
    from sklearn.model_selection import KFold

    folds = KFold(n, shuffle=True, random_state=seed).split(range(len(x_IV)))
    return [torch.from_numpy(rows).to(x_IV.device) for _, rows in folds]


def cross_validate(
    value_I: Tensor,
    vector_II: Tensor,
    targets: Mapping[str, Tensor],
    alphas: list[float],
    folds: list[Tensor],
) -> dict[str, Tensor]:
    """Mean over folds of the mean squared error of each target under each alpha, (A,), float64 on
    the CPU; infinite, with a warning, for an alpha that float32 cannot solve.
    """
    # All targets side by side, rotated to the eigenvectors once: an alpha then costs two products.
    rotated_ID = torch.cat([vector_II.T @ _narrow(y_ID) for y_ID in targets.values()], dim=1)
    widths = [min(y_ID.shape) for y_ID in targets.values()]
    squared_AT = torch.zeros(len(alphas), len(targets), dtype=torch.float64)
    for a, alpha in enumerate(alphas):
        inverse_I = 1 / (value_I + alpha)
        dual_ID = vector_II @ (inverse_I[:, None] * rotated_ID)
        for rows in folds:
            # G_FF of the head of this file, and its solution for (G Y)_F.
            part_FI = vector_II[rows]
            factor_FF, failed = torch.linalg.cholesky_ex((part_FI * inverse_I) @ part_FI.T)
            if failed:
                squared_AT[a] = torch.inf
                break
            missed_FD = torch.cholesky_solve(dual_ID[rows], factor_FF)
            # Summed in float64: the choice of alpha must not hang on the rounding of a sum.
            sums = [float(part.double().square().sum()) for part in missed_FD.split(widths, dim=1)]
            squared_AT[a] += torch.tensor(sums, dtype=torch.float64) / len(rows)
    squared_AT[~squared_AT.isfinite()] = torch.inf
    left_out = [f"{alphas[a]:g}" for a in squared_AT.isinf().any(dim=1).nonzero().flatten()]
    if left_out:
        warnings.warn(
            f"ridge cannot be solved with alpha {', '.join(left_out)}: left out; narrow "
            "log10_alpha_min and log10_alpha_max",
            stacklevel=3,
        )
    return {
        name: squared_AT[:, t] / (len(folds) * y_ID.shape[1])
        for t, (name, y_ID) in enumerate(targets.items())
    }


def _narrow(y_ID: Tensor) -> Tensor:
    """At most I columns with the same Y Y^T."""
    return torch.linalg.qr(y_ID.T, mode="r").R.T if y_ID.shape[1] > len(y_ID) else y_ID
