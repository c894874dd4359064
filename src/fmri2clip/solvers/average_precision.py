"""Average precision and area under the ROC curve, with weights, for many weightings at once.

The score by which training stops reads them, so they stand below the metrics. Both equal
scikit-learn's `average_precision_score` and `roc_auc_score` with `sample_weight`, ties included.
Letters: I images, C categories, P positive images of one category, R weightings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
LEAST_POSITIVES = 5  # of a test set: a class with fewer is listed, and not averaged


def find_defined_classes(labels_IC: Bools, present_C: Bools, least: int = 1) -> Bools:
    """defined_C: classes of the world that have at least `least` positives and one negative among
    these images.
    """
    n_positive_C = np.asarray(labels_IC).sum(axis=0)
    return np.asarray(present_C) & (n_positive_C >= least) & (n_positive_C < len(labels_IC))


def score_class(label_I: Bools, score_I: Floats, weight_RI: Floats) -> tuple[Floats, Floats]:
    """Average precision and ROC area of one class, once per row of weights.

    AP = sum_p w_p precision(s_p) / sum_p w_p, the precision at the threshold that is the score of
    positive p;
    AUC = sum_p w_p [N(s < s_p) + N(s = s_p) / 2] / (P N).
    NaN where the weights leave no positive or, for AUC, no negative.
    """
    weight_RI = np.asarray(weight_RI, dtype=np.float32)
    weight_RP = np.take(weight_RI, np.flatnonzero(label_I), axis=1)
    positive_P = score_I[label_I]
    # Counts are whole numbers, exact in float32 below 2**24 in whatever order they are summed.
    reached_IP = score_I[:, None] >= positive_P
    reached_RP = (weight_RI @ reached_IP.astype(np.float32)).astype(np.float64)
    true_RP = (weight_RP @ reached_IP[label_I].astype(np.float32)).astype(np.float64)
    tied_IP = (score_I[:, None] == positive_P) & ~np.asarray(label_I)[:, None]
    tied_RP = (
        (weight_RI @ tied_IP.astype(np.float32)).astype(np.float64)
        if tied_IP.any()
        else np.zeros_like(true_RP)
    )
    n_positive_R = weight_RP.sum(1, dtype=np.float64)
    n_negative_R = weight_RI.sum(1, dtype=np.float64) - n_positive_R
    below_RP = n_negative_R[:, None] - (reached_RP - true_RP) + 0.5 * tied_RP
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_RP = np.where(weight_RP > 0, true_RP / reached_RP, 0.0)
        ap_R = (weight_RP * precision_RP).sum(axis=1) / n_positive_R
        auc_R = (weight_RP * below_RP).sum(axis=1) / (n_positive_R * n_negative_R)
    return ap_R, auc_R


def score_classes(
    labels_IC: Bools, score_IC: Floats, class_C: Bools, weight_RI: Floats
) -> tuple[Floats, Floats]:
    """map_R, auc_R: means over the marked classes, in each row over those that its weights leave
    defined.
    """
    per_class = [
        score_class(labels_IC[:, c], score_IC[:, c], weight_RI) for c in np.flatnonzero(class_C)
    ]
    return _mean_defined([ap_R for ap_R, _ in per_class]), _mean_defined(
        [auc_R for _, auc_R in per_class]
    )


def _mean_defined(values: list[Floats]) -> Floats:
    value_CR = np.stack(values)
    defined_CR = np.isfinite(value_CR)
    n_R = defined_CR.sum(axis=0)
    total_R = np.where(defined_CR, value_CR, 0.0).sum(axis=0)
    return np.divide(total_R, n_R, out=np.full(len(n_R), np.nan), where=n_R > 0)
