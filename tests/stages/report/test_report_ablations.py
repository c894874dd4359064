"""Tests of the ablation table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fmri2clip.stages.report.ablations import METRICS, describe_metric, make_ablations


def difference(value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": low,
        "high": high,
        "n_positive": 1,
        "n_subjects": 1,
    }


def make_study(run_b: str = "brainmclip") -> dict[str, Any]:
    metrics = {
        "readout.edges": difference(-0.031, -0.05, -0.01),
        "zero_shot.top1": difference(0.01, -0.02, 0.04),
    }
    comparison = {"title": "fast-slow", "run_a": "brainmclip", "run_b": run_b, "metrics": metrics}
    return {
        "comparisons": [comparison],
        "seeds": {"values": [0, 1, 2]},
        "budget": "1 minute; 1 subject",
    }


def test_only_studies_of_the_run_with_itself_are_rows() -> None:
    inputs: Any = SimpleNamespace(studies={"own": make_study(), "other": make_study("brainclip")})
    _, table, missing_run = make_ablations(inputs).blocks
    assert missing_run.text == "No study that compares `clip_mused` with itself has been collected."
    assert [row.cells[0] for row in table.rows] == ["own: 3 training seeds; 1 subject", "fast-slow"]
    missing = [
        name
        for name, cell in zip(METRICS["brainmclip"], table.rows[1].cells[1:], strict=True)
        if cell == "-"
    ]
    assert missing == [
        name for name in METRICS["brainmclip"] if name not in ("readout.edges", "zero_shot.top1")
    ]


def test_without_such_a_study_the_section_says_so() -> None:
    inputs: Any = SimpleNamespace(studies={"other": make_study("brainclip")})
    assert {block.tone for block in make_ablations(inputs).blocks} == {"missing"}


def test_sentence_names_what_excludes_zero_and_leaves_titles_alone() -> None:
    comparisons = make_study()["comparisons"]
    edges = (
        "Read-out of edges: 1 of 1 differences exclude 0, largest first: "
        "fast-slow (\N{MINUS SIGN}3.1)."
    )
    assert describe_metric(comparisons, "readout.edges", "read-out of edges") == edges
    found = describe_metric(comparisons, "zero_shot.top1", "zero-shot category")
    assert found == "Zero-shot category: 0 of 1 differences exclude 0."
