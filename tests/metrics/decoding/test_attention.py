"""Shares of attention and what falls on early areas, against sums written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fmri2clip.datasets.nsd.areas import is_early
from fmri2clip.metrics.decoding import attention

ATTENTION = np.array([[[0.1, 0.2, 0.1], [0.3, 0.3, 0.0]], [[0.2, 0.0, 0.2], [0.1, 0.1, 0.2]]])
NAMES = ("V1", "hV4", "floc-faces")
IDS = np.array([3, 8])


def test_early_share_of_each_token_is_a_ratio_of_sums() -> None:
    scores = attention.score_attention(ATTENTION, NAMES, IDS)
    high, low = [0.3 / 0.4, 0.2 / 0.4], [0.6 / 0.6, 0.2 / 0.4]
    expected = {"high_early": high, "low_early": low, "low_minus_high": np.subtract(low, high)}
    found = {
        name.removeprefix("attention."): value for name, (value, _) in scores.per_image.items()
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    assert scores.constants["attention.early_chance"] == pytest.approx(2 / 3)


def test_areas_without_voxels_do_not_count_for_chance() -> None:
    """hV4 gets nothing from anybody: one early area of two is left."""
    attention_ITR = ATTENTION.copy()
    attention_ITR[:, :, 1] = 0.0
    assert attention.early_chance(attention_ITR, NAMES) == 0.5


@pytest.mark.parametrize(
    ("attention_ITR", "names"),
    [
        (None, ()),
        (ATTENTION[:, :1], NAMES),
        (ATTENTION, ("V1", "V2", "V3")),
        (ATTENTION[:, :, :2], ("a", "rest")),
    ],
)
def test_nothing_is_scored_where_nothing_can_differ(
    attention_ITR: np.ndarray | None, names: tuple[str, ...]
) -> None:
    scores = attention.score_attention(attention_ITR, names, IDS)
    assert not scores.per_image
    assert not scores.constants


@pytest.mark.parametrize(
    ("name", "early"),
    [
        ("V1", True),
        ("hV4", True),
        ("prf-visualrois", True),
        ("prf-visualrois/V3v + prf-visualrois/V3d", True),
        ("V1+floc-faces", False),
        ("rest", False),
        ("streams/early", False),
    ],
)
def test_early_areas_are_those_of_the_pRF_atlas(name: str, early: bool) -> None:
    assert is_early(name) is early
