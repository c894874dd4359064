"""Which images train a decoder, validate it, or are left out; by image, never by trial.

Order of the decisions: (1) images of unseen categories and of held-out clusters are left out, or in
the control run as many random ones; (2) validation images are drawn from what remains, so early
stopping never looks at something unseen; (3) the rest trains, or the first n_images of a seeded
shuffle of it, but for what another subject of the same model holds out. Smaller training sets are
subsets of larger ones and share their validation images. All draws depend on split.seed only.

Axis letters: I images, C categories, D embedding width, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.clip.clusters import Clusters, assign_clusters
from fmri2clip.core.params import Split

Array = NDArray[Any]

# One stream of random numbers a decision: changing one leaves the others as they are.
_FOLDS, _CONTROL, _CLUSTERS, _VALIDATION, _SUBSET, _PERMUTE = range(6)


@dataclass(frozen=True)
class SplitResult:
    """Disjoint sets of the subject's images that together are all of them."""

    train_I: Array  # bool
    validation_I: Array  # bool
    # bool: unseen category, held-out cluster, or the random images of the control.
    left_out_I: Array
    unused_I: Array  # bool: beyond n_images, hidden, or held out by another subject
    judge_I: Array  # bool: what a judge is fitted on; they train all the same, unless hidden
    # Indices of the unseen categories (the control lists those of the fold it controls for).
    unseen_C: Array
    clusters: Clusters | None = None


def make_split(
    nsd_id_I: Array,
    labels_IC: Array,
    image_embedding_ID: Array,
    present_C: Array,
    split: Split,
    clusters: Clusters | None = None,
    hide_judge: bool = False,
    held_elsewhere: Sequence[int] | Array = (),
) -> SplitResult:
    """Split the images of one subject; hide_judge: the judge's images do not train.

    held_elsewhere: ids that other subjects of the model hold out; they do not train either.

    nsd_id_I: ids, distinct, ascending; labels_IC: bool, True where any of the category is visible;
    present_C: bool, categories that occur in the data; clusters: those of the run, fitted on these
    images if not given. Raises ValueError if what is left over cannot be split as asked.
    """
    unseen_C = unseen_categories(present_C, split)
    left_out_I = np.asarray(labels_IC[:, unseen_C].any(1))
    if split.unseen_control:
        # As many images as the fold leaves out, but any.
        left_out_I = _random_mask(len(nsd_id_I), int(left_out_I.sum()), split.seed, _CONTROL)
    if split.holdout_clusters:
        clusters = clusters or fit_clusters(image_embedding_ID, split)
        cluster_I = assign_clusters(image_embedding_ID, clusters.centroids_KD)
        left_out_I = np.logical_or(left_out_I, np.isin(cluster_I, clusters.heldout))
    # Validation images come first, so that training sets of any size share them.
    order = _rng(split, _VALIDATION).permutation(np.flatnonzero(~left_out_I))
    n_left = len(order) - split.n_validation
    if n_left - split.n_judge < max(split.n_images, 2):
        raise ValueError(
            f"split: {len(nsd_id_I)} images, {int(left_out_I.sum())} left out and n_validation "
            f"{split.n_validation} leave {max(n_left, 0)} training images for n_images "
            f"{split.n_images or 'all'} and n_judge {split.n_judge}; lower n_validation, n_images "
            "or n_judge"
        )
    # The start of one shuffle: a smaller training set is a subset of a larger one.
    candidates = _rng(split, _SUBSET).permutation(order[split.n_validation :])
    n_train = split.n_images or n_left
    n = len(nsd_id_I)
    # The end of the shuffle: the same images however many train.
    judge_I = _mask(candidates[n_left - split.n_judge :], n)
    if hide_judge:
        candidates = candidates[: n_left - split.n_judge]
    held_J = np.isin(nsd_id_I[candidates], held_elsewhere)
    candidates = candidates[~held_J]
    if len(candidates) < max(split.n_images, 2):
        raise ValueError(
            f"split: other subjects of the model hold out {held_J.sum()} of {len(held_J)} training "
            f"images, which leaves {len(candidates)} for n_images {split.n_images or 'all'}; lower "
            "n_validation, n_judge or n_images, or give each subject a model of its own"
        )
    train_I = _mask(candidates[:n_train], n)
    validation_I = _mask(order[: split.n_validation], n)
    return SplitResult(
        train_I=train_I,
        validation_I=validation_I,
        left_out_I=left_out_I,
        unused_I=~(train_I | validation_I | left_out_I),
        judge_I=judge_I,
        unseen_C=unseen_C,
        clusters=clusters,
    )


def unseen_categories(present_C: Array, split: Split) -> Array:
    """Indices of the categories of this fold; over all folds each present one is unseen once."""
    if not split.unseen_folds:
        return np.empty(0, dtype=np.int64)
    present = np.flatnonzero(present_C)
    if split.unseen_folds > len(present):
        raise ValueError(
            f"split.unseen_folds is {split.unseen_folds}; "
            f"at most {len(present)} categories are present"
        )
    folds = np.array_split(_rng(split, _FOLDS).permutation(present), split.unseen_folds)
    return np.sort(folds[split.unseen_fold])


def fit_clusters(image_embedding_ID: Array, split: Split) -> Clusters:
    """k-means on training images; round(k * holdout_fraction) clusters, at least 1, held out."""
    from sklearn.cluster import KMeans

    k = split.holdout_clusters
    n_heldout = max(1, round(k * split.holdout_fraction))
    if n_heldout >= k or k > len(image_embedding_ID):
        raise ValueError(
            f"split.holdout_clusters is {k} with {n_heldout} held out, for "
            f"{len(image_embedding_ID)} images; "
            "ask for more clusters (fewer than images) or a smaller holdout_fraction"
        )
    model = KMeans(k, n_init=4, random_state=split.seed).fit(
        np.asarray(image_embedding_ID, dtype=np.float32)
    )
    heldout = np.sort(_rng(split, _CLUSTERS).choice(k, n_heldout, replace=False))
    return Clusters(model.cluster_centers_.astype(np.float32), heldout.astype(np.int64))


def derangement(n: int, seed: int) -> Array:
    """Random permutation of n items without a fixed point: one random cycle through all of them."""
    assert n > 1, "a derangement needs two items"
    order = np.random.default_rng([seed, _PERMUTE]).permutation(n)
    result = np.empty(n, dtype=np.int64)
    # Each item goes to the next one of the cycle, never to itself.
    result[order] = np.roll(order, -1)
    return result


def _rng(split: Split, stream: int) -> np.random.Generator:
    return np.random.default_rng([split.seed, stream])


def _mask(rows: Array, n: int) -> Array:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def _random_mask(n: int, n_true: int, seed: int, stream: int) -> Array:
    return _mask(np.random.default_rng([seed, stream]).permutation(n)[:n_true], n)
