"""Paired differences of all pairs of runs, from the per-image scores in the predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from fmri2clip.artefacts.scores import read_scores
from fmri2clip.core.params import Evaluation
from fmri2clip.metrics.statistics import Difference, Memo, Run, paired_difference
from fmri2clip.stages.report.document import Cell, Details, Row, Score, Table
from fmri2clip.stages.report.inputs import Inputs
from fmri2clip.stages.report.scores import headline

RIVAL = "baseline.nearest_brain"  # the one baseline that every decoder is compared with
Pairs = Mapping[tuple[str, str], Mapping[str, Difference]]


def compare_all(inputs: Inputs) -> Pairs:
    """Every pair of runs, and every run with RIVAL, on the headline metrics."""
    paths = {
        result.name: inputs.paths.clip_shared(result.run.clip) for result in inputs.runs.values()
    }
    runs = {
        name: read_scores(result.predictions, paths[name]) for name, result in inputs.runs.items()
    }
    pairs = [((a, runs[a]), (b, runs[b])) for b, a in combinations(runs, 2)]
    for clip in inputs.references:
        rival = read_scores(
            inputs.paths.reference_scores(clip), inputs.paths.clip_shared(clip), RIVAL
        )
        pairs += [
            ((name, runs[name]), (RIVAL, rival))
            for name in runs
            if inputs.runs[name].run.clip == clip
        ]
    return compare_pairs(pairs, headline(inputs.params.evaluation), inputs.params.evaluation)


def compare_pairs(
    pairs: Sequence[tuple[tuple[str, Run], tuple[str, Run]]],
    metrics: Iterable[str],
    evaluation: Evaluation,
) -> dict[tuple[str, str], dict[str, Difference]]:
    """(a, b) -> metric -> difference a - b, for every pair that shares subjects and every metric
    that both have.
    """
    found: dict[tuple[str, str], dict[str, Difference]] = {}
    memo: Memo = {}
    for (a, run_a), (b, run_b) in pairs:
        if set(run_a) & set(run_b):
            names = [metric for metric in metrics if _has(run_a, metric) and _has(run_b, metric)]
            found[a, b] = {
                name: paired_difference(
                    [(run_a, run_b)], name, evaluation.n_bootstrap, evaluation.seed, memo=memo
                )
                for name in names
            }
    return found


def _has(run: Run, metric: str) -> bool:
    return all(metric in scores.metrics() for scores in run.values())


def make_difference_table(
    found: Pairs, metrics: Mapping[str, str], n_subjects: int, label: str
) -> Table:
    """A row per pair; a cell holds difference, interval and the number of subjects with a higher
    score.
    """
    columns = {
        name: title
        for name, title in metrics.items()
        if any(name in pair for pair in found.values())
    }
    rows = [
        Row((f"`{a}` \N{MINUS SIGN} `{b}`", *(_cell(by_metric.get(name)) for name in columns)))
        for (a, b), by_metric in found.items()
    ]
    n_tests = sum(len(by_metric) for by_metric in found.values())
    return Table(
        title="Paired differences (points)",
        columns=("pair", *columns.values()),
        rows=tuple(rows),
        label=(
            f"{label} Difference of the subject means, 95 % interval from resampling images "
            "jointly for all subjects"
            " with gallery and class set fixed; k/n = subjects in which the first run scores "
            "higher, of n shared by"
            f" both (of {n_subjects} configured). {n_tests} intervals, not corrected for their "
            "number."
        ),
    )


def _cell(difference: Difference | None) -> Cell:
    if difference is None:
        return "-"
    count = f"{difference.n_positive}/{difference.n_subjects}"
    return (
        to_score(difference.estimate.value, difference.estimate.low, difference.estimate.high),
        count,
    )


def to_score(value: float, low: float, high: float) -> Score:
    """A difference of fractions, in points."""
    return Score(100 * value, 100 * low, 100 * high, signed=True)


def make_subject_table(found: Pairs, metrics: Mapping[str, str], label: str) -> Details:
    """The same differences for each subject."""
    columns = {
        name: title
        for name, title in metrics.items()
        if any(name in pair for pair in found.values())
    }
    rows: list[Row] = []
    for (a, b), by_metric in found.items():
        rows.append(Row((f"{a} \N{MINUS SIGN} {b}",), "heading"))
        subjects = dict.fromkeys(
            subject for difference in by_metric.values() for subject in difference.per_subject
        )
        for subject in subjects:
            cells = []
            for name in columns:
                estimate = by_metric[name].per_subject.get(subject) if name in by_metric else None
                cells.append(
                    "-"
                    if estimate is None
                    else to_score(estimate.value, estimate.low, estimate.high)
                )
            rows.append(Row((subject, *cells)))
    table = Table(
        title="Paired differences, each subject (points)",
        columns=("subject", *columns.values()),
        rows=tuple(rows),
        label=label,
    )
    return Details("Paired differences, each subject", (table,))
