"""Figure of what areas respond to: mean responses by kind of picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmri2clip.figures.plots import STYLE, save


def draw_responses(
    response_AK: NDArray[np.floating], areas: Sequence[str], kinds: Sequence[str], path: Path
) -> Path:
    """Mean response of each area to each kind of picture, as colours with their numbers."""
    most = float(np.nanmax(np.abs(response_AK)))
    with matplotlib.rc_context(STYLE):
        size = (1.6 + 0.38 * len(kinds), 1.5 + 0.34 * len(areas))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.subplots()
        shown = panel.imshow(response_AK, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
        panel.grid(False)
        panel.set_xticks(range(len(kinds)), kinds, rotation=45, ha="right", fontsize=7)
        panel.set_yticks(range(len(areas)), areas)
        for row, column in np.ndindex(*response_AK.shape):
            value = float(response_AK[row, column])
            ink = "white" if abs(value) > 0.6 * most else "black"
            # + 0.0: a rounded -0.0 is 0.
            text = f"{round(value, 2) + 0.0:.2f}" if np.isfinite(value) else ""
            panel.text(column, row, text, color=ink, fontsize=6, ha="center", va="center")
        figure.colorbar(shown, ax=panel, label="mean response, z", shrink=0.8)
        return save(figure, path)
