from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from fmri2clip.solvers import principal_components
from fmri2clip.solvers.principal_components import find_components


def test_components_are_those_of_scikit_learn(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks that do not divide the columns, of some rows, from float16."""
    monkeypatch.setattr(principal_components, "BLOCK", 7)
    y = (rng.standard_normal((20, 4)) @ rng.standard_normal((4, 50)) + 3).astype(np.float16)
    y = y + (0.1 * rng.standard_normal(y.shape)).astype(np.float16)
    rows = np.arange(20) % 5 > 0
    found = find_components(torch.from_numpy(y), torch.from_numpy(rows), 3)
    expected = PCA(3, svd_solver="full").fit(y[rows].astype(np.float64))
    scores = expected.transform(y[rows].astype(np.float64))
    sign = np.sign((scores * found.scores_IP.numpy()).sum(0))
    np.testing.assert_allclose(found.mean_X, expected.mean_, atol=1e-4)
    np.testing.assert_allclose(found.scores_IP, scores * sign, atol=2e-3)
    np.testing.assert_allclose(found.components_PX, expected.components_ * sign[:, None], atol=2e-3)
    largest = found.scores_IP.abs().argmax(0, keepdim=True)
    assert (found.scores_IP.gather(0, largest) > 0).all()


def test_no_more_components_than_the_rows_have(rng: np.random.Generator) -> None:
    y = torch.from_numpy(rng.standard_normal((6, 2)) @ rng.standard_normal((2, 30))).float()
    assert find_components(y, torch.ones(6, dtype=torch.bool), 5).scores_IP.shape == (6, 2)
