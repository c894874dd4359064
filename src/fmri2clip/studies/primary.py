"""Verdicts of the primary outcomes, from the studies on reporting worlds (docs/preregistered.md).

An outcome is better where both of its intervals, each corrected by Holm's method for all outcomes
of the parameters, lie above 0, every world has that sign, all of its trainings are shown to have
converged, and what must be no worse is not. One interval resamples worlds, then images; the other
is that of a t test over worlds (metrics/worlds.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.study import is_shown_converged
from fmri2clip.core.params import Outcome, Primary
from fmri2clip.metrics.statistics import LOWER_IS_BETTER
from fmri2clip.metrics.worlds import holm, t_test

FILE = "reports/primary.json"
TWO_WAY = ".image_given_reconstruction"  # how metrics of two-way identification end
CHANCE = 0.5  # of those


def judge_outcomes(primary: Primary, folder: Path) -> dict[str, Any]:
    """By outcome, what its study found and the verdict; `not run` where there is no such study.

    folder: with the studies' JSON files. Raises ValueError for a study without the comparison or
    the metric.
    """
    n = len(primary.outcomes)
    found = {name: _read(outcome, folder, n) for name, outcome in primary.outcomes.items()}
    there = {name: one for name, one in found.items() if one is not None}
    corrections = holm({name: one["p"] for name, one in there.items()}, n)
    tests = {name: t_test(_values(one), 1)[0] for name, one in there.items()}
    test_corrections = holm(tests, n)
    judged: dict[str, Any] = {}
    for name, outcome in primary.outcomes.items():
        if name not in there:
            judged[name] = {"study": outcome.study, "verdict": "not run"}
            continue
        one = there[name]
        k, k_test = corrections[name], test_corrections[name]
        low, high = one["limits"][str(k)]
        row = {key: one[key] for key in ("value", "p", "same_sign", "worlds", "converged")}
        row |= {"study": outcome.study, "metric": outcome.metric, "low": low, "high": high}
        row["corrected_by"] = k
        test_low, test_high = t_test(_values(one), k_test)[1]
        row["t_test"] = {
            "p": round(tests[name], 6),
            "low": round(test_low, 6),
            "high": round(test_high, 6),
            "corrected_by": k_test,
        }
        if outcome.not_worse:
            row["not_worse"] = _check_margin(one, outcome, primary.margin, k, k_test)
        judged[name] = row | {"verdict": _decide(row)}
    return judged


def _values(one: Mapping[str, Any]) -> list[float]:
    return [world["value"] for world in one["worlds"].values()]


def _decide(row: Mapping[str, Any]) -> str:
    if not row["converged"]:
        return "no verdict: not shown to have converged"
    if row["low"] <= 0 <= row["high"] or not row["same_sign"]:
        return "not shown"
    if row["t_test"]["low"] <= 0 <= row["t_test"]["high"]:
        return "not shown: by a t test over worlds it may be 0"
    if row["high"] < 0:
        return "worse"
    if not row.get("not_worse", {}).get("met", True):
        return "not shown: something else may be worse"
    return "better"


def _read(outcome: Outcome, folder: Path, n_comparisons: int) -> dict[str, Any] | None:
    """The comparison's metric as its study has it, with what else the verdict needs."""
    if outcome.metric.rsplit(".", 1)[-1] in LOWER_IS_BETTER:
        raise ValueError(
            f"a primary outcome is {outcome.metric}, of which less is better; name a metric of "
            "which more is"
        )
    if outcome.not_worse and not outcome.not_worse.endswith(TWO_WAY):
        raise ValueError(
            f"not_worse is {outcome.not_worse}; its margin is known for two-way identification "
            f"(...{TWO_WAY}) alone"
        )
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
    most = len(comparison["metrics"][outcome.metric]["limits"])
    if most < n_comparisons:
        raise ValueError(
            f"{path} has intervals for up to {most} outcomes, params.yaml has {n_comparisons}; run "
            f"it again: make study NAME={outcome.study}"
        )
    baseline = [
        variant["runs"][comparison["run_b"]].get(outcome.not_worse, {}).get("value")
        for variant in study["variants"].values()
    ]
    return {
        **comparison["metrics"][outcome.metric],
        "converged": is_shown_converged(study, comparison),
        "beside": comparison["metrics"].get(outcome.not_worse),
        "baseline": baseline,
    }


def _check_margin(
    one: Mapping[str, Any], outcome: Outcome, margin: float, correction: int, test_correction: int
) -> dict[str, Any]:
    """Whether both lower limits lie above minus `margin` of (baseline - chance)."""
    baseline = sum(one["baseline"]) / len(one["baseline"])
    least = -margin * (baseline - CHANCE)
    low, high = one["beside"]["limits"][str(correction)]
    test_low, test_high = t_test(_values(one["beside"]), test_correction)[1]
    low, high = min(low, test_low), max(high, test_high)
    return {
        "metric": outcome.not_worse,
        "value": one["beside"]["value"],
        "low": round(low, 6),
        "high": round(high, 6),
        "least": round(least, 6),
        "met": low > least,
    }
