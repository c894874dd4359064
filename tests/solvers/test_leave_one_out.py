"""The shared decomposition against scikit-learn's RidgeCV and against fits that leave each image
out.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from fmri2clip.solvers.leave_one_out import LeaveOneOutRidge

ALPHAS = 10.0 ** np.arange(-2, 5)
SHAPES = [(60, 12), (60, 60), (60, 150)]  # images and features


def make_data(
    n_images: int, n_features: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features of different scale and mean; targets from hardly any noise to noise alone."""
    feature_IF = rng.standard_normal((n_images, n_features)) * rng.uniform(0.1, 10, n_features) + 5
    signal_IM = feature_IF @ rng.standard_normal((n_features, 3)) / 30 + 2
    return feature_IF, [
        signal_IM + noise * rng.standard_normal((n_images, 3)) for noise in (0.01, 1.0, 100.0)
    ]


@pytest.mark.parametrize(("n_images", "n_features"), SHAPES)
def test_equals_ridge_cv_for_every_target(
    n_images: int, n_features: int, rng: np.random.Generator
) -> None:
    feature_IF, targets = make_data(n_images, n_features, rng)
    new_JF = rng.standard_normal((7, n_features)) + 5
    ridge = LeaveOneOutRidge(feature_IF, ALPHAS)
    chosen = set()
    for target_IM in targets:
        model = RidgeCV(alphas=ALPHAS).fit(feature_IF, target_IM)
        chosen.add(model.alpha_)
        np.testing.assert_allclose(
            ridge.predict(target_IM, new_JF), model.predict(new_JF), rtol=1e-9, atol=1e-9
        )
    assert len(chosen) > 1
    together_IM = np.concatenate(targets, axis=1)
    model = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(feature_IF, together_IM)
    assert len(np.unique(model.alpha_)) > 1
    found = ridge.predict(together_IM, new_JF, each=True)
    np.testing.assert_allclose(found, model.predict(new_JF), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n_images", "n_features"), SHAPES)
def test_penalty_is_that_of_least_error_on_images_left_out(
    n_images: int, n_features: int, rng: np.random.Generator
) -> None:
    feature_IF, targets = make_data(n_images, n_features, rng)
    for target_IM in targets:
        errors = [
            (
                (
                    target_IM
                    - cross_val_predict(Ridge(alpha), feature_IF, target_IM, cv=LeaveOneOut())
                )
                ** 2
            ).mean()
            for alpha in ALPHAS
        ]
        best = Ridge(ALPHAS[int(np.argmin(errors))]).fit(feature_IF, target_IM)
        found = LeaveOneOutRidge(feature_IF, ALPHAS).predict(target_IM, feature_IF)
        np.testing.assert_allclose(found, best.predict(feature_IF), rtol=1e-6, atol=1e-6)
