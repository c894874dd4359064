"""Retrieval among test images: which picture, caption or brain pattern goes with the query.

Letters: I images (in ascending NSD id, queries and gallery alike), D embedding width, R draws.

A query succeeds when its own item is among the k most similar of its gallery. Items that are
exactly as similar share the credit: the score is the expected success when ties are broken at
random, so a constant prediction scores chance. Similarity is the centred cosine: the mean training
embedding is taken from both sides before the cosine.

Galleries: `retrieval`, fixed random draws of n_way test images (300-way x 30 draws as in
MindEye, Scotti et al. 2023), where each image of a draw is a query once; `retrieval_hard`, the
query's own image and its nearest test images by true image embedding; `retrieval_all`, the whole
test set; `retrieval_sizes.<n>`, the expectation over all galleries of n test images.

Beside the rank there is information, in bits: log2 N + log2 p, with p what a softmax over the whole
test set of N images gives to the right one. Its temperature has to come from other images
(`fit_temperature`). Unlike top-1 it does not saturate; who knows nothing has 0.

Directions are named after what is searched: `image_given_brain` has a brain pattern as query and
images as gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, logsumexp

from fmri2clip.solvers.ranks import share_credit

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
TOP_K = (1, 5)
SIZES = (50, 100, 200, 500, 1000)  # of galleries
LOG_TEMPERATURES = (-8.0, 8.0)
# similarities that agree to here are ties: the order of a matrix product's sums must not decide
DECIMALS = 9


@dataclass(frozen=True, kw_only=True)
class Galleries:
    """draws_IR: image i is in draw r; hard_II: row i marks the gallery of query i (itself and its
    neighbours).
    """

    draws_IR: Bools
    hard_II: Bools


def similarity(query_ID: Floats, gallery_JD: Floats) -> Floats:
    """Cosines (I, J) of rows that `centre` made, rounded so that equal pairs are equal numbers."""
    return np.round(query_ID @ gallery_JD.T, DECIMALS)


def draw_galleries(n_images: int, n_way: int, n_draws: int, seed: int) -> Bools:
    """member_IR: n_draws subsets of n_way images without replacement, fixed by the seed."""
    if not 2 <= n_way <= n_images:
        raise ValueError(
            f"evaluation.n_way is {n_way}, but there are {n_images} test images; choose 2 to "
            f"{n_images}"
        )
    rng = np.random.default_rng(seed)
    member_IR = np.zeros((n_images, n_draws), dtype=bool)
    for draw in range(n_draws):
        member_IR[rng.choice(n_images, n_way, replace=False), draw] = True
    return member_IR


def nearest_images(image_ID: Floats, n_hard: int) -> Bools:
    """member_II: row i marks i and the n_hard other images of highest cosine (equal ones: lower row
    first).
    """
    n_images = len(image_ID)
    if not 1 <= n_hard < n_images:
        raise ValueError(
            f"evaluation.n_hard is {n_hard}, but there are {n_images} test images; choose fewer "
            "than those"
        )
    # Sorted by distance, so that a stable sort gives equal ones in the order of their rows.
    distance_II = -similarity(image_ID, image_ID)
    np.fill_diagonal(distance_II, -np.inf)  # the image itself is always in its gallery
    nearest_IH = np.argsort(distance_II, axis=1, kind="stable")[:, : n_hard + 1]
    member_II = np.zeros((n_images, n_images), dtype=bool)
    np.put_along_axis(member_II, nearest_IH, True, axis=1)
    return member_II


def make_galleries(image_ID: Floats, n_way: int, n_draws: int, n_hard: int, seed: int) -> Galleries:
    """image_ID: centred true image embeddings of the test images."""
    return Galleries(
        draws_IR=draw_galleries(len(image_ID), n_way, n_draws, seed),
        hard_II=nearest_images(image_ID, n_hard),
    )


def score_retrieval(
    similarity_II: Floats, galleries: Galleries, direction: str
) -> dict[str, tuple[Floats, Floats]]:
    """Score and weight of each query under every gallery and k.

    similarity_II: rows queries, columns gallery, the right answer on the diagonal. Returns dotted
    metric name -> (score_I, weight_I). The score of an image is its mean success over the draws
    that hold it, its weight their number; an image in no draw has NaN and weight 0. The metric is
    the weighted mean.
    """
    _check(similarity_II)
    # A query's rank follows from how many items are more similar than its own, and how many equal.
    own_I1 = np.diagonal(similarity_II)[:, None]
    greater_II = (similarity_II > own_I1).astype(np.float32)
    tied_II = (similarity_II == own_I1).astype(np.float32)
    np.fill_diagonal(tied_II, 0.0)
    draws_IR = galleries.draws_IR.astype(np.float32)
    ones_I = np.ones(len(own_I1))
    weight_I = galleries.draws_IR.sum(axis=1).astype(np.float64)
    # Products of 0/1 matrices count within every draw at once; float32 is exact for counts below
    # 2**24.
    greater_IR = greater_II @ draws_IR
    tied_IR = tied_II @ draws_IR
    greater_hard_I = (greater_II * galleries.hard_II).sum(axis=1)
    tied_hard_I = (tied_II * galleries.hard_II).sum(axis=1)
    greater_all_I = greater_II.sum(axis=1)
    tied_all_I = tied_II.sum(axis=1)
    scores: dict[str, tuple[Floats, Floats]] = {}
    for k in TOP_K:
        success_IR = share_credit(greater_IR, tied_IR, k) * galleries.draws_IR
        total_I = success_IR.sum(axis=1, dtype=np.float64)
        score_I = np.divide(total_I, weight_I, out=np.full(len(ones_I), np.nan), where=weight_I > 0)
        scores[f"retrieval.{direction}.top{k}"] = score_I, weight_I
        hard_I = share_credit(greater_hard_I, tied_hard_I, k)
        scores[f"retrieval_hard.{direction}.top{k}"] = hard_I, ones_I
        all_I = share_credit(greater_all_I, tied_all_I, k)
        scores[f"retrieval_all.{direction}.top{k}"] = all_I, ones_I
    return scores


def _check(similarity_II: Floats) -> None:
    """Raise ValueError for what is no number: nothing is more similar than it, so it would win."""
    n_bad = int(np.isnan(similarity_II).sum())
    if n_bad:
        raise ValueError(
            f"{n_bad} of {similarity_II.size} similarities are NaN; the decoder gives something "
            "that is no number: train it again"
        )


def score_sizes(similarity_II: Floats, direction: str) -> dict[str, tuple[Floats, Floats]]:
    """retrieval_sizes.<n>.<direction>.top1, expected over all galleries of n images that hold the
    query's own, for those of SIZES that the test set reaches; arrays as in score_retrieval.

    With g of M others more similar, a gallery of n - 1 others holds none of them with probability
    C(M - g, n - 1) / C(M, n - 1).
    """
    _check(similarity_II)
    n_others = len(similarity_II) - 1
    own_I1 = np.diagonal(similarity_II)[:, None]
    greater_I = (similarity_II > own_I1).sum(axis=1)
    tied_I = (similarity_II == own_I1).sum(axis=1) - 1
    ones_I = np.ones(len(similarity_II))
    scores: dict[str, tuple[Floats, Floats]] = {}
    for size in (size for size in SIZES if size <= n_others + 1):
        left_G = n_others - np.arange(n_others + 1)  # not more similar, by g
        enough_G = left_G >= size - 1
        log_G = gammaln(left_G + 1) - gammaln(np.maximum(left_G - size + 2, 1))
        none_G = np.where(enough_G, np.exp(log_G - log_G[0]), 0.0)
        # Ties are broken at random: the query's own is behind 0 to `tied` of them, equally likely.
        sums_G = np.concatenate([[0.0], np.cumsum(none_G)])
        success_I = (sums_G[greater_I + tied_I + 1] - sums_G[greater_I]) / (tied_I + 1)
        scores[f"retrieval_sizes.{size}.{direction}.top1"] = success_I, ones_I
    return scores


def score_information(
    similarity_II: Floats, temperature: float, direction: str
) -> dict[str, tuple[Floats, Floats]]:
    """retrieval_all.<direction>.bits of each query; arrays as in score_retrieval."""
    n = len(similarity_II)
    return {
        f"retrieval_all.{direction}.bits": (
            np.log2(n) + log_probability(similarity_II, temperature) / np.log(2),
            np.ones(n),
        )
    }


def log_probability(similarity_II: Floats, temperature: float) -> Floats:
    """Logarithm of what the softmax of each row gives to its own column (I)."""
    logit_II = similarity_II / temperature
    own_I: Floats = np.diagonal(logit_II) - logsumexp(logit_II, axis=1)
    return own_I


def fit_temperature(parts: Sequence[Floats]) -> float:
    """The temperature with the largest mean log-probability of the right pairs.

    parts: square matrices of similarities of other images, right pairs on the diagonal.
    """

    def loss(log_temperature: float) -> float:
        return -sum(log_probability(part, np.exp(log_temperature)).sum() for part in parts)

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))
