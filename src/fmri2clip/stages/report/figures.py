"""Figures of summary.md and of `dvc plots show`, as PNG: the leaderboard and the pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmri2clip.figures import grid, plots
from fmri2clip.stages.report.charts import DotChart, Dots
from fmri2clip.stages.report.pictures import Grid, Tile

WITHHELD = np.full((8, 8, 3), 230, dtype=np.uint8)  # in place of a picture of NSD


def draw_figures(index: Mapping[str, Any], folder: Path) -> None:
    """leaderboard.png, and pictures.png where pictures were painted."""
    folder.mkdir()
    draw_leaderboard(index["panels"], folder / "leaderboard.png")
    if index["grid"]:
        draw_pictures(index["grid"], folder / "pictures.png")


def draw_leaderboard(panels: list[DotChart], path: Path) -> None:
    """The panels of the first screen."""
    points = {panel.title: [_make_point(row) for row in panel.rows] for panel in panels}
    chances = {}
    for panel in panels:
        for rule in panel.rules:
            if rule.style == "chance":
                chances[panel.title] = rule.value
    plots.draw_intervals(points, chances, path)


def _make_point(row: Dots) -> plots.Point:
    low, high = row.cell.limits or (np.nan, np.nan)
    kind = "result" if row.tone == "decoder" else "context"
    return plots.Point(name=row.label, value=row.cell.value, low=low, high=high, kind=kind)


def draw_pictures(shown: Grid, path: Path) -> None:
    """The grid of pictures, each with its score."""
    columns = [
        grid.Column(
            title=name, heading=kind, pictures=[_decode(tiles[i]) for _, tiles in shown.rows]
        )
        for i, (name, kind) in enumerate(shown.columns)
    ]
    grid.draw_grid(columns, [label for label, _ in shown.rows], path)


def _decode(tile: Tile) -> NDArray[np.uint8]:
    if not tile.uri:
        return WITHHELD
    data = base64.b64decode(tile.uri.split(",", 1)[1])
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))
