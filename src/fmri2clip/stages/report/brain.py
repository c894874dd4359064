"""Where in the brain: areas, CLIP blocks, attention, and on slices the noise ceiling and what an
encoding model foretells.

Letters: V voxels.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from fmri2clip.artefacts.scores import list_groups, read_predictions
from fmri2clip.artefacts.trials import read_voxels
from fmri2clip.figures.slices import paint_slices
from fmri2clip.metrics.ceiling import average_inverse, find_ceiling
from fmri2clip.stages.report.boards import Board, Row
from fmri2clip.stages.report.catalogue import Metric
from fmri2clip.stages.report.charts import (
    DotChart,
    Dots,
    LineChart,
    Mark,
    Rule,
    chart_dots,
    chart_lines,
    read_blocks,
    to_score,
)
from fmri2clip.stages.report.inputs import Inputs, Tree
from fmri2clip.stages.report.scores import IMAGE, MEAN, Scores

GROUPS = {"low": "early areas", "high": "category areas", "all": "all of visual cortex"}
N_SLICES = 9
SHARE = Metric(name="attention", title="attention", unit="%", digits=1)
ENCODING = "encoding.r."  # in front of regions, in the scores of an encoding model
FORETOLD = {  # columns of its table: name in front of a region -> title, unit, digits
    "encoding.r": ("correlation", "r", 2),
    "encoding.ceiling_r": ("its noise ceiling", "r", 2),
    "encoding.r2": ("R², %", "%", 1),
    "encoding.ceiling_r2": ("its noise ceiling, %", "%", 1),
}


def make_areas(inputs: Inputs, scores: Scores) -> DotChart | None:
    """Pictures found from single areas; None where the benchmark was made on other voxels."""
    found = inputs.further.get("areas")
    if not found or not inputs.is_simulated:
        return None
    kept = {subject: counts["voxels"]["kept"] for subject, counts in inputs.rois.items()}
    sizes = {subject: counts.get("nsdgeneral") for subject, counts in found["sizes"].items()}
    if kept != sizes:
        return None
    metric = scores.metric(IMAGE)
    rows = [
        Dots(label=name, cell=metric.show(to_score(group["image_given_brain"])), tone="baseline")
        for name, group in found["groups"].items()
    ]
    n = found["n_voxels"]
    title = f"{metric.title} from {n} voxels of one area, %"
    note = (
        f"Ridge, fitted anew to {n} voxels; bars: least and greatest of {found['n_draws']} draws."
    )
    return chart_dots(title, rows, note=note)


def make_blocks(inputs: Inputs) -> list[LineChart]:
    """Which CLIP blocks resemble which areas, a chart a CLIP model."""
    tokens = inputs.params.hierarchy.tokens
    charts = []
    for clip, tree in inputs.hierarchy.items():
        by_group = tree["mean"]["rsa"][tokens]
        lines = [read_blocks(by_group[group], words) for group, words in GROUPS.items()]
        title = (
            f"Resemblance of areas and blocks of CLIP {clip} (RSA, 1 is the most that noise lets)"
        )
        charts.append(chart_lines(title, lines, "block of the image tower"))
    return charts


def describe_blocks(inputs: Inputs) -> list[str]:
    """Where each group's resemblance is highest, and whether early and category areas differ."""
    said = []
    for clip, tree in inputs.hierarchy.items():
        numbers = tree["mean"]
        by_group = numbers["rsa"][inputs.params.hierarchy.tokens]
        peaks = []
        for group, words in GROUPS.items():
            line = read_blocks(by_group[group], words)
            peaks.append(f"{words} at block {1 + int(np.argmax(line.y))} ({max(line.y):.2f})")
        late = numbers["contrasts"]["late_preference"]
        limits = [
            numbers["contrasts"].get(f"late_preference_ci95_{end}") for end in ("low", "high")
        ]
        p = numbers["shuffled"]["late_preference"]["clusters_p"]
        interval = f" [{limits[0]:.2f}, {limits[1]:.2f}]" if None not in limits else ""
        said.append(
            f"CLIP {clip}, training pictures: the resemblance is highest for {', '.join(peaks)}. "
            f"Category areas prefer late blocks, compared with early ones, by {late:.2f}{interval} "
            f"(p {p:.3f} by shuffled clusters of voxels). Detail tokens come from blocks "
            f"{', '.join(map(str, inputs.params.clips[clip].detail_layers)) or 'none'}; the rule "
            f"suggests {tree['band']['first']} to {tree['band']['last']}."
        )
    return said


def make_attention(inputs: Inputs) -> list[DotChart]:
    """Attention of a run's subject tokens to each ROI, less what uniform attention would give."""
    charts = []
    for run, tree in inputs.further.get("tokens", {}).items():
        if run in inputs.runs and "attention" in tree:
            by_token = {token: _list_shares(tree["attention"], token) for token in ("low", "high")}
            everything = [row for rows in by_token.values() for row in rows]
            uniform = 100 / len(tree["attention"]["is_early"])
            charts += [
                chart_dots(
                    f"{run}: attention of the {token} token, less {uniform:.1f} % each, points",
                    rows,
                    [Rule(0.0, "", "chance")],
                    also=everything,
                )
                for token, rows in by_token.items()
                if rows
            ]
    return charts


def _list_shares(attention: Tree, token: str) -> list[Dots]:
    """A row for each ROI, early areas first, with a mark a subject."""
    subjects = [tokens[token] for tokens in attention["last_layer"].values() if token in tokens]
    is_early = attention["is_early"]
    rows = []
    for roi in sorted(is_early, key=lambda name: not is_early[name]) if subjects else ():
        shares = [share[roi] - 1 / len(is_early) for share in subjects]
        cell = SHARE.show(to_score({"value": math.fsum(shares) / len(shares)}), signed=True)
        marks = [Mark(100 * share, place) for place, share in enumerate(shares)]
        rows.append(Dots(label=roi, cell=cell, marks=marks))
    return rows


def describe_tokens(inputs: Inputs) -> list[str]:
    """Where the tokens look, and what is lost with another subject's."""
    said = []
    for run, tree in inputs.further.get("tokens", {}).items():
        if run not in inputs.runs:
            continue
        early = tree.get("attention", {}).get("early")
        if early:
            low, high = (SHARE.show(to_score(early[f"{token}_early"])) for token in ("low", "high"))
            chance = 100 * tree["attention"]["early_chance"]
            said.append(
                f"{run}: early areas get {low} % of the low token's attention and {high} % of the "
                f"high token's; they are {chance:.0f} % of the areas."
            )
        if "swap" in tree:
            lost = SHARE.show(to_score(tree["swap"]["lost"]["map"]))
            said.append(f"With another subject's tokens it loses {lost} points of mAP.")
    return said


def ceiling(ncsnr: Any, counts: Tree) -> Any:
    """Noise ceiling in percent of the variance of the mean of a test picture's trials, of a number
    or an array of them; counts: of the subject.
    """
    shown = {int(n_trials): n for n_trials, n in counts["test"]["shown"].items()}
    return 100 * find_ceiling(ncsnr, average_inverse(shown))


def make_ceilings(inputs: Inputs) -> DotChart | None:
    """Median noise ceiling of each group of areas, a mark a subject."""
    metric = Metric(name="ceiling", title="noise ceiling", unit="%", digits=0)
    rows = []
    for group, words in GROUPS.items():
        medians = [
            ceiling(counts["ncsnr"][group]["median"], counts)
            for counts in inputs.rois.values()
            if "median" in counts["ncsnr"].get(group, {})
        ]
        if medians:
            cell = metric.show(to_score({"value": sum(medians) / len(medians) / 100}))
            marks = [Mark(value, place) for place, value in enumerate(medians)]
            rows.append(Dots(label=words, cell=cell, marks=marks, tone="baseline"))
    note = "Median over voxels, of the mean of all trials of a test picture."
    title = "Noise ceiling, % of variance"
    return chart_dots(title, rows, note=note) if rows else None


def make_slices(inputs: Inputs, subject: str) -> list[dict[str, Any]]:
    """Axial slices with each voxel's noise ceiling, and with what each encoding model explains, in
    the same colours; nothing where the voxels are not at hand.
    """
    path = inputs.paths.voxels(subject)
    if not path.is_file():
        return []
    arrays = read_voxels(path, ["ijk_V3", "ncsnr_V"])
    ncsnr_V = arrays["ncsnr_V"].astype(float)
    ceiling_V = np.nan_to_num(ceiling(ncsnr_V, inputs.rois[subject])) / 100
    most = float(np.quantile(ceiling_V, 0.99)) or 1.0
    shown = [_paint("Noise ceiling", subject, arrays["ijk_V3"], ceiling_V, most)]
    for run in list_encoding(inputs):
        file = inputs.paths.predictions(run)
        if subject in list_groups(file):
            found = read_predictions(file, ["ijk_V3", "foretold_r2_V"], subject)
            title = f"R² of the responses that {run} foretells"
            shown.append(_paint(title, subject, found["ijk_V3"], found["foretold_r2_V"], most))
    return shown


def _paint(title: str, subject: str, ijk_V3: Any, share_V: Any, most: float) -> dict[str, Any]:
    png = paint_slices(ijk_V3, share_V / most, N_SLICES)
    uri = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    alt = f"{title} of the voxels of {subject} on {N_SLICES} axial slices"
    return {"title": title, "uri": uri, "alt": alt, "most": 100 * most}


def list_encoding(inputs: Inputs) -> list[str]:
    """Runs whose decoder has an encoding model."""
    return [run for run, tree in inputs.runs.items() if "r" in tree.get("encoding", {})]


def make_encoding(inputs: Inputs, scores: Scores, subject: str = MEAN) -> list[Board]:
    """A table of each encoding model: what it foretells of the responses of every region."""
    metrics = [Metric(name=n, title=t, unit=u, digits=d) for n, (t, u, d) in FORETOLD.items()]
    found = []
    for run in list_encoding(inputs):
        regions = [
            metric.removeprefix(ENCODING)
            for row, metric, who in scores.found
            if (row, who) == (run, subject) and metric.startswith(ENCODING)
        ]
        rows = []
        for region in regions:
            both = [(m, scores.get(run, f"{m.name}.{region}", subject)) for m in metrics]
            cells = [None if score is None else metric.show(score) for metric, score in both]
            rows.append(Row(region, "decoder", cells))
        caption = (
            "Mean over the voxels of each area, means of all trials of a picture; the ceiling is "
            "what the noise of the trials lets any model reach."
        )
        title = f"{run}: responses to test pictures, foretold from the picture"
        if rows:
            found.append(Board(title, metrics, rows, caption))
    return found
