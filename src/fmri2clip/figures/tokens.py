"""Figure of what the subject tokens of one run do: where they look, and which CLIP blocks their
outputs resemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmri2clip.figures.plots import COLOURS, MARKERS, STYLE, Line, save


def draw_tokens(
    shares: Mapping[str, NDArray[np.floating]],
    subjects: list[str],
    rois: list[str],
    n_early: int,
    similarity: Mapping[str, Line],
    blocks: list[str],
    path: Path,
) -> Path:
    """shares: token -> (S, R) share of attention, early areas first; similarity: token -> RSA over
    blocks.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(shares) + 4.0, 3.2), layout="constrained")
        panels = figure.subplots(1, len(shares) + 1, squeeze=False)[0]
        highest = max(float(share_SR.max()) for share_SR in shares.values())
        for panel, (token, share_SR) in zip(panels, shares.items(), strict=False):
            _draw_shares(panel, share_SR, subjects, rois, highest)
            panel.axvline(n_early - 0.5, color="white", linewidth=2)
            panel.set_title(f"{token} token: attention to ROIs (%)")
        _draw_similarity(panels[-1], similarity, blocks)
        return save(figure, path)


def _draw_shares(
    panel: Axes,
    share_SR: NDArray[np.floating],
    subjects: list[str],
    rois: list[str],
    highest: float,
) -> None:
    panel.imshow(share_SR, cmap="cividis", vmin=0, vmax=highest, aspect="auto")
    panel.grid(False)
    panel.set_xticks(range(len(rois)), rois, rotation=40, ha="right", fontsize=7)
    panel.set_yticks(range(len(subjects)), subjects)
    for row, column in np.ndindex(*share_SR.shape):
        ink = "black" if share_SR[row, column] > 0.6 * highest else "white"
        text = f"{100 * share_SR[row, column]:.1f}"
        panel.text(column, row, text, color=ink, fontsize=7, ha="center", va="center")


def _draw_similarity(panel: Axes, similarity: Mapping[str, Line], blocks: list[str]) -> None:
    for index, (token, line) in enumerate(similarity.items()):
        colour = COLOURS[index % len(COLOURS)]
        marker = MARKERS[index % len(MARKERS)]
        panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        panel.plot(
            line.x,
            line.value,
            label=token,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.4,
        )
    panel.set_xticks(range(len(blocks)), [name.replace("block_", "") for name in blocks])
    panel.set(title="RSA of token outputs with CLIP", xlabel="block", ylabel="Spearman correlation")
    panel.legend(title="token")
