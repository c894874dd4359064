"""Verdicts of the primary outcomes, from the studies on reporting worlds (docs/preregistered.md).

An outcome is better where its interval, corrected by Holm's method for all outcomes of the
parameters, lies above 0, every world has that sign, all of its trainings are shown to have
converged, and what must be no worse is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.paths import PICTURES
from fmri2clip.core.params import Outcome, Primary
from fmri2clip.metrics.worlds import holm

FILE = "reports/primary.json"
TWO_WAY = 0.5  # chance of two-way identification


def judge_outcomes(primary: Primary, folder: Path) -> dict[str, Any]:
    """By outcome, what its study found and the verdict; `not run` where there is no such study.

    folder: with the studies' JSON files. Raises ValueError for a study without the comparison or
    the metric.
    """
    found = {name: _read(outcome, folder) for name, outcome in primary.outcomes.items()}
    there = {name: one for name, one in found.items() if one is not None}
    corrections = holm({name: one["p"] for name, one in there.items()}, len(primary.outcomes))
    judged: dict[str, Any] = {}
    for name, outcome in primary.outcomes.items():
        if name not in there:
            judged[name] = {"study": outcome.study, "verdict": "not run"}
            continue
        one = there[name]
        low, high = one["limits"][str(corrections[name])]
        row = {key: one[key] for key in ("value", "p", "same_sign", "worlds", "converged")}
        row |= {"study": outcome.study, "metric": outcome.metric, "low": low, "high": high}
        row["corrected_by"] = corrections[name]
        if outcome.not_worse:
            row["not_worse"] = _check_margin(one, outcome, primary.margin, corrections[name])
        judged[name] = row | {"verdict": _decide(row)}
    return judged


def _decide(row: Mapping[str, Any]) -> str:
    if not row["converged"]:
        return "no verdict: not shown to have converged"
    if row["low"] <= 0 <= row["high"] or not row["same_sign"]:
        return "not shown"
    if row["high"] < 0:
        return "worse"
    if not row.get("not_worse", {}).get("met", True):
        return "not shown: something else may be worse"
    return "better"


def _read(outcome: Outcome, folder: Path) -> dict[str, Any] | None:
    """The comparison's metric as its study has it, with what else the verdict needs."""
    path = folder / f"{outcome.study}.json"
    if not path.is_file():
        return None
    study = json.loads(path.read_text(encoding="utf-8"))
    comparisons = {one["title"]: one for one in study["comparisons"]}
    comparison = comparisons.get(outcome.compare)
    for metric in filter(None, (outcome.metric, outcome.not_worse)):
        if comparison is None or "limits" not in comparison["metrics"].get(metric, {}):
            raise ValueError(
                f"{path} has no {metric} over worlds under {outcome.compare!r}; run it again: make "
                f"study NAME={outcome.study}"
            )
    assert comparison is not None
    trained = [_find_run(study, comparison[side]) for side in ("run_a", "run_b")]
    runs = [
        variant["runs"].get(name, {}) for variant in study["variants"].values() for name in trained
    ]
    # A run that the study does not evaluate is not shown to have converged.
    shown = [run.get("training.converged", {}).get("value") for run in runs]
    baseline = [
        variant["runs"][comparison["run_b"]].get(outcome.not_worse, {}).get("value")
        for variant in study["variants"].values()
    ]
    return {
        **comparison["metrics"][outcome.metric],
        "converged": all(value == 1 for value in shown),
        "beside": comparison["metrics"].get(outcome.not_worse),
        "baseline": baseline,
    }


def _find_run(study: Mapping[str, Any], name: str) -> str:
    """The run that is compared, or whose features are painted."""
    if not name.startswith(PICTURES):
        return name
    run: str = study["params"][f"reconstructions.{name.removeprefix(PICTURES)}.source"]
    return run


def _check_margin(
    one: Mapping[str, Any], outcome: Outcome, margin: float, correction: int
) -> dict[str, Any]:
    """Whether the lower limit lies above minus `margin` of (baseline - chance)."""
    baseline = sum(one["baseline"]) / len(one["baseline"])
    least = -margin * (baseline - TWO_WAY)
    low, high = one["beside"]["limits"][str(correction)]
    return {
        "metric": outcome.not_worse,
        "value": one["beside"]["value"],
        "low": low,
        "high": high,
        "least": round(least, 6),
        "met": low > least,
    }
