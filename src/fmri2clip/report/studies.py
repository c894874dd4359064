"""Studies: questions that take repeated trainings, with their variants, differences and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from fmri2clip import figures
from fmri2clip.report.differences import TONES, to_score
from fmri2clip.report.document import Block, Cell, Details, Figure, Paragraph, Row, Score, Section, Table, Verdict
from fmri2clip.report.inputs import Inputs, Tree
from fmri2clip.report.scores import ATTENTION, DIRECTIONS, HEADLINE, OTHER, READOUTS, TOKENS

NONE = "No study has been collected yet: `make study NAME=...` runs one of `studies/` and puts its numbers here."
PERCENT = (
    "retrieval",
    "zero_shot",
    "classification",
    "unseen",
    "reference",
    "readout",
    "attention",
)  # families of fractions
COUNTS = ("n_images", "n_classes", "n_undefined", "n_held_out_images")
FAMILIES = {"retrieval": "n-way", "retrieval_hard": "hard gallery", "retrieval_all": "whole test set"}
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
        Paragraph(f"Budget (planned, 2 cores): {study['budget_minutes']} minutes. {study['budget']}"),
        _make_variant_table(name, study, label),
    ]
    if study["comparisons"]:
        blocks.append(_make_difference_table(name, study, label))
    panels = collect_lines(study)
    if panels:
        path = figures_dir / f"study_{name}.png"
        figures.draw_lines(panels, path, x_label=study["x_label"] or "x", y_label="score (%)")
        alt = f"Scores of study {name} against {study['x_label']}"
        blocks.append(Figure(path, alt, f"Mean over training seeds and subjects, whiskers: 95 % intervals. {label}"))
    blocks.append(_make_settings(name, study))
    return blocks


def title_metric(metric: str, ways: object = "n") -> str:
    """Column title of a dotted metric name; names that are not known are printed as they are."""
    family, *middle, leaf = metric.split(".")
    if metric in HEADLINE and family != "retrieval":
        return HEADLINE[metric]
    if family in FAMILIES and len(middle) == 1 and middle[0] in DIRECTIONS:
        return (
            f"{DIRECTIONS[middle[0]]}, {FAMILIES[family].replace('n-way', f'{ways}-way')} {leaf.replace('top', 'top-')}"
        )
    if metric in READOUTS:
        return f"read-out of {READOUTS[metric]}"
    return {**OTHER, **TOKENS, **ATTENTION}.get(metric, f"`{metric}`")


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
    return f"Data: {data}; subjects configured: {names}{scored}. Training seeds {seeds}; evaluation seed {evaluation}."


def _make_variant_table(name: str, study: Tree, label: str) -> Table:
    metrics = study["metrics"]
    rows = []
    for variant, content in study["variants"].items():
        for run, scores in content["runs"].items():
            settings = ", ".join(content["overrides"]) or "defaults"
            rows.append(Row((f"`{variant}`", run, settings, *(_variant_cell(scores, metric) for metric in metrics))))
    ways = study["params"].get("evaluation.n_way", "n")
    return Table(
        title=f"{name}: variants (%)",
        columns=("variant", "run", "overrides", *(title_metric(metric, ways) for metric in metrics)),
        rows=tuple(rows),
        label=f"{label} Mean over training seeds and subjects, 95 % interval from resampling images.",
        brief_columns=(0, 1, *range(3, 3 + len(metrics))),
        n_text_columns=3,
    )


def _variant_cell(scores: Mapping[str, Mapping[str, float]], metric: str) -> Cell:
    if metric not in scores:
        return "-"
    found, factor = scores[metric], scale(metric)
    value, low, high = (factor * found.get(key, math.nan) for key in ("value", "low", "high"))
    return Score(value, low, high) if factor == 100 else _count(value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def scale(metric: str) -> int:
    """100 for a fraction that is printed in percent, 1 for any other number."""
    return 100 if metric.startswith(PERCENT) and metric.rsplit(".", 1)[-1] not in COUNTS else 1


def _make_difference_table(name: str, study: Tree, label: str) -> Table:
    metrics = study["metrics"]
    rows = []
    for comparison in study["comparisons"]:
        sides = [f"{comparison[f'run_{side}']} in {', '.join(comparison[side])}" for side in ("a", "b")]
        cells = [difference_cell(comparison["metrics"].get(metric)) for metric in metrics]
        rows.append(Row((comparison["title"], " \N{MINUS SIGN} ".join(sides), *cells)))
    n_tests = sum(len(comparison["metrics"]) for comparison in study["comparisons"])
    resampled = "the same images" if study["same_pictures"] else "images of each world on its own"
    ways = study["params"].get("evaluation.n_way", "n")
    return Table(
        title=f"{name}: paired differences (points)",
        columns=("comparison", "runs", *(title_metric(metric, ways) for metric in metrics)),
        rows=tuple(rows),
        label=(
            f"{label} Mean over pairs and subjects, resampling {resampled}; k/n = subjects with a higher first score. "
            f"{n_tests} intervals, not corrected for their number."
        ),
        brief_columns=(0, *range(2, 2 + len(metrics))),
        n_text_columns=2,
    )


def difference_cell(found: Tree | None) -> Cell:
    """A paired difference with its interval, verdict and count of subjects."""
    if found is None:
        return "-"
    score = to_score(*(found.get(key, math.nan) for key in ("value", "low", "high")))
    count = f"{found['n_positive']}/{found['n_subjects']}"
    return score, Verdict(found["verdict"], TONES[found["verdict"]]), count


def collect_lines(study: Tree) -> dict[str, dict[str, figures.Line]]:
    """Metric title -> run -> line over the variants that have an x, for the first N_PANELS metrics; else empty."""
    placed = sorted((v for v in study["variants"].values() if "x" in v), key=lambda variant: variant["x"])
    ways = study["params"].get("evaluation.n_way", "n")
    panels: dict[str, dict[str, figures.Line]] = {}
    for metric in [metric for metric in study["metrics"] if scale(metric) == 100][:N_PANELS]:
        for run in dict.fromkeys(run for variant in placed for run in variant["runs"]):
            points = [(v["x"], v["runs"][run][metric]) for v in placed if metric in v["runs"].get(run, {})]
            if points:
                parts = [[100 * p.get(key, math.nan) for _, p in points] for key in ("value", "low", "high")]
                panels.setdefault(title_metric(metric, ways), {})[run] = figures.Line([x for x, _ in points], *parts)
    return panels


def _make_settings(name: str, study: Tree) -> Details:
    rows = [Row((f"`{key}`", str(value))) for key, value in study["params"].items()]
    for variant, content in study["variants"].items():
        rows.append(Row((f"Only in {variant}",), "heading"))
        rows += [Row((f"`{key}`", str(value))) for key, value in content["params"].items()]
    label = f"Code digest (SHA-256) `{study['code_sha256']}`. Seeds were put into {', '.join(study['seeds']['keys'])}."
    table = Table(
        title=f"{name}: parameters", columns=("key", "value"), rows=tuple(rows), label=label, n_text_columns=2
    )
    return Details(f"Study {name}: parameters of its experiments", (table,))
