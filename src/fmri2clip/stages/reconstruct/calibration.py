"""Decoded features back to where CLIP features lie, before a generator reads them.

A contrastive decoder is free in the offset and the scale of what it predicts: only directions about
the mean are trained. A generator was trained on true features, so what it is given is

    x' = m + a (x - p),   a = max(0, sum over i of <p_i - p, t_i - m> / sum over i of |p_i - p|^2)

with m and p the means over the training images of true and of predicted features, and a fitted on
the class tokens (or embeddings) t_i and p_i of the subject's validation images, by least squares. a
is 1 for a ridge regression and shrinks what is right in its direction only in part; it is 0 for a
decoder that has learnt nothing. No test image is read. The procedure is our decision:
Brain-Diffuser (arXiv 2303.05334) gives predicted features the mean and the deviation of the
training features instead, which keeps noise at full size.

Letters: I images, D embedding width, T tokens, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Means over the training images and the factor, for one kind of features, (D,) or (T, W)."""

    mean_predicted: Array
    mean_true: Array
    factor: float

    def apply(self, predicted: Array) -> NDArray[np.float32]:
        """Features (I, D) or (I, T, W) of the same kind, float32."""
        calibrated: NDArray[np.float32] = (
            self.mean_true + self.factor * (predicted.astype(np.float32) - self.mean_predicted)
        ).astype(np.float32)
        return calibrated


def fit(inputs: Mapping[str, Array], kind: str, predicted: Array, true_ID: Array) -> Calibration:
    """Calibration from validation images.

    inputs: arrays of a model's inputs.safetensors. kind: 'embedding', or a stream of tokens.
    predicted: (I, D) or (I, T, W), class token first. true_ID: true embeddings, which are the class
    tokens. Raises ValueError if the model keeps no means of that kind.
    """
    shifted = shift(inputs, kind)
    # p_ID and t_ID are the p_i - p and t_i - m of the head of this file.
    p_ID = pool(predicted - shifted.mean_predicted)
    t_ID = true_ID.astype(np.float64) - pool(shifted.mean_true[None])
    size = float((p_ID**2).sum())
    if not size:  # no validation image, or a constant: there is nothing to scale
        return shifted
    # A negative slope would turn features round about their mean; it means that nothing was learnt.
    return replace(shifted, factor=max(0.0, float((p_ID * t_ID).sum()) / size))


def shift(inputs: Mapping[str, Array], kind: str) -> Calibration:
    """Calibration by the means alone, as for text tokens.

    Raises ValueError if the model keeps none of that kind.
    """
    names = f"mean_predicted_tokens_{kind}_TW", f"mean_tokens_{kind}_TW"
    if kind == "embedding":
        names = "mean_predicted_image_D", "mean_image_D"
    for name in names:
        if name not in inputs:
            raise ValueError(
                f"the model's inputs.safetensors has no {name}; train it again (dvc repro)"
            )
    return Calibration(
        mean_predicted=inputs[names[0]].astype(np.float32),
        mean_true=inputs[names[1]].astype(np.float32),
        factor=1.0,
    )


def pool(features: Array) -> NDArray[np.float64]:
    """Embeddings (I, D) as they are, of tokens (I, T, W) the class tokens; float64."""
    return (features if features.ndim == 2 else features[:, 0]).astype(np.float64)
