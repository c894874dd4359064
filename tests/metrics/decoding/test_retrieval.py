"""Retrieval against loops over explicit rankings and against permuted orders; laws of draws and
credit by property.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.metrics.decoding import retrieval
from fmri2clip.solvers.ranks import centre, share_credit


def expected_success(similarities: list[float], own: int, k: int) -> float:
    """Share of all orders compatible with the similarities in which `own` is among the first k."""
    hits = total = 0
    for order in itertools.permutations(range(len(similarities))):
        values = [similarities[i] for i in order]
        if values == sorted(values, reverse=True):
            total += 1
            hits += own in order[:k]
    return hits / total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(1, 4), st.data())
def test_share_credit_is_mean_over_tie_orders(
    values: list[int], k: int, data: st.DataObject
) -> None:
    own = data.draw(st.integers(0, len(values) - 1))
    greater = sum(v > values[own] for v in values)
    tied = sum(v == values[own] for v in values) - 1
    assert share_credit(np.array(greater), np.array(tied), k) == pytest.approx(
        expected_success([float(v) for v in values], own, k)
    )


def make_case(n: int = 40, width: int = 6, noise: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image_ID = centre(rng.standard_normal((n, width)), np.zeros(width))
    brain_ID = centre(image_ID + noise * rng.standard_normal((n, width)), np.zeros(width))
    return brain_ID, image_ID


@pytest.mark.parametrize("k", retrieval.TOP_K)
def test_draws_equal_argsort_loop(k: int) -> None:
    brain_ID, image_ID = make_case()
    galleries = retrieval.make_galleries(image_ID, n_way=12, n_draws=7, n_hard=5, seed=3)
    similarity_II = retrieval.similarity(brain_ID, image_ID)
    score_I, weight_I = retrieval.score_retrieval(similarity_II, galleries, "x")[
        f"retrieval.x.top{k}"
    ]
    hits, asked = np.zeros(40), np.zeros(40)
    for draw in range(7):
        members = np.flatnonzero(galleries.draws_IR[:, draw])
        for query in members:
            best = members[np.argsort(-similarity_II[query, members])[:k]]
            hits[query] += query in best
            asked[query] += 1
    np.testing.assert_array_equal(weight_I, asked)
    np.testing.assert_allclose(score_I[asked > 0], hits[asked > 0] / asked[asked > 0])
    assert np.isnan(score_I[asked == 0]).all()


@pytest.mark.parametrize("gallery", ["retrieval_hard", "retrieval_all"])
def test_fixed_galleries_equal_loop(gallery: str) -> None:
    brain_ID, image_ID = make_case()
    galleries = retrieval.make_galleries(image_ID, n_way=12, n_draws=2, n_hard=5, seed=3)
    similarity_II = brain_ID @ image_ID.T
    score_I, weight_I = retrieval.score_retrieval(similarity_II, galleries, "x")[
        f"{gallery}.x.top1"
    ]
    for query in range(40):
        others = np.argsort(-(image_ID @ image_ID[query]))
        members = others[:6] if gallery == "retrieval_hard" else others
        assert query in members
        assert score_I[query] == (members[np.argmax(similarity_II[query, members])] == query)
    assert (weight_I == 1).all()


def test_directions_differ_on_asymmetric_similarities() -> None:
    """One image attracts every brain: brains fail to find their image, yet each image still finds
    its brain.
    """
    similarity_II = np.eye(6)
    similarity_II[:, 0] += 2.0
    galleries = retrieval.Galleries(draws_IR=np.ones((6, 1), bool), hard_II=np.ones((6, 6), bool))
    forward = retrieval.score_retrieval(similarity_II, galleries, "a")["retrieval_all.a.top1"][0]
    backward = retrieval.score_retrieval(similarity_II.T, galleries, "b")["retrieval_all.b.top1"][0]
    assert forward.mean() == pytest.approx(1 / 6)
    assert backward.mean() == 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 30), st.integers(1, 9), st.integers(0, 1000), st.data())
def test_constant_prediction_scores_chance(
    n: int, n_draws: int, seed: int, data: st.DataObject
) -> None:
    n_way = data.draw(st.integers(2, n))
    mean_D = np.random.default_rng(seed).standard_normal(4)
    image_ID = centre(np.random.default_rng(seed + 1).standard_normal((n, 4)), mean_D)
    constant_ID = centre(np.tile(mean_D, (n, 1)), mean_D)
    galleries = retrieval.make_galleries(image_ID, n_way, n_draws, n_hard=2, seed=seed)
    for similarity_II in (constant_ID @ image_ID.T, image_ID @ constant_ID.T):
        scores = retrieval.score_retrieval(similarity_II, galleries, "x")
        score_I, weight_I = scores["retrieval.x.top1"]
        np.testing.assert_allclose(score_I[weight_I > 0], 1 / n_way)
        np.testing.assert_allclose(scores["retrieval_hard.x.top1"][0], 1 / 3)
        np.testing.assert_allclose(scores["retrieval_all.x.top5"][0], min(1, 5 / n))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(1, 10), st.integers(0, 99), st.data())
def test_draws_are_fixed_subsets(n: int, n_draws: int, seed: int, data: st.DataObject) -> None:
    n_way = data.draw(st.integers(2, n))
    member_IR = retrieval.draw_galleries(n, n_way, n_draws, seed)
    assert (member_IR.sum(axis=0) == n_way).all()
    np.testing.assert_array_equal(member_IR, retrieval.draw_galleries(n, n_way, n_draws, seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500))
def test_scores_follow_a_reordering_of_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    brain_ID, image_ID = make_case(15)
    order = rng.permutation(15)
    galleries = retrieval.make_galleries(image_ID, 6, 4, 3, seed)
    moved = retrieval.Galleries(
        draws_IR=galleries.draws_IR[order], hard_II=galleries.hard_II[np.ix_(order, order)]
    )
    before = retrieval.score_retrieval(retrieval.similarity(brain_ID, image_ID), galleries, "x")
    after = retrieval.score_retrieval(
        retrieval.similarity(brain_ID[order], image_ID[order]), moved, "x"
    )
    for name, (score_I, _) in before.items():
        np.testing.assert_allclose(score_I[order], after[name][0])


def test_duplicate_images_share_credit() -> None:
    image_ID = centre(np.array([[1.0, 0.2, 0.1], [1.0, 0.2, 0.1], [0.1, 1.0, 0.3]]), np.zeros(3))
    galleries = retrieval.make_galleries(image_ID, 3, 1, 1, 0)
    score_I = retrieval.score_retrieval(retrieval.similarity(image_ID, image_ID), galleries, "x")[
        "retrieval.x.top1"
    ][0]
    np.testing.assert_allclose(score_I, [0.5, 0.5, 1.0])


def test_centre_rejects_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="first row 1"):
        centre(np.array([[0.0, 1.0], [np.nan, 1.0]]), np.zeros(2))


def test_what_is_no_number_wins_nothing() -> None:
    """Nothing is greater than NaN, so a broken decoder would find every picture."""
    similarity_II = np.full((40, 40), np.nan)
    galleries = retrieval.make_galleries(make_case()[1], 10, 3, 5, 0)
    with pytest.raises(ValueError, match="1600 of 1600 similarities are NaN"):
        retrieval.score_retrieval(similarity_II, galleries, "x")
    with pytest.raises(ValueError, match="similarities are NaN"):
        retrieval.score_sizes(similarity_II, "x")


@pytest.mark.parametrize(
    ("n_way", "n_hard", "name"), [(41, 5, "n_way"), (1, 5, "n_way"), (10, 40, "n_hard")]
)
def test_impossible_galleries_name_the_parameter(n_way: int, n_hard: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"evaluation.{name}"):
        retrieval.make_galleries(make_case()[1], n_way, 3, n_hard, 0)


def test_sizes_are_the_mean_over_all_galleries(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gallery of 4 of 8 images, ties broken by every order, counted."""
    monkeypatch.setattr(retrieval, "SIZES", (4, 8, 9))
    similarity_II = rng.integers(0, 4, (8, 8)).astype(float)
    found = retrieval.score_sizes(similarity_II, "image_given_brain")
    assert set(found) == {
        "retrieval_sizes.4.image_given_brain.top1",
        "retrieval_sizes.8.image_given_brain.top1",
    }
    for size in (4, 8):
        for i, row_I in enumerate(similarity_II):
            others = [j for j in range(8) if j != i]
            success = []
            for gallery in itertools.combinations(others, size - 1):
                best = max(row_I[j] for j in gallery)
                tied = sum(row_I[j] == row_I[i] for j in gallery)
                success.append(0.0 if best > row_I[i] else 1 / (1 + tied))
            score_I, _ = found[f"retrieval_sizes.{size}.image_given_brain.top1"]
            assert score_I[i] == pytest.approx(np.mean(success))


def test_who_says_nothing_finds_one_of_n(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "SIZES", (5, 20))
    found = retrieval.score_sizes(np.zeros((20, 20)), "x")
    assert [score_I.mean() for score_I, _ in found.values()] == pytest.approx([1 / 5, 1 / 20])


def test_information_is_that_of_the_softmax(rng: np.random.Generator) -> None:
    similarity_II = rng.standard_normal((7, 7))
    (score_I, _) = retrieval.score_information(similarity_II, 0.3, "x")["retrieval_all.x.bits"]
    p_II = scipy.special.softmax(similarity_II / 0.3, axis=1)
    assert score_I == pytest.approx(np.log2(7 * np.diag(p_II)))


def test_the_temperature_is_the_likeliest(rng: np.random.Generator) -> None:
    """Among many on a grid."""
    parts = [rng.standard_normal((9, 9)) + 1.5 * np.eye(9), rng.standard_normal((6, 6))]

    def likelihood(t: float) -> float:
        return float(
            sum(np.log(np.diag(scipy.special.softmax(p / t, axis=1))).sum() for p in parts)
        )

    grid = np.exp(np.linspace(-3, 5, 400))
    best = max(likelihood(t) for t in grid)
    assert likelihood(retrieval.fit_temperature(parts)) >= best - 1e-6
