"""The section about CLIP blocks and areas: its numbers are those of the stage, its sentences follow
from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fmri2clip.core.params import Clip, Hierarchy
from fmri2clip.stages.hierarchy import tree
from fmri2clip.stages.report import hierarchy, pictures
from fmri2clip.stages.report.document import Bullets, Paragraph, Table

N_BLOCKS, N_RESAMPLES = 5, 200
FLAT = np.full(N_BLOCKS, 0.5)
RISING = np.linspace(0.3, 0.7, N_BLOCKS)
CONFIG = Hierarchy(n_images=77, n_permutations=19, block_voxels=44, band_share=0.8, band_cka=0.6)
P_VALUES = {"clusters": 0.2, "voxels": 0.01}


def make_result(low_L: np.ndarray, high_L: np.ndarray, seed: int) -> tree.Result:
    """RSA with resamples of standard deviation 0.01; null distributions that give every contrast
    P_VALUES.
    """
    rng = np.random.default_rng(seed)
    rsa = {}
    for group, value_L in {"low": low_L, "high": high_L, "all": (low_L + high_L) / 2}.items():
        noise_RL = 0.01 * rng.normal(size=(1 + N_RESAMPLES, N_BLOCKS))
        noise_RL[0] = 0
        rsa[group] = value_L + noise_RL
    contrasts = {name: float(v) for name, v in tree.late_contrasts(low_L, high_L).items()}
    shuffled = {
        kind: {
            name: value + np.where(np.arange(99) < 100 * p - 1, 1.0, -1.0)
            for name, value in contrasts.items()
        }
        for kind, p in P_VALUES.items()
    }
    distance_LL = np.abs(np.subtract.outer(np.arange(N_BLOCKS), np.arange(N_BLOCKS)))
    summaries = tree.SUMMARIES
    return tree.Result(
        counts={
            "n_images": 70,
            "n_voxels_low": 1234,
            "n_voxels_high": 800,
            "n_voxels_both": 5,
            "n_matched": 800,
        },
        reliability=dict.fromkeys(rsa, 0.3),
        rsa=dict.fromkeys(summaries, rsa),
        cka={
            name: {group: value_RL[0] / 2 for group, value_RL in rsa.items()} for name in summaries
        },
        block_cka=dict.fromkeys(summaries, 1 - 0.2 * distance_LL),
        observed=contrasts,
        shuffled=shuffled,
    )


def make_tree(low_L: np.ndarray, high_L: np.ndarray) -> dict[str, Any]:
    results = {f"subj0{n}": make_result(low_L, high_L, n) for n in (1, 2)}
    return tree.describe(results, CONFIG)


def make_blocks(project: Any, tree: Mapping[str, Any], **clip: Any) -> list[Any]:
    """Blocks of one clip without a picture."""
    clips = {"mini": Clip(model="m", pretrained="p", **clip)}
    content = vars(project.params) | {"hierarchy": CONFIG, "clips": clips}
    inputs = SimpleNamespace(
        params=SimpleNamespace(**content), hierarchy={"mini": tree}, hierarchy_pictures={}
    )
    return hierarchy.make_clip(inputs, "mini")


@pytest.mark.parametrize(
    ("low_L", "high_L", "said"),
    [
        (
            FLAT,
            FLAT + 0.2,
            "high areas fit every block better; no preference for late blocks is shown",
        ),
        (
            FLAT + 0.2,
            FLAT,
            "low areas fit every block better; no preference for late blocks is shown",
        ),
        (
            FLAT,
            FLAT + 0.2 - 0.3 * np.eye(N_BLOCKS)[2],
            "high areas fit 4 of 5 blocks better; no preference",
        ),
        (
            FLAT,
            RISING,
            "high areas resemble the last block more than low areas do; high areas prefer late "
            "blocks",
        ),
        (
            RISING,
            FLAT,
            "low areas resemble the last block more than high areas do; low areas prefer late "
            "blocks",
        ),
        (
            RISING - 0.4,
            RISING[::-1],
            "differ at the last block is not shown; low areas prefer late blocks",
        ),
        (
            FLAT,
            FLAT,
            "differ at the last block is not shown; no preference for late blocks is shown",
        ),
    ],
)
def test_conclusion_follows_from_the_intervals(
    low_L: np.ndarray, high_L: np.ndarray, said: str
) -> None:
    sentences = hierarchy.describe_similarity(make_tree(low_L, high_L)["mean"], "patch_mean")
    assert said in sentences[1]
    assert ("`late_difference` excludes 0" in sentences[1]) == (abs(high_L[-1] - low_L[-1]) > 0.1)


def test_peak_gap_shuffles_and_band_are_said(project: Any) -> None:
    tree = make_tree(RISING[::-1], RISING)
    assert "later for `high`" in hierarchy.describe_gap(tree["mean"])
    assert "`peak_gap` +4.0" in hierarchy.describe_gap(tree["mean"])
    shuffles = hierarchy.describe_shuffles(tree["mean"], CONFIG)
    assert "about 44 neighbouring voxels, p is at most 0.05 for no contrast" in shuffles
    assert shuffles.endswith("for `late_difference`, `late_preference`, `peak_gap`.")
    said = hierarchy.describe_band({"first": 2, "last": 4}, CONFIG, "mini", (4, 2, 3))
    assert (
        "blocks 2 to 4" in said
        and "at least 80 % of the best" in said
        and said.endswith("the same blocks.")
    )
    assert hierarchy.describe_band({"first": 2, "last": 2}, CONFIG, "mini", ()).endswith(
        "is empty: not the suggested blocks."
    )


def test_tables_hold_the_numbers_of_the_stage(project: Any) -> None:
    tree = make_tree(FLAT, RISING)
    picture, sentences, blocks, contrasts, details = make_blocks(project, tree, detail_layers=(1,))
    assert isinstance(picture, Paragraph) and "`mini.png`" in picture.text
    assert (
        isinstance(sentences, Bullets)
        and "`clips.mini.detail_layers` is 1: not the suggested" in sentences.items[-1]
    )
    assert len(blocks.rows) == N_BLOCKS
    found = tree["mean"]["rsa"]["patch_mean"]["high"]
    score = blocks.rows[3].cells[3]
    assert (score.value, score.low, score.high) == tuple(
        found[f"block4{end}"] for end in ("", "_ci95_low", "_ci95_high")
    )
    assert blocks.rows[3].cells[6].value == pytest.approx(RISING[3] / 2)
    inside = [row.cells[1] == "yes" for row in blocks.rows]
    assert inside == [
        tree["band"]["first"] <= block <= tree["band"]["last"] for block in range(1, N_BLOCKS + 1)
    ]
    difference = contrasts.rows[0].cells
    assert difference[1].text() == f"+{RISING[-1] - 0.5:.3f}" and difference[2:] == (
        "+0.200",
        "0.200",
        "0.010",
    )
    assert "at least 0.050" in contrasts.label and "77 training images" in contrasts.label
    subjects = details.blocks[0]
    assert [row.cells[:5] for row in subjects.rows] == [
        (f"subj0{n}", "70", "1,234", "800", "800") for n in (1, 2)
    ]
    assert all(isinstance(table, Table) for table in details.blocks) and len(details.blocks) == 3


def test_section_stands_in_both_reports_or_says_what_is_missing(fresh: Any, summary: str) -> None:
    assert "CLIP model `mini` is missing: run the `hierarchy`" in re.sub(r"[\s>]+", " ", summary)
    fresh.write_json("data/hierarchy/mini.json", make_tree(FLAT, FLAT + 0.2))
    png = pictures.encode_picture(np.zeros((4, 4, 3), dtype=np.uint8))
    (fresh.root / "data/hierarchy/mini.png").write_bytes(png)
    page, brief = fresh.write()
    assert "](hierarchy/mini.png)" in brief
    assert (fresh.root / "reports/hierarchy/mini.png").read_bytes() == png
    for text in (page, brief):
        assert "Which CLIP blocks resemble which areas" in text
        assert "high areas fit every block better" in re.sub(r"\s+", " ", text)
        assert "run the `hierarchy`" not in text
