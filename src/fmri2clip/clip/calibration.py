"""Decoded features back to where CLIP features lie, before a generator reads them.

A contrastive decoder is free in the offset and the scale of what it predicts: only directions about
the mean are trained. A generator was trained on true features, so what it is given is

    x' = m + a (x - p),   a = max(0, sum over i of <p_i - p, t_i - m> / sum over i of |p_i - p|^2)

with m and p the means over the training images of true and of predicted features, and a fitted on
the embeddings t_i and p_i of the subject's validation images, by least squares. a is 1 for a ridge
regression and shrinks what is right in its direction only in part; it is 0 for a decoder that has
learnt nothing. Nothing is normalised afterwards. No test image is read.

Tokens have such an a for the class token, and one for each component of the patch tokens (stage
components): the root of sum t^2 / sum p^2, so that each component has the size that it has in true
tokens; 0 where prediction and truth do not go together. Brain-Diffuser (arXiv 2303.05334) gives
predicted features mean and deviation of the training features, number by number; we do it on
components, as what is coarse is decoded well and what is fine hardly. Least squares for each
component would be nearest to the true tokens, but from shrunken tokens a generator that was trained
on true ones paints half as good a picture, on validation images. What lies beside the components is
dropped.

Letters: I images, D embedding width, T tokens, W token width, P components.
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
    """Means over the training images, (D,) or (T, W), and the factor of the embedding or class
    token; with components, of patch tokens (P, T - 1, W), a factor for each.
    """

    mean_predicted: Array
    mean_true: Array
    factor: float
    components_PTW: Array | None = None
    factor_P: Array | None = None

    def apply(self, predicted: Array) -> NDArray[np.float32]:
        """Features (I, D) or (I, T, W) of the same kind, float32."""
        centred = predicted.astype(np.float32) - self.mean_predicted
        if self.components_PTW is None or self.factor_P is None:
            calibrated = self.factor * centred
        else:
            score_IP = project(centred[:, 1:], self.components_PTW) * self.factor_P
            read_ITW = np.tensordot(score_IP, self.components_PTW.astype(np.float32), axes=1)
            calibrated = np.concatenate([self.factor * centred[:, :1], read_ITW], axis=1)
        return (self.mean_true + calibrated).astype(np.float32)


def fit(inputs: Mapping[str, Array], kind: str, predicted: Array, true_ID: Array) -> Calibration:
    """Calibration from validation images by one factor.

    inputs: arrays of a model's inputs.safetensors. kind: 'embedding', or a stream of tokens.
    predicted: (I, D) or (I, T, W), class token first. true_ID: true embeddings, which are the class
    tokens. Raises ValueError if the model keeps no means of that kind.
    """
    shifted = shift(inputs, kind)
    # p_ID and t_ID are the p_i - p and t_i - m of the head of this file.
    p_ID = pool(predicted - shifted.mean_predicted)
    t_ID = true_ID.astype(np.float64) - pool(shifted.mean_true[None])
    return replace(shifted, factor=float(_slope(p_ID.reshape(-1, 1), t_ID.reshape(-1, 1))[0]))


def fit_tokens(
    inputs: Mapping[str, Array],
    kind: str,
    predicted_ITW: Array,
    true_ID: Array,
    true_IP: Array,
    basis: Mapping[str, Array],
) -> Calibration:
    """fit, and for each component of the patch tokens the factor that gives it its true size.

    true_IP: true scores on the components; basis: arrays of the clip's components.
    """
    one = fit(inputs, kind, predicted_ITW, true_ID)
    components_PTW = basis["semantic_components_PTW"]
    score_IP = project(predicted_ITW[:, 1:] - one.mean_predicted[1:], components_PTW)
    mean_P = project((one.mean_true[1:] - basis["semantic_mean_TW"])[None], components_PTW)
    return replace(
        one,
        components_PTW=components_PTW,
        factor_P=_resize(score_IP.astype(np.float64), true_IP.astype(np.float64) - mean_P),
    )


def project(token_ITW: Array, components_PTW: Array) -> NDArray[np.float32]:
    """Scores (I, P) of centred patch tokens."""
    score_IP: NDArray[np.float32] = np.tensordot(
        token_ITW.astype(np.float32), components_PTW.astype(np.float32), axes=([1, 2], [1, 2])
    )
    return score_IP


def _resize(p_IP: Array, t_IP: Array) -> NDArray[np.float32]:
    """Deviation of the truth over that of the prediction, 0 where they do not go together."""
    size_P = np.maximum((p_IP**2).sum(axis=0), np.finfo(np.float64).tiny)
    ratio_P = np.sqrt((t_IP**2).sum(axis=0) / size_P)
    found_P: NDArray[np.float32] = np.where(_slope(p_IP, t_IP) > 0, ratio_P, 0).astype(np.float32)
    return found_P


def _slope(p_IX: Array, t_IX: Array) -> NDArray[np.float32]:
    """Least squares of each column. A negative slope would turn features round about their mean: it
    means that nothing was learnt. Without images, or for a constant, there is nothing to scale.
    """
    size_X = (p_IX**2).sum(axis=0)
    slope_X = np.divide(
        (p_IX * t_IX).sum(axis=0), size_X, out=np.ones_like(size_X), where=size_X > 0
    )
    return np.maximum(slope_X, 0).astype(np.float32)


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
