from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from fmri2clip.solvers.platt import fit_platt, scale_logits


def test_scaling_has_the_greatest_likelihood(rng: np.random.Generator) -> None:
    score_IC = rng.standard_normal((50, 3))
    label_IC = rng.random((50, 3)) < 1 / (1 + np.exp(-(2.5 * score_IC - 1)))

    def loss(pair: np.ndarray) -> float:
        probability_IC = scale_logits(score_IC, *pair)
        return float(-np.log(np.where(label_IC, probability_IC, 1 - probability_IC)).sum())

    np.testing.assert_allclose(fit_platt(score_IC, label_IC), minimize(loss, [0, 0]).x, atol=1e-3)
    assert fit_platt(np.zeros((2, 2)), np.zeros((2, 2), bool)) == (1.0, 0.0)
