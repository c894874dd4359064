"""The ideal observer: how well responses are told apart if the noise-free patterns are known.

Letters: N trials, I images (queries), J images (gallery), V voxels. Only simulated data have
noise-free patterns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise of single trials.

    lower_VV: lower lower' = the shrunk correlation of the voxels that vary.
    """

    sd_V: Floats
    varies_V: NDArray[np.bool_]
    lower_VV: Floats


def estimate_noise(betas_NV: Floats, mean_NV: Floats, n_images: int) -> Noise:
    """Noise of trials around the means of their images.

    mean_NV: one row a trial; n_images: how many images the trials are of, each with repeats.
    Raises ValueError if no image has repeats.
    """
    n_trials = len(betas_NV)
    if n_trials <= n_images:
        raise ValueError(
            "no training image was shown twice, so the noise of a trial is unknown; extract more "
            "sessions"
        )
    # Each image's own mean is taken out, which costs one degree of freedom an image.
    residual_NV = np.subtract(betas_NV, mean_NV, dtype=np.float32)
    square_V = np.einsum("nv,nv->v", residual_NV, residual_NV)
    sd_V = np.sqrt(square_V / np.float32(n_trials - n_images))
    varies_V = sd_V > 1e-6
    assert varies_V.any(), "no voxel has noise"
    if not varies_V.all():
        residual_NV = residual_NV[:, varies_V]
    # shrink_covariance divides by n_trials, not by the degrees of freedom: scaled up beforehand.
    residual_NV *= np.sqrt(np.float32(n_trials / (n_trials - n_images))) / sd_V[varies_V]
    lower_VV = cholesky(shrink_covariance(residual_NV), lower=True)
    return Noise(sd_V=sd_V, varies_V=varies_V, lower_VV=lower_VV)


def compare_likelihoods(query_IV: Floats, gallery_JV: Floats, noise: Noise, full: bool) -> Floats:
    """log p(y_i | image j) = -(y_i - m_j)' S^-1 (y_i - m_j) / 2, up to a constant of each query i.

    query_IV: noisy patterns y; gallery_JV: noise-free patterns m; S: the shrunk covariance if full,
    else the variances. Voxels without noise are left out. The number of repeats behind y_i scales
    its whole row, so ranks do not need it.
    """
    v = noise.varies_V
    query_IV = query_IV[:, v] / noise.sd_V[v]
    gallery_JV = gallery_JV[:, v] / noise.sd_V[v]
    if full:
        query_IV = _whiten(query_IV, noise.lower_VV)
        gallery_JV = _whiten(gallery_JV, noise.lower_VV)
    query_IV = query_IV.astype(np.float64)
    gallery_JV = gallery_JV.astype(np.float64)
    # -|y - m|^2 / 2 without |y|^2, which is the constant of the query.
    return query_IV @ gallery_JV.T - 0.5 * (gallery_JV**2).sum(axis=1)


def _whiten(pattern_xV: Floats, lower_VV: Floats) -> Floats:
    """L^-1 x of each row x: its squared length is x' S^-1 x with S = L L'."""
    whitened_Vx = solve_triangular(lower_VV, pattern_xV.T, lower=True, check_finite=False)
    return np.asarray(whitened_Vx.T)


def shrink_covariance(sample_NV: Floats) -> Floats:
    """(1 - a) S + a m I of samples with mean zero, S their covariance, m its mean variance.

    a after Ledoit and Wolf, 'A well-conditioned estimator for large-dimensional covariance
    matrices', J. Multivariate Analysis 88 (2004).
    """
    n_samples, n_voxels = sample_NV.shape
    covariance_VV = sample_NV.T @ sample_NV / n_samples
    square = float((covariance_VV**2).sum(dtype=np.float64))
    mean_variance = float(np.trace(covariance_VV)) / n_voxels
    fourth = float(((sample_NV**2).sum(axis=1, dtype=np.float64) ** 2).sum())
    distance = square - n_voxels * mean_variance**2
    # a = estimation error of S over its distance to m I; S that is m I already is all target.
    error = max(0.0, (fourth / n_samples - square) / n_samples)
    weight = min(1.0, error / distance) if distance > 0 else 1.0
    identity_VV = np.eye(n_voxels, dtype=covariance_VV.dtype)
    return (1 - weight) * covariance_VV + weight * mean_variance * identity_VV
