"""Scores of pictures against NumPy and SciPy; laws of two-way identification by property."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import correlation

from fmri2clip.metrics.pictures import image_scores
from fmri2clip.metrics.pictures.protocols import DIRECTIONS
from tests import frozen_pairs

MATRICES = st.integers(2, 7).flatmap(
    lambda n: hnp.arrays(float, (n, n), elements=st.sampled_from([-0.5, 0.0, 0.2, 1]))
)


def test_correlations_equal_numpy(rng: np.random.Generator) -> None:
    seen_IF, made_IF = rng.random((9, 40_000), np.float32) + 5, rng.random((9, 40_000), np.float32)
    expected_II = np.corrcoef(np.concatenate([seen_IF, made_IF]))[:9, 9:]
    assert seen_IF.shape[1] > image_scores.BLOCK
    np.testing.assert_allclose(
        image_scores.correlate_all(seen_IF, made_IF), expected_II, atol=1e-12
    )
    np.testing.assert_allclose(
        image_scores.correlate_rows(seen_IF, made_IF), np.diagonal(expected_II), atol=1e-12
    )


def test_distance_equals_scipy() -> None:
    seen_IF, made_IF = frozen_pairs.make_features()
    expected_I = [correlation(a, b) for a, b in zip(seen_IF, made_IF, strict=True)]
    np.testing.assert_allclose(
        1 - image_scores.correlate_rows(seen_IF, made_IF), expected_I, atol=1e-6
    )


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_has_no_correlation(value: float, rng: np.random.Generator) -> None:
    """NumPy alone gives rounding noise in place of NaN for 0.3."""
    seen_IF = rng.random((2, 541_875), np.float32)
    made_IF = np.stack([np.full(541_875, value, np.float32), seen_IF[1]])
    assert np.isnan(image_scores.correlate_rows(seen_IF, made_IF)[0])
    made_IF[0, 7] += 1 / 255  # one pixel, one level
    assert np.isfinite(image_scores.correlate_rows(seen_IF, made_IF)).all()


def test_rows_equal_the_definition_with_any_number_of_threads(rng: np.random.Generator) -> None:
    seen_IF, made_IF = rng.random((5, 90_000), np.float32) + 5, rng.random((5, 90_000), np.float32)
    centred = [
        [x_F.astype(np.float64) - x_F.astype(np.float64).mean() for x_F in x_IF]
        for x_IF in (seen_IF, made_IF)
    ]
    expected_I = [
        a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(*centred, strict=True)
    ]
    for threads in (1, 2):
        np.testing.assert_array_equal(
            image_scores.correlate_rows(seen_IF, made_IF, threads), expected_I
        )


@pytest.mark.parametrize(("direction", "fixed"), [(DIRECTIONS[0], True), (DIRECTIONS[1], False)])
def test_two_way_counts_equal_a_double_loop(direction: str, fixed: bool) -> None:
    seen_IF, made_IF = frozen_pairs.make_features()
    counts = image_scores.count_two_way(image_scores.correlate_all(seen_IF, made_IF), direction, 9)
    assert counts.won_I.dtype == np.int64
    assert counts.won_I.tolist() == frozen_pairs.two_way_oracle(seen_IF, made_IF, fixed)


def test_a_duplicate_stimulus_is_a_tie_that_fails() -> None:
    seen_IF, made_IF = frozen_pairs.make_features()
    counts = image_scores.count_two_way(
        image_scores.correlate_all(seen_IF, made_IF), DIRECTIONS[0], 9
    )
    assert np.flatnonzero(counts.tied_I).tolist() == [frozen_pairs.ORIGINAL, frozen_pairs.DUPLICATE]
    assert counts.score(0.5).sum() - counts.score(0.0).sum() == pytest.approx(2 * 0.5 / 31)


def test_the_same_reconstruction_for_all_scores_chance_with_half_credit() -> None:
    seen_IF, made_IF = frozen_pairs.make_features()
    r_II = image_scores.correlate_all(seen_IF, np.tile(made_IF[:1], (32, 1)))
    for direction in DIRECTIONS:
        assert image_scores.count_two_way(r_II, direction, 6).score(0.5).mean() == pytest.approx(
            0.5
        )
    assert image_scores.count_two_way(r_II, DIRECTIONS[1], 6).score(0.0).mean() == 0.0


def test_nan_neither_wins_nor_ties() -> None:
    r_II = np.array([[0.9, np.nan, 0.1], [0.2, np.nan, 0.0], [0.3, np.nan, 0.8]])
    by_reconstruction = image_scores.count_two_way(r_II, DIRECTIONS[0], 9)
    assert by_reconstruction.won_I.tolist() == [2, 0, 2] and not by_reconstruction.tied_I.any()
    assert image_scores.count_two_way(r_II, DIRECTIONS[1], 9).won_I.tolist() == [1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(MATRICES, st.sampled_from(DIRECTIONS), st.randoms(use_true_random=False))
def test_two_way_laws(r_II: np.ndarray, direction: str, random: object) -> None:
    n = len(r_II)
    counts = image_scores.count_two_way(r_II, direction, 9)
    score_I = counts.score(0.5)
    assert ((score_I >= 0) & (score_I <= 1)).all()
    other = image_scores.count_two_way(r_II.T, DIRECTIONS[1 - DIRECTIONS.index(direction)], 9)
    np.testing.assert_array_equal(counts.won_I, other.won_I)
    reverse = image_scores.count_two_way(-r_II, direction, 9)  # whoever won, loses
    np.testing.assert_array_equal(counts.won_I + reverse.won_I + counts.tied_I, n - 1)
    order = np.array(random.sample(range(n), n))
    moved = image_scores.count_two_way(r_II[np.ix_(order, order)], direction, 9)
    np.testing.assert_array_equal(moved.won_I, counts.won_I[order])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12), st.floats(0.1, 9.0), st.floats(-3.0, 3.0))
def test_identical_features_are_always_identified(
    seed: int, n: int, factor: float, offset: float
) -> None:
    x_IF = np.random.default_rng(seed).standard_normal((n, 8))
    r_II = image_scores.correlate_all(x_IF, factor * x_IF + offset)
    for direction in DIRECTIONS:
        assert (image_scores.count_two_way(r_II, direction, 9).score(0.0) == 1.0).all()


@pytest.mark.parametrize("columns", [False, True])
def test_ssim_equals_scipy(columns: bool) -> None:
    seen, made = frozen_pairs.make_pairs(4, 96)
    found_I = image_scores.score_ssim(made, seen, columns)
    expected_I = [frozen_pairs.ssim_oracle(a, b, columns) for a, b in zip(made, seen, strict=True)]
    np.testing.assert_allclose(found_I, expected_I, atol=1e-6)
    assert found_I.dtype == np.float64
    np.testing.assert_array_equal(image_scores.score_ssim(made, seen, columns, threads=2), found_I)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_ssim_of_a_copy_is_one_and_never_more(seed: int) -> None:
    seen, made = frozen_pairs.make_pairs(2, 32, seed)
    assert image_scores.score_ssim(seen, seen, False) == pytest.approx(1.0)
    assert (image_scores.score_ssim(made, seen, False) <= 1.0 + 1e-6).all()


def test_errors_say_what_came() -> None:
    with pytest.raises(
        ValueError, match="choose from image_given_reconstruction, reconstruction_given_image"
    ):
        image_scores.count_two_way(np.eye(3), "forward", 9)
    with pytest.raises(ValueError, match=r"at least 2 images, as rows and columns, got \(1, 1\)"):
        image_scores.count_two_way(np.eye(1), DIRECTIONS[0], 9)
    with pytest.raises(ValueError, match=r"\(I, F\) twice, got \(3, 3\) and \(3, 2\)"):
        image_scores.correlate_all(np.eye(3), np.eye(3)[:, :2])
