"""From an embedding to categories, through the prompts that name them.

    p_ic = softmax over c of scale cos(x_i - mean x, y_c - mean y)

over the categories that training images show, with y_c the embedding of the prompt. Both sides are
centred, as CLIP's embeddings share most of their direction. The scale is fitted: CLIP's own, 100,
belongs to embeddings of pictures that are not centred, and would make noisy ones sure of a guess.

Letters: I images, C categories, P prompts, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.solvers.ranks import centre

Array = NDArray[Any]
SCALES = np.geomspace(0.1, 300, 60)


def compare_prompts(embedding_ID: Array, prompts: Mapping[str, Array]) -> Array:
    """Cosines (I, C) with the first prompt of each category.

    embedding_ID: centred, unit norm. prompts: prompt_embedding_PCD and present_C.
    """
    prompt_CD = prompts["prompt_embedding_PCD"][0].astype(np.float64)
    if not prompts["present_C"].any():
        return np.zeros((len(embedding_ID), len(prompt_CD)))  # data without labels
    mean_D = prompt_CD[prompts["present_C"]].mean(axis=0)
    cosine_IC: Array = embedding_ID @ centre(prompt_CD, mean_D).T
    return cosine_IC


def share_out(cosine_IC: Array, present_C: Array, scale: float) -> Array:
    """Probabilities (I, C), which add up to 1; categories that did not occur have 0."""
    # Cosines are 1 at most, so that no exponential is too large.
    weight_IC = np.exp(scale * (cosine_IC - 1)) * present_C
    probability_IC: Array = weight_IC / weight_IC.sum(axis=1, keepdims=True)
    return probability_IC


def fit_scale(cosine_IC: Array, labels_IC: Array, present_C: Array) -> float:
    """The one of SCALES that makes the categories of these images most likely.

    Each category of an image counts 1 / their number; images without one do not count. The smallest
    scale, which is sure of nothing, if none has a category.
    """
    label_IC = labels_IC & present_C
    named_I = label_IC.any(axis=1)
    if not named_I.any():
        return float(SCALES[0])
    weight_IC = label_IC[named_I] / label_IC[named_I].sum(axis=1, keepdims=True)
    losses = []
    for scale in SCALES:
        probability_IC = share_out(cosine_IC[named_I], present_C, scale)
        log_IC = np.log(np.maximum(probability_IC, np.finfo(np.float64).tiny))
        losses.append(-(weight_IC * log_IC).sum(axis=1).mean())
    return float(SCALES[int(np.argmin(losses))])
