"""Category decoding: zero-shot choice of the dominant category, and multi-label scores.

Letters: I images, C categories, P positive images of one category, R weightings (a bootstrap has
many).

Average precision and area under the ROC curve equal scikit-learn's `average_precision_score` and
`roc_auc_score` with `sample_weight`, ties included; they are written for many weightings at once
because a bootstrap needs a thousand. Classes without a positive or without a negative test image
are undefined: they are left out and counted, not set to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmri2clip.solvers.ranks import share_credit

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]


def dominant_category(
    labels_IC: Bools, area_IC: Floats, n_objects_I: Ints, min_share: float
) -> Ints:
    """category_I: the category of the only object, or of at least min_share of the object area; -1
    where none is.

    area_IC is the visible fraction of the picture, summed over the instances of a category.
    """
    if not 0.5 < min_share <= 1.0:
        raise ValueError(
            f"evaluation.dominant_area is {min_share}; choose a fraction above 0.5 and up to 1"
        )
    if not labels_IC.shape[1]:
        return np.full(len(labels_IC), -1)
    # An object may show area and yet be no label: too small a part of it is visible.
    area_IC = np.where(labels_IC, area_IC, 0.0)
    total_I = area_IC.sum(axis=1)
    largest_I = area_IC.argmax(axis=1)
    enough_I = area_IC[np.arange(len(area_IC)), largest_I] >= min_share * total_I
    single_I = (n_objects_I == 1) & (np.asarray(labels_IC).sum(axis=1) == 1)
    return np.where((total_I > 0) & (enough_I | single_I), largest_I, -1)


def score_zero_shot(score_IC: Floats, candidate_C: Bools, category_I: Ints, k: int) -> Floats:
    """success_I: the right category is among the k best candidates (ties share); NaN where the
    image has no candidate.

    score_IC: any score, higher is likelier. category_I: right category of each image, -1 = image is
    not asked.
    """
    asked_I = (category_I >= 0) & np.asarray(candidate_C)[category_I]
    own_I1 = score_IC[np.arange(len(score_IC)), category_I][:, None]
    greater_I = ((score_IC > own_I1) & candidate_C).sum(axis=1)
    # Less itself; where the right category is no candidate this gives -1, and NaN in the end.
    tied_I = ((score_IC == own_I1) & candidate_C).sum(axis=1) - 1
    return np.where(asked_I, share_credit(greater_I, np.maximum(tied_I, 0), k), np.nan)


def score_hamming(labels_IC: Bools, logits_IC: Floats, class_C: Bools) -> Floats:
    """loss_I: fraction of the marked classes that are wrong at probability 0.5 (logit 0); lower is
    better.
    """
    wrong_IC = (logits_IC > 0) != labels_IC
    return wrong_IC[:, class_C].mean(axis=1)
