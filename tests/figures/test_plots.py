"""Figures: valid PNG of equal bytes, no metadata that changes, axes with units, nothing global
touched.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fmri2clip.figures import areas, plots


def curves(path: Path) -> Path:
    epochs = np.arange(5.0)
    made = {
        "ridge": {"subj01": plots.Curve(np.zeros(1), {"val_image_top1": np.array([20.0])})},
        "brainclip": {
            f"subj0{k}": plots.Curve(
                epochs, {"val_image_top1": 10 + k * epochs, "val_text_top1": 5 + epochs}
            )
            for k in (1, 2)
        },
    }
    return plots.draw_curves(made, {"val_image_top1": "images", "val_text_top1": "texts"}, path)


def intervals(path: Path) -> Path:
    points = [
        plots.Point(name="ridge", value=40, low=35, high=45),
        plots.Point(
            name="null.prior", value=1, low=float("nan"), high=float("nan"), kind="context"
        ),
    ]
    return plots.draw_intervals({"top-1": points, "mAP": points[:1]}, {"top-1": 0.3}, path)


def lines(path: Path) -> Path:
    line = plots.Line(
        [250, 1000, 2500], [10, 20, 25], [8, 18, float("nan")], [12, 22, float("nan")]
    )
    return plots.draw_lines(
        {"top-1": {"ridge": line}}, path, x_label="training images", y_label="score (%)"
    )


def strips(path: Path) -> Path:
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    strip = plots.Strip(
        "ridge, best", [picture] * 3, ["seen", "1 (hit)", "2"], [False, True, False], ["a dog"]
    )
    return plots.draw_strips([strip, strip], path, fit=lambda text: text[:3])


def responses(path: Path) -> Path:
    response_AK = np.array([[0.3, -0.001, np.nan], [-0.2, 0.0, 0.1]])
    return areas.draw_responses(response_AK, ["FFA", "PPA"], ["dog", "bus", "(faces)"], path)


DRAWINGS = [curves, intervals, lines, strips, responses]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_equal_bytes_and_no_metadata(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first, second = (draw(tmp_path / f"{name}.png").read_bytes() for name in "ab")
    assert first == second
    assert list_chunks(first) <= {"IHDR", "pHYs", "IDAT", "IEND"}
    assert dict(matplotlib.rcParams) == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.getextrema()[0][0] < 255, "something was drawn"


def list_chunks(png: bytes) -> set[str]:
    chunks, offset = set(), 8
    while offset < len(png):
        (length,) = struct.unpack(">I", png[offset : offset + 4])
        chunks.add(png[offset + 4 : offset + 8].decode())
        offset += length + 12
    return chunks


@pytest.mark.parametrize(
    ("draw", "labels"),
    [
        (curves, {"epoch", "validation score (%)"}),
        (intervals, {"score (%)"}),
        (lines, {"training images", "score (%)"}),
    ],
)
def test_axes_are_labelled(
    draw: Callable[[Path], Path], labels: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[plots.Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: seen.append(figure))
    draw(tmp_path / "x.png")
    found = {
        text for panel in seen[0].axes for text in (panel.get_xlabel(), panel.get_ylabel())
    } - {""}
    assert found == labels


def test_limits_hold_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[plots.Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: seen.append(figure))
    for draw in (curves, intervals, lines):
        draw(tmp_path / "x.png")
    for panel in [panel for figure in seen for panel in figure.axes]:
        (left, right), (bottom, top) = sorted(panel.get_xlim()), sorted(panel.get_ylim())
        for line in panel.get_lines():
            x, y = (
                np.asarray(line.get_xdata(), dtype=float),
                np.asarray(line.get_ydata(), dtype=float),
            )
            if line.get_linestyle() != "--":
                assert np.nanmin(x) >= left and np.nanmax(x) <= right
                assert np.nanmin(y) >= bottom and np.nanmax(y) <= top


def test_wide_spread_makes_a_logarithmic_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[plots.Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: seen.append(figure))
    lines(tmp_path / "x.png")
    panel = seen[0].axes[0]
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["250", "1000", "2500"]


def test_pyplot_is_not_imported() -> None:
    code = "import sys, fmri2clip.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": "src"}
        ).returncode
        == 0
    )


def test_colours_differ_without_colour() -> None:
    assert len(set(plots.COLOURS)) == len(plots.COLOURS) == len(set(plots.MARKERS))


def test_gallery_shows_every_picture(tmp_path: Path) -> None:
    """Each picture of one plain colour is found in the figure."""
    colours = np.array(
        [[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [30, 200, 200]], np.uint8
    )
    pictures = np.broadcast_to(colours[:, None, None], (5, 8, 8, 3))
    plots.draw_gallery(pictures, list("abcde"), tmp_path / "gallery.png")
    pixels = np.asarray(Image.open(tmp_path / "gallery.png").convert("RGB")).reshape(-1, 3)
    for colour in colours:
        assert (pixels == colour).all(axis=1).sum() > 1000


def test_boxes_are_drawn_for_every_panel(tmp_path: Path) -> None:
    values = {"low": np.linspace(0, 1, 20), "high": np.linspace(0, 0.5, 20)}
    one = Image.open(plots.draw_boxes({"subj01": values}, tmp_path / "one.png", y_label="ncsnr"))
    two = Image.open(
        plots.draw_boxes(
            {"subj01": values, "subj02": values}, tmp_path / "two.png", y_label="ncsnr"
        )
    )
    assert two.height > 1.5 * one.height
    assert (np.asarray(two.convert("L")) < 100).sum() > 1.5 * (
        np.asarray(one.convert("L")) < 100
    ).sum()
