"""Section about one model for all subjects: weights by number of subjects, and what the tokens of
subjects do.

No sentence is fixed where data decide: intervals choose among those below. They speak about test
images, not about training seeds; the studies repeat trainings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmri2clip.figures.plots import Line
from fmri2clip.figures.tokens import draw_tokens
from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Cell,
    Figure,
    Paragraph,
    Row,
    Score,
    Section,
    Table,
)
from fmri2clip.stages.report.inputs import Inputs, RunResult, Tree
from fmri2clip.stages.report.labels import label_data, label_seeds
from fmri2clip.stages.report.scores import lookup

COUNTS = (1, 2, 4)  # subjects
NONE = "No run has tokens or an embedding of subjects, or the `inspect_tokens` stage has not run."


def make_subjects(inputs: Inputs, figures_dir: Path) -> Section:
    """Weights of every run, then a part for each run whose decoder is told the subject."""
    section = Section("subjects", "One model for all subjects", make_weights_tables(inputs))
    if not inputs.tokens:
        section.blocks.append(Paragraph(NONE, "missing"))
    for name, tree in inputs.tokens.items():
        section.blocks.extend(make_run(inputs, name, tree, figures_dir))
    return section


def make_weights_tables(inputs: Inputs) -> list[Block]:
    """That of the report's own models, and that at the size of NSD where it was counted."""
    tables: list[Block] = [make_weights_table(inputs)]
    if inputs.weights and "subjects" in inputs.weights:
        tables.append(make_nsd_table(inputs.weights["subjects"]))
    return tables


def make_nsd_table(counts: Tree) -> Table:
    """The same at the size of NSD, in millions."""
    rows = []
    for name, found in counts.items():
        parts = [found[key] for key in ("input_map", "identity", "per_subject", "shared")]
        sums = [found["shared"] + n * found["per_subject"] for n in COUNTS]
        rows.append(Row((f"`{name}`", *(f"{n / 1e6:,.3f}" if n else "-" for n in (*parts, *sums)))))
    return Table(
        title="Weights by number of subjects at the size of NSD (millions)",
        columns=(
            "run",
            "input map",
            "tokens, embedding",
            "each subject adds",
            "shared",
            *map(_title, COUNTS),
        ),
        rows=tuple(rows),
        label=(
            "Not measured on data: counted from the modules for the voxels of subject 1, 80 "
            "categories and the sizes of"
            " presets/nsd.yaml."
        ),
    )


def make_weights_table(inputs: Inputs) -> Table:
    """Deployed weights, input maps included: what one subject adds, what is shared, and the sums
    for COUNTS.
    """
    rows = tuple(Row(_count_cells(result)) for result in inputs.runs.values())
    return Table(
        title="Weights by number of subjects (thousands)",
        columns=(
            "run",
            "input map",
            "tokens, embedding",
            "each subject adds",
            "shared",
            *map(_title, COUNTS),
        ),
        rows=rows,
        label=(
            "Deployed weights, mean over subjects; input maps count whether fitted or learned. "
            "Decoders without a"
            f" shared part need all their weights for each subject. {label_data(inputs.params)}."
        ),
    )


def _title(n: int) -> str:
    return f"{n} subject{'s' if n > 1 else ''}"


def _count_cells(result: RunResult) -> tuple[Cell, ...]:
    own, shared = (lookup(result.metrics, f"parameters.{key}") for key in ("per_subject", "shared"))
    if own is None or shared is None:
        own = lookup(result.metrics, "parameters.deployed")
        shared = 0.0
    parts = [lookup(result.metrics, f"parameters.{key}") for key in ("input_map", "identity")]
    if own is None or shared is None:
        return (f"`{result.name}`", *["-"] * (4 + len(COUNTS)))
    sums = [shared + n * own for n in COUNTS]
    return (f"`{result.name}`", *(_thousands(n) for n in (*parts, own, shared, *sums)))


def _thousands(count: float | None) -> str:
    return "-" if not count else f"{count / 1000:,.1f}"


def make_run(inputs: Inputs, name: str, tree: Tree, figures_dir: Path) -> list[Block]:
    """Sentences, figure and swap table of one run."""
    result = inputs.runs[name]
    label = f"{label_data(inputs.params)}; test images. {label_seeds(inputs.params, [result])}."
    said = [
        sentence
        for say in (describe_swap, describe_attention, describe_similarity)
        for sentence in say(tree)
    ]
    blocks: list[Block] = [Paragraph(f"**Run `{name}`**"), Bullets(tuple(said))]
    if "attention" in tree and "rsa" in tree:
        blocks.append(_draw(name, tree, figures_dir, label))
    if "swap" in tree:
        blocks.append(make_swap_table(name, tree["swap"], label))
    return blocks


def describe_swap(tree: Tree) -> list[str]:
    """What is lost with another subject's tokens or embedding."""
    if "swap" not in tree:
        return []
    lost = tree["swap"]["lost"]
    numbers = " and ".join(
        f"{_points(lost[key])} in {title}" for key, title in (("map", "mAP"), ("auc", "AUC"))
    )
    verdict = _judge(
        lost["map"], "so they matter", "so they do harm", "so that they matter is not shown"
    )
    return [
        "Decoded with what belongs to another subject behind the input map (tokens or embedding), "
        "own minus other, over"
        f" all pairs of {tree['swap']['n_subjects']} subjects: {numbers}; {verdict}."
    ]


def describe_attention(tree: Tree) -> list[str]:
    """Whether low tokens look at early areas more than high ones do."""
    early = tree.get("attention", {}).get("early", {})
    if not early:
        return []
    verdict = _judge(
        early["low_minus_high"],
        "low tokens attend to early areas more than high tokens do",
        "low tokens attend to early areas less than high tokens do",
        "that low and high tokens differ in this is not shown",
    )
    return [
        "Share of attention (last layer, ROIs only) on early areas: low tokens "
        f"{_percent(early['low_early'])}, high"
        f" tokens {_percent(early['high_early'])}; these are "
        f"{100 * tree['attention']['early_chance']:.0f} % of the"
        f" ROIs. Difference {_points(early['low_minus_high'])}: {verdict}. "
        f"{_describe_spread(tree['attention'])}"
    ]


def _describe_spread(attention: Tree) -> str:
    """How far from uniform attention is at all."""
    shares = [
        share
        for by_token in attention["last_layer"].values()
        for rois in by_token.values()
        for share in rois.values()
    ]
    return (
        f"The share of a single ROI lies between {100 * min(shares):.1f} and "
        f"{100 * max(shares):.1f} % over subjects"
        f" and tokens; uniform attention would give each {100 / len(attention['is_early']):.1f} %."
    )


def describe_similarity(tree: Tree) -> list[str]:
    """Which block each token's outputs resemble most, and whether the tokens differ in depth."""
    rsa = tree.get("rsa", {})
    best = []
    for token in ("high", "low"):
        blocks = _blocks(rsa.get(token, {}))
        if blocks:
            name = max(blocks, key=lambda block: rsa[token][block]["value"])
            best.append(
                f"outputs of the {token} token resemble `{name}` most (RSA "
                f"{rsa[token][name]['value']:.2f})"
            )
    if not best:
        return []
    sentence = "; ".join(best)
    if "high_minus_low" in rsa:
        difference = rsa["high_minus_low"]
        verdict = _judge(
            difference,
            "the high token is the later one",
            "the low token is the later one",
            "that the tokens differ in depth is not shown",
        )
        numbers = (
            f"{difference['value']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
        )
        sentence += (
            ". RSA with the final embedding less that with block 1, high minus low token: "
            f"{numbers}; {verdict}"
        )
    return [f"{sentence[0].upper()}{sentence[1:]}.".replace("-", "\N{MINUS SIGN}")]


def _judge(found: Tree, above: str, below: str, neither: str) -> str:
    if found["low"] > 0:
        return above
    return below if found["high"] < 0 else neither


def _score(found: Tree) -> Score:
    return Score(*(100 * found[key] for key in ("value", "low", "high")))


def _points(found: Tree) -> str:
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}] points".replace("-", "\N{MINUS SIGN}")


def _percent(found: Tree) -> str:
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _blocks(by_block: Tree) -> list[str]:
    return [name for name in by_block if name != "late"]


def _draw(name: str, tree: Tree, figures_dir: Path, label: str) -> Figure:
    last = tree["attention"]["last_layer"]
    rsa = tree["rsa"]
    subjects = list(last)
    tokens = list(next(iter(last.values())))
    is_early = tree["attention"]["is_early"]
    rois = sorted(is_early, key=lambda roi: not is_early[roi])
    shares = {
        token: np.array([[last[s][token][roi] for roi in rois] for s in subjects])
        for token in tokens
    }
    blocks = _blocks(rsa[next(token for token in rsa if token in ("high", "low"))])
    lines = {}
    for token in ("high", "low"):
        if token in rsa:
            parts = (
                [rsa[token][block][key] for block in blocks] for key in ("value", "low", "high")
            )
            lines[token] = Line(list(range(len(blocks))), *parts)
    n_early = int(sum(is_early.values()))
    path = draw_tokens(
        shares, subjects, rois, n_early, lines, blocks, figures_dir / f"tokens_{name}.png"
    )
    caption = (
        f"`{name}`. Left: mean share of each token's attention in the last layer by ROI (rows sum "
        "to 100 %; early areas"
        " left of the white line). Right: rank correlation between the distances of test images in "
        "the token's outputs"
        " and in CLIP's blocks (mean of patch tokens; final: image embedding), mean over subjects, "
        "bands: 95 %"
        f" intervals over images. {label}"
    )
    return Figure(path, f"Attention of the tokens of {name} and their resemblance to CLIP", caption)


def make_swap_table(name: str, swap: Tree, label: str) -> Table:
    """mAP of each subject (row) with what belongs to each subject (column)."""
    subjects = list(swap["map"])
    scores = {s: [_score(swap["map"][s][t]) for t in subjects] for s in subjects}
    rows = [Row((subject, *scores[subject])) for subject in subjects]
    return Table(
        title=f"{name}: mAP with another subject's tokens or embedding (%)",
        columns=("subject decoded", *(f"with {t}'s" for t in subjects)),
        rows=tuple(rows),
        label=f"{label} In brackets 95 % intervals over images.",
    )
