from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.clip.clusters import assign_clusters
from fmri2clip.core.params import Split
from fmri2clip.stages.train.split import (
    SplitResult,
    derangement,
    fit_clusters,
    make_split,
    unseen_categories,
)

RNG = np.random.default_rng(0)
IDS = np.sort(RNG.choice(73000, 200, replace=False))
LABELS = RNG.random((200, 12)) < 0.1
PRESENT = np.arange(12) != 5
CENTRES = np.eye(6)[RNG.integers(0, 6, 200)]
EMBEDDING = CENTRES + 0.05 * RNG.standard_normal((200, 6))
BASE = Split(n_validation=20, seed=0)


def split_of(**changes: object) -> SplitResult:
    return make_split(IDS, LABELS, EMBEDDING, PRESENT, replace(BASE, **changes))


settings_strategy = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "n_validation": st.integers(1, 60),
        "unseen_folds": st.sampled_from([0, 4, 11]),
        "holdout_clusters": st.sampled_from([0, 6]),
        "n_images": st.integers(0, 15),
    }
)


@settings(max_examples=40, deadline=None)
@given(settings_strategy, st.booleans())
def test_the_four_sets_are_disjoint_and_complete(values: dict[str, int], control: bool) -> None:
    result = split_of(**values, unseen_control=control and values["unseen_folds"] > 0)
    counts = sum(
        mask.astype(int)
        for mask in (result.train_I, result.validation_I, result.left_out_I, result.unused_I)
    )
    assert (counts == 1).all()
    assert result.validation_I.sum() == values["n_validation"]
    assert result.train_I.sum() == values["n_images"] or not values["n_images"]


def test_equal_settings_give_the_equal_split_and_seeds_differ() -> None:
    assert np.array_equal(split_of().validation_I, split_of().validation_I)
    assert not np.array_equal(split_of().validation_I, split_of(seed=1).validation_I)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 11))
def test_each_present_category_is_unseen_in_exactly_one_fold(seed: int, n_folds: int) -> None:
    folds = [
        unseen_categories(PRESENT, Split(seed=seed, unseen_folds=n_folds, unseen_fold=f))
        for f in range(n_folds)
    ]
    assert sorted(np.concatenate(folds)) == list(np.flatnonzero(PRESENT))


@pytest.mark.parametrize("fold", range(4))
def test_training_and_validation_never_show_an_unseen_category(fold: int) -> None:
    result = split_of(unseen_folds=4, unseen_fold=fold)
    assert not LABELS[result.train_I | result.validation_I][:, result.unseen_C].any()
    assert LABELS[result.left_out_I][:, result.unseen_C].any(1).all()


def test_control_leaves_out_as_many_images_but_others() -> None:
    fold, control = split_of(unseen_folds=4), split_of(unseen_folds=4, unseen_control=True)
    assert control.left_out_I.sum() == fold.left_out_I.sum() > 0
    assert not np.array_equal(control.left_out_I, fold.left_out_I)
    assert LABELS[control.train_I][:, control.unseen_C].any()
    assert np.array_equal(control.unseen_C, fold.unseen_C)


def test_smaller_training_sets_are_subsets_with_the_same_validation() -> None:
    results = [split_of(n_images=n) for n in (10, 50, 120, 0)]
    for small, large in pairwise(results):
        assert (small.train_I <= large.train_I).all() and small.train_I.sum() < large.train_I.sum()
        assert np.array_equal(small.validation_I, large.validation_I)


def test_held_out_clusters_are_absent_from_training() -> None:
    result = split_of(holdout_clusters=6, holdout_fraction=0.34)
    clusters = result.clusters
    assert clusters is not None and len(clusters.heldout) == 2
    nearest = np.linalg.norm(EMBEDDING[:, None] - clusters.centroids_KD, axis=2).argmin(1)
    assert np.array_equal(assign_clusters(EMBEDDING, clusters.centroids_KD), nearest)
    assert np.array_equal(np.isin(nearest, clusters.heldout), result.left_out_I)
    truth = CENTRES.argmax(1)
    assert len(set(truth[result.left_out_I]) & set(truth[~result.left_out_I])) == 0


def test_given_clusters_are_used() -> None:
    clusters = fit_clusters(EMBEDDING, Split(holdout_clusters=6, seed=9))
    result = make_split(
        IDS, LABELS, EMBEDDING, PRESENT, replace(BASE, holdout_clusters=6), clusters
    )
    assert result.clusters is clusters


def test_the_judge_has_the_same_images_however_many_train() -> None:
    """They train by default; hidden, they are unused, and validation images are what they were."""
    plain = split_of()
    whole = split_of(n_judge=20)
    assert whole.judge_I.sum() == 20 and not plain.judge_I.any()
    assert np.array_equal(whole.train_I, plain.train_I) and whole.train_I[whole.judge_I].all()
    few = split_of(n_judge=20, n_images=50)
    assert np.array_equal(few.judge_I, whole.judge_I) and not few.train_I[few.judge_I].any()
    hidden = make_split(IDS, LABELS, EMBEDDING, PRESENT, replace(BASE, n_judge=20), hide_judge=True)
    assert np.array_equal(hidden.train_I, whole.train_I & ~whole.judge_I)
    assert np.array_equal(hidden.validation_I, plain.validation_I)
    assert hidden.unused_I[hidden.judge_I].all()


def test_what_other_subjects_hold_out_does_not_train() -> None:
    """The rest of the split stays, and others take the places that n_images asks for."""
    plain = split_of(n_judge=20)
    ids = np.concatenate([IDS[plain.train_I][::4], IDS[plain.validation_I][:3], [IDS.max() + 1]])
    held_I = np.isin(IDS, ids)
    found = make_split(
        IDS, LABELS, EMBEDDING, PRESENT, replace(BASE, n_judge=20), held_elsewhere=ids
    )
    assert np.array_equal(found.train_I, plain.train_I & ~held_I)
    assert np.array_equal(found.validation_I, plain.validation_I)
    assert np.array_equal(found.judge_I, plain.judge_I)
    assert np.array_equal(found.unused_I, plain.train_I & held_I)
    few = make_split(IDS, LABELS, EMBEDDING, PRESENT, replace(BASE, n_images=50), None, False, ids)
    assert few.train_I.sum() == 50 and not (few.train_I & held_I).any()
    with pytest.raises(ValueError, match=r"hold out 179 of 180 .* leaves 1 for n_images all"):
        make_split(IDS, LABELS, EMBEDDING, PRESENT, BASE, held_elsewhere=IDS[plain.train_I][1:])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 50), st.integers(0, 1000))
def test_derangement_is_a_permutation_without_fixed_points(n: int, seed: int) -> None:
    result = derangement(n, seed)
    assert sorted(result) == list(range(n)) and not (result == np.arange(n)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_validation": 199}, "leave 1 training images for n_images all"),
        ({"n_images": 181}, "leave 180 training images for n_images 181"),
        ({"unseen_folds": 12}, "at most 11 categories are present"),
        ({"holdout_clusters": 1}, "holdout_clusters is 1"),
        ({"holdout_clusters": 201}, "for 200 images"),
    ],
)
def test_impossible_splits_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_of(**changes)
