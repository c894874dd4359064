"""Verdicts: every way to one, from studies written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.core.params import Outcome, Primary
from fmri2clip.documents.numbers import Evidence
from fmri2clip.documents.writing import write_primary
from fmri2clip.studies.primary import FILE, judge_outcomes

METRIC, BESIDE = "x.top1", "clip.image_given_reconstruction"


def over_worlds(low: float, high: float, p: float, same_sign: bool = True) -> dict[str, Any]:
    """The wider the interval, the more comparisons it is corrected for. Worlds hardly differ."""
    limits = {str(k): [low - 0.01 * (k - 1), high + 0.01 * (k - 1)] for k in range(1, 5)}
    middle = (low + high) / 2
    worlds = {f"world{201 + w}": {"value": middle + 1e-4 * (w - 2.5)} for w in range(6)}
    return {"value": middle, "p": p, "limits": limits, "same_sign": same_sign, "worlds": worlds}


def write(folder: Path, name: str, found: dict[str, Any], **changes: Any) -> None:
    facts = {"converged": 1.0, "beside": over_worlds(-0.01, 0.02, 0.5), "baseline": 0.7} | changes
    runs = {
        "a": {"training.converged": {"value": 1.0}},
        "b": {"training.converged": {"value": facts["converged"]}, BESIDE: {"value": 0.7}},
    }
    metrics = {METRIC: found, BESIDE: facts["beside"]}
    worlds = ["world201", "world202"]
    sides = {"a": worlds, "run_a": "a", "b": worlds, "run_b": "b"}
    content = {
        "variants": {world: {"runs": runs} for world in worlds},
        "comparisons": [{"title": "a - b", **sides, "metrics": metrics}],
    }
    (folder / f"{name}.json").write_text(json.dumps(content))


def make(not_worse: str = "") -> Primary:
    outcomes = {
        name: Outcome(study=name, compare="a - b", metric=METRIC, not_worse=not_worse)
        for name in ("one", "two", "three", "four")
    }
    return Primary(worlds=(201, 202), margin=0.1, outcomes=outcomes)


def test_intervals_are_corrected_in_the_order_of_p(tmp_path: Path) -> None:
    """one by 4, two by 3; three fails at 2, so four is corrected by 2 too. Their limits follow."""
    write(tmp_path, "one", over_worlds(0.035, 0.1, 0.001))
    write(tmp_path, "two", over_worlds(0.015, 0.1, 0.012))
    write(tmp_path, "three", over_worlds(0.001, 0.1, 0.04))
    write(tmp_path, "four", over_worlds(0.001, 0.1, 0.045))
    found = judge_outcomes(make(), tmp_path)
    assert {name: one["corrected_by"] for name, one in found.items()} == {
        "one": 4,
        "two": 3,
        "three": 2,
        "four": 2,
    }
    assert found["one"]["low"] == pytest.approx(0.005)
    assert [one["verdict"] for one in found.values()] == [
        "better",
        "not shown",
        "not shown",
        "not shown",
    ]


def test_what_is_not_run_still_counts(tmp_path: Path) -> None:
    write(tmp_path, "two", over_worlds(-0.2, -0.1, 0.001))
    found = judge_outcomes(make(), tmp_path)
    assert found["one"] == {"study": "one", "verdict": "not run"}
    assert found["two"]["corrected_by"] == 4 and found["two"]["verdict"] == "worse"


def test_a_sign_or_a_training_may_forbid_it(tmp_path: Path) -> None:
    write(tmp_path, "one", over_worlds(0.1, 0.2, 0.001, same_sign=False))
    write(tmp_path, "two", over_worlds(0.1, 0.2, 0.001), converged=0.0)
    found = judge_outcomes(make(), tmp_path)
    assert found["one"]["verdict"] == "not shown"
    assert found["two"]["verdict"] == "no verdict: not shown to have converged"


def test_a_t_test_over_worlds_may_forbid_it(tmp_path: Path) -> None:
    """.1 to .6 over six worlds: t = 4.58, p = .0059, and .0059 x 4 is below .05; the rest is SciPy.
    One world of .6 in place of .1 leaves the mean as clear, by images, and t at 1.6."""
    for name, values in (
        ("one", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        ("two", (0, 0, 0, 0.1, 0.2, 0.6)),
    ):
        found = over_worlds(0.1, 0.2, 0.001)
        found["worlds"] = {f"world{201 + w}": {"value": v} for w, v in enumerate(values)}
        write(tmp_path, name, found)
    found = judge_outcomes(make(), tmp_path)
    assert found["one"]["t_test"]["p"] == pytest.approx(0.0059, abs=1e-4)
    assert found["one"]["t_test"]["corrected_by"] == 4 and found["one"]["verdict"] == "better"
    assert found["two"]["t_test"]["corrected_by"] == 3
    assert found["two"]["t_test"]["low"] < 0 < found["two"]["low"]
    assert found["two"]["verdict"] == "not shown: by a t test over worlds it may be 0"


def test_something_else_may_be_worse(tmp_path: Path) -> None:
    """A tenth of .7 - .5 is .02: -.01 less .03 of correction is below, -.01 is not."""
    write(tmp_path, "one", over_worlds(0.1, 0.2, 0.001))
    write(tmp_path, "two", over_worlds(0.1, 0.2, 0.001), beside=over_worlds(0.02, 0.03, 0.1))
    found = judge_outcomes(make(BESIDE), tmp_path)
    assert found["one"]["not_worse"]["least"] == pytest.approx(-0.02)
    assert found["one"]["verdict"] == "not shown: something else may be worse"
    assert found["two"]["verdict"] == "better"


@pytest.mark.parametrize(
    ("converged", "verdict"),
    [(1.0, "better"), (0.0, "no verdict: not shown"), (None, "no verdict: not shown")],
    ids=["both", "one alone", "one is not evaluated"],
)
def test_pictures_converge_with_the_run_that_they_are_painted_from(
    tmp_path: Path, converged: float | None, verdict: str
) -> None:
    write(tmp_path, "one", over_worlds(0.1, 0.2, 0.001), converged=converged)
    path = tmp_path / "one.json"
    content = json.loads(path.read_text())
    content["params"] = {f"reconstructions.of_{run}.source": run for run in "ab"}
    content["comparisons"][0] |= {"run_a": "pictures/of_a", "run_b": "pictures/of_b"}
    for variant in content["variants"].values():
        variant["runs"] |= {f"pictures/of_{run}": {BESIDE: {"value": 0.7}} for run in "ab"}
        if converged is None:
            del variant["runs"]["b"]
    path.write_text(json.dumps(content))
    assert judge_outcomes(make(), tmp_path)["one"]["verdict"].startswith(verdict)


def test_a_study_without_the_comparison_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", {"value": 0.1})
    with pytest.raises(ValueError, match="run it again: make study NAME=one"):
        judge_outcomes(make(), tmp_path)


def test_the_table_of_the_documents(tmp_path: Path) -> None:
    write(tmp_path, "one", over_worlds(0.1, 0.2, 0.001))
    (tmp_path / "reports").mkdir()
    (tmp_path / FILE).write_text(json.dumps(judge_outcomes(make(BESIDE), tmp_path)))
    lines = write_primary(Evidence(tmp_path)).splitlines()
    worlds = ", ".join(["+15.0"] * 6)
    cells = f"+15.0 [+7.0, +23.0] | 0.0010 | [+15.0, +15.0] | below 0.0001 | {worlds}"
    beside = "-4.0 (at least -2.0)"
    assert lines[2] == f"| one | {cells} | {beside} | not shown: something else may be worse |"
    assert lines[3] == "| two | - | - | - | - | - | - | not run |"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metric": "classification.hamming"}, "of which less is better"),
        ({"not_worse": METRIC}, "two-way identification"),
    ],
)
def test_a_metric_without_such_a_verdict_is_refused(
    tmp_path: Path, changed: dict[str, str], message: str
) -> None:
    outcome = Outcome(**{"study": "one", "compare": "a - b", "metric": METRIC, **changed})
    with pytest.raises(ValueError, match=message):
        judge_outcomes(Primary(worlds=(201,), margin=0.1, outcomes={"one": outcome}), tmp_path)


def test_more_outcomes_than_a_study_was_run_for(tmp_path: Path) -> None:
    found = over_worlds(0.1, 0.2, 0.001)
    del found["limits"]["4"]
    write(tmp_path, "one", found)
    with pytest.raises(ValueError, match=r"up to 3 outcomes, params.yaml has 4; run it again"):
        judge_outcomes(make(), tmp_path)
