"""Every figure of the project, and the only file that imports matplotlib.

Figures are PNG files with equal bytes for equal input (no dates, no program version in the
metadata). Colours are the colour-blind-safe set of Okabe and Ito (Color Universal Design, 2008);
line style or marker repeats what colour says. Figures are made without pyplot, so that nothing
global changes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmri2clip.core.files import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#6b7280"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
DPI = 144


def draw_nothing(why: str, path: Path) -> Path:
    """A figure that says why there is none."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 1))
        figure.text(0.02, 0.5, textwrap.fill(why, 90), va="center", fontsize=8, color=GREY)
        return save(figure, path)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One dot of an interval plot; kind 'result' is filled and coloured, 'context' hollow and
    grey.
    """

    name: str
    value: float
    low: float
    high: float
    kind: str = "result"


@dataclass(frozen=True)
class Line:
    """One series of a line figure: x ascending, score with interval (all in the units of the
    axes).
    """

    x: Sequence[float]
    value: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG under its final name only when it is complete."""
    with replacing(path) as (temporary,), matplotlib.rc_context(STYLE):
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return path


def draw_intervals(
    panels: Mapping[str, Sequence[Point]], chances: Mapping[str, float], path: Path
) -> Path:
    """Scores with their 95 % intervals: a panel per metric, a row per decoder or reference, chance
    as dashes.

    panels: title -> points, results before context, within these the first on top. chances: title
    -> chance in percent.
    """
    kinds = {point.name: point.kind for points in panels.values() for point in points}
    names = sorted(kinds, key=lambda name: kinds[name] != "result")
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(1.75 * len(panels) + 2.2, 0.26 * len(names) + 1.2), layout="constrained"
        )
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for panel, (title, points) in zip(axes, panels.items(), strict=True):
            for point in points:
                _draw_point(panel, point, names.index(point.name))
            if title in chances:
                panel.axvline(chances[title], color=GREY, linestyle="--", linewidth=1)
            panel.set(title=textwrap.fill(title, 18), xlabel="score (%)", xlim=(0, None))
            panel.locator_params(axis="x", nbins=4)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        return save(figure, path)


def _draw_point(panel: Axes, point: Point, row: int) -> None:
    colour = COLOURS[0] if point.kind == "result" else GREY
    if np.isfinite(point.low) and np.isfinite(point.high):
        panel.plot(
            [point.low, point.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt"
        )
    face = colour if point.kind == "result" else "white"
    panel.plot(
        [point.value],
        [row],
        marker="o",
        markersize=6,
        color=colour,
        markerfacecolor=face,
        linestyle="none",
    )


def draw_gallery(
    pictures_IHWC: NDArray[np.uint8], titles: Sequence[str], path: Path, n_columns: int = 4
) -> Path:
    """Pictures in rows, each under its title."""
    n_rows = -(-len(titles) // n_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.4 + 1.75 * n_rows), layout="constrained")
        panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
        for panel in panels:
            panel.axis("off")
        for panel, picture, title in zip(panels, pictures_IHWC, titles, strict=False):
            panel.imshow(picture, interpolation="nearest")
            panel.set_title(title, fontsize=6.5)
        return save(figure, path)


def draw_boxes(
    panels: Mapping[str, Mapping[str, NDArray[np.floating]]], path: Path, *, y_label: str
) -> Path:
    """Distributions as boxes (quartiles, whiskers at 1.5 quartile ranges), one panel a name, one
    box an inner name.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.2 + 2.3 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for panel, (title, boxes) in zip(axes, panels.items(), strict=True):
            panel.boxplot(list(boxes.values()), tick_labels=list(boxes), showfliers=False)
            panel.set(title=title, ylabel=y_label, ylim=(0, None))
            panel.tick_params(axis="x", labelrotation=30)
        return save(figure, path)


def draw_hierarchy(
    panels: Mapping[str, Mapping[str, Line]],
    similarity_LL: NDArray[np.floating],
    path: Path,
    *,
    y_label: str,
) -> Path:
    """Similarity to a model's blocks: a panel a subject, a line with its interval as a band a voxel
    group; then the matrix of the similarity between the blocks themselves, 0 to 1, with its numbers
    where they fit.
    """
    n_columns = min(3, len(panels) + 1)
    n_rows = -(-(len(panels) + 1) // n_columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * n_columns + 0.9, 2.7 * n_rows), layout="constrained")
        axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
        for place, (panel, (subject, lines)) in enumerate(zip(axes, panels.items(), strict=False)):
            for index, (name, line) in enumerate(lines.items()):
                _draw_band(panel, name, line, index)
            panel.set(title=subject, xlabel="block", ylabel="" if place % n_columns else y_label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom, top = (
            f(limit for p in axes[: len(panels)] for limit in p.get_ylim()) for f in (min, max)
        )
        for panel in axes[: len(panels)]:
            panel.set_ylim(min(0.0, bottom), top)
        _draw_matrix(axes[len(panels)], similarity_LL)
        for panel in axes[len(panels) + 1 :]:
            panel.axis("off")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside right upper", title="voxels"
        )
        return save(figure, path)


def _draw_band(panel: Axes, name: str, line: Line, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    marker = MARKERS[index % len(MARKERS)]
    panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
    panel.plot(
        line.x, line.value, label=name, color=colour, marker=marker, markersize=4, linewidth=1.4
    )


def _draw_matrix(panel: Axes, similarity_LL: NDArray[np.floating]) -> None:
    n = len(similarity_LL)
    panel.imshow(similarity_LL, vmin=0, vmax=1, cmap="cividis", extent=(0.5, n + 0.5, n + 0.5, 0.5))
    panel.set(title="CKA between blocks", xlabel="block", ylabel="block")
    panel.grid(False)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    for row, column in np.ndindex(n, n) if n <= 12 else ():
        value = similarity_LL[row, column]
        ink = "black" if value > 0.5 else "white"
        panel.text(
            column + 1, row + 1, f"{value:.2f}", color=ink, fontsize=6, ha="center", va="center"
        )
