from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fmri2clip.clip import calibration


def make(
    n: int, seed: int, n_tokens: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Inputs of a model with means, predictions with an offset and a scale of their own, and true
    embeddings.
    """
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n, max(n_tokens, 1), 4))
    predicted = 3 + 2 * true + 0.5 * rng.normal(size=true.shape)
    kinds = "image_D", "tokens_fused_TW"
    inputs = {}
    for prefix, mean in (("mean_", true.mean(0)), ("mean_predicted_", predicted.mean(0))):
        inputs[prefix + kinds[0]], inputs[prefix + kinds[1]] = (
            mean[0].astype(np.float32),
            mean.astype(np.float32),
        )
    predicted = predicted if n_tokens else predicted[:, 0]
    return inputs, predicted.astype(np.float32), true[:, 0].astype(np.float32)


@given(st.integers(2, 30), st.integers(0, 1000), st.sampled_from([0, 1, 3]))
def test_no_other_factor_is_nearer_to_the_class_tokens(n: int, seed: int, n_tokens: int) -> None:
    inputs, predicted, true = make(n, seed, n_tokens)
    fitted = calibration.fit(inputs, "fused" if n_tokens else "embedding", predicted, true)

    def error(factor: float) -> float:
        given = calibration.Calibration(
            mean_predicted=fitted.mean_predicted, mean_true=fitted.mean_true, factor=factor
        ).apply(predicted)
        return float(
            ((given if given.ndim == 2 else given[:, 0]) - true).astype(np.float64).__pow__(2).sum()
        )

    assert fitted.factor >= 0
    assert all(error(fitted.factor) <= error(other) + 1e-4 for other in np.linspace(0, 2, 41))


def test_offset_and_scale_are_undone() -> None:
    inputs, predicted, true = make(4000, 0)
    fitted = calibration.fit(inputs, "embedding", predicted, true)
    assert fitted.factor == pytest.approx(2 / (4 + 0.25), abs=0.01)
    np.testing.assert_allclose(fitted.apply(predicted).mean(0), true.mean(0), atol=1e-3)


def test_a_decoder_that_is_wrong_gets_the_mean() -> None:
    inputs, predicted, true = make(50, 1)
    fitted = calibration.fit(
        inputs, "embedding", 2 * inputs["mean_predicted_image_D"] - predicted, true
    )
    assert fitted.factor == 0
    np.testing.assert_allclose(
        fitted.apply(predicted), np.tile(inputs["mean_image_D"], (50, 1)), rtol=1e-6
    )


def test_without_validation_images_only_the_offset_is_undone() -> None:
    inputs, predicted, true = make(5, 2)
    assert calibration.fit(inputs, "embedding", predicted[:0], true[:0]).factor == 1


def test_missing_means_are_named() -> None:
    inputs, predicted, true = make(5, 3)
    with pytest.raises(
        ValueError, match="has no mean_predicted_tokens_semantic_TW; train it again"
    ):
        calibration.fit(inputs, "semantic", predicted, true)


def test_every_component_of_tokens_gets_its_true_size(rng: np.random.Generator) -> None:
    """0 where a regression by SciPy says that it is wrong; nothing beside components is kept."""
    n, width, n_components = 60, 4, 3
    axes_PX = np.linalg.qr(rng.normal(size=(4 * width, n_components)))[0].T
    basis = {
        "semantic_components_PTW": axes_PX.reshape(n_components, 4, width),
        "semantic_mean_TW": rng.normal(size=(4, width)),
    }
    true_IP = rng.normal(size=(n, n_components)) * [3, 2, 1]
    patches_IX = true_IP @ axes_PX + basis["semantic_mean_TW"].ravel()
    class_ID = rng.normal(size=(n, width))
    true = np.concatenate([class_ID[:, None], patches_IX.reshape(n, 4, width)], axis=1)
    noise = rng.normal(size=true.shape)
    predicted = 7 + 0.5 * true + noise
    patches = predicted[:, 1:].reshape(n, -1)
    patches -= 1.2 * np.outer(true_IP[:, 2], axes_PX[2])  # the third component is turned round
    inputs = {
        "mean_tokens_fused_TW": true.mean(axis=0),
        "mean_predicted_tokens_fused_TW": predicted.mean(axis=0),
    }
    fitted = calibration.fit_tokens(inputs, "fused", predicted, class_ID, true_IP, basis)
    score_IP = (predicted - predicted.mean(axis=0))[:, 1:].reshape(n, -1) @ axes_PX.T
    slopes = [
        scipy.stats.linregress(score_IP[:, k], true_IP[:, k]).slope for k in range(n_components)
    ]
    centred_IP = true_IP - true_IP.mean(axis=0)
    ratio_P = np.where(np.array(slopes) > 0, centred_IP.std(axis=0) / score_IP.std(axis=0), 0)
    assert ratio_P[:2].min() > 0 and ratio_P[2] == 0
    np.testing.assert_allclose(fitted.factor_P, ratio_P, rtol=1e-4)
    found = fitted.apply(predicted)[:, 1:].reshape(n, -1) - true.mean(axis=0)[1:].ravel()
    np.testing.assert_allclose(found, (score_IP * ratio_P) @ axes_PX, atol=1e-4)
    one = calibration.fit(inputs, "fused", predicted, class_ID)
    assert fitted.factor == one.factor
