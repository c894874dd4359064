"""Which pictures look alike to two systems: distance matrices (RDMs), their rank correlation (RSA),
and linear CKA.

Letters: I images, P pairs i < j of images, N trials, V voxels, F features, H the two halves of the
trials, R resamples of the images (row 0 is the sample itself), L blocks.

A model's distance is 1 - Pearson (Kriegeskorte et al. 2008). A brain's distance, ours:

    d_ij = 1 - c_ij / v,  c_ij = cov over voxels of the mean patterns of i and j,
                          v    = mean over i of cov(x_iA, x_iB),

where A and B are two halves of each image's trials. No product joins a trial with itself, so noise
neither shortens nor lengthens a distance on average: E d_ij is the distance of the noise-free
patterns. One v stands for all images because a variance of one image from two or three trials is
too noisy to divide by; without noise such distances ranked the pairs of the simulated world as 1 -
Pearson does (Spearman .99; crossnobis distances .7 to .87).

RSA is the Spearman correlation over pairs, divided by the square root of the correlation of the
RDMs of the two halves: that root is how well a half's RDM correlates with its noise-free self (the
correction for attenuation of Spearman 1904), so the quotient estimates the RSA of the noise-free
RDM of the same voxels. The model has no noise.

The bootstrap over images weighs the pair i, j by w_i w_j and leaves pairs of an image with its own
copy out: their distance of 0 would be of no brain. It is conservative where noise decides, as
copies repeat the noise of a pair too: on eight disjoint samples of 300 images of one simulated
subject, its deviations were 0.9 to 2.3 (median 1.4) times those between the samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
# distances are rounded to this many steps of their range before they are ranked: a counting sort
LEVELS = 16_383
MIN_RELIABILITY = 0.01  # of halves: below, noise decides, and a division by it would blow up


@lru_cache(maxsize=4)
def pair_positions(n_images: int) -> NDArray[np.intp]:
    """Positions of the pairs i < j in a flattened (I, I) matrix, row by row."""
    first, second = np.triu_indices(n_images, 1)
    return np.ravel_multi_index((first, second), (n_images, n_images))


def take_pairs(matrix_II: Floats) -> Floats:
    """Entries (P) above the diagonal."""
    return np.take(matrix_II, pair_positions(len(matrix_II)))


def put_pairs(value_P: Floats, n_images: int) -> NDArray[np.float32]:
    """Matrix (I, I) with the values above the diagonal and 0 elsewhere; so an image's distance to
    itself has no say.
    """
    matrix_II = np.zeros((n_images, n_images), dtype=np.float32)
    np.put(matrix_II, pair_positions(n_images), value_P)
    return matrix_II


def correlation_distances(feature_IF: Floats) -> Floats:
    """1 - Pearson correlation of the rows, (P); a row without variance raises ValueError."""
    mean_I1 = np.mean(feature_IF, axis=1, keepdims=True, dtype=np.float64)
    centred_IF = np.asarray(feature_IF, dtype=np.float64) - mean_I1
    norm_I1 = np.linalg.norm(centred_IF, axis=1, keepdims=True)
    if not (norm_I1 > 0).all():
        raise ValueError(
            "an image has equal values in all its features, so it correlates with nothing; drop it"
        )
    unit_IF = centred_IF / norm_I1
    return 1.0 - take_pairs(unit_IF @ unit_IF.T)


def split_trials(image_N: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    """in_b_N: a random half of the trials of each image; of an odd number the odd one falls to
    either half.

    image_N: ascending row of each trial's image. Every image needs two trials.
    """
    n_I = np.bincount(image_N)
    assert (np.diff(image_N) >= 0).all() and (n_I >= 2).all(), (
        "images in order, each with two trials"
    )
    # Trials in random order within their image; rank_N counts them from 0 in that order.
    order = np.lexsort((rng.random(len(image_N)), image_N))
    rank_N = np.empty(len(image_N), dtype=np.int64)
    rank_N[order] = np.arange(len(image_N)) - np.repeat(np.cumsum(n_I) - n_I, n_I)
    # A coin decides about the odd trial: half of the images give it to half B.
    n_b_I = (n_I + rng.integers(0, 2, len(n_I))) // 2
    return rank_N < n_b_I[image_N]


def half_patterns(
    betas_NV: Floats, image_N: Ints, in_b_N: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """pattern_HIV: mean pattern of each image in either half."""
    halves = []
    for rows_N in (~in_b_N, in_b_N):
        image_M = image_N[rows_N]
        # Trials are in the order of their images: reduceat adds up the run of rows of each.
        first_I = np.flatnonzero(np.diff(image_M, prepend=-1))
        total_IV = np.add.reduceat(betas_NV[rows_N], first_I, axis=0, dtype=np.float32)
        halves.append(total_IV / np.bincount(image_M)[:, None].astype(np.float32))
    return np.stack(halves)


def cross_validated_distances(pattern_HIV: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """d_P of either half, as the head of this file defines it; both divide by the same v."""
    # Each half's own products x_i x_j hold two different images, hence different trials.
    centred_HIV = pattern_HIV - pattern_HIV.mean(axis=2, keepdims=True)
    total = np.einsum("iv,iv->", centred_HIV[0], centred_HIV[1], dtype=np.float64)
    v = float(total) / len(centred_HIV[0])
    if v <= 0:
        raise ValueError(
            "repeats of an image resemble each other no more than chance; take voxels or images "
            "with signal"
        )
    a_P, b_P = (1.0 - take_pairs(x_IV @ x_IV.T) / np.float32(v) for x_IV in centred_HIV)
    return a_P, b_P


def rank_pairs(distance_P: Floats) -> NDArray[np.float32]:
    """Midranks of the distances with mean 0 and variance 1, so that products average to Spearman's
    correlation.
    """
    low = float(distance_P.min())
    high = float(distance_P.max())
    if not low < high:
        raise ValueError(
            "all distances are equal, so they have no order; are the features constant?"
        )
    # Hundreds of thousands of distances: counting levels takes one pass where a sort takes many.
    level_P = ((distance_P - low) * (LEVELS / (high - low))).astype(np.int64)
    count = np.bincount(level_P, minlength=LEVELS + 1)
    rank = np.cumsum(count) - count / 2.0  # middle of the places that a level takes
    mean = float(count @ rank) / len(level_P)
    deviation = np.sqrt(float(count @ (rank - mean) ** 2) / len(level_P))
    # Every pair of a level has one rank, so it is looked up rather than computed.
    return ((rank - mean) / deviation).astype(np.float32)[level_P]


def correct_attenuation(
    covariance: Floats, reliability: Floats, variance: Floats | float = 1.0
) -> Floats:
    """cov(brain, model) / sqrt(cov(half A, half B) var(model)); the reliability is at least
    MIN_RELIABILITY.
    """
    return covariance / np.sqrt(np.maximum(reliability, MIN_RELIABILITY) * variance)


def correlate_ranks(a_P: Floats, b_P: Floats, model_LP: Floats) -> Floats:
    """RSA (L) of one brain with L models, corrected; all are ranks of `rank_pairs`, a and b of the
    two halves.
    """
    n = a_P.size
    return correct_attenuation(model_LP @ ((a_P + b_P) / (2 * n)), np.asarray(a_P @ b_P / n))


def pair_means(weight_RI: Floats, upper_II: Floats) -> Floats:
    """Mean (R) of an upper triangle over pairs that weigh w_i w_j: pairs of an image with its own
    copy are left out.
    """
    weight_RI = weight_RI.astype(np.float32, copy=False)
    total_R = np.einsum("ri,ri->r", weight_RI @ upper_II, weight_RI, dtype=np.float64)
    return total_R / pair_mass(weight_RI)


def pair_mass(weight_RI: Floats) -> Floats:
    """Sum (R) of w_i w_j over pairs i < j."""
    weight_RI = weight_RI.astype(np.float64)
    return (weight_RI.sum(axis=1) ** 2 - (weight_RI**2).sum(axis=1)) / 2


class BrainRanks:
    """RDM ranks of one ROI group, gathered over draws of voxels and of halves, ready to be
    resampled over images.
    """

    def __init__(self, n_images: int) -> None:
        zero_II = np.zeros((n_images, n_images), dtype=np.float32)
        self.n_draws = 0
        self.mean_II = zero_II
        self.product_II = zero_II.copy()
        self.halves: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def add(self, pattern_HIV: NDArray[np.float32]) -> None:
        """One draw: patterns (2, I, V) of the two halves in the voxels drawn."""
        n = pattern_HIV.shape[1]
        a_II, b_II = (
            put_pairs(rank_pairs(d_P), n) for d_P in cross_validated_distances(pattern_HIV)
        )
        self.halves.append((a_II, b_II))
        # Running means, so that memory does not grow with the number of draws.
        self.n_draws += 1
        self.mean_II += ((a_II + b_II) / 2 - self.mean_II) / self.n_draws
        self.product_II += (a_II * b_II - self.product_II) / self.n_draws

    def reliability(self, weight_RI: Floats) -> Floats:
        """Covariance (R) of the ranks of the two halves, mean over draws; on the sample itself
        their correlation.
        """
        # cov = mean of the product - product of the means; a resample's ranks have means of their
        # own.
        products_R = [
            pair_means(weight_RI, a_II) * pair_means(weight_RI, b_II) for a_II, b_II in self.halves
        ]
        return pair_means(weight_RI, self.product_II) - np.mean(products_R, axis=0)

    def covariances(self, model_LP: Floats, mean_RL: Floats, weight_RI: Floats) -> Floats:
        """Covariance (R, L) of the ranks, mean over draws and halves, with those of L models of
        means mean_RL.
        """
        product_RL = [
            pair_means(weight_RI, self.mean_II * put_pairs(m_P, weight_RI.shape[1]))
            for m_P in model_LP
        ]
        return np.stack(product_RL, axis=1) - pair_means(weight_RI, self.mean_II)[:, None] * mean_RL


def rank_moments(model_LP: Floats, weight_RI: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (R, L) of the ranks of L models."""
    uppers = (put_pairs(model_P, weight_RI.shape[1]) for model_P in model_LP)
    moments = [(pair_means(weight_RI, m_II), pair_means(weight_RI, m_II**2)) for m_II in uppers]
    mean_RL, square_RL = (np.stack(part, axis=1) for part in zip(*moments, strict=True))
    return mean_RL, square_RL - mean_RL**2


def resample_images(
    n_images: int, n_bootstrap: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """weight_RI: a row of ones, then how often each image is drawn in each bootstrap sample."""
    drawn_RI = rng.multinomial(n_images, np.full(n_images, 1.0 / n_images), size=n_bootstrap)
    return np.concatenate([np.ones((1, n_images)), drawn_RI]).astype(np.float32)


def centre_kernel(feature_IF: Floats) -> Floats:
    """U-centred linear kernel (I, I): zero diagonal, rows without sum (Szekely and Rizzo 2014).

    <centre_kernel(X), centre_kernel(Y)> / (I (I - 3)) is the unbiased HSIC of Song et al. (2012),
    which needs I > 3.
    """
    # The estimate divides by I - 3.
    n = len(feature_IF)
    if n < 4:
        raise ValueError(f"the unbiased HSIC needs at least 4 images, got {n}")
    feature_IF = np.asarray(feature_IF, dtype=np.float64)
    # Without its diagonal, no image meets itself: the products are of independent samples.
    kernel_II = feature_IF @ feature_IF.T
    np.fill_diagonal(kernel_II, 0.0)
    row_I = kernel_II.sum(axis=1) / (n - 2)
    centred_II = kernel_II - row_I[:, None] - row_I + kernel_II.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred_II, 0.0)
    return centred_II


def debiased_cka(a_II: Floats, b_II: Floats) -> float:
    """Linear CKA (Kornblith et al. 2019) of kernels of `centre_kernel`.

    The unbiased HSIC stands in all three places.
    """
    return float(np.vdot(a_II, b_II) / np.sqrt(np.vdot(a_II, a_II) * np.vdot(b_II, b_II)))


class BrainKernels:
    """Linear kernels of one ROI group for CKA, gathered over draws.

    The kernel of one half never meets itself: CKA(brain, model) = <(A + B) / 2, M> / sqrt(<A, B>
    <M, M>), means over draws, so that noise lowers neither part; ours. The denominator is at least
    MIN_RELIABILITY of |A| |B|.
    """

    def __init__(self, n_images: int) -> None:
        self.n_draws = 0
        self.mean_II = np.zeros((n_images, n_images))
        self.shared = 0.0
        self.scale = 0.0

    def add(self, pattern_HIV: NDArray[np.float32]) -> None:
        """One draw: patterns (2, I, V) of the two halves in the voxels drawn."""
        a_II, b_II = (centre_kernel(pattern_IV) for pattern_IV in pattern_HIV)
        self.n_draws += 1
        self.mean_II += ((a_II + b_II) / 2 - self.mean_II) / self.n_draws
        self.shared += (float(np.vdot(a_II, b_II)) - self.shared) / self.n_draws
        scale = float(np.linalg.norm(a_II) * np.linalg.norm(b_II))
        self.scale += (scale - self.scale) / self.n_draws

    def cka(self, model_II: Floats) -> float:
        """CKA with a model's kernel of `centre_kernel`."""
        shared = max(self.shared, MIN_RELIABILITY * self.scale)
        return float(
            np.vdot(self.mean_II, model_II) / np.sqrt(shared * np.vdot(model_II, model_II))
        )
