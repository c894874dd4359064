"""Multi-label scores against scikit-learn (ties, weights); zero-shot and dominance against small
examples.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, hamming_loss, roc_auc_score

from fmri2clip.metrics.decoding import classification
from fmri2clip.metrics.decoding.retrieval import make_galleries
from fmri2clip.metrics.decoding.scoring import Prediction, Truth, score_labels
from fmri2clip.solvers.average_precision import find_defined_classes, score_class, score_classes


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(1, 12))
def test_class_scores_equal_sklearn_with_ties_and_weights(seed: int, n: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    label_I = rng.random(n) < 0.4
    label_I[:2] = True, False
    score_I = rng.integers(0, n_levels, n) / 7.0
    weight_RI = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=3)])
    ap_R, auc_R = score_class(label_I, score_I, weight_RI)
    for weight_I, ap, auc in zip(weight_RI, ap_R, auc_R, strict=True):
        if weight_I[label_I].sum() == 0:
            assert np.isnan(ap) and np.isnan(auc)
            continue
        drawn_I = np.repeat(np.arange(n), weight_I.astype(int))
        assert ap == pytest.approx(average_precision_score(label_I[drawn_I], score_I[drawn_I]))
        assert ap == pytest.approx(
            average_precision_score(label_I, score_I, sample_weight=weight_I)
        )
        if weight_I[~label_I].sum() == 0:
            assert np.isnan(auc)
        else:
            assert auc == pytest.approx(roc_auc_score(label_I[drawn_I], score_I[drawn_I]))


def test_macro_scores_leave_undefined_classes_out() -> None:
    rng = np.random.default_rng(1)
    labels_IC = rng.random((30, 5)) < 0.3
    labels_IC[:, 1], labels_IC[:, 3] = False, True
    score_IC = rng.standard_normal((30, 5))
    class_C = find_defined_classes(labels_IC, np.array([True, True, True, True, False]))
    np.testing.assert_array_equal(class_C, [True, False, True, False, False])
    map_R, auc_R = score_classes(labels_IC, score_IC, class_C, np.ones((1, 30)))
    assert map_R[0] == pytest.approx(
        average_precision_score(labels_IC[:, [0, 2]], score_IC[:, [0, 2]], average="macro")
    )
    assert auc_R[0] == pytest.approx(
        roc_auc_score(labels_IC[:, [0, 2]], score_IC[:, [0, 2]], average="macro")
    )


def test_resample_without_positives_drops_only_that_class() -> None:
    labels_IC = np.array([[True, False], [False, True], [False, True], [False, False]])
    score_IC = np.array([[0.9, 0.1], [0.1, 0.8], [0.2, 0.1], [0.3, 0.5]])
    weight_RI = np.array([[0.0, 2.0, 1.0, 1.0]])
    map_R, auc_R = score_classes(labels_IC, score_IC, np.array([True, True]), weight_RI)
    ap_R, _ = score_class(labels_IC[:, 1], score_IC[:, 1], weight_RI)
    np.testing.assert_allclose(map_R, ap_R)
    assert np.isfinite(auc_R).all()


def test_constant_scores_give_prevalence_and_one_half() -> None:
    label_I = np.array([True, False, False, True, False])
    ap_R, auc_R = score_class(label_I, np.zeros(5), np.ones((1, 5)))
    assert ap_R[0] == pytest.approx(0.4)
    assert auc_R[0] == pytest.approx(0.5)


def test_hamming_equals_sklearn() -> None:
    rng = np.random.default_rng(2)
    labels_IC, logits_IC = rng.random((20, 4)) < 0.4, rng.standard_normal((20, 4))
    loss_I = classification.score_hamming(labels_IC, logits_IC, np.array([True, True, False, True]))
    keep = [0, 1, 3]
    assert loss_I.mean() == pytest.approx(
        hamming_loss(labels_IC[:, keep], 1 / (1 + np.exp(-logits_IC[:, keep])) > 0.5)
    )


@pytest.mark.parametrize("n_common", [2, 0])
def test_hamming_counts_classes_that_are_too_rare_for_a_map(n_common: int) -> None:
    """The last class is not of this world."""
    rng = np.random.default_rng(3)
    n = 30
    n_positive_C = [12] * n_common + [2, 0, 0]
    label_IC = np.stack([np.arange(n) < m for m in n_positive_C], axis=1)
    present_C = np.arange(len(n_positive_C)) < len(n_positive_C) - 1
    logits_IC = rng.standard_normal(label_IC.shape)
    truth = Truth(
        nsd_id_I=np.arange(n),
        image_ID=np.zeros((n, 3)),
        text_ID=None,
        caption_ID=None,
        prompt_CD=np.zeros((label_IC.shape[1], 3)),
        label_IC=label_IC,
        present_C=present_C,
        category_I=np.full(n, -1),
        galleries=make_galleries(np.eye(n), 5, 2, 3, seed=0),
    )
    found = score_labels(Prediction(logits_IC=logits_IC), truth)
    loss_I, _ = found.per_image["classification.hamming"]
    assert loss_I.mean() == pytest.approx(
        hamming_loss(label_IC[:, present_C], logits_IC[:, present_C] > 0)
    )
    assert ("classification" in found.class_scores) is (n_common > 0)


def test_dominant_category_needs_share_or_single_object() -> None:
    area_IC = np.array([[0.3, 0.1], [0.3, 0.25], [0.0, 0.2], [0.0, 0.0], [0.4, 0.0]])
    labels_IC = np.array([[True, True], [True, True], [False, True], [False, False], [True, False]])
    n_objects_I = np.array([2, 2, 1, 0, 3])
    category_I = classification.dominant_category(labels_IC, area_IC, n_objects_I, 0.6)
    np.testing.assert_array_equal(category_I, [0, -1, 1, -1, 0])
    with pytest.raises(ValueError, match="dominant_area"):
        classification.dominant_category(labels_IC, area_IC, n_objects_I, 0.4)


def test_zero_shot_asks_only_candidates_and_shares_ties() -> None:
    score_IC = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.2, 0.9], [0.1, 0.9, 0.3]])
    category_I = np.array([0, 1, 0, -1])
    every, some = np.array([True, True, True]), np.array([True, True, False])
    np.testing.assert_allclose(
        classification.score_zero_shot(score_IC, every, category_I, 1), [1, 0, 0, np.nan]
    )
    np.testing.assert_allclose(
        classification.score_zero_shot(score_IC, some, category_I, 1), [1, 0, 0.5, np.nan]
    )
    np.testing.assert_allclose(
        classification.score_zero_shot(score_IC, np.array([False, True, True]), category_I, 1),
        [np.nan, 1, np.nan, np.nan],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 8), st.integers(1, 8))
def test_zero_shot_is_chance_for_constant_scores(seed: int, n_categories: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    candidate_C = np.ones(n_categories, dtype=bool)
    category_I = rng.integers(0, n_categories, 12)
    success_I = classification.score_zero_shot(
        np.zeros((12, n_categories)), candidate_C, category_I, k
    )
    np.testing.assert_allclose(success_I, min(1.0, k / n_categories))
