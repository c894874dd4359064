"""Parts of the report by themselves: ranks, verdicts, chance levels, renderers, studies, world
figures.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fmri2clip.core.params import load
from fmri2clip.stages.report import (
    data,
    html,
    judge_tables,
    markdown,
    pictures,
    studies,
    study_columns,
    unseen,
)
from fmri2clip.stages.report.document import Paragraph, Report, Row, Score, Section, Table, Verdict
from fmri2clip.stages.report.scores import chance


def test_rank_counts_pictures_ahead() -> None:
    rng = np.random.default_rng(1)
    similarity_II = rng.integers(0, 4, size=(30, 30)).astype(float)
    ranks = pictures.rank_true(similarity_II)
    for row in range(30):
        ahead = sum(similarity_II[row, j] >= similarity_II[row, row] for j in range(30) if j != row)
        assert ranks[row] == ahead + 1


def test_cases_stand_at_fixed_places() -> None:
    rank_I = np.array([5, 1, 1, 9, 2, 3, 7])
    nsd_id_I = np.array([70, 60, 50, 40, 30, 20, 10])
    chosen = pictures.choose_cases(rank_I, nsd_id_I)
    assert chosen == [
        ("best", 2),
        ("best", 1),
        ("median", 4),
        ("median", 5),
        ("worst", 6),
        ("worst", 3),
    ]
    assert pictures.choose_cases(rank_I[:1], nsd_id_I[:1]) == [("best", 0)]


def test_hit_and_own_captions_are_marked() -> None:
    retrieval = pictures.Retrieval(
        nsd_id_I=np.array([3, 5, 8]),
        image_II=np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.1], [0.3, 0.2, 0.9]]),
        text_IK=np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.4]]),
        caption_K=["one", "two"],
        caption_image_K=np.array([0, 1]),
    )
    cases = pictures.make_cases(
        retrieval, lambda nsd_id: np.full((200, 300, 3), nsd_id, dtype=np.uint8), "run"
    )
    first = next(case for case in cases if case.stimulus.lines == ("nsd_id 3",))
    assert "rank 3 of 3" in first.heading
    assert [picture.lines[0] for picture in first.retrieved] == ["nsd_id 5", "nsd_id 8", "nsd_id 3"]
    assert [picture.marked for picture in first.retrieved] == [False, False, True]
    assert first.captions == (("two", False), ("one", True))
    strip = pictures.make_strips([first])[0]
    assert max(strip.pictures[0].shape) == pictures.THUMBNAIL
    assert strip.notes == ["two", "= one"]


def test_verdict_on_unseen_categories() -> None:
    good, bad = (
        {"top1": 0.6, "top1_ci95_low": 0.55, "chance": 0.5},
        {"top1": 0.52, "top1_ci95_low": 0.45, "chance": 0.5},
    )
    assert unseen.judge(good, good) == Verdict("above chance", "good")
    assert unseen.judge(bad, good) == Verdict("not above chance", "bad")
    assert unseen.judge(good, bad).word == unseen.NOT_TESTABLE
    assert "no noise-free reference" in unseen.judge(good, {}).word


def test_chance_levels(project: Any) -> None:
    evaluation, tree = project.params.evaluation, {"zero_shot": {"chance": 0.25}}
    expected = {
        "retrieval.image_given_brain.top1": 5.0,
        "retrieval_hard.text_given_brain.top5": 500 / 6,
        "retrieval_all.brain_given_image.top1": 2.5,
        "zero_shot.top1": 25.0,
        "zero_shot.top5": 100.0,
        "classification.auc": 50.0,
        "classification.map": None,
    }
    for name, level in expected.items():
        assert chance(name, evaluation, 40, tree) == (
            None if level is None else pytest.approx(level)
        )


def test_renderers_agree_on_a_small_report() -> None:
    table = Table(
        title="T",
        columns=("a|b", "x"),
        label="L.",
        rows=(
            Row(("group",), "heading"),
            Row(("`r`", (Score(1.25, -2, 3, signed=True), Verdict("better", "good")))),
        ),
    )
    report = Report(
        title="R <1>",
        subtitle="s",
        sections=(Section("one", "One", [table, Paragraph("**b** & c", "notice")]),),
    )
    page, summary = html.render(report), markdown.render(report, Path())
    assert "R &lt;1&gt;" in page
    assert "<strong>b</strong> &amp; c" in page
    interval = "[\N{MINUS SIGN}2.0,\N{NO-BREAK SPACE}+3.0]"
    assert f'<span class="value">+1.2</span><span class="interval">{interval}</span>' in page
    assert "| `r`" in summary
    assert "a\\|b" in summary
    assert "+1.2 [\N{MINUS SIGN}2.0,\N{NO-BREAK SPACE}+3.0] better" in summary
    assert "> **b** & c" in summary


def test_study_numbers_keep_their_unit(study: dict[str, Any]) -> None:
    assert study_columns.scale("retrieval.image_given_brain.top1") == 100
    assert study_columns.scale("zero_shot.n_images") == 1
    assert study_columns.scale("parameters.trained") == 1
    assert (
        study_columns.title_metric("retrieval.text_given_brain.top1", 300)
        == "text given brain, 300-way top-1"
    )
    assert study_columns.title_metric("something.else") == "`something.else`"
    assert list(studies.collect_lines(study)) == [
        "image given brain, 300-way top-1",
        "zero-shot category top-1",
    ]


def test_band_of_a_world_figure() -> None:
    tables = data.make_world_tables(
        {"a": {"value": 3, "low": 2}, "b": {"value": 0.5, "high": 0.4}, "c": 7}, (), "L"
    )
    assert isinstance(tables[1], Table)
    assert [row.cells[2] for row in tables[1].rows] == ["at least 2.000", "at most 0.400"]
    assert [row.cells[3].word for row in tables[1].rows] == ["in band", "out of band"]


def test_split_in_words_and_held_out_clusters(project: Any) -> None:
    params = project.params
    run = params.runs["ridge"]
    split = {"holdout_clusters": 10, "unseen_folds": 4, "unseen_fold": 2, "unseen_control": True}
    result = SimpleNamespace(name="r", run=dataclasses.replace(run, split=split), metrics={})
    words = unseen.describe_left_out(params, result)
    assert words == "as many random images as fold 2 of 4, 20% of 10 clusters"
    branch = {"retrieval": {"image_given_brain": {"top1": 0.25}}}
    result.metrics = {"retrieval": {"image_given_brain": {"top1": 0.5}}, "unseen": branch}
    (table,) = unseen.make_unseen(SimpleNamespace(params=params, runs={"r": result}))
    assert isinstance(table, Table)
    assert [row.cells[2:4] for row in table.rows] == [
        ("held-out clusters", Score(25.0)),
        ("all", Score(50.0)),
    ]


def test_nothing_left_out_is_said(project: Any) -> None:
    result = SimpleNamespace(name="r", run=project.params.runs["ridge"], metrics={})
    assert unseen.describe_left_out(project.params, result) == "nothing"
    (said,) = unseen.make_unseen(SimpleNamespace(params=project.params, runs={"r": result}))
    assert isinstance(said, Paragraph)
    assert "No run" in said.text


def make_tree(**numbers: float) -> dict[str, Any]:
    """A metrics tree of these numbers by dotted name (__ for a dot), each with an interval."""
    tree: dict[str, Any] = {}
    for dotted, value in numbers.items():
        *path, leaf = dotted.split("__")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node |= {leaf: value, f"{leaf}_ci95_low": value - 0.1, f"{leaf}_ci95_high": value + 0.1}
    return tree


def judge_blocks(trees: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Tables of judge_tables by title."""
    run = SimpleNamespace(clip="mini", decoder="ridge", seed=0, subjects=("subj01",))
    runs = {name: SimpleNamespace(name=name, run=run, metrics=tree) for name, tree in trees.items()}
    params = load(Path(__file__).parents[3] / "params.yaml")
    inputs: Any = SimpleNamespace(runs=runs, params=params)
    found = {}
    for block in judge_tables.make_judge_tables(inputs, "mini", 500):
        for table in getattr(block, "blocks", (block,)):
            found[table.title] = table
    return found


def test_judge_tables_show_what_was_scored() -> None:
    tree = make_tree(
        retrieval__image_given_brain__top1=0.5,
        trials__1__retrieval__image_given_brain__top1=0.3,
        retrieval_sizes__50__image_given_brain__top1=0.8,
        retrieval_sizes__100__image_given_brain__top1=0.7,
    )
    found = judge_blocks({"ridge": tree, "labels": {}})
    assert set(found) == {
        "By number of trials",
        "By size of the gallery: image given brain, top-1",
    }
    trials = found["By number of trials"]
    assert trials.columns == ("run", "image given brain, 1 trial", "image given brain, all")
    (row,) = trials.rows
    assert [cell.text() for cell in row.cells[1:]] == ["30.0", "50.0"]


def test_similarities_stand_beside_each_other_and_bits_are_bits() -> None:
    tree = make_tree(
        judge__cosine__retrieval_all__image_given_brain__top1=0.5,
        judge__cosine__retrieval_all__image_given_brain__bits=4.25,
        judge__channel__retrieval_all__image_given_brain__top1=0.6,
        judge__channel__retrieval_all__image_given_brain__bits=5.5,
    )
    table = judge_blocks({"ridge": tree})["By similarity, among all test images"]
    shown = dict(zip(table.columns[1:], table.rows[0].cells[1:], strict=True))
    assert shown["image given brain, bits by cosine"].text() == "4.25"
    assert shown["image given brain, bits by channel"].text() == "5.50"
    assert shown["image given brain, top-1 by channel"].text() == "60.0"


def test_categories_are_sorted_by_their_positives() -> None:
    leaves = {
        "cat": {"average_precision": 0.4, "n_positive": 7},
        "dog": {"average_precision": 0.2, "n_positive": 50},
    }
    tree = {"classification": {"by_category": leaves}}
    table = judge_blocks({"a": tree, "b": {}})["Average precision by category (%)"]
    assert [row.cells for row in table.rows] == [
        ("dog", "50", "10.0", "20.0"),
        ("cat", "7", "1.4", "40.0"),
    ]
