"""What a decoder costs: its weights beside its scores, and what they come to at the size of NSD."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmri2clip.stages.report.boards import Board, make_board
from fmri2clip.stages.report.charts import Point, ScatterChart, chart_scatter
from fmri2clip.stages.report.inputs import Inputs
from fmri2clip.stages.report.scores import IMAGE, MAP, MEAN, WEIGHTS, Scores


def make_cost(inputs: Inputs, scores: Scores) -> tuple[Board | None, Sequence[ScatterChart]]:
    """Weights of every run, and scores against them."""
    rows = [name for name in inputs.runs if inputs.kind(name) != "null"]
    metrics = (WEIGHTS, "parameters.trained")
    caption = (
        "What decodes one subject: its own weights, fitted input maps included, and those that "
        "subjects share. Trained ones are those of the whole model that are learned. Operations "
        "and seconds are not counted."
    )
    board = make_board(inputs, scores, "Weights", rows, metrics, MEAN, caption)
    charts = []
    for metric in (IMAGE, MAP):
        points = []
        for row in scores.rows(metric, "decoder", "baseline"):
            weights = scores.get(row, WEIGHTS)
            cell = scores.cell(row, metric)
            if weights and cell and weights.value:
                shape = list(inputs.runs).index(row)
                x = math.log10(weights.value)
                points.append(Point(row, scores.kinds[row], shape, x, cell.value))
        if points:
            title = f"{scores.metric(metric).title}, %"
            charts.append(chart_scatter(title, "weights that decode one subject", points, "%"))
    return board, charts


def describe_real_size(inputs: Inputs) -> list[str]:
    """What brainmclip and the models of several subjects come to at the size of NSD."""
    found = inputs.further.get("weights")
    if not found:
        return []
    rows = [row for row in found["rows"] if "deployed" in row]
    claim = next((row["reduction"] for row in found["rows"] if "reduction" in row), None)
    first = rows[0]
    fewer = [100 * row["reduction_mindeye1_vae"] for row in rows]
    said = [
        f"At the size of NSD brainmclip ({first['name']}) deploys {first['deployed'] / 1e6:.0f} "
        f"million weights beside {first['basis'] / 1e6:.0f} million fixed numbers, "
        f"{fewer[0]:.0f} % fewer than MindEye1 with its VAE route; its variants lie "
        f"{min(fewer):.0f} to {max(fewer):.0f} % below."
    ]
    if claim is not None:
        said.append(
            f"The paper says {100 * claim:.1f} % fewer; heads and widths here are our choice, so "
            "reaching that reproduces nothing."
        )
    for name, counts in found.get("subjects", {}).items():
        own, shared = counts["per_subject"], counts["shared"]
        if shared:
            said.append(
                f"{name}: {shared / 1e6:.1f} million shared weights, and {own / 1e6:.2f} million "
                "for each subject."
            )
    return said
