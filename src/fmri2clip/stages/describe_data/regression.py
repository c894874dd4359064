"""Held-out ridge regressions behind the bands of the simulated world (docs/preregistered.md).

Letters: I images to fit on, J others, F features, M targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmri2clip.solvers.average_precision import score_classes
from fmri2clip.solvers.leave_one_out import LeaveOneOutRidge

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
PENALTIES = 10.0 ** np.arange(-1, 7)
N_FIT = 1500
N_SCORED = 500


def split_rows(n_images: int, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows to fit and to score: N_FIT and N_SCORED, or three quarters and the rest of fewer."""
    order = np.random.default_rng(seed).permutation(n_images)
    n_scored = min(N_SCORED, n_images // 4)
    return order[n_scored : n_scored + N_FIT], order[:n_scored]


def predict(x_IF: Floats, y_IM: Floats, x_JF: Floats) -> Floats:
    """Ridge with the leave-one-out penalty of each target, on features standardised by x_IF."""
    mean_F = x_IF.mean(axis=0)
    deviation_F = x_IF.std(axis=0)
    deviation_F = np.where(deviation_F > 1e-9, deviation_F, np.inf)
    model = LeaveOneOutRidge((x_IF - mean_F) / deviation_F, PENALTIES)
    return model.predict(y_IM, (x_JF - mean_F) / deviation_F, each=True)


def explained(y_JM: Floats, predicted_JM: Floats, mean_M: Floats) -> tuple[Floats, Floats]:
    """Squared error of every image, and its squared distance from the mean of the fit images (J);
    R2 weighted by variance is 1 - sum of the first over sum of the second.
    """
    return ((y_JM - predicted_JM) ** 2).sum(axis=1), ((y_JM - mean_M) ** 2).sum(axis=1)


def weighted_r2(error_J: Floats, spread_J: Floats) -> float:
    return float(1 - error_J.sum() / spread_J.sum())


def column_r2(y_JM: Floats, predicted_JM: Floats, mean_M: Floats) -> Floats:
    """R2 of every target (M); 0 where it does not vary."""
    error_M = ((y_JM - predicted_JM) ** 2).sum(axis=0)
    spread_M = ((y_JM - mean_M) ** 2).sum(axis=0)
    return 1 - np.divide(error_M, spread_M, out=np.ones_like(error_M), where=spread_M > 0)


def precision_above_chance(
    label_JC: Bools, score_JC: Floats, weight_RJ: Floats | None = None, least: int = 5
) -> Floats:
    """Macro average precision less prevalence (R), over classes of at least `least` positives;
    once for each row of weights, or unweighted.
    """
    if weight_RJ is None:
        weight_RJ = np.ones((1, len(label_JC)))
    class_C = label_JC.sum(axis=0) >= least
    if not class_C.any():
        return np.full(len(weight_RJ), np.nan)
    precision_R, _ = score_classes(label_JC, score_JC, class_C, weight_RJ)
    prevalence_R = (weight_RJ @ label_JC[:, class_C]).mean(axis=1) / weight_RJ.sum(axis=1)
    above_R: Floats = precision_R - prevalence_R
    return above_R
