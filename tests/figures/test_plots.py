"""Figures: valid PNG of equal bytes, no metadata that changes, axes with units, nothing global
touched.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from fmri2clip.figures import areas, plots, slices


def intervals(path: Path) -> Path:
    points = [
        plots.Point(name="ridge", value=40, low=35, high=45),
        plots.Point(
            name="null.prior", value=1, low=float("nan"), high=float("nan"), kind="context"
        ),
    ]
    return plots.draw_intervals({"top-1": points, "mAP": points[:1]}, {"top-1": 0.3}, path)


def responses(path: Path) -> Path:
    response_AK = np.array([[0.3, -0.001, np.nan], [-0.2, 0.0, 0.1]])
    return areas.draw_responses(response_AK, ["FFA", "PPA"], ["dog", "bus", "(faces)"], path)


def lines(path: Path) -> Path:
    line = plots.Line([1, 2, 3], [0.1, 0.5, 0.2], [0.0, 0.4, 0.1], [0.2, 0.6, 0.3])
    return plots.draw_hierarchy({"subj01": {"low": line}}, np.eye(3), path, y_label="RSA")


DRAWINGS = [intervals, lines, responses]


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
        (intervals, {"score (%)"}),
        (lines, {"block", "RSA"}),
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
    for draw in (intervals, lines):
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


def test_slices_show_every_voxel_of_theirs_on_a_clear_ground() -> None:
    x, y, z = np.indices((2, 3, 3)).reshape(3, -1)
    ijk_V3 = np.stack([x, y, z], axis=1) + 5
    png = slices.paint_slices(ijk_V3, (z == 1) * 1.0, 1)
    image = Image.open(BytesIO(png))
    assert image.size == (4 * slices.ENLARGED, 5 * slices.ENLARGED), "a border of one voxel"
    alpha = np.asarray(image)[:: slices.ENLARGED, :: slices.ENLARGED, 3]
    assert (alpha == 255).sum() == 6 and not alpha[0].any()
    assert slices.paint_slices(ijk_V3, (z == 1) * 1.0, 1) == png
