from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import primal_weights_kernel_ridge, solve_kernel_ridge_cv_eigenvalues
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold
from torch import Tensor

from fmri2clip.solvers import kernel_ridge


@dataclass(frozen=True)
class Penalties:
    n_alphas: int = 7
    log10_alpha_min: float = -2.0
    log10_alpha_max: float = 4.0
    n_folds: int = 4


def draw(
    n: int, n_voxels: int, widths: dict[str, int], seed: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Centred x (I, V), and centred targets that x explains in part, each on a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    x_IV = torch.randn(n, n_voxels, generator=generator)
    targets = {}
    for k, (name, width) in enumerate(widths.items()):
        signal_ID = x_IV @ torch.randn(n_voxels, width, generator=generator) / n_voxels**0.5
        y_ID = 3.0**k * (signal_ID + (k + 0.5) * torch.randn(n, width, generator=generator))
        targets[name] = y_ID - y_ID.mean(0)
    return x_IV - x_IV.mean(0), targets


def by_himalaya(x_IV: Tensor, y_ID: Tensor, c: Penalties, seed: int) -> tuple[Tensor, float, float]:
    """Weights, alpha and error of the library that decomposes the kernel anew for each fold."""
    set_backend("torch")
    x_IV, y_ID = x_IV.double(), y_ID.double()
    best, dual_ID, score = solve_kernel_ridge_cv_eigenvalues(
        x_IV @ x_IV.T,
        y_ID,
        alphas=torch.logspace(
            c.log10_alpha_min, c.log10_alpha_max, c.n_alphas, dtype=torch.float64
        ),
        cv=KFold(c.n_folds, shuffle=True, random_state=seed),
        local_alpha=False,
    )
    set_backend("numpy")
    return primal_weights_kernel_ridge(dual_ID, x_IV), float(best[0]), -float(score.mean())


@pytest.mark.parametrize("n_voxels", [20, 90])  # fewer and more than images
def test_targets_that_share_a_decomposition_match_himalaya(n_voxels: int) -> None:
    x_IV, targets = draw(
        50, n_voxels, {"narrow": 3, "noisy": 8, "wide": 130}
    )  # wider than images too
    found = kernel_ridge.solve_all(x_IV, targets, Penalties(), seed=3)
    assert list(found) == list(targets)
    for name, y_ID in targets.items():
        weight_VD, alpha, error = by_himalaya(x_IV, y_ID, Penalties(), 3)
        assert found[name].alpha == pytest.approx(alpha, rel=1e-5)
        assert found[name].error == pytest.approx(error, rel=1e-4)
        np.testing.assert_allclose(
            found[name].weight_VD, weight_VD, atol=1e-3 * float(weight_VD.abs().max())
        )
    assert len({one.alpha for one in found.values()}) > 1  # the penalties are the targets' own


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(8, 30),
    n_voxels=st.integers(1, 40),
    width=st.integers(1, 40),
    alpha=st.floats(0.1, 1e3),
)
def test_error_is_that_of_models_without_the_fold(
    n: int, n_voxels: int, width: int, alpha: float
) -> None:
    x_IV, targets = draw(n, n_voxels, {"y": width}, seed=n + n_voxels)
    single = Penalties(n_alphas=1, log10_alpha_min=float(np.log10(alpha)), log10_alpha_max=3.0)
    x, y = x_IV.double().numpy(), targets["y"].double().numpy()
    errors = []
    for kept, left_out in KFold(4, shuffle=True, random_state=5).split(x):
        gram = x[kept].T @ x[kept] + alpha * np.eye(n_voxels)
        weights = np.linalg.solve(gram, x[kept].T @ y[kept])
        errors.append(((x[left_out] @ weights - y[left_out]) ** 2).mean())
    assert kernel_ridge.solve(x_IV, targets["y"], single, seed=5).error == pytest.approx(
        np.mean(errors), rel=1e-3
    )


def test_a_target_is_fitted_the_same_beside_others() -> None:
    x_IV, targets = draw(40, 30, {"a": 4, "b": 60})
    both = kernel_ridge.solve_all(x_IV, targets, Penalties(), seed=0)
    for name, y_ID in targets.items():
        alone = kernel_ridge.solve(x_IV, y_ID, Penalties(), seed=0)
        assert alone.alpha == both[name].alpha
        torch.testing.assert_close(alone.weight_VD, both[name].weight_VD)


@pytest.mark.parametrize(("lowest", "highest"), [(-10.0, 10.0), (2.0, 30.0), (-30.0, 30.0)])
def test_a_candidate_that_cannot_be_solved_is_left_out(lowest: float, highest: float) -> None:
    """What is chosen is what the solvable candidates give alone."""
    x_IV, targets = draw(60, 40, {"a": 6})
    wide = Penalties(n_alphas=21, log10_alpha_min=lowest, log10_alpha_max=highest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (found,) = kernel_ridge.solve_all(x_IV, targets, wide, 0).values()
    alphas = torch.logspace(lowest, highest, 21)
    expected = min(
        (by_himalaya(x_IV.double(), targets["a"].double(), only(a), 0)[2], a)
        for a in alphas.log10().tolist()
        if -4 <= a <= 20
    )
    assert found.alpha == pytest.approx(10 ** expected[1], rel=1e-4)
    assert found.error == pytest.approx(expected[0], rel=1e-3)


def only(log10_alpha: float) -> Penalties:
    return Penalties(n_alphas=1, log10_alpha_min=log10_alpha, log10_alpha_max=log10_alpha)


def test_no_candidate_can_be_solved() -> None:
    """Targets so large that their squares overflow under every penalty."""
    x_IV, targets = draw(60, 8, {"a": 6})
    targets["a"] *= 1e38
    warned = pytest.warns(UserWarning, match=r"solved with alpha 1e-05.*: left out; narrow")
    raised = pytest.raises(ValueError, match=r"with any alpha from 1e-05 to 1e-05; change log10")
    with warned, raised:
        kernel_ridge.solve_all(x_IV, targets, only(-5.0), 0)
