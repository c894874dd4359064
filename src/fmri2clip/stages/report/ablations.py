"""One table of what happens to a run when one thing about it is changed, over all studies that ask
this of it.
"""

from __future__ import annotations

from fmri2clip.stages.report.document import Block, Bullets, Paragraph, Row, Section, Table
from fmri2clip.stages.report.inputs import Inputs, Tree
from fmri2clip.stages.report.study_columns import difference_cell, title_metric

METRICS = {  # run -> what its ablations are judged by
    "brainmclip": {
        "retrieval.image_given_brain.top1": "retrieval with the pooled embedding",
        "retrieval_tokens.semantic.image_given_brain.top1": "retrieval with the semantic tokens",
        "retrieval_detail.image_given_brain.top1": "retrieval with the detail tokens",
        "zero_shot.top1": "zero-shot category",
        "readout.edges": "read-out of edges",
        "readout.position": "read-out of position",
    },
    "clip_mused": {
        "classification.map": "mAP",
        "classification.auc": "AUC",
        "attention.low_minus_high": "attention to early areas, low minus high token",
    },
}
SAID = {  # one sentence each
    "brainmclip": ("retrieval.image_given_brain.top1", "readout.edges"),  # semantics, detail
    "clip_mused": ("classification.map", "attention.low_minus_high"),
}


def make_ablations(inputs: Inputs) -> Section:
    """A table for each of the runs of METRICS, or a sentence that it has none."""
    section = Section("ablations", "Ablations")
    for run in METRICS:
        section.blocks.extend(make_run(inputs, run))
    return section


def make_run(inputs: Inputs, run: str) -> list[Block]:
    """Every paired difference of a run with itself, a heading a study; sentences on it; or that
    there is none.
    """
    studies = {name: study for name, study in inputs.studies.items() if _is_ablation(study, run)}
    if not studies:
        return [
            Paragraph(f"No study that compares `{run}` with itself has been collected.", "missing")
        ]
    rows: list[Row] = []
    for name, study in studies.items():
        seeds = study["seeds"]["values"]
        budget = study["budget"].partition("; ")[2]
        rows.append(Row((f"{name}: {len(seeds)} training seeds; {budget}",), "heading"))
        rows += [
            Row(
                (
                    c["title"],
                    *(difference_cell(c["metrics"].get(metric), metric) for metric in METRICS[run]),
                )
            )
            for c in study["comparisons"]
        ]
    comparisons = [c for study in studies.values() for c in study["comparisons"]]
    return [
        Bullets(
            tuple(
                describe_metric(comparisons, metric, METRICS[run][metric]) for metric in SAID[run]
            )
        ),
        Table(
            title=f"{run} with one thing changed: paired differences (points)",
            columns=("comparison", *(title_metric(metric) for metric in METRICS[run])),
            rows=tuple(rows),
            label="Simulated NSD; world, parameters and seeds: with each study below. Mean over "
            "training seeds and"
            " subjects, in brackets the 95 % bootstrap interval over images; not corrected for "
            "their number.",
        ),
    ]


def _is_ablation(study: Tree, run: str) -> bool:
    found = study["comparisons"]
    return bool(found) and all(c["run_a"] == c["run_b"] == run for c in found)


def describe_metric(comparisons: list[Tree], metric: str, title: str) -> str:
    """Which comparisons move a metric: those whose interval excludes 0, largest first."""
    known = [(c["title"], c["metrics"][metric]) for c in comparisons if metric in c["metrics"]]
    moved = [(title, d) for title, d in known if d["low"] > 0 or d["high"] < 0]
    moved.sort(key=lambda pair: -abs(pair[1]["value"]))
    listed = "; ".join(f"{title} ({_points(d['value'])})" for title, d in moved)
    return f"{title[0].upper()}{title[1:]}: {len(moved)} of {len(known)} differences exclude 0" + (
        f", largest first: {listed}." if moved else "."
    )


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")
