"""Tables of scores: a row for each thing that was scored, a column for each metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fmri2clip.core.params import MEAN_IMAGE, TARGET
from fmri2clip.metrics.statistics import is_testable
from fmri2clip.stages.report.catalogue import Cell, Metric, Score
from fmri2clip.stages.report.differences import LOOKS, RIVAL
from fmri2clip.stages.report.inputs import STIMULUS, Inputs
from fmri2clip.stages.report.scores import (
    CAPTION,
    CATEGORY,
    HARD,
    IMAGE,
    MAP,
    MEAN,
    TITLES,
    Scores,
)

BACK = "retrieval.brain_given_image.top1"
AUC = "classification.auc"
FEWER = (
    *(f"trials.{n}.retrieval.image_given_brain.top1" for n in (1, 2)),
    *(f"retrieval_sizes.{n}.image_given_brain.top1" for n in (50, 500)),
    *(f"readout.{name}" for name in ("edges", "position")),
)
ORDER = ("decoder", "baseline", "null", "reference")  # of rows, by kind
UNSEEN = "unseen.zero_shot.only.top1"
NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Row:
    """A cell is None where the row was not scored so."""

    name: str
    kind: str
    cells: Sequence[Cell | None]
    note: str = ""


@dataclass(frozen=True)
class Board:
    """A table of scores."""

    title: str
    metrics: Sequence[Metric]
    rows: Sequence[Row]
    caption: str = ""


def make_boards(inputs: Inputs, scores: Scores, subject: str = MEAN) -> list[Board]:
    """What finds pictures and captions, and what names categories."""
    matching = [
        *scores.rows(IMAGE, "decoder", "baseline"),
        TITLES[RIVAL],
        *scores.rows(IMAGE, "null"),
        f"{scores.best(IMAGE, 'decoder', 'baseline')}, noise-free",
    ]
    naming = [
        *scores.rows(MAP, "decoder", "baseline"),
        TITLES[RIVAL],
        TITLES["null.prior"],
        TITLES["reference.target"],
    ]
    learned = [row for row in inputs.runs if scores.get(row, "classification.hamming")]
    boards = [
        make_board(
            inputs, scores, "Finding pictures and captions, %", matching,
            (IMAGE, HARD, BACK, CAPTION, CATEGORY), subject,
            "Category chosen: pictures with one dominant category, nearest of its text prompts.",
        ),
        make_board(
            inputs, scores, "Naming categories, %", naming, (MAP, AUC), subject,
            f"Trained on labels: {', '.join(learned) or 'none'}; the others are read with prompts.",
        ),
    ]  # fmt: skip
    return [board for board in boards if board]


def make_further(inputs: Inputs, scores: Scores) -> Board | None:
    """The same decoders with fewer trials and other galleries, and what their output says of the
    picture's look.
    """
    rows = scores.rows(IMAGE, "decoder", "baseline")
    caption = "Read-out: share of variance of maps of the picture; no decoder is trained on them."
    title = "Fewer trials, other galleries, read-out of the look, %"
    return make_board(inputs, scores, title, rows, FEWER, MEAN, caption)


def make_board(
    inputs: Inputs,
    scores: Scores,
    title: str,
    rows: Iterable[str],
    metrics: Sequence[str],
    subject: str = MEAN,
    caption: str = "",
) -> Board | None:
    """The metrics that any row has and the rows that have most of them; None where none is left."""
    rows = list(dict.fromkeys(rows))
    known = [m for m in metrics if any(scores.get(row, m, subject) for row in rows)]
    made = [
        Row(
            row,
            scores.kinds[row],
            [scores.cell(row, m, subject) for m in known],
            describe_run(inputs, row),
        )
        for row in rows
        if row in scores.kinds
    ]
    made = [row for row in made if 2 * sum(map(bool, row.cells)) > len(known)]
    if not made or not known:
        return None
    return Board(title, [scores.metric(m) for m in known], made, caption)


def describe_run(inputs: Inputs, row: str) -> str:
    """What must be said beside a run's name."""
    if row in inputs.runs and inputs.kind(row) == "null":
        return "trained on permuted pairs"
    converged = inputs.runs.get(row, {}).get("training", {}).get("converged")
    return "" if converged is None or converged else "training not shown to have converged"


def make_picture_boards(inputs: Inputs, scores: Scores, subject: str = MEAN) -> list[Board]:
    """Reconstructions by the metrics of each protocol that were measured, the main one first."""
    protocols = inputs.params.pictures.protocols if inputs.pictures else ()
    boards = [_make_picture_board(inputs, scores, subject, protocol) for protocol in protocols]
    return [board for board in boards if board]


def _make_picture_board(
    inputs: Inputs, scores: Scores, subject: str, protocol: str
) -> Board | None:
    metrics = [f"{protocol}.{look}" for look in LOOKS]
    rows = [TITLES.get(name, name) for name in inputs.pictures]
    rows.sort(key=lambda row: ORDER.index(scores.kinds[row]))
    board = make_board(inputs, scores, f"Painted pictures, {protocol}", rows, metrics, subject)
    if board is None:
        return None
    stimulus = scores.cell(TITLES[STIMULUS], f"{protocol}.brain_correlation.all", subject)
    said = describe_protocol(inputs, protocol)
    if stimulus:
        said += f" Brain correlation of the seen picture itself: {stimulus}."
    named = [
        Row(row.name, row.kind, row.cells, describe_source(inputs, row.name)) for row in board.rows
    ]
    return Board(board.title, board.metrics, named, said)


def describe_source(inputs: Inputs, name: str) -> str:
    """Whose features a reconstruction is painted from."""
    entry = inputs.params.reconstructions[name]
    if entry.source == MEAN_IMAGE:
        return "mean training picture"
    reads = {"embedding": "pooled embedding"}.get(entry.reads, f"{entry.reads} tokens")
    chosen = {"brain": "by brain", "encoding": f"by {entry.chosen_by}"}.get(entry.selection)
    choice = f", best of {entry.n_candidates} {chosen}" if chosen else ""
    source = "true features" if entry.source == TARGET else f"run {entry.source}"
    return f"{source}, {reads}{choice}"


def describe_protocol(inputs: Inputs, protocol: str) -> str:
    """Networks and stand-ins, number of pictures, and what is missing with its reason."""
    record = inputs.record[protocol]
    counts = {n for by_subject in record["n_images"].values() for n in by_subject.values()}
    stand_ins = [facts["name"] for facts in record["networks"].values() if facts.get("stand_in")]
    said = f"First {max(counts)} test pictures by id; of two: chance 50 %."
    if stand_ins:
        said += f" Stand-ins for the published networks: {', '.join(stand_ins)}."
    if "clip" in record["networks"]:
        said += " CLIP measures here what decoders were trained towards."
    missing: dict[str, set[str]] = {}
    for reasons in record["missing"].values():
        for metric, reason in reasons.items():
            missing.setdefault(reason, set()).add(metric)
    for reason, metrics in missing.items():
        said += f" Missing: {', '.join(sorted(metrics))} ({reason})."
    return said


def make_categories(inputs: Inputs, scores: Scores) -> Board | None:
    """Average precision of each category, most frequent first; a column a run."""
    runs = scores.rows(MAP, "decoder", "baseline")
    trees = {run: inputs.runs[run]["classification"].get("by_category", {}) for run in runs}
    counts = {c: leaf["n_positive"] for tree in trees.values() for c, leaf in tree.items()}
    metric = scores.metric(MAP)
    columns = [replace(metric, title=run) for run in runs if trees[run]]
    rows = []
    for category, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        leaves = [tree.get(category) for tree in trees.values() if tree]
        cells = [metric.show(Score(leaf["average_precision"])) if leaf else None for leaf in leaves]
        rows.append(Row(f"{category} ({n:g})", "decoder", cells))
    caption = (
        "In brackets the pictures that show it; those with fewer than 5 are not averaged in mAP."
    )
    return Board("Average precision by category, %", columns, rows, caption) if rows else None


def describe_unseen(inputs: Inputs, scores: Scores) -> list[str]:
    """Of runs that leave categories out of training, the choice among those; where not even
    noise-free responses beat chance, that instead of a score.
    """
    said = []
    for name, tree in inputs.runs.items():
        cell = scores.cell(name, UNSEEN)
        if cell is None:
            continue
        chance = tree["unseen"]["zero_shot"]["only"]["chance"]
        free = tree["unseen"].get("noise_free", {}).get("zero_shot", {}).get("only", {})
        shown = f"{cell} %" if not free or is_testable(free, "top1", chance) else NOT_TESTABLE
        said.append(
            f"{name}, among the categories that its training left out: {shown}, chance "
            f"{100 * chance:.1f} %."
        )
    return said


def list_metrics(scores: Scores) -> list[Metric]:
    """What decoders were scored on, with an interval and a name of its own in the catalogue."""
    kinds = scores.table["kind"].isin(["decoder", "baseline"])
    means = scores.table[kinds & (scores.table["subject"] == MEAN) & scores.table["low"].notna()]
    metrics = [scores.metric(name) for name in means["metric"].unique()]
    return [metric for metric in metrics if metric.title != metric.name]
