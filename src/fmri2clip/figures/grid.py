"""Figure of reconstructed pictures: a row an image, a column a method."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmri2clip.figures.plots import DPI, GREY, STYLE, save

SIDE = 1.12  # inches of a picture
N_SMALL = round(SIDE * DPI)  # pixels up to which a picture is enlarged


@dataclass(frozen=True, kw_only=True)
class Column:
    """pictures: one (H, W, 3) uint8 a row.

    heading: of the group that starts here, '' inside a group.
    """

    title: str
    pictures: Sequence[NDArray[np.uint8]]
    heading: str = ""


def draw_grid(columns: Sequence[Column], labels: Sequence[str], path: Path) -> Path:
    """Pictures side by side, small ones enlarged without smoothing.

    labels: lines of words, one text a row.
    """
    with matplotlib.rc_context(STYLE):
        size = (1.1 + (SIDE + 0.06) * len(columns), 0.65 + (SIDE + 0.06) * len(labels))
        figure = Figure(figsize=size)
        edges = {
            "left": 1.0 / size[0],
            "right": 1 - 0.1 / size[0],
            "bottom": 0.05 / size[1],
            "top": 1 - 0.6 / size[1],
        }
        panels = figure.subplots(len(labels), len(columns), squeeze=False)
        figure.subplots_adjust(**edges, wspace=0.05, hspace=0.05)
        for column, line in zip(columns, panels.T, strict=True):
            for panel, picture in zip(line, column.pictures, strict=True):
                _show(panel, picture)
            _write_title(line[0], column)
        for label, panel in zip(labels, panels[:, 0], strict=True):
            panel.text(
                -0.06,
                0.5,
                label,
                transform=panel.transAxes,
                ha="right",
                va="center",
                fontsize=7.5,
                parse_math=False,
            )
        return save(figure, path)


def _show(panel: Axes, picture: NDArray[np.uint8]) -> None:
    panel.imshow(
        picture, interpolation="nearest" if max(picture.shape[:2]) <= N_SMALL else "antialiased"
    )
    panel.set_axis_off()


def _write_title(panel: Axes, column: Column) -> None:
    lines = (
        textwrap.fill(column.title.replace("_", "_ "), 15).replace("_ ", "_").replace("_\n", "_\n")
    )
    place: dict[str, Any] = {"transform": panel.transAxes, "parse_math": False}
    panel.text(0.5, 1.04, lines, ha="center", va="bottom", fontsize=7.5, **place)
    panel.text(
        0.0,
        1.32,
        column.heading,
        ha="left",
        va="bottom",
        fontsize=8,
        fontweight="bold",
        color=GREY,
        **place,
    )
