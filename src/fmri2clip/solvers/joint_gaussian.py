"""A joint Gaussian of predictions and targets, and how well each pair fits together under it.

With p the prediction (D) and y the target (D) of an image, Gaussian with covariance C,

    log p(p, y) - log p(p) - log p(y)

is the pointwise mutual information of a pair. Ranked over y for one p it orders targets by
log p(p | y), since log p(p) is the same for all; ranked over p for one y, by log p(y | p): one fit
serves both directions. Few images estimate C, so it is shrunk towards a covariance in which
components of the target are independent of each other, each paired with the prediction's own
component: (1 - a) S + a T. a has the largest likelihood of images that the rest of them did not
see.

Ours; the idea of judging a decoder in the metric of its own errors is that of linear discriminants.

Letters: I images, J others, D components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Floats = NDArray[np.floating]
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
N_FOLDS = 5
TINY = 1e-6  # of a half's mean variance, added to its components: constant ones stay invertible


@dataclass(frozen=True, kw_only=True)
class JointGaussian:
    """axes_DP: principal axes of the target; means and covariance on them."""

    axes_DP: Floats
    mean_prediction_D: Floats
    mean_target_D: Floats
    covariance_QQ: Floats  # of both, prediction first
    weight: float  # of the shrinkage

    def score(self, prediction_ID: Floats, target_JD: Floats) -> Floats:
        """Pointwise mutual information (I, J) in nats, up to the same constant for all pairs."""
        n = self.axes_DP.shape[1]
        p_IP = (prediction_ID - self.mean_prediction_D) @ self.axes_DP
        y_JP = (target_JD - self.mean_target_D) @ self.axes_DP
        precision_QQ = np.linalg.inv(self.covariance_QQ)
        own_p_PP = precision_QQ[:n, :n] - np.linalg.inv(self.covariance_QQ[:n, :n])
        own_y_PP = precision_QQ[n:, n:] - np.linalg.inv(self.covariance_QQ[n:, n:])
        cross_PP = precision_QQ[:n, n:]
        of_p_I = np.einsum("ip,pq,iq->i", p_IP, own_p_PP, p_IP)
        of_y_J = np.einsum("jp,pq,jq->j", y_JP, own_y_PP, y_JP)
        information_IJ: Floats = -(of_p_I[:, None] + of_y_J + 2 * p_IP @ cross_PP @ y_JP.T) / 2
        return information_IJ


def fit(prediction_ID: Floats, target_ID: Floats, n_components: int = 128) -> JointGaussian:
    """Fit to held-out predictions and their targets, rows by image.

    Raises ValueError for arrays of different images, or fewer images than folds twice.
    """
    if len(prediction_ID) != len(target_ID) or prediction_ID.shape[1] != target_ID.shape[1]:
        raise ValueError(
            f"predictions are {prediction_ID.shape} and targets {target_ID.shape}; give both for "
            "the same images and components"
        )
    if len(target_ID) < 2 * N_FOLDS:
        raise ValueError(f"a judge needs at least {2 * N_FOLDS} images, got {len(target_ID)}")
    mean_prediction_D = prediction_ID.mean(axis=0, dtype=np.float64)
    mean_target_D = target_ID.mean(axis=0, dtype=np.float64)
    y_ID = target_ID - mean_target_D
    _, _, axis_KD = np.linalg.svd(y_ID, full_matrices=False)
    axes_DP = axis_KD[:n_components].T
    both_IQ = np.concatenate([(prediction_ID - mean_prediction_D) @ axes_DP, y_ID @ axes_DP], 1)
    weight = choose_weight(both_IQ)
    return JointGaussian(
        axes_DP=axes_DP,
        mean_prediction_D=mean_prediction_D,
        mean_target_D=mean_target_D,
        covariance_QQ=shrink(both_IQ, weight),
        weight=weight,
    )


def choose_weight(both_IQ: Floats) -> float:
    """The weight of WEIGHTS with the largest log-likelihood of left-out images, over N_FOLDS."""
    fold_I = np.arange(len(both_IQ)) % N_FOLDS
    likelihoods = []
    for weight in WEIGHTS:
        total = 0.0
        for fold in range(N_FOLDS):
            rest_IQ = both_IQ[fold_I != fold]
            mean_Q = rest_IQ.mean(axis=0)
            factor = cho_factor(shrink(rest_IQ - mean_Q, weight), lower=True)
            left_IQ = both_IQ[fold_I == fold] - mean_Q
            half_determinant = np.log(np.diag(factor[0])).sum()
            total -= (left_IQ * cho_solve(factor, left_IQ.T).T).sum() / 2
            total -= len(left_IQ) * half_determinant
        likelihoods.append(total)
    return WEIGHTS[int(np.argmax(likelihoods))]


def shrink(centred_IQ: Floats, weight: float) -> Floats:
    """(1 - a) S + a T; T keeps of S the variances and the covariance of each pair."""
    n = centred_IQ.shape[1] // 2
    sample_QQ = centred_IQ.T @ centred_IQ / len(centred_IQ)
    paired_QQ = np.diag(np.diag(sample_QQ))
    row = np.arange(n)
    # 0.99: a pair may be perfectly correlated in the sample, but must stay invertible.
    paired_QQ[row, row + n] = 0.99 * sample_QQ[row, row + n]
    paired_QQ[row + n, row] = paired_QQ[row, row + n]
    shrunk_QQ: Floats = (1 - weight) * sample_QQ + weight * paired_QQ
    # Each half by its own: predictions may be of any size beside their targets.
    mean_2 = np.diag(sample_QQ).reshape(2, n).mean(axis=1)
    shrunk_QQ += TINY * np.diag(np.repeat(mean_2, n))
    return shrunk_QQ
