"""Retrieval among test images: which picture, caption or brain pattern goes with the query.

Letters: I images (in ascending NSD id, queries and gallery alike), D embedding width, R draws.

A query succeeds when its own item is among the k most similar of its gallery. Items that are
exactly as similar share the credit: the score is the expected success when ties are broken at
random, so a constant prediction scores chance. Similarity is the centred cosine: the mean training
embedding is taken from both sides before the cosine.

Three galleries: `retrieval`, fixed random draws of n_way test images (300-way x 30 draws as in
MindEye, Scotti et al. 2023), where each image of a draw is a query once; `retrieval_hard`, the
query's own image and its nearest test images by true image embedding; `retrieval_all`, the whole
test set.

Directions are named after what is searched: `image_given_brain` has a brain pattern as query and
images as gallery.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmri2clip.solvers.ranks import share_credit

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
TOP_K = (1, 5)
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
