"""Studies: what each was asked, the sentence that answers, and its numbers; ablations of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fmri2clip.artefacts.study import Answer
from fmri2clip.core.files import flatten
from fmri2clip.stages.report.boards import Board, Row
from fmri2clip.stages.report.catalogue import Catalogue, Cell
from fmri2clip.stages.report.charts import (
    DotChart,
    Dots,
    Line,
    LineChart,
    Mark,
    Rule,
    chart_dots,
    chart_lines,
    to_score,
)
from fmri2clip.stages.report.inputs import Inputs, Tree, list_worlds, say_worlds
from fmri2clip.stages.report.scores import Scores

MAX_ROWS = 12  # of a page's table and plot
MAX_COLUMNS = 5
IRRELEVANT = ("compute", "download", "templates")  # sections that no result follows from
LEFT_OUT = "unseen.zero_shot.only.chance"
SECONDARY = "Intervals are not corrected for their number."


@dataclass(frozen=True, kw_only=True)
class Study:
    """A page."""

    name: str
    question: str
    answer: str
    cell: Cell | None  # the number that answers
    facts: str  # data, subjects, seeds, budget
    unit: str  # what was resampled
    charts: Sequence[DotChart | LineChart]
    board: Board | None
    settings: Sequence[tuple[str, str, str]]  # key, here, default
    digest: str


def make_studies(inputs: Inputs, scores: Scores) -> list[Study]:
    """A page for each study that was collected."""
    pages = []
    for name, study in inputs.studies.items():
        plan = inputs.plans.get(name, {"question": study["question"], "answer": None})
        pages.append(_make_study(inputs, scores.catalogue, name, study, plan))
    return pages


def _make_study(
    inputs: Inputs, catalogue: Catalogue, name: str, study: Tree, plan: Mapping[str, Any]
) -> Study:
    answer: Answer | None = plan["answer"]
    catalogue = Catalogue({**catalogue.sizes, "n_unseen": count_unseen(study)})
    found = answer.find(study) if answer else None
    cell = None
    if answer and found:
        metric = catalogue.find(answer.metric)
        cell = metric.show(to_score(found), signed=bool(answer.compare))
    return Study(
        name=name,
        question=plan["question"],
        answer=say_answer(answer, cell),
        cell=cell,
        facts=describe_facts(inputs, study),
        unit=describe_unit(study),
        charts=_draw(catalogue, study, answer),
        board=_make_board(catalogue, study, answer),
        settings=list_settings(inputs, study),
        digest=study["code_sha256"],
    )


def count_unseen(study: Tree) -> float:
    """How many categories its runs leave out, by the chance of choosing among them; 0: unknown."""
    runs = [run for variant in study["variants"].values() for run in variant["runs"].values()]
    chances = [run[LEFT_OUT]["value"] for run in runs if LEFT_OUT in run]
    return len(chances) / sum(chances) if chances else 0


def say_answer(answer: Answer | None, cell: Cell | None) -> str:
    """The sentence for the way that the interval lies."""
    if answer is None:
        return "No answer is declared for this study."
    if cell is None:
        return "Not answered: its results are older than the question; run it again."
    zero = 0.0 if answer.compare else cell.metric.chance or 0.0
    low, high = cell.limits or (-float("inf"), float("inf"))
    sentence = answer.neither
    if low > zero:
        sentence = answer.above
    elif high < zero:
        sentence = answer.below
    unit = cell.metric.points if answer.compare else cell.metric.unit
    return sentence.format(number=f"{cell} {unit}".rstrip())


def describe_facts(inputs: Inputs, study: Tree) -> str:
    """Data, subjects, seeds and budget, from the parameters that its experiments share."""
    params = study["params"]
    data = "the Natural Scenes Dataset"
    if params.get("dataset.source", "simulated") == "simulated":
        data = f"simulated, {say_worlds(inputs.params, list_worlds(study))}"
    compared = [m for c in study["comparisons"] for m in c["metrics"].values()]
    subjects = dict.fromkeys(name for metric in compared for name in metric.get("per_subject", {}))
    subjects = subjects or study.get("scored") or params.get("subjects", ["differ by variant"])
    seeds = ", ".join(str(value) for value in study["seeds"]["values"])
    return (
        f"Data: {data}. Subjects scored: {', '.join(subjects)}. Training seeds: {seeds}. "
        f"Budget: {study['budget']}."
    )


def describe_unit(study: Tree) -> str:
    """Over what numbers are pooled and what their intervals resample, said once."""
    over = "training seeds and subjects" if len(study["seeds"]["values"]) > 1 else "subjects"
    if study["same_pictures"]:
        return f"Means over {over}; intervals (95 %) resample test pictures, jointly for all."
    return (
        f"Means over worlds, {over}; intervals (95 %) resample worlds, then the pictures of each."
    )


def _list_metrics(study: Tree, answer: Answer | None) -> list[str]:
    """The metric that is asked first, then the others that any comparison or variant has."""
    first = [answer.metric] if answer else []
    return list(dict.fromkeys([*first, *study["metrics"]]))


def _draw(catalogue: Catalogue, study: Tree, answer: Answer | None) -> list[DotChart | LineChart]:
    """Forest plot of the comparisons by the metric that is asked, and a curve over x."""
    metric = _list_metrics(study, answer)[0]
    charts: list[DotChart | LineChart] = []
    rows = [
        _make_dots(catalogue, comparison, metric)
        for comparison in study["comparisons"]
        if metric in comparison["metrics"]
    ]
    if rows:
        found = catalogue.find(metric)
        title = f"{found.title}: differences, {found.points}"
        charts.append(chart_dots(title, rows[: 2 * MAX_ROWS], [Rule(0.0, "", "chance")]))
    lines = collect_lines(study, metric, catalogue)
    if lines:
        unit = catalogue.find(metric).unit
        title = f"{catalogue.find(metric).title}, {unit}"
        charts.append(chart_lines(title, lines, study["x_label"] or "x"))
    return charts


def _make_dots(catalogue: Catalogue, comparison: Tree, metric: str) -> Dots:
    """A comparison with a mark for each world, or else each subject."""
    found = comparison["metrics"][metric]
    single = found.get("worlds") or found.get("per_subject", {})
    scale = catalogue.find(metric).scale
    marks = [Mark(scale * one["value"], place) for place, one in enumerate(single.values())]
    cell = catalogue.find(metric).show(to_score(found), signed=True)
    return Dots(label=comparison["title"], cell=cell, marks=marks)


def collect_lines(study: Tree, metric: str, catalogue: Catalogue) -> list[Line]:
    """A line for each run over the variants that have an x."""
    placed = sorted((v for v in study["variants"].values() if "x" in v), key=lambda v: v["x"])
    scale = catalogue.find(metric).scale
    lines = []
    for run in dict.fromkeys(run for variant in placed for run in variant["runs"]):
        points = [v for v in placed if metric in v["runs"].get(run, {})]
        if not points:
            continue
        found = [to_score(v["runs"][run][metric]) for v in points]
        parts = (
            [scale * getattr(score, end) for score in found] for end in ("value", "low", "high")
        )
        lines.append(Line(run, [v["x"] for v in points], *parts))
    return lines


def _make_board(catalogue: Catalogue, study: Tree, answer: Answer | None) -> Board | None:
    """Comparisons, or variants where nothing is compared, by the first metrics that all have."""
    names = _list_metrics(study, answer)
    if study["comparisons"]:
        rows = [(c["title"], c["metrics"]) for c in study["comparisons"]]
    else:
        rows = [
            (variant if len(content["runs"]) == 1 else f"{variant}: {run}", metrics)
            for variant, content in study["variants"].items()
            for run, metrics in content["runs"].items()
        ]
    signed = bool(study["comparisons"])
    shown = [m for m in names if all(m in found for _, found in rows)][:MAX_COLUMNS]
    if not shown or not rows:
        return None
    metrics = [catalogue.find(name) for name in shown]
    made = [
        Row(
            title,
            "decoder",
            [metric.show(to_score(found[metric.name]), signed=signed) for metric in metrics],
        )
        for title, found in rows[:MAX_ROWS]
    ]
    left = len(rows) - len(made)
    more = f" {left} more rows and all metrics in its JSON file." if left > 0 else ""
    title = "Paired differences, the first less the second" if signed else "Scores"
    return Board(title, metrics, made, SECONDARY + more)


def list_settings(inputs: Inputs, study: Tree) -> list[tuple[str, str, str]]:
    """What its experiments have otherwise than params.yaml: key, there, here. Then the runs that
    params.yaml does not have, and the overrides of each variant.
    """
    defaults = {key: _show(value) for key, value in flatten(asdict(inputs.params)).items()}
    settings = []
    runs: dict[str, list[str]] = {}
    for key, value in study["params"].items():
        part, _, rest = key.partition(".")
        run, _, field = rest.partition(".")
        if part == "runs" and run not in inputs.params.runs:
            runs.setdefault(run, []).append(f"{field.removeprefix('overrides.')}={_show(value)}")
        elif part not in IRRELEVANT and defaults.get(key) != _show(value):
            settings.append((key, _show(value), defaults.get(key, "not set")))
    settings += [(f"run {name}", ", ".join(values), "") for name, values in runs.items()]
    settings += [
        (f"variant {name}", ", ".join(content["overrides"]) or "nothing else", "")
        for name, content in study["variants"].items()
    ]
    return settings


def _show(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def make_ablations(inputs: Inputs, scores: Scores) -> list[DotChart]:
    """Every difference of a run with itself, over all studies, by the metric that each asks first;
    the largest on top, a chart a run and metric.
    """
    rows: dict[tuple[str, str], list[Dots]] = {}
    for name, study in inputs.studies.items():
        answer = inputs.plans.get(name, {}).get("answer")
        metric = _list_metrics(study, answer)[0]
        for comparison in study["comparisons"]:
            run = comparison["run_a"]
            if run == comparison["run_b"] and metric in comparison["metrics"]:
                dots = _make_dots(scores.catalogue, comparison, metric)
                rows.setdefault((run, metric), []).append(dots)
    charts = []
    for (run, metric), found in rows.items():
        found.sort(key=lambda row: -abs(row.cell.value))
        title = f"{run}: {scores.metric(metric).title}, {scores.metric(metric).points}"
        charts.append(chart_dots(title, found[: 2 * MAX_ROWS], [Rule(0.0, "", "chance")]))
    return charts
