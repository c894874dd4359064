"""The tables of scores: decoders, baselines, nulls and references by metric, for all subjects and
for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmri2clip.figures import plots
from fmri2clip.stages.report.document import Block, Cell, Details, Row, Table
from fmri2clip.stages.report.inputs import Inputs, RunResult, Tree
from fmri2clip.stages.report.labels import label_data, label_seeds
from fmri2clip.stages.report.scores import Family, chance, list_families, lookup, read_score

HEADINGS = {
    "baseline": "Baselines",
    "null": "Nulls",
    "reference": "References",
}  # by the first part of a row's name
NamedTrees = Mapping[str, Tree]


def make_result_tables(inputs: Inputs, clip: str, n_images: int) -> list[Block]:
    """One table per family of metrics for the runs of one CLIP model, each followed by one per
    subject, collapsed.
    """
    runs = [result for result in inputs.runs.values() if result.run.clip == clip]
    groups = group_rows(runs, inputs.references[clip])
    trees = [tree for group in groups.values() for tree in group.values()]
    blocks: list[Block] = []
    for family in list_families(trees, inputs.params.evaluation, n_images):
        blocks.append(_make_table(inputs, runs, groups, family, n_images))
        blocks.append(_make_subject_tables(inputs, runs, groups, family, n_images))
    return blocks


def group_rows(runs: Sequence[RunResult], references: NamedTrees) -> dict[str, dict[str, Tree]]:
    """heading -> row name -> metric tree.

    The noise-free reference of a run stands in the run's own metrics.
    """
    groups: dict[str, dict[str, Tree]] = {
        "Decoders": {result.name: result.metrics for result in runs}
    }
    for prefix, heading in HEADINGS.items():
        groups[heading] = {
            name: tree for name, tree in references.items() if name.split(".")[0] == prefix
        }
    for result in runs:
        noise_free = take_branch(result.metrics, ("reference", "noise_free"))
        if noise_free:
            groups[HEADINGS["reference"]][f"reference.noise_free, {result.name}"] = noise_free
    return {heading: rows for heading, rows in groups.items() if rows}


def split_decoders(groups: Mapping[str, NamedTrees], family: Family) -> dict[str, NamedTrees]:
    """The groups with decoders in two where labels are scored: who has a Hamming loss was trained
    on labels.
    """
    if "classification.map" not in family.metrics:
        return dict(groups)
    trees = groups["Decoders"]
    labelled = {
        name: tree
        for name, tree in trees.items()
        if lookup(tree, "classification.hamming") is not None
    }
    parts = {
        "Decoders, categories read with CLIP's text prompts: not trained on labels": {
            name: tree for name, tree in trees.items() if name not in labelled
        },
        "Decoders trained on labels": labelled,
    }
    rest = {heading: rows for heading, rows in groups.items() if heading != "Decoders"}
    return {heading: rows for heading, rows in (parts | rest).items() if rows}


def take_branch(tree: Tree, path: tuple[str, ...]) -> Tree:
    """A branch of a metric tree with the same branch of every subject under `subjects`; empty where
    there is none.
    """

    def walk(node: Tree) -> Tree:
        for key in path:
            node = node.get(key, {})
        return node

    subjects = {
        subject: walk(inner) for subject, inner in tree.get("subjects", {}).items() if walk(inner)
    }
    return {**walk(tree), "subjects": subjects} if walk(tree) else {}


def _make_table(
    inputs: Inputs,
    runs: Sequence[RunResult],
    groups: Mapping[str, NamedTrees],
    family: Family,
    n_images: int,
) -> Table:
    metrics = list(family.metrics)
    rows = []
    for heading, trees in split_decoders(groups, family).items():
        rows.append(Row((heading,), "heading"))
        kind = "result" if heading.startswith("Decoders") else "context"
        rows += [
            _make_row(name, tree, metrics, _count_subjects(inputs, tree), kind)
            for name, tree in trees.items()
        ]
    rows.append(_chance_row(inputs, groups, metrics, n_images))
    return Table(
        title=f"{family.title} (%)",
        columns=("row", "n", *family.metrics.values()),
        rows=tuple(rows),
        label=(
            f"{label_data(inputs.params)}, {n_images} test images. Protocol: {family.protocol}"
            f"{_count_classes(groups, family)}. Mean over n subjects, in brackets the 95 % "
            "bootstrap interval"
            f" over images. {label_seeds(inputs.params, runs)}."
        ),
        brief_columns=(
            0,
            1,
            *(2 + i for i, name in enumerate(metrics) if not name.endswith("top5")),
        ),
        n_text_columns=2,
    )


def _count_classes(groups: Mapping[str, NamedTrees], family: Family) -> str:
    """How many classes a table of label scores averages, and how many are left out; mean over
    subjects.
    """
    if "classification.map" not in family.metrics:
        return ""
    trees = [tree for rows in groups.values() for tree in rows.values()]
    scored = next(tree for tree in trees if lookup(tree, "classification.map") is not None)
    used, left_out = (
        lookup(scored, f"classification.{name}") or 0.0 for name in ("n_classes", "n_undefined")
    )
    return f" ({used:g} classes scored, {left_out:g} left out)"


def _make_row(name: str, tree: Tree, metrics: Sequence[str], subjects: str, kind: str) -> Row:
    return Row((f"`{name}`", subjects, *(_cell(tree, metric) for metric in metrics)), kind)


def _cell(tree: Tree, metric: str) -> Cell:
    return read_score(tree, metric) or "-"


def _count_subjects(inputs: Inputs, tree: Tree) -> str:
    return f"{len(tree['subjects'])} of {len(inputs.params.subjects)}".replace(
        " ", "\N{NO-BREAK SPACE}"
    )


def _chance_row(
    inputs: Inputs, groups: Mapping[str, NamedTrees], metrics: Sequence[str], n_images: int
) -> Row:
    tree = next(iter(next(iter(groups.values())).values()))
    levels = [chance(metric, inputs.params.evaluation, n_images, tree) for metric in metrics]
    return Row(
        ("chance level", "", *("-" if level is None else f"{level:.1f}" for level in levels)),
        "context",
    )


def _make_subject_tables(
    inputs: Inputs,
    runs: Sequence[RunResult],
    groups: Mapping[str, NamedTrees],
    family: Family,
    n_images: int,
) -> Details:
    tables = []
    for subject in inputs.params.subjects:
        rows = []
        for heading, trees in groups.items():
            found = {
                name: tree["subjects"][subject]
                for name, tree in trees.items()
                if subject in tree.get("subjects", {})
            }
            if found:
                kind = "result" if heading == "Decoders" else "context"
                rows += [Row((heading,), "heading")]
                rows += [
                    Row((f"`{n}`", *(_cell(t, m) for m in family.metrics)), kind)
                    for n, t in found.items()
                ]
        if rows:
            tables.append(
                Table(
                    title=f"{subject}: {family.title} (%)",
                    columns=("row", *family.metrics.values()),
                    rows=tuple(rows),
                    label=f"{label_data(inputs.params)}, {n_images} test images. "
                    f"{label_seeds(inputs.params, runs)}.",
                )
            )
    return Details(f"{family.title}, each subject", tuple(tables))


def collect_points(
    inputs: Inputs, clip: str, metrics: Mapping[str, str], n_images: int
) -> tuple[dict[str, list[plots.Point]], dict[str, float]]:
    """Panels of the interval plot and their chance levels: metric title -> points, decoders
    first.
    """
    runs = [result for result in inputs.runs.values() if result.run.clip == clip]
    panels: dict[str, list[plots.Point]] = {}
    chances: dict[str, float] = {}
    for metric, title in metrics.items():
        for heading, trees in group_rows(runs, inputs.references[clip]).items():
            for name, tree in trees.items():
                score = read_score(tree, metric)
                if score is not None:
                    kind = "result" if heading == "Decoders" else "context"
                    point = plots.Point(
                        name=name, value=score.value, low=score.low, high=score.high, kind=kind
                    )
                    panels.setdefault(title, []).append(point)
        level = chance(metric, inputs.params.evaluation, n_images, runs[0].metrics)
        if level is not None:
            chances[title] = level
    return panels, chances
