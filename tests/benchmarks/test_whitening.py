"""whitening.py: powers of a covariance, and how it sums successes up."""

from __future__ import annotations

import numpy as np
from scipy.linalg import fractional_matrix_power

from benchmarks import whitening


def test_powers_are_scipys_and_undo_each_other() -> None:
    rng = np.random.default_rng(0)
    turned_DD = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    embedding_ID = rng.normal(size=(2000, 6)) * np.linspace(1.0, 3.0, 6) @ turned_DD
    once_DD = whitening.raise_covariance(embedding_ID, 1.0)
    root_DD = whitening.raise_covariance(embedding_ID, 0.5)
    np.testing.assert_allclose(root_DD, fractional_matrix_power(once_DD, 0.5), atol=1e-10)
    inverse_DD = whitening.raise_covariance(embedding_ID, -0.5)
    np.testing.assert_allclose(root_DD @ inverse_DD, np.eye(6), atol=1e-10)
    white_ID = (embedding_ID - embedding_ID.mean(axis=0)) @ inverse_DD
    # But for the shrinkage: no direction is left with much more variance than another.
    assert np.ptp(np.linalg.eigvalsh(np.cov(white_ID.T))) < 0.5
    assert np.ptp(np.linalg.eigvalsh(np.cov(embedding_ID.T))) > 5


def test_subjects_weigh_alike_and_pictures_that_are_not_asked_count_nowhere() -> None:
    rng = np.random.default_rng(0)
    first = {"as_it_is": rng.integers(0, 2, 50).astype(float), "whitened": np.zeros(50)}
    first["as_it_is"][:10] = np.nan
    second = {"as_it_is": np.zeros(20), "whitened": np.zeros(20)}
    parts = [one | {"coloured": one["as_it_is"]} for one in (first, second)]
    found = whitening.summarise(parts, rng)
    # Half of the first subject's share among the 40 that were asked, as the second has none right.
    share = first["as_it_is"][10:].mean() / 2
    assert found["as_it_is"]["value"] == round(share, 4)
    assert found["coloured_gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["as_it_is"]["low"] < found["as_it_is"]["value"] < found["as_it_is"]["high"]
