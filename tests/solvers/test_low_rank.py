"""low_rank.py against SciPy's densities and NumPy's inverses, and what it chooses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import multivariate_normal

from fmri2clip.solvers import low_rank
from fmri2clip.solvers.low_rank import LowRank

N_VOXELS = 12


@pytest.fixture
def model(rng: np.random.Generator) -> LowRank:
    return LowRank(
        diagonal_V=torch.from_numpy(rng.uniform(0.5, 2, N_VOXELS)),
        factor_VR=torch.from_numpy(rng.standard_normal((N_VOXELS, 3))),
    )


def dense(model: LowRank) -> np.ndarray:
    factor_VR = model.factor_VR.numpy()
    return np.asarray(np.diag(model.diagonal_V.numpy()) + factor_VR @ factor_VR.T)


def test_density_and_inverse_are_those_of_the_whole_matrix(
    model: LowRank, rng: np.random.Generator
) -> None:
    x_NV = rng.standard_normal((7, N_VOXELS))
    found = model.log_likelihood(torch.from_numpy(x_NV))
    expected = multivariate_normal(np.zeros(N_VOXELS), dense(model)).logpdf(x_NV)
    np.testing.assert_allclose(found, expected)
    solved = model.solve(torch.from_numpy(x_NV))
    np.testing.assert_allclose(solved, x_NV @ np.linalg.inv(dense(model)), atol=1e-10)


def test_sums_are_exact(model: LowRank) -> None:
    other = LowRank(diagonal_V=model.diagonal_V * 2, factor_VR=model.factor_VR[:, :1] + 1)
    np.testing.assert_allclose(dense(model.plus(other, 0.3)), dense(model) + 0.3 * dense(other))


def test_an_excess_is_found_beyond_a_known_covariance(
    model: LowRank, rng: np.random.Generator
) -> None:
    """One loud axis that the known covariance lacks: it is added, and little else."""
    axis_V = 3 * rng.standard_normal(N_VOXELS)
    both = dense(model) + np.outer(axis_V, axis_V)
    x_NV = rng.multivariate_normal(np.zeros(N_VOXELS), both, 1000)
    found = low_rank.fit_excess(torch.from_numpy(x_NV), model, [1, 8])
    excess = dense(found)
    np.testing.assert_allclose(excess, np.outer(axis_V, axis_V), atol=0.2 * np.square(axis_V).max())
    assert found.share == low_rank.SHARES[0]
    nothing = rng.multivariate_normal(np.zeros(N_VOXELS), dense(model), 1000)
    least = low_rank.fit_excess(torch.from_numpy(nothing), model, [1, 8])
    assert np.trace(dense(least)) < 0.1 * np.trace(dense(model))


def test_all_axes_of_an_excess_are_the_generalised_eigenvectors(
    model: LowRank, rng: np.random.Generator
) -> None:
    """Against SciPy: S = sum l u u^T and B = sum u u^T on the same axes."""
    x_NV = rng.standard_normal((30, N_VOXELS)) * 4
    sample, known = x_NV.T @ x_NV / 30, dense(model)
    value, vector = scipy.linalg.eigh(sample, known)
    axes = known @ vector
    expected = 0.9 * (axes * np.maximum(value - 1, 0)) @ axes.T
    found = low_rank._differ(torch.from_numpy(x_NV), model)
    excess = low_rank._exceed(torch.from_numpy(x_NV), model, found, N_VOXELS, 0.1)
    np.testing.assert_allclose(excess.factor_VR @ excess.factor_VR.T, expected, atol=1e-8)


def test_with_all_axes_it_is_shrinkage_to_the_diagonal(rng: np.random.Generator) -> None:
    x_NV = rng.standard_normal((8, N_VOXELS))
    axes = low_rank.find_axes(torch.from_numpy(x_NV), 8, seed=0)
    sample = x_NV.T @ x_NV / 8
    found = dense(low_rank.combine(torch.from_numpy(x_NV), axes, 0.3))
    np.testing.assert_allclose(found, 0.7 * sample + 0.3 * np.diag(np.diag(sample)), atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 30), (30, 9)])
def test_exact_axes_are_those_of_an_svd(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    x_NV = torch.from_numpy(rng.standard_normal(shape))
    found = low_rank.find_axes(x_NV, 5, seed=0)
    _, value, axis = np.linalg.svd(x_NV.numpy(), full_matrices=False)
    expected = (axis[:5] * value[:5, None]).T / np.sqrt(shape[0])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-10)


def test_projected_axes_are_the_leading_ones(rng: np.random.Generator) -> None:
    loud_V = np.r_[np.full(3, 8.0), np.full(57, 0.3)]
    x_NV = torch.from_numpy(rng.standard_normal((200, 60)) * loud_V)
    found = low_rank.find_axes(x_NV, 3, seed=0)
    _, value, axis = np.linalg.svd(x_NV.numpy(), full_matrices=False)
    expected = (axis[:3] * value[:3, None]).T / np.sqrt(200)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    torch.testing.assert_close(low_rank.find_axes(x_NV, 3, seed=0), found)


def test_what_is_chosen_has_the_planted_rank(rng: np.random.Generator) -> None:
    """Two loud axes in many voxels: more axes than these are noise of the sample."""
    factor = 2 * rng.standard_normal((40, 2))
    x_NV = rng.standard_normal((300, 2)) @ factor.T + rng.standard_normal((300, 40))
    found = low_rank.fit(torch.from_numpy(x_NV), [2, 30])
    assert found.n_axes == 2 and found.share == low_rank.SHARES[0]
    isotropic = low_rank.fit(torch.from_numpy(rng.standard_normal((300, 40))), [2, 30])
    assert isotropic.share == low_rank.SHARES[-1]


def test_a_silent_voxel_stays_invertible(rng: np.random.Generator) -> None:
    x_NV = torch.from_numpy(rng.standard_normal((50, 6)))
    x_NV[:, 2] = 0
    found = low_rank.fit(x_NV, [2, 4])
    assert torch.isfinite(found.solve(x_NV)).all() and (found.diagonal_V > 0).all()
