"""One table of what happens to a run when one thing about it is changed, over all studies that ask this of it."""

from __future__ import annotations

from fmri2clip.report.document import Bullets, Paragraph, Row, Section, Table
from fmri2clip.report.inputs import Inputs, Tree
from fmri2clip.report.studies import difference_cell, title_metric

RUN = "brainmclip"
METRICS = {
    "retrieval.image_given_brain.top1": "retrieval with the pooled embedding",
    "retrieval_tokens.semantic.image_given_brain.top1": "retrieval with the semantic tokens",
    "retrieval_detail.image_given_brain.top1": "retrieval with the detail tokens",
    "zero_shot.top1": "zero-shot category",
    "readout.edges": "read-out of edges",
    "readout.position": "read-out of position",
}
SAID = ("retrieval.image_given_brain.top1", "readout.edges")  # one sentence each: semantics, detail


def make_ablations(inputs: Inputs) -> Section:
    """Every paired difference of RUN with itself, a heading a study; two sentences on it; or that there is none."""
    section = Section("ablations", f"Ablations of {RUN}")
    studies = {name: study for name, study in inputs.studies.items() if _is_ablation(study)}
    if not studies:
        section.blocks.append(Paragraph(f"No study that compares `{RUN}` with itself has been collected.", "missing"))
        return section
    rows: list[Row] = []
    for name, study in studies.items():
        seeds, budget = study["seeds"]["values"], study["budget"].partition("; ")[2]
        rows.append(Row((f"{name}: {len(seeds)} training seeds; {budget}",), "heading"))
        rows += [
            Row((c["title"], *(difference_cell(c["metrics"].get(metric)) for metric in METRICS)))
            for c in study["comparisons"]
        ]
    comparisons = [c for study in studies.values() for c in study["comparisons"]]
    section.blocks.extend(
        [
            Bullets(tuple(say_metric(comparisons, metric) for metric in SAID)),
            Table(
                title=f"{RUN} with one thing changed: paired differences (points)",
                columns=("comparison", *(title_metric(metric) for metric in METRICS)),
                rows=tuple(rows),
                label="Simulated NSD; world, parameters and seeds: with each study below. Mean over training seeds and"
                " subjects, in brackets the 95 % bootstrap interval over images; not corrected for their number.",
            ),
        ]
    )
    return section


def _is_ablation(study: Tree) -> bool:
    found = study["comparisons"]
    return bool(found) and all(c["run_a"] == c["run_b"] == RUN for c in found)


def say_metric(comparisons: list[Tree], metric: str) -> str:
    """Which comparisons move a metric: those whose interval excludes 0, largest first."""
    known = [(c["title"], c["metrics"][metric]) for c in comparisons if metric in c["metrics"]]
    moved = [(title, d) for title, d in known if d["low"] > 0 or d["high"] < 0]
    moved.sort(key=lambda pair: -abs(pair[1]["value"]))
    listed = "; ".join(f"{title} ({_points(d['value'])})" for title, d in moved)
    return f"{METRICS[metric].capitalize()}: {len(moved)} of {len(known)} differences exclude 0" + (
        f", largest first: {listed}." if moved else "."
    )


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")
