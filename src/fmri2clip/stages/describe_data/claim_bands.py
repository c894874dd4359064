"""Figures that each paper's claim needs of the world, and those that show that captions and labels
are not a matter of colour.

Definitions: docs/preregistered.md. Letters: I images, V voxels, D embedding width, F features.
"""

from __future__ import annotations

import numpy as np

from fmri2clip.stages.describe_data.regression import (
    Bools,
    Floats,
    column_r2,
    explained,
    precision_above_chance,
    predict,
    split_rows,
    weighted_r2,
)

N_BOOTSTRAP = 500
SHARED_FIT = 300
SHARED_SCORED = 200


def explain_captions(feature_IF: Floats, caption_ID: Floats, seed: int = 0) -> float:
    """Variance-weighted R2 of caption embeddings from features of the pictures."""
    fit, scored = split_rows(len(feature_IF), seed)
    told = predict(feature_IF[fit], caption_ID[fit], feature_IF[scored])
    return weighted_r2(*explained(caption_ID[scored], told, caption_ID[fit].mean(axis=0)))


def explain_labels(feature_IF: Floats, label_IC: Bools, seed: int = 0) -> float:
    """Macro average precision less prevalence, from features of the pictures."""
    fit, scored = split_rows(len(feature_IF), seed)
    told = predict(feature_IF[fit], label_IC[fit].astype(np.float64), feature_IF[scored])
    return float(precision_above_chance(label_IC[scored], told)[0])


def text_beyond_image(
    image_ID: Floats, high_IV: Floats, caption_ID: Floats, seed: int = 0
) -> tuple[Floats, Floats]:
    """Squared error of caption embeddings that high responses take away from what the image
    embedding leaves, for each scored image (J), and the squared distance from the mean (J).
    """
    fit, scored = split_rows(len(image_ID), seed)
    mean_D = caption_ID[fit].mean(axis=0)
    errors = []
    for x_IF in (image_ID, np.concatenate([image_ID, high_IV], axis=1)):
        told = predict(x_IF[fit], caption_ID[fit], x_IF[scored])
        error_J, spread_J = explained(caption_ID[scored], told, mean_D)
        errors.append(error_J)
    return errors[0] - errors[1], spread_J


def gained_r2(gain_J: Floats, spread_J: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Sum of the gains over that of the distances, which is a difference of R2, and its 95 %
    bootstrap interval over images.
    """
    draws = np.random.default_rng(seed).integers(len(gain_J), size=(N_BOOTSTRAP, len(gain_J)))
    gains = gain_J[draws].sum(axis=1) / spread_J[draws].sum(axis=1)
    low, high = np.percentile(gains, (2.5, 97.5))
    return float(gain_J.sum() / spread_J.sum()), float(low), float(high)


def shared_between(one_IV: Floats, other_IV: Floats, seed: int = 0) -> float:
    """Mean R2 of one subject's voxels from another's, on pictures that both saw."""
    order = np.random.default_rng(seed).permutation(len(one_IV))
    n_fit = min(SHARED_FIT, 3 * len(order) // 5)
    fit = order[:n_fit]
    scored = order[n_fit : n_fit + SHARED_SCORED]
    told = predict(other_IV[fit], one_IV[fit], other_IV[scored])
    return float(column_r2(one_IV[scored], told, one_IV[fit].mean(axis=0)).mean())


def selectivity(response_IV: Floats, member_I: Bools) -> Floats:
    """d' (V): difference of the means over member pictures and others, over the root of the mean of
    both variances.
    """
    a_IV, b_IV = response_IV[member_I], response_IV[~member_I]
    spread_V = np.sqrt((a_IV.var(axis=0) + b_IV.var(axis=0)) / 2)
    d_V: Floats = (a_IV.mean(axis=0) - b_IV.mean(axis=0)) / np.where(spread_V > 0, spread_V, np.inf)
    return d_V


def linear_cka(one_IF: Floats, other_IF: Floats) -> float:
    """Linear CKA (Kornblith et al. 2019) of two sets of features of the same images."""
    a = one_IF - one_IF.mean(axis=0)
    b = other_IF - other_IF.mean(axis=0)
    between = float(((a.T @ b) ** 2).sum())
    return between / float(np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
