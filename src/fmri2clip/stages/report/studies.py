"""Studies: questions that take repeated trainings, with their variants, differences and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fmri2clip.figures import plots
from fmri2clip.stages.report.document import Block, Details, Figure, Paragraph, Row, Section, Table
from fmri2clip.stages.report.inputs import Inputs, Tree
from fmri2clip.stages.report.picture_differences import DISTANCES_NOTE
from fmri2clip.stages.report.picture_tables import Column, find_column
from fmri2clip.stages.report.study_columns import (
    describe_unit,
    difference_cell,
    list_columns,
    list_protocols,
    variant_cell,
)

NONE = (
    "No study has been collected yet: `make study NAME=...` runs one of `studies/` and puts its "
    "numbers here."
)
N_PANELS = 3


def make_studies(inputs: Inputs, figures_dir: Path) -> Section:
    """One part per collected study, or a sentence that there is none."""
    section = Section("studies", "Studies")
    if not inputs.studies:
        section.blocks.append(Paragraph(NONE, "missing"))
    for name, study in inputs.studies.items():
        section.blocks.extend(make_study(name, study, figures_dir))
    return section


def make_study(name: str, study: Tree, figures_dir: Path) -> list[Block]:
    """Question, budget, variants, paired differences, and a curve where the study has an x axis."""
    label = label_study(study)
    blocks: list[Block] = [
        Paragraph(f"**Study `{name}`.** {study['question']}"),
        Paragraph(
            f"Budget (planned, 2 cores): {study['budget_minutes']} minutes. {study['budget']}"
        ),
        _make_variant_table(name, study, label),
    ]
    if study["comparisons"]:
        blocks.append(_make_difference_table(name, study, label))
    panels = collect_lines(study)
    if panels:
        path = figures_dir / f"study_{name}.png"
        unit = describe_unit(list_drawn(study), "%")
        plots.draw_lines(panels, path, x_label=study["x_label"] or "x", y_label=f"score{unit}")
        alt = f"Scores of study {name} against {study['x_label']}"
        blocks.append(
            Figure(
                path,
                alt,
                f"Mean over training seeds and subjects, whiskers: 95 % intervals. {label}",
            )
        )
    blocks.append(_make_settings(name, study))
    return blocks


def label_study(study: Tree) -> str:
    """Data, subjects and seeds of a study, from the parameters that its experiments share."""
    params = study["params"]
    world = params.get("world.seed")
    seed = "differs between variants" if world is None else str(world)
    data = f"NSD-mini (simulated, not a brain), world seed {seed}"
    if params.get("dataset.source", "simulated") != "simulated":
        data = "NSD"
    subjects = params.get("subjects", "differ between variants")
    names = ", ".join(subjects) if isinstance(subjects, (list, tuple)) else str(subjects)
    scored = f" (scores: {', '.join(study['scored'])})" if study.get("scored") else ""
    seeds = ", ".join(str(value) for value in study["seeds"]["values"])
    evaluation = params.get("evaluation.seed", "differs between variants")
    data_sentence = f"Data: {data}; subjects configured: {names}{scored}."
    seeds_sentence = f"Training seeds {seeds}; evaluation seed {evaluation}."
    return " ".join([data_sentence, seeds_sentence, *_describe_pictures(study)])


def _describe_pictures(study: Tree) -> list[str]:
    """Protocol, number of images and stand-ins, where a study scores reconstructions; how distances
    are read.
    """
    params = study["params"]
    columns = [column for metric in study["metrics"] if (column := find_column(metric))]
    if not columns:
        return []
    n_images = params.get("pictures.n_images", "a number that differs between variants")
    said = [f"Pictures: the first test images of each subject by NSD id, {n_images}."]
    if n_images == 0:
        said = ["Pictures: all test images of each subject."]
    protocols = list_protocols(study["metrics"])
    if protocols:
        names = " and ".join(f"`{protocol}`" for protocol in protocols)
        two_way = (
            "; two-way identification: chance 50 %"
            if any(column.is_percent for column in columns)
            else ""
        )
        said.insert(0, f"Protocol{'s' if len(protocols) > 1 else ''} {names}{two_way}.")
    if params.get("dataset.source", "simulated") == "simulated":
        said.append("In the simulated world AlexNet and CLIP are stand-ins.")
    return said


def _make_variant_table(name: str, study: Tree, label: str) -> Table:
    columns = list_columns(study, "%")
    rows = []
    for variant, content in study["variants"].items():
        for run, scores in content["runs"].items():
            settings = ", ".join(content["overrides"]) or "defaults"
            cells = (variant_cell(scores, column.metric) for column in columns)
            rows.append(Row((f"`{variant}`", run, settings, *cells)))
    return Table(
        title=f"{name}: variants{describe_unit(columns, '%')}",
        columns=("variant", "run", "overrides", *(column.title for column in columns)),
        rows=tuple(rows),
        label=f"{label} Mean over training seeds and subjects, 95 % interval from resampling "
        "images.",
        brief_columns=(0, 1, *range(3, 3 + len(columns))),
        n_text_columns=3,
    )


def _make_difference_table(name: str, study: Tree, label: str) -> Table:
    columns = list_columns(study, "points")
    rows = []
    for comparison in study["comparisons"]:
        sides = [
            f"{comparison[f'run_{side}']} in {', '.join(comparison[side])}" for side in ("a", "b")
        ]
        cells = [
            difference_cell(comparison["metrics"].get(column.metric), column.metric)
            for column in columns
        ]
        rows.append(Row((comparison["title"], " \N{MINUS SIGN} ".join(sides), *cells)))
    n_tests = sum(len(comparison["metrics"]) for comparison in study["comparisons"])
    resampled = "the same images" if study["same_pictures"] else "images of each world on its own"
    return Table(
        title=f"{name}: paired differences{describe_unit(columns, 'points')}",
        columns=("comparison", "runs", *(column.title for column in columns)),
        rows=tuple(rows),
        label=(
            f"{label} Mean over pairs and subjects, resampling {resampled}; k/n = subjects in "
            "which the first is"
            f" better. {_describe_reading(columns)}{n_tests} intervals, not corrected for their "
            "number."
        ),
        brief_columns=(0, *range(2, 2 + len(columns))),
        n_text_columns=2,
    )


def _describe_reading(columns: Sequence[Column]) -> str:
    """How differences are read that are not in points."""
    return DISTANCES_NOTE if any(" distance" in column.title for column in columns) else ""


def list_drawn(study: Tree) -> list[Column]:
    """The first N_PANELS shares and numbers of pictures."""
    columns = list_columns(study, "%")
    return [column for column in columns if column.is_percent or find_column(column.metric)][
        :N_PANELS
    ]


def collect_lines(study: Tree) -> dict[str, dict[str, plots.Line]]:
    """Metric title -> run -> line over the variants that have an x, of `list_drawn`; else empty."""
    placed = sorted(
        (v for v in study["variants"].values() if "x" in v), key=lambda variant: variant["x"]
    )
    drawn = list_drawn(study)
    panels: dict[str, dict[str, plots.Line]] = {}
    for column in drawn:
        metric = column.metric
        factor = 100 if column.is_percent else 1
        title = column.title.removesuffix(" (%)") if describe_unit(drawn, "%") else column.title
        for run in dict.fromkeys(run for variant in placed for run in variant["runs"]):
            points = [
                (v["x"], v["runs"][run][metric]) for v in placed if metric in v["runs"].get(run, {})
            ]
            if points:
                parts = [
                    [factor * p.get(key, math.nan) for _, p in points]
                    for key in ("value", "low", "high")
                ]
                panels.setdefault(title, {})[run] = plots.Line([x for x, _ in points], *parts)
    return panels


def _make_settings(name: str, study: Tree) -> Details:
    rows = [Row((f"`{key}`", str(value))) for key, value in study["params"].items()]
    for variant, content in study["variants"].items():
        rows.append(Row((f"Only in {variant}",), "heading"))
        rows += [Row((f"`{key}`", str(value))) for key, value in content["params"].items()]
    label = (
        f"Code digest (SHA-256) `{study['code_sha256']}`. Seeds were put into "
        f"{', '.join(study['seeds']['keys'])}."
    )
    table = Table(
        title=f"{name}: parameters",
        columns=("key", "value"),
        rows=tuple(rows),
        label=label,
        n_text_columns=2,
    )
    return Details(f"Study {name}: parameters of its experiments", (table,))
