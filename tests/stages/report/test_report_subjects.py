"""Weights by number of subjects, sentences on tokens, and decoders of labels in the tables and the
overview.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fmri2clip.metrics.statistics import Difference, Estimate
from fmri2clip.stages.report import results, sections, subjects
from fmri2clip.stages.report.scores import Family

BLOCKS = ("block_1", "block_2", "final")


def interval(value: float, width: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


@pytest.fixture
def tree() -> dict[str, Any]:
    """What inspect_tokens writes for one run of two subjects and two ROIs."""
    rois = {"floc-faces": 0.7, "V1": 0.3}
    share = {s: {"high": rois, "low": {"floc-faces": 0.2, "V1": 0.8}} for s in ("subj01", "subj02")}
    early = {
        "high_early": interval(0.3),
        "low_early": interval(0.8),
        "low_minus_high": interval(0.5),
    }
    values = {"high": (0.1, 0.2, 0.5), "low": (0.4, 0.3, 0.2)}
    rsa: dict[str, Any] = {
        token: {name: interval(value) for name, value in zip(BLOCKS, row, strict=True)}
        | {"late": interval(row[2] - row[0])}
        for token, row in values.items()
    }
    lost = {
        name: {**interval(0.01, 0.03), "n_positive": 1, "subjects": {}} for name in ("map", "auc")
    }
    swap = {
        "n_subjects": 2,
        "lost": lost,
        "map": {s: {t: interval(0.4) for t in share} for s in share},
    }
    attention = {
        "early_chance": 0.5,
        "is_early": {"floc-faces": 0.0, "V1": 1.0},
        "last_layer": share,
        "rollout": share,
        "early": early,
    }
    return {
        "swap": swap,
        "attention": attention,
        "rsa": {"n_images": 40, **rsa, "high_minus_low": interval(0.6)},
    }


def test_sentences_follow_the_intervals(tree: dict[str, Any]) -> None:
    (swap,) = subjects.describe_swap(tree)
    assert (
        "+1.0 [\N{MINUS SIGN}2.0, +4.0] points in mAP" in swap
        and "that they matter is not shown" in swap
    )
    (attention,) = subjects.describe_attention(tree)
    assert (
        "low tokens 80.0 % [78.0, 82.0]" in attention
        and "low tokens attend to early areas more" in attention
    )
    (similarity,) = subjects.describe_similarity(tree)
    assert (
        "high token resemble `final` most (RSA 0.50)" in similarity
        and "low token resemble `block_1`" in similarity
    )
    assert "the high token is the later one" in similarity
    tree["attention"]["early"]["low_minus_high"] = interval(-0.5)
    assert "less than high tokens do" in subjects.describe_attention(tree)[0]


def test_section_shows_figure_and_swap(tree: dict[str, Any], fresh: Any) -> None:
    fresh.write_json("data/tokens.json", {"ridge": tree, "a run that is gone": tree})
    page, summary = fresh.write()
    assert (fresh.root / "reports/figures/tokens_ridge.png").is_file()
    assert "ridge: mAP with another subject" in summary
    assert "a run that is gone" not in page
    (fresh.root / "data/tokens.json").unlink()
    assert "`inspect_tokens` stage has not run" in fresh.write()[1]


def make_result(name: str, metrics: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(name=name, metrics=metrics)


def test_weights_of_n_subjects_are_the_shared_ones_and_n_times_the_own(project: Any) -> None:
    counts = {
        "per_subject": 3000.0,
        "shared": 500.0,
        "input_map": 2900.0,
        "identity": 100.0,
        "deployed": 12500.0,
    }
    runs = {
        "tokens": make_result("tokens", {"parameters": counts}),
        "ridge": make_result("ridge", {"parameters": {"deployed": 2000.0}}),
    }
    inputs: Any = SimpleNamespace(runs=runs, params=project.params)
    rows = [row.cells for row in subjects.make_weights_table(inputs).rows]
    assert rows[0] == ("`tokens`", "2.9", "0.1", "3.0", "0.5", "3.5", "6.5", "12.5")
    assert rows[1] == ("`ridge`", "-", "-", "2.0", "-", "2.0", "4.0", "8.0")


def test_decoders_of_labels_stand_apart_where_labels_are_scored() -> None:
    trees = {
        "ridge": {"classification": {"map": 0.3}},
        "net": {"classification": {"map": 0.4, "hamming": 0.1}},
    }
    groups = {"Decoders": trees, "Nulls": {"null.prior": {}}}
    family = Family("Categories", "", {"classification.map": "mAP"})
    found = results.split_decoders(groups, family)
    assert [list(rows) for rows in found.values()] == [["ridge"], ["net"], ["null.prior"]]
    assert "not trained on labels" in next(iter(found))
    assert (
        results.split_decoders(groups, Family("Retrieval", "", {"retrieval.x.top1": "x"})) == groups
    )


def test_overview_pairs_like_with_like() -> None:
    labelled = {"classification": {"hamming": 0.1}}
    runs = {
        name: make_result(name, labelled if name.startswith("label") else {})
        for name in ("a", "b", "b_tokens", "label1", "label2", "label3")
    }
    for (
        name,
        result,
    ) in runs.items():  # b_tokens repeats the decoder of b, and those of labels share one
        result.run = SimpleNamespace(
            decoder="label" if name.startswith("label") else name.removesuffix("_tokens")
        )
    inputs: Any = SimpleNamespace(runs=runs)
    none = Difference(
        estimate=Estimate(value=0, low=0, high=0),
        per_subject={},
        n_positive=0,
        n_subjects=1,
    )
    pairs = [
        ("b", "a"),
        ("b_tokens", "a"),
        ("b_tokens", "b"),
        ("label1", "a"),
        ("label2", "label1"),
        ("label3", "label2"),
        ("a", "baseline.nearest_brain"),
    ]
    found = {pair: {"classification.map": none} for pair in pairs}
    assert sections.choose_pairs(inputs, found) == [
        ("b", "a"),
        ("label2", "label1"),
        ("a", "baseline.nearest_brain"),
    ]
