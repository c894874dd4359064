"""Studies: what studies/<name>.yaml says of its answer, and the numbers of reports/studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from fmri2clip.artefacts.paths import PICTURES
from fmri2clip.core.strict import build

FIELDS = ("number",)  # what a sentence may name in braces


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study is asked first, and the sentence for each way that it can turn out.

    Asked is a metric of one comparison, whose zero is no difference; or, where nothing is compared,
    of one run in one variant, whose zero is chance. {number} in a sentence is the number with its
    interval.
    """

    metric: str  # dotted name
    compare: str = ""  # title of a comparison
    variant: str = ""
    run: str = ""
    above: str  # the whole interval lies above zero
    below: str  # below
    neither: str  # it holds zero

    def __post_init__(self) -> None:
        if bool(self.compare) == bool(self.variant and self.run):
            raise ValueError("name compare, or variant and run, one of the two")
        for sentence in (self.above, self.below, self.neither):
            names = [name for _, name, _, _ in Formatter().parse(sentence) if name is not None]
            if unknown := [name for name in names if name not in FIELDS]:
                raise ValueError(f"{{{unknown[0]}}} is unknown in a sentence; write {{number}}")

    def find(self, study: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """value, low and high of what is asked, or None where the results lack it."""
        if self.compare:
            found = [c for c in study["comparisons"] if c["title"] == self.compare]
            metrics = found[0]["metrics"] if found else {}
        else:
            metrics = study["variants"].get(self.variant, {}).get("runs", {}).get(self.run, {})
        number: Mapping[str, Any] | None = metrics.get(self.metric)
        return number


def read_plans(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a study -> its question, and its answer where it declares one (an Answer)."""
    from ruamel.yaml import YAML

    plans = {}
    for path in sorted(folder.glob("*.yaml")):
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        plan: dict[str, Any] = {"question": " ".join(content["question"].split()), "answer": None}
        if "answer" in content:
            plan["answer"] = build(Answer, content["answer"], str(path), "answer")
        plans[path.stem] = plan
    return plans


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a study -> content of its JSON file."""
    paths = sorted(folder.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def is_shown_converged(study: Mapping[str, Any], comparison: Mapping[str, Any]) -> bool:
    """Whether the trainings of both sides are shown to have converged (benchmarks/convergence.py).

    comparison: one of the study's. A run that the study does not evaluate is not shown to have.
    """
    runs = [
        study["variants"][variant]["runs"].get(_find_run(study, comparison[f"run_{side}"]), {})
        for side in ("a", "b")
        for variant in comparison[side]
    ]
    return all(run.get("training.converged", {}).get("value") == 1 for run in runs)


def _find_run(study: Mapping[str, Any], name: str) -> str:
    """The run that is compared, or whose features are painted."""
    if not name.startswith(PICTURES):
        return name
    run: str = study["params"][f"reconstructions.{name.removeprefix(PICTURES)}.source"]
    return run
