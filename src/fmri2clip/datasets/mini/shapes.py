"""How the categories of the simulated world look: flat parts in a unit box, as data.

Each category is a list of parts, painted in order. Coordinates run from 0 to 1, x to the right and
y down. A part is one of

* ``("oval", colour, cx, cy, rx, ry)``
* ``("box", colour, x0, y0, x1, y1)``
* ``("poly", colour, x0, y0, x1, y1, ...)``
* ``("line", colour, width, x0, y0, x1, y1, ...)``

where colour is a role ("main", "dark", "light", "accent") or a fixed RGB triple. The categories are
24 of COCO's, with COCO's own ids, so that labels, prompts and annotation files look like the real
ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Part = tuple
Colour = tuple[int, int, int]

SKIN = (226, 178, 140)
BLACK = (28, 28, 32)
WHITE = (240, 240, 238)
GREY = (120, 122, 126)
GLASS = (170, 205, 225)
WOOD = (134, 92, 56)
LEAF = (62, 120, 58)
GOLD = (222, 190, 70)

PALETTE: dict[str, Colour] = {
    "red": (204, 44, 40),
    "orange": (236, 132, 34),
    "yellow": (238, 212, 58),
    "green": (58, 150, 70),
    "blue": (48, 92, 200),
    "purple": (134, 62, 160),
    "brown": (122, 78, 44),
    "white": (236, 236, 232),
    "black": (38, 38, 44),
    "gray": (136, 138, 142),
    "pink": (236, 140, 170),
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Look of one category: COCO id, height/width ratio, natural colours and the parts."""

    category_id: int
    aspect: float  # height divided by width of the unit box
    colours: tuple[str, ...]  # names from PALETTE that the main colour may have
    parts: tuple[Part, ...]


_BIKE_WHEELS = (
    ("oval", "dark", 0.22, 0.70, 0.21, 0.28),
    ("oval", (196, 196, 196), 0.22, 0.70, 0.16, 0.21),
    ("oval", "dark", 0.78, 0.70, 0.21, 0.28),
    ("oval", (196, 196, 196), 0.78, 0.70, 0.16, 0.21),
)
_FOUR_LEGS = (
    ("box", "dark", 0.20, 0.62, 0.28, 1.0),
    ("box", "main", 0.32, 0.62, 0.40, 1.0),
    ("box", "dark", 0.62, 0.62, 0.70, 1.0),
    ("box", "main", 0.74, 0.62, 0.82, 1.0),
)

SHAPES: dict[str, Shape] = {
    "person": Shape(
        category_id=1,
        aspect=2.2,
        colours=("red", "blue", "green", "yellow", "purple", "white", "black"),
        parts=(
            ("box", "dark", 0.30, 0.58, 0.47, 1.0),
            ("box", "dark", 0.53, 0.58, 0.70, 1.0),
            ("box", "main", 0.24, 0.24, 0.76, 0.62),
            ("box", SKIN, 0.06, 0.28, 0.22, 0.62),
            ("box", SKIN, 0.78, 0.28, 0.94, 0.62),
            ("oval", SKIN, 0.5, 0.12, 0.2, 0.115),
            ("poly", (70, 46, 30), 0.3, 0.1, 0.36, 0.0, 0.64, 0.0, 0.7, 0.1),
        ),
    ),
    "bicycle": Shape(
        category_id=2,
        aspect=0.68,
        colours=("red", "blue", "green", "black", "pink"),
        parts=(
            *_BIKE_WHEELS,
            ("line", "main", 0.055, 0.22, 0.70, 0.38, 0.28, 0.70, 0.28, 0.78, 0.70),
            ("line", "main", 0.055, 0.38, 0.28, 0.5, 0.70, 0.70, 0.28),
            ("line", "main", 0.055, 0.22, 0.70, 0.5, 0.70),
            ("line", "dark", 0.05, 0.30, 0.16, 0.46, 0.16),
            ("line", "dark", 0.05, 0.70, 0.28, 0.68, 0.1, 0.82, 0.08),
        ),
    ),
    "car": Shape(
        category_id=3,
        aspect=0.5,
        colours=("red", "blue", "white", "black", "gray", "yellow"),
        parts=(
            ("poly", "main", 0.18, 0.48, 0.32, 0.06, 0.70, 0.06, 0.86, 0.48),
            ("poly", GLASS, 0.26, 0.44, 0.36, 0.14, 0.49, 0.14, 0.49, 0.44),
            ("poly", GLASS, 0.53, 0.44, 0.53, 0.14, 0.67, 0.14, 0.77, 0.44),
            ("box", "main", 0.0, 0.42, 1.0, 0.80),
            ("box", GOLD, 0.94, 0.5, 1.0, 0.62),
            ("oval", BLACK, 0.22, 0.80, 0.12, 0.20),
            ("oval", GREY, 0.22, 0.80, 0.06, 0.10),
            ("oval", BLACK, 0.78, 0.80, 0.12, 0.20),
            ("oval", GREY, 0.78, 0.80, 0.06, 0.10),
        ),
    ),
    "airplane": Shape(
        category_id=5,
        aspect=0.52,
        colours=("white", "gray", "blue", "red"),
        parts=(
            ("poly", "dark", 0.06, 0.06, 0.18, 0.06, 0.28, 0.42, 0.12, 0.42),
            ("oval", "main", 0.52, 0.5, 0.47, 0.16),
            ("poly", "dark", 0.38, 0.5, 0.62, 0.5, 0.46, 0.98, 0.34, 0.98),
            ("poly", "light", 0.42, 0.42, 0.58, 0.42, 0.5, 0.1, 0.42, 0.1),
            ("box", GLASS, 0.84, 0.40, 0.92, 0.50),
        ),
    ),
    "bus": Shape(
        category_id=6,
        aspect=0.62,
        colours=("yellow", "red", "blue", "green", "orange"),
        parts=(
            ("box", "main", 0.0, 0.04, 1.0, 0.84),
            ("box", GLASS, 0.05, 0.14, 0.21, 0.44),
            ("box", GLASS, 0.26, 0.14, 0.42, 0.44),
            ("box", GLASS, 0.47, 0.14, 0.63, 0.44),
            ("box", GLASS, 0.68, 0.14, 0.95, 0.44),
            ("box", "dark", 0.0, 0.58, 1.0, 0.66),
            ("oval", BLACK, 0.2, 0.84, 0.1, 0.16),
            ("oval", BLACK, 0.8, 0.84, 0.1, 0.16),
        ),
    ),
    "train": Shape(
        category_id=7,
        aspect=0.55,
        colours=("red", "green", "blue", "gray", "black"),
        parts=(
            ("box", "main", 0.0, 0.22, 0.66, 0.78),
            ("poly", "main", 0.66, 0.22, 0.84, 0.22, 1.0, 0.62, 1.0, 0.78, 0.66, 0.78),
            ("box", WHITE, 0.0, 0.56, 1.0, 0.64),
            ("box", GLASS, 0.06, 0.30, 0.24, 0.50),
            ("box", GLASS, 0.30, 0.30, 0.48, 0.50),
            ("poly", GLASS, 0.70, 0.30, 0.82, 0.30, 0.90, 0.50, 0.70, 0.50),
            ("box", BLACK, 0.0, 0.78, 1.0, 0.86),
            ("box", WOOD, 0.0, 0.92, 1.0, 1.0),
            ("oval", BLACK, 0.15, 0.86, 0.07, 0.1),
            ("oval", BLACK, 0.4, 0.86, 0.07, 0.1),
            ("oval", BLACK, 0.7, 0.86, 0.07, 0.1),
            ("line", "dark", 0.03, 0.3, 0.22, 0.42, 0.04, 0.54, 0.22),
        ),
    ),
    "boat": Shape(
        category_id=9,
        aspect=1.0,
        colours=("white", "red", "blue", "brown", "orange"),
        parts=(
            ("line", WOOD, 0.04, 0.46, 0.06, 0.46, 0.72),
            ("poly", WHITE, 0.50, 0.08, 0.94, 0.62, 0.50, 0.62),
            ("poly", "light", 0.42, 0.16, 0.42, 0.62, 0.12, 0.62),
            ("poly", "main", 0.0, 0.70, 1.0, 0.70, 0.84, 0.98, 0.16, 0.98),
        ),
    ),
    "traffic light": Shape(
        category_id=10,
        aspect=2.4,
        colours=("black", "yellow", "green"),
        parts=(
            ("box", GREY, 0.42, 0.66, 0.58, 1.0),
            ("box", "main", 0.18, 0.0, 0.82, 0.70),
            ("oval", (230, 40, 36), 0.5, 0.13, 0.22, 0.09),
            ("oval", (240, 190, 40), 0.5, 0.35, 0.22, 0.09),
            ("oval", (60, 200, 90), 0.5, 0.57, 0.22, 0.09),
        ),
    ),
    "stop sign": Shape(
        category_id=13,
        aspect=1.6,
        colours=("red",),
        parts=(
            ("box", GREY, 0.45, 0.55, 0.55, 1.0),
            (
                "poly",
                WHITE,
                0.28,
                0.0,
                0.72,
                0.0,
                1.0,
                0.18,
                1.0,
                0.44,
                0.72,
                0.62,
                0.28,
                0.62,
                0.0,
                0.44,
                0.0,
                0.18,
            ),
            (
                "poly",
                "main",
                0.3,
                0.03,
                0.70,
                0.03,
                0.95,
                0.19,
                0.95,
                0.43,
                0.70,
                0.59,
                0.30,
                0.59,
                0.05,
                0.43,
                0.05,
                0.19,
            ),
            ("box", WHITE, 0.18, 0.25, 0.82, 0.37),
        ),
    ),
    "bird": Shape(
        category_id=16,
        aspect=0.8,
        colours=("blue", "red", "yellow", "black", "brown", "white"),
        parts=(
            ("poly", "dark", 0.0, 0.3, 0.3, 0.46, 0.2, 0.62),
            ("oval", "main", 0.48, 0.55, 0.30, 0.26),
            ("oval", "main", 0.74, 0.28, 0.16, 0.18),
            ("poly", GOLD, 0.88, 0.24, 1.0, 0.30, 0.88, 0.36),
            ("oval", BLACK, 0.78, 0.24, 0.03, 0.035),
            ("poly", "dark", 0.34, 0.42, 0.62, 0.46, 0.36, 0.78),
            ("line", GOLD, 0.03, 0.44, 0.80, 0.42, 1.0),
            ("line", GOLD, 0.03, 0.56, 0.80, 0.56, 1.0),
        ),
    ),
    "cat": Shape(
        category_id=17,
        aspect=1.15,
        colours=("orange", "black", "white", "gray"),
        parts=(
            ("line", "main", 0.08, 0.78, 0.90, 0.96, 0.80, 0.92, 0.50),
            ("oval", "main", 0.50, 0.74, 0.32, 0.26),
            ("poly", "main", 0.22, 0.30, 0.24, 0.0, 0.42, 0.18),
            ("poly", "main", 0.78, 0.30, 0.76, 0.0, 0.58, 0.18),
            ("oval", "main", 0.50, 0.32, 0.30, 0.23),
            ("oval", (120, 200, 90), 0.38, 0.30, 0.055, 0.05),
            ("oval", (120, 200, 90), 0.62, 0.30, 0.055, 0.05),
            ("poly", (220, 120, 130), 0.46, 0.39, 0.54, 0.39, 0.5, 0.44),
            ("box", "dark", 0.34, 0.86, 0.44, 1.0),
            ("box", "dark", 0.56, 0.86, 0.66, 1.0),
        ),
    ),
    "dog": Shape(
        category_id=18,
        aspect=0.85,
        colours=("brown", "white", "black", "yellow"),
        parts=(
            *_FOUR_LEGS,
            ("line", "main", 0.07, 0.18, 0.46, 0.02, 0.22),
            ("box", "main", 0.16, 0.40, 0.84, 0.70),
            ("oval", "main", 0.82, 0.28, 0.18, 0.20),
            ("poly", "dark", 0.68, 0.10, 0.80, 0.14, 0.72, 0.44),
            ("box", "light", 0.88, 0.26, 1.0, 0.40),
            ("oval", BLACK, 0.98, 0.28, 0.03, 0.035),
            ("oval", BLACK, 0.86, 0.22, 0.025, 0.03),
        ),
    ),
    "horse": Shape(
        category_id=19,
        aspect=1.0,
        colours=("brown", "black", "white", "gray"),
        parts=(
            *_FOUR_LEGS,
            ("poly", "dark", 0.16, 0.36, 0.02, 0.44, 0.04, 0.80, 0.14, 0.74),
            ("oval", "main", 0.48, 0.50, 0.36, 0.17),
            ("poly", "main", 0.66, 0.52, 0.78, 0.06, 0.94, 0.14, 0.86, 0.52),
            ("poly", "main", 0.78, 0.04, 1.0, 0.18, 0.98, 0.30, 0.80, 0.22),
            ("poly", "dark", 0.62, 0.40, 0.72, 0.02, 0.80, 0.04, 0.72, 0.42),
        ),
    ),
    "elephant": Shape(
        category_id=22,
        aspect=0.8,
        colours=("gray",),
        parts=(
            ("box", "dark", 0.14, 0.6, 0.28, 1.0),
            ("box", "main", 0.32, 0.6, 0.44, 1.0),
            ("box", "dark", 0.54, 0.6, 0.66, 1.0),
            ("oval", "main", 0.40, 0.46, 0.40, 0.34),
            ("oval", "main", 0.76, 0.36, 0.20, 0.26),
            ("oval", "dark", 0.64, 0.36, 0.12, 0.22),
            ("line", "main", 0.1, 0.90, 0.40, 0.96, 0.66, 0.90, 0.96),
            ("poly", WHITE, 0.86, 0.52, 0.98, 0.60, 0.86, 0.60),
            ("oval", BLACK, 0.82, 0.28, 0.02, 0.025),
        ),
    ),
    "giraffe": Shape(
        category_id=25,
        aspect=1.7,
        colours=("yellow", "orange"),
        parts=(
            ("box", "main", 0.18, 0.68, 0.26, 1.0),
            ("box", "dark", 0.30, 0.68, 0.37, 1.0),
            ("box", "main", 0.52, 0.68, 0.60, 1.0),
            ("oval", "main", 0.38, 0.62, 0.28, 0.13),
            ("poly", "main", 0.50, 0.60, 0.72, 0.10, 0.84, 0.14, 0.68, 0.66),
            ("oval", "main", 0.84, 0.10, 0.15, 0.07),
            ("line", "dark", 0.03, 0.76, 0.06, 0.74, 0.0),
            ("oval", WOOD, 0.30, 0.60, 0.06, 0.035),
            ("oval", WOOD, 0.46, 0.64, 0.06, 0.035),
            ("oval", WOOD, 0.64, 0.44, 0.045, 0.03),
            ("oval", WOOD, 0.72, 0.26, 0.04, 0.03),
            ("oval", WOOD, 0.4, 0.55, 0.05, 0.03),
        ),
    ),
    "umbrella": Shape(
        category_id=28,
        aspect=1.0,
        colours=("red", "purple", "blue", "green", "pink", "black"),
        parts=(
            ("line", WOOD, 0.045, 0.50, 0.30, 0.50, 0.94, 0.60, 0.98, 0.66, 0.90),
            (
                "poly",
                "main",
                0.0,
                0.48,
                0.08,
                0.26,
                0.28,
                0.08,
                0.50,
                0.02,
                0.72,
                0.08,
                0.92,
                0.26,
                1.0,
                0.48,
                0.84,
                0.42,
                0.66,
                0.48,
                0.50,
                0.42,
                0.34,
                0.48,
                0.16,
                0.42,
            ),
            (
                "poly",
                "light",
                0.34,
                0.48,
                0.42,
                0.20,
                0.50,
                0.02,
                0.58,
                0.20,
                0.66,
                0.48,
                0.50,
                0.42,
            ),
        ),
    ),
    "sports ball": Shape(
        category_id=37,
        aspect=1.0,
        colours=("orange", "white", "green", "red"),
        parts=(
            ("oval", "main", 0.5, 0.5, 0.5, 0.5),
            ("line", "dark", 0.05, 0.0, 0.5, 0.3, 0.44, 0.7, 0.44, 1.0, 0.5),
            ("line", "dark", 0.05, 0.5, 0.0, 0.44, 0.5, 0.5, 1.0),
        ),
    ),
    "kite": Shape(
        category_id=38,
        aspect=1.5,
        colours=("red", "purple", "green", "yellow", "blue", "pink"),
        parts=(
            ("line", BLACK, 0.03, 0.5, 0.62, 0.38, 0.76, 0.6, 0.88, 0.46, 1.0),
            ("poly", "main", 0.5, 0.0, 0.96, 0.28, 0.5, 0.66, 0.04, 0.28),
            ("poly", "accent", 0.5, 0.0, 0.96, 0.28, 0.5, 0.28),
            ("poly", "accent", 0.5, 0.28, 0.5, 0.66, 0.04, 0.28),
        ),
    ),
    "bottle": Shape(
        category_id=44,
        aspect=2.8,
        colours=("green", "brown", "blue", "red"),
        parts=(
            ("box", "dark", 0.36, 0.0, 0.64, 0.08),
            ("box", "main", 0.38, 0.06, 0.62, 0.32),
            ("poly", "main", 0.38, 0.30, 0.62, 0.30, 0.92, 0.44, 0.92, 1.0, 0.08, 1.0, 0.08, 0.44),
            ("box", WHITE, 0.08, 0.56, 0.92, 0.80),
        ),
    ),
    "cup": Shape(
        category_id=47,
        aspect=0.9,
        colours=("white", "blue", "red", "yellow", "black"),
        parts=(
            ("line", "main", 0.1, 0.70, 0.28, 0.96, 0.34, 0.92, 0.64, 0.66, 0.72),
            ("poly", "main", 0.06, 0.14, 0.76, 0.14, 0.68, 1.0, 0.14, 1.0),
            ("oval", "dark", 0.41, 0.14, 0.35, 0.13),
            ("oval", (92, 56, 34), 0.41, 0.15, 0.28, 0.09),
        ),
    ),
    "banana": Shape(
        category_id=52,
        aspect=0.6,
        colours=("yellow", "green"),
        parts=(
            (
                "poly",
                "main",
                0.02,
                0.18,
                0.10,
                0.10,
                0.24,
                0.52,
                0.50,
                0.68,
                0.78,
                0.58,
                0.94,
                0.20,
                1.0,
                0.28,
                0.92,
                0.74,
                0.66,
                0.98,
                0.34,
                0.96,
                0.10,
                0.70,
            ),
            ("line", "dark", 0.04, 0.12, 0.52, 0.36, 0.80, 0.66, 0.82, 0.88, 0.60),
            ("poly", WOOD, 0.0, 0.20, 0.03, 0.06, 0.11, 0.06, 0.11, 0.16),
        ),
    ),
    "pizza": Shape(
        category_id=59,
        aspect=0.7,
        colours=("orange", "yellow"),
        parts=(
            ("oval", (186, 126, 64), 0.5, 0.5, 0.5, 0.5),
            ("oval", "main", 0.5, 0.5, 0.43, 0.42),
            ("oval", (196, 40, 34), 0.34, 0.34, 0.085, 0.095),
            ("oval", (196, 40, 34), 0.64, 0.30, 0.085, 0.095),
            ("oval", (196, 40, 34), 0.48, 0.58, 0.085, 0.095),
            ("oval", (196, 40, 34), 0.26, 0.64, 0.085, 0.095),
            ("oval", LEAF, 0.72, 0.58, 0.06, 0.05),
            ("oval", LEAF, 0.5, 0.2, 0.05, 0.05),
            ("line", "dark", 0.02, 0.5, 0.06, 0.5, 0.94),
        ),
    ),
    "chair": Shape(
        category_id=62,
        aspect=1.5,
        colours=("brown", "white", "black", "red", "green"),
        parts=(
            ("box", "dark", 0.66, 0.50, 0.76, 0.92),
            ("box", "dark", 0.20, 0.56, 0.30, 0.9),
            ("box", "main", 0.12, 0.0, 0.24, 1.0),
            ("box", "light", 0.24, 0.06, 0.34, 0.5),
            ("poly", "main", 0.12, 0.50, 0.72, 0.44, 0.92, 0.56, 0.30, 0.62),
            ("box", "main", 0.80, 0.56, 0.90, 1.0),
        ),
    ),
    "clock": Shape(
        category_id=85,
        aspect=1.0,
        colours=("white", "black", "brown", "blue", "red"),
        parts=(
            ("oval", "main", 0.5, 0.5, 0.5, 0.5),
            ("oval", (246, 244, 232), 0.5, 0.5, 0.41, 0.41),
            ("line", BLACK, 0.05, 0.5, 0.5, 0.5, 0.18),
            ("line", BLACK, 0.05, 0.5, 0.5, 0.72, 0.6),
            ("oval", BLACK, 0.5, 0.13, 0.03, 0.03),
            ("oval", BLACK, 0.5, 0.87, 0.03, 0.03),
            ("oval", BLACK, 0.13, 0.5, 0.03, 0.03),
            ("oval", BLACK, 0.87, 0.5, 0.03, 0.03),
        ),
    ),
}

CATEGORIES: tuple[str, ...] = tuple(SHAPES)

_OVAL = np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 18, endpoint=False)), np.sin(t)], axis=1)


def outline(part: Part) -> tuple[np.ndarray, float]:
    """Points of a part in the unit box, shape (n_points, 2), and its line width (0 for filled
    parts).
    """
    kind, _, *numbers = part
    if kind == "oval":
        cx, cy, rx, ry = numbers
        return _OVAL * (rx, ry) + (cx, cy), 0.0
    if kind == "box":
        x0, y0, x1, y1 = numbers
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), 0.0
    if kind == "line":
        return np.array(numbers[1:]).reshape(-1, 2), numbers[0]
    assert kind == "poly", kind
    return np.array(numbers).reshape(-1, 2), 0.0


def tint(colour: str | Colour, main: Colour, accent: Colour) -> Colour:
    """RGB of a colour role for an object whose main colour is given."""
    if not isinstance(colour, str):
        return colour
    if colour == "accent":
        return accent
    scale, add = {"main": (1.0, 0), "dark": (0.62, 0), "light": (0.6, 100)}[colour]
    red, green, blue = (min(255, int(c * scale + add)) for c in main)
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One object; box, polygons and area are in pixels of the original picture."""

    category: str
    category_id: int
    colour: str
    bbox: tuple[float, float, float, float]  # x, y, width, height, inside the original picture
    segmentation: list[list[float]]
    area: float
    centre: tuple[float, float]  # fraction of the original picture's width and height
