"""Paired differences of reconstructions: every pair of decoders, and every decoder with every
null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from fmri2clip.artefacts.scores import read_scores
from fmri2clip.metrics.statistics import Difference, Estimate
from fmri2clip.stages.report.differences import Pairs, compare_pairs
from fmri2clip.stages.report.document import Block, Cell, Details, Paragraph, Row, Score, Table
from fmri2clip.stages.report.inputs import Inputs, PictureResult
from fmri2clip.stages.report.labels import label_pictures
from fmri2clip.stages.report.picture_tables import Column, list_columns

DISTANCES_NOTE = "Distances: lower is better, so a negative difference favours the first. "
NO_PAIRS = "No two decoders' reconstructions share a subject: there is nothing to compare."


def choose_pairs(results: Iterable[PictureResult]) -> list[tuple[str, str]]:
    """(a, b) with a before b in params, of decoders; then each decoder with each null."""
    results = list(results)
    decoders = [result.name for result in results if result.kind == "decoder"]
    nulls = [result.name for result in results if result.kind == "null"]
    return [*combinations(decoders, 2), *((name, null) for null in nulls for name in decoders)]


def list_compared(inputs: Inputs) -> list[Column]:
    """Columns of the main protocol that are compared: of brain correlation all voxels only."""
    columns = list_columns(inputs, inputs.params.pictures.protocols[0])
    return [
        c for c in columns if ".brain_correlation." not in c.metric or c.metric.endswith(".all")
    ]


def compare_pictures(inputs: Inputs) -> dict[tuple[str, str], dict[str, Difference]]:
    """(a, b) -> metric -> difference a - b, from the scores of single images."""
    pairs = choose_pairs(inputs.pictures.values())
    shared = inputs.paths.clip_shared(next(iter(inputs.references)))
    names = dict.fromkeys(name for pair in pairs for name in pair)
    runs = {name: read_scores(inputs.pictures[name].scores, shared) for name in names}
    metrics = [column.metric for column in list_compared(inputs)]
    return compare_pairs(
        [((a, runs[a]), (b, runs[b])) for a, b in pairs], metrics, inputs.params.evaluation
    )


def make_difference_blocks(inputs: Inputs) -> list[Block]:
    """The table of all pairs, and the same for each subject; a sentence where there is no pair."""
    found = compare_pictures(inputs)
    if not found:
        return [Paragraph(NO_PAIRS, "missing")]
    columns = [
        c
        for c in list_compared(inputs)
        if any(c.metric in by_metric for by_metric in found.values())
    ]
    return [make_table(inputs, found, columns), _make_details(inputs, found, columns)]


def make_table(inputs: Inputs, found: Pairs, columns: list[Column]) -> Table:
    """A row a pair; a cell holds difference, interval and the number of subjects with a better
    first one.
    """
    rows = [
        Row((f"`{a}` \N{MINUS SIGN} `{b}`", *(_make_cell(by_metric, column) for column in columns)))
        for (a, b), by_metric in found.items()
    ]
    n_tests = sum(len(by_metric) for by_metric in found.values())
    lower = any(" distance" in column.title for column in columns)
    return Table(
        title="Reconstructed pictures, paired differences (protocol "
        f"{inputs.params.pictures.protocols[0]})",
        columns=("pair", *(_title(column) for column in columns)),
        rows=tuple(rows),
        label=(
            "First less second, 95 % interval from resampling images jointly for all subjects; k/n "
            "= subjects in which"
            f" the first is better, of n shared by both. {DISTANCES_NOTE if lower else ''}"
            f"{n_tests} intervals, not corrected for their number. "
            "Pairs may differ in"
            " features read, generator, candidates and selection (see the table of "
            "reconstructions)."
            f" {label_pictures(inputs)}"
        ),
    )


def _title(column: Column) -> str:
    return column.title.replace("(%)", "(points)")


def _make_cell(by_metric: Mapping[str, Difference], column: Column) -> Cell:
    difference = by_metric.get(column.metric)
    if difference is None:
        return "-"
    count = f"{difference.n_positive}/{difference.n_subjects}"
    return to_score(difference.estimate, column), count


def to_score(estimate: Estimate, column: Column) -> Score:
    """In points for shares, else in the metric's own unit."""
    scale, digits = (100, 1) if column.is_percent else (1, 3)
    value, low, high = (scale * number for number in (estimate.value, estimate.low, estimate.high))
    return Score(value, low, high, digits=digits, signed=True)


def _make_details(inputs: Inputs, found: Pairs, columns: list[Column]) -> Details:
    rows: list[Row] = []
    for (a, b), by_metric in found.items():
        rows.append(Row((f"`{a}` \N{MINUS SIGN} `{b}`",), "heading"))
        subjects = dict.fromkeys(
            subject for difference in by_metric.values() for subject in difference.per_subject
        )
        for subject in subjects:
            cells = (
                to_score(by_metric[c.metric].per_subject[subject], c)
                if c.metric in by_metric
                else "-"
                for c in columns
            )
            rows.append(Row((subject, *cells)))
    title = "Paired differences of reconstructed pictures, each subject"
    titles = ("subject", *(_title(column) for column in columns))
    return Details(
        title, (Table(title=title, columns=titles, rows=tuple(rows), label=label_pictures(inputs)),)
    )
