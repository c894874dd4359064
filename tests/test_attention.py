"""Shares of attention and what falls on early areas, against sums written out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fmri2clip import attention
from fmri2clip.rois import is_early

ATTENTION = torch.tensor([[[0.1, 0.2, 0.1], [0.3, 0.3, 0.0]], [[0.2, 0.0, 0.2], [0.1, 0.1, 0.2]]])
IDS = np.array([3, 8])


def fake(
    names: tuple[str, ...] = ("V1", "hV4", "floc-faces"), n_tokens: int = 2
) -> SimpleNamespace:
    def read(betas: torch.Tensor, subject: str, rollout: bool) -> torch.Tensor:
        return ATTENTION[:, :n_tokens, : len(names)]

    return SimpleNamespace(n_tokens=n_tokens, roi_names=names, read_attention=read)


def test_early_share_of_each_token_is_a_ratio_of_sums() -> None:
    scores = attention.score_attention(fake(), np.zeros((2, 4)), "subj01", IDS)
    high, low = [0.3 / 0.4, 0.2 / 0.4], [0.6 / 0.6, 0.2 / 0.4]
    expected = {"high_early": high, "low_early": low, "low_minus_high": np.subtract(low, high)}
    found = {
        name.removeprefix("attention."): value for name, (value, _) in scores.per_image.items()
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    assert scores.constants["attention.early_chance"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "decoder",
    [
        SimpleNamespace(),
        fake(n_tokens=0),
        fake(n_tokens=1),
        fake(("V1", "V2", "V3")),
        fake(("a", "rest")),
    ],
)
def test_nothing_is_scored_where_nothing_can_differ(decoder: SimpleNamespace) -> None:
    scores = attention.score_attention(decoder, np.zeros((2, 4)), "subj01", IDS)
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
