from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmri2clip.stages.reconstruct import calibration


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
