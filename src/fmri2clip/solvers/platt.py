"""Platt scaling: the log odds that scores stand for.

J. Platt, 'Probabilistic outputs for support vector machines and comparisons to regularized
likelihood methods', Advances in Large Margin Classifiers, 61-74, 1999.

Letters: I images, C categories.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def fit_platt(score_IC: Array, label_IC: Array) -> tuple[float, float]:
    """Slope and offset of the logistic regression of all labels (bool) on all scores, unpenalised.

    (1, 0) where all labels are the same, so that nothing can be fitted.
    """
    from sklearn.linear_model import LogisticRegression

    # All images and categories as one sample: the pair of numbers is common to them.
    score = score_IC.reshape(-1, 1)
    label = label_IC.ravel()
    if label.all() or not label.any():
        return 1.0, 0.0
    # C is one over the strength of the penalty: infinity asks for none.
    fitted = LogisticRegression(C=float("inf"), tol=1e-8, max_iter=1000).fit(score, label)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def scale_logits(logit_IC: Array, slope: float, offset: float) -> Array:
    """Probabilities (I, C), each by itself."""
    from scipy.special import expit

    probability_IC: Array = expit(slope * logit_IC.astype(np.float64) + offset)
    return probability_IC
