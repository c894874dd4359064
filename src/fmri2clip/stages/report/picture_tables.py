"""Tables of scores of reconstructed pictures: a row a reconstruction, a table a protocol, and what
stands beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmri2clip.metrics.pictures.protocols import DIRECTIONS, PROTOCOLS, find_protocol
from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Cell,
    Details,
    Paragraph,
    Row,
    Score,
    Table,
)
from fmri2clip.stages.report.inputs import STIMULUS, Inputs, PictureResult, Tree
from fmri2clip.stages.report.labels import label_pictures
from fmri2clip.stages.report.protocol_words import describe_difference, describe_protocol
from fmri2clip.stages.report.scores import lookup, read_score

GROUPS = {
    "null": "Nulls",
    "decoder": "Decoders",
    "reference": "References",
}  # kind -> heading, in print order
PIXELS = {"pixcorr": "PixCorr", "ssim": "SSIM"}
NETWORKS = {  # metric -> title; two-way but for distances
    "alexnet2": "AlexNet(2)",
    "alexnet5": "AlexNet(5)",
    "inception": "Inception",
    "clip": "CLIP",
    "effnet": "EffNet-B",
    "swav": "SwAV",
}
DISTANCES = ("effnet", "swav")
REGIONS = ("all", "low", "high")
BRAIN = "brain_correlation"
MISSING = "missing"
DESCRIBED_STIMULUS = (
    f"`{STIMULUS}`: the picture that was seen, through the encoding model: the ceiling of these "
    "columns; it is not compared with itself in the others. "
)
UNEXPLAINED = "no number was written for it"


@dataclass(frozen=True, kw_only=True)
class Column:
    """metric: dotted name in the tree of a reconstruction; is_percent: a share, printed in
    percent.
    """

    metric: str
    title: str
    is_percent: bool = False


def list_columns(inputs: Inputs, protocol: str, direction: str = DIRECTIONS[0]) -> list[Column]:
    """What the table of a protocol shows."""
    names = [*PIXELS, *(name if name in DISTANCES else f"{name}.{direction}" for name in NETWORKS)]
    if find_protocol(protocol).brain:
        names += [f"{BRAIN}.{region}" for region in REGIONS if region in inputs.params.rois]
    metrics = [f"{protocol}.{name}" for name in names]
    return [column for metric in metrics if (column := find_column(metric))]


def find_column(metric: str) -> Column | None:
    """The column of a dotted name, `<protocol>.<metric>...`; None for what measures no pictures."""
    protocol, *rest = metric.split(".")
    if protocol not in PROTOCOLS or not rest:
        return None
    name, *details = rest
    if name in PIXELS and not details:
        return Column(metric=metric, title=PIXELS[name])
    if name in DISTANCES and not details:
        return Column(metric=metric, title=f"{NETWORKS[name]} distance (lower is better)")
    if name in NETWORKS and details in ([direction] for direction in DIRECTIONS):
        further = "" if details[0] == DIRECTIONS[0] else f", {details[0].replace('_', ' ')}"
        return Column(
            metric=metric, title=f"{NETWORKS[name]}, two-way{further} (%)", is_percent=True
        )
    if name == BRAIN and len(details) == 1:
        return Column(metric=metric, title=f"brain correlation, `{details[0]}`")
    return None


def group_results(inputs: Inputs) -> dict[str, list[PictureResult]]:
    """Heading -> reconstructions in the order of params; headings without any are left out."""
    groups = {
        heading: [result for result in inputs.pictures.values() if result.kind == kind]
        for kind, heading in GROUPS.items()
    }
    return {heading: results for heading, results in groups.items() if results}


def make_protocol_blocks(inputs: Inputs, protocol: str) -> list[Block]:
    """Sentences, table, reasons of what is missing, and details of one protocol."""
    main = inputs.params.pictures.protocols[0]
    columns = list_columns(inputs, protocol)
    said = [Paragraph(describe_protocol(inputs, protocol))]
    if protocol != main:
        said.append(Paragraph(describe_difference(find_protocol(main), find_protocol(protocol))))
    blocks: list[Block] = [*said, make_table(inputs, protocol, columns)]
    reasons = list_missing(inputs, protocol, columns)
    blocks += [Bullets(tuple(reasons))] if reasons else []
    return [*blocks, _make_details(inputs, protocol, columns)]


def make_table(inputs: Inputs, protocol: str, columns: list[Column]) -> Table:
    """Every decoder and reference by the metrics of one protocol, mean over subjects."""
    rows: list[Row] = []
    groups = group_results(inputs)
    stimulus = find_stimulus(inputs, protocol)
    for heading, results in groups.items():
        rows.append(Row((heading,), "heading"))
        for result in results:
            cells = (make_cell(result.tree, column) for column in columns)
            rows.append(
                Row(
                    (f"`{result.name}`", count_subjects(inputs, result.tree), *cells),
                    find_weight(result),
                )
            )
    if stimulus:
        rows += [] if GROUPS["reference"] in groups else [Row((GROUPS["reference"],), "heading")]
        rows.append(
            Row(
                (
                    f"`{STIMULUS}`",
                    count_subjects(inputs, stimulus),
                    *_make_ceiling(stimulus, columns),
                ),
                "context",
            )
        )
    return Table(
        title=f"Reconstructed pictures, protocol {protocol} (two-way identification: chance 50 %)",
        columns=("row", "n", *(column.title for column in columns)),
        rows=tuple(rows),
        label=(
            "Mean over n subjects, in brackets the 95 % bootstrap interval over images. Two-way: "
            "the reconstruction is"
            " compared with its stimulus and one other. "
            f"{DESCRIBED_STIMULUS if stimulus else ''}"
            f"{label_pictures(inputs)}"
        ),
        n_text_columns=2,
    )


def count_subjects(inputs: Inputs, tree: Tree) -> str:
    """'n of 4': subjects behind a row, of those configured."""
    return f"{len(tree['subjects'])} of {len(inputs.params.subjects)}".replace(
        " ", "\N{NO-BREAK SPACE}"
    )


def find_stimulus(inputs: Inputs, protocol: str) -> Tree | None:
    """Numbers of the stimuli themselves, in the main protocol's table where they were measured."""
    return inputs.stimulus if protocol == inputs.params.pictures.protocols[0] else None


def _make_ceiling(tree: Tree, columns: Iterable[Column]) -> list[Cell]:
    """A stimulus is not compared with itself: cells of other columns are no missing numbers."""
    return [
        "-" if lookup(tree, column.metric) is None else make_cell(tree, column)
        for column in columns
    ]


def find_weight(result: PictureResult) -> str:
    """How a row is printed: decoders as results, everything else as context."""
    return "result" if result.kind == "decoder" else "context"


def make_cell(tree: Tree, column: Column) -> Cell:
    """Score with its interval: percent for shares, three digits else; or the word that it is
    missing.
    """
    if column.is_percent:
        return read_score(tree, column.metric) or MISSING
    value = lookup(tree, column.metric)
    if value is None:
        return MISSING
    low, high = (lookup(tree, f"{column.metric}_ci95_{end}") for end in ("low", "high"))
    nan = float("nan")
    return Score(value, nan if low is None else low, nan if high is None else high, digits=3)


def list_missing(inputs: Inputs, protocol: str, columns: Iterable[Column]) -> list[str]:
    """One sentence a reason: which columns of which rows it explains."""
    recorded: Mapping[str, Mapping[str, str]] = inputs.picture_record[protocol]["missing"]
    found: dict[str, dict[str, list[str]]] = {}  # reason -> row -> titles
    for name, result in inputs.pictures.items():
        reasons = recorded.get(name, {})
        for column in columns:
            metric = column.metric.removeprefix(f"{protocol}.")
            reason = reasons.get(metric) or reasons.get(metric.split(".")[0])
            if reason is None and lookup(result.tree, column.metric) is None:
                reason = UNEXPLAINED
            elif reason is not None and lookup(result.tree, column.metric) is not None:
                reason = f"{reason} (some subjects; the mean is over the others)"
            if reason is not None:
                found.setdefault(reason, {}).setdefault(name, []).append(column.title)
    return [
        sentence
        for reason, rows in found.items()
        for sentence in _describe_missing(reason, rows, len(inputs.pictures))
    ]


def _describe_missing(reason: str, rows: Mapping[str, list[str]], n_rows: int) -> list[str]:
    """Rows that lack the same columns share a sentence."""
    by_titles: dict[tuple[str, ...], list[str]] = {}
    for name, titles in rows.items():
        by_titles.setdefault(tuple(titles), []).append(name)
    return [
        f"Missing: {', '.join(titles)}"
        f"{'' if len(names) == n_rows else ' of ' + ', '.join(f'`{name}`' for name in names)}: "
        f"{reason}."
        for titles, names in by_titles.items()
    ]


def _make_details(inputs: Inputs, protocol: str, columns: list[Column]) -> Details:
    """The same for each subject, and the other direction of two-way identification where it was
    measured.
    """
    tables = []
    directions = find_protocol(protocol).directions[1:]
    further = ", and the other direction of two-way identification" if directions else ""
    for direction in directions:
        others = [
            column for column in list_columns(inputs, protocol, direction) if column.is_percent
        ]
        title = direction.replace("_", " ")
        rows = [
            Row((f"`{r.name}`", *(make_cell(r.tree, c) for c in others)), find_weight(r))
            for r in _ordered(inputs)
        ]
        tables.append(_make_inner(f"Two-way identification, {title}", others, rows, inputs))
    for subject in inputs.params.subjects:
        found = [result for result in _ordered(inputs) if subject in result.tree["subjects"]]
        rows = [
            Row(
                (f"`{r.name}`", *(make_cell(r.tree["subjects"][subject], c) for c in columns)),
                find_weight(r),
            )
            for r in found
        ]
        stimulus = (find_stimulus(inputs, protocol) or {}).get("subjects", {}).get(subject)
        rows += (
            [Row((f"`{STIMULUS}`", *_make_ceiling(stimulus, columns)), "context")]
            if stimulus
            else []
        )
        tables.append(_make_inner(f"{subject}: protocol {protocol}", columns, rows, inputs))
    return Details(f"Protocol {protocol}: each subject{further}", tuple(tables))


def _ordered(inputs: Inputs) -> list[PictureResult]:
    return [result for results in group_results(inputs).values() for result in results]


def _make_inner(title: str, columns: list[Column], rows: list[Row], inputs: Inputs) -> Table:
    titles = ("row", *(column.title for column in columns))
    return Table(title=title, columns=titles, rows=tuple(rows), label=label_pictures(inputs))
