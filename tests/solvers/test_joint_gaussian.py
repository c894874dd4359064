"""joint_gaussian.py against scipy's densities, against planted noise, and on permuted pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fmri2clip.solvers import joint_gaussian


def planted(rng: np.random.Generator, n: int, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Targets with unequal variances, and predictions that shrink and mix them, with noise whose
    loudest axis is the loudest of the targets.
    """
    y = rng.standard_normal((n, d)) * np.linspace(3, 0.5, d) + 2
    mixing = np.eye(d) * np.linspace(0.3, 0.9, d) + 0.1 * rng.standard_normal((d, d))
    noise = rng.standard_normal((n, d)) * np.linspace(2, 0.1, d)
    return y @ mixing + noise, y


def test_score_is_the_log_ratio_of_densities(rng: np.random.Generator) -> None:
    p, y = planted(rng, 400)
    model = joint_gaussian.fit(p, y)
    n = model.axes_DP.shape[1]
    z_p = (p[:5] - model.mean_prediction_D) @ model.axes_DP
    z_y = (y[:7] - model.mean_target_D) @ model.axes_DP
    c = model.covariance_QQ
    joint = multivariate_normal(np.zeros(2 * n), c)
    of_p = multivariate_normal(np.zeros(n), c[:n, :n])
    of_y = multivariate_normal(np.zeros(n), c[n:, n:])
    expected = np.array(
        [[joint.logpdf(np.r_[a, b]) - of_p.logpdf(a) - of_y.logpdf(b) for b in z_y] for a in z_p]
    )
    found = model.score(p[:5], y[:7])
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-6)


def test_it_finds_more_than_the_cosine_where_noise_is_loud(rng: np.random.Generator) -> None:
    mixing = np.random.default_rng(5)
    p, y = planted(mixing, 700)
    model = joint_gaussian.fit(p[:500], y[:500])
    p, y = p[500:], y[500:]
    information = model.score(p, y)
    unit_p = (p - p.mean(0)) / np.linalg.norm(p - p.mean(0), axis=1, keepdims=True)
    unit_y = (y - y.mean(0)) / np.linalg.norm(y - y.mean(0), axis=1, keepdims=True)
    right = np.arange(len(p))
    for axis in (0, 1):
        ours = (information.argmax(axis=axis) == right).mean()
        cosine = ((unit_p @ unit_y.T).argmax(axis=axis) == right).mean()
        assert ours > cosine + 0.1


def test_the_size_of_predictions_decides_nothing() -> None:
    """Pointwise mutual information knows no unit."""
    p, y = planted(np.random.default_rng(5), 700)
    ranks = []
    for size in (1e-3, 1.0, 1e4):
        model = joint_gaussian.fit(size * p[:500], y[:500])
        score = model.score(size * p[500:], y[500:])
        ranks.append((score > np.diagonal(score)[:, None]).sum(axis=1))
    np.testing.assert_array_equal(ranks[0], ranks[1])
    np.testing.assert_array_equal(ranks[2], ranks[1])


def test_permuted_pairs_are_at_chance(rng: np.random.Generator) -> None:
    p, y = planted(rng, 900)
    model = joint_gaussian.fit(p[:500][rng.permutation(500)], y[:500])
    hits = (model.score(p[500:], y[500:]).argmax(axis=1) == np.arange(400)).mean()
    assert hits < 0.02


def test_weight_grows_as_images_become_few(rng: np.random.Generator) -> None:
    p, y = planted(rng, 4000, 20)
    assert joint_gaussian.fit(p, y).weight <= joint_gaussian.fit(p[:60], y[:60]).weight


def test_refusals(rng: np.random.Generator) -> None:
    p, y = planted(rng, 30)
    with pytest.raises(ValueError, match="give both for the same images"):
        joint_gaussian.fit(p[:20], y)
    with pytest.raises(ValueError, match="at least 10 images, got 6"):
        joint_gaussian.fit(p[:6], y[:6])
