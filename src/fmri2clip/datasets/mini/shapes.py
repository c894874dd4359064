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

SKIN, BLACK, WHITE, GREY, GLASS = (
    (226, 178, 140),
    (28, 28, 32),
    (240, 240, 238),
    (120, 122, 126),
    (170, 205, 225),
)
WOOD, LEAF, GOLD = (134, 92, 56), (62, 120, 58), (222, 190, 70)

PALETTE: dict[str, Colour] = {
    "red": (204, 44, 40), "orange": (236, 132, 34), "yellow": (238, 212, 58), "green": (58, 150, 70),
    "blue": (48, 92, 200), "purple": (134, 62, 160), "brown": (122, 78, 44), "white": (236, 236, 232),
    "black": (38, 38, 44), "gray": (136, 138, 142), "pink": (236, 140, 170),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Look of one category: COCO id, height/width ratio, natural colours and the parts."""

    category_id: int
    aspect: float  # height divided by width of the unit box
    colours: tuple[str, ...]  # names from PALETTE that the main colour may have
    parts: tuple[Part, ...]


_BIKE_WHEELS = (("oval", "dark", .22, .70, .21, .28), ("oval", (196, 196, 196), .22, .70, .16, .21),
                ("oval", "dark", .78, .70, .21, .28), ("oval", (196, 196, 196), .78, .70, .16, .21))  # fmt: skip
_FOUR_LEGS = (("box", "dark", .20, .62, .28, 1.), ("box", "main", .32, .62, .40, 1.),
              ("box", "dark", .62, .62, .70, 1.), ("box", "main", .74, .62, .82, 1.))  # fmt: skip

SHAPES: dict[str, Shape] = {
    "person": Shape(category_id=1, aspect=2.2, colours=("red", "blue", "green", "yellow", "purple", "white", "black"),
        parts=(
        ("box", "dark", .30, .58, .47, 1.), ("box", "dark", .53, .58, .70, 1.), ("box", "main", .24, .24, .76, .62),
        ("box", SKIN, .06, .28, .22, .62), ("box", SKIN, .78, .28, .94, .62), ("oval", SKIN, .5, .12, .2, .115),
        ("poly", (70, 46, 30), .3, .1, .36, .0, .64, .0, .7, .1))),
    "bicycle": Shape(category_id=2, aspect=.68, colours=("red", "blue", "green", "black", "pink"), parts=(
        *_BIKE_WHEELS, ("line", "main", .055, .22, .70, .38, .28, .70, .28, .78, .70),
        ("line", "main", .055, .38, .28, .5, .70, .70, .28), ("line", "main", .055, .22, .70, .5, .70),
        ("line", "dark", .05, .30, .16, .46, .16), ("line", "dark", .05, .70, .28, .68, .1, .82, .08))),
    "car": Shape(category_id=3, aspect=.5, colours=("red", "blue", "white", "black", "gray", "yellow"), parts=(
        ("poly", "main", .18, .48, .32, .06, .70, .06, .86, .48), ("poly", GLASS, .26, .44, .36, .14, .49, .14, .49,
        .44),
        ("poly", GLASS, .53, .44, .53, .14, .67, .14, .77, .44), ("box", "main", .0, .42, 1., .80),
        ("box", GOLD, .94, .5, 1., .62), ("oval", BLACK, .22, .80, .12, .20), ("oval", GREY, .22, .80, .06, .10),
        ("oval", BLACK, .78, .80, .12, .20), ("oval", GREY, .78, .80, .06, .10))),
    "airplane": Shape(category_id=5, aspect=.52, colours=("white", "gray", "blue", "red"), parts=(
        ("poly", "dark", .06, .06, .18, .06, .28, .42, .12, .42), ("oval", "main", .52, .5, .47, .16),
        ("poly", "dark", .38, .5, .62, .5, .46, .98, .34, .98), ("poly", "light", .42, .42, .58, .42, .5, .1, .42,
        .1),
        ("box", GLASS, .84, .40, .92, .50))),
    "bus": Shape(category_id=6, aspect=.62, colours=("yellow", "red", "blue", "green", "orange"), parts=(
        ("box", "main", .0, .04, 1., .84), ("box", GLASS, .05, .14, .21, .44), ("box", GLASS, .26, .14, .42, .44),
        ("box", GLASS, .47, .14, .63, .44), ("box", GLASS, .68, .14, .95, .44), ("box", "dark", .0, .58, 1., .66),
        ("oval", BLACK, .2, .84, .1, .16), ("oval", BLACK, .8, .84, .1, .16))),
    "train": Shape(category_id=7, aspect=.55, colours=("red", "green", "blue", "gray", "black"), parts=(
        ("box", "main", .0, .22, .66, .78), ("poly", "main", .66, .22, .84, .22, 1., .62, 1., .78, .66, .78),
        ("box", WHITE, .0, .56, 1., .64), ("box", GLASS, .06, .30, .24, .50), ("box", GLASS, .30, .30, .48, .50),
        ("poly", GLASS, .70, .30, .82, .30, .90, .50, .70, .50), ("box", BLACK, .0, .78, 1., .86),
        ("box", WOOD, .0, .92, 1., 1.), ("oval", BLACK, .15, .86, .07, .1), ("oval", BLACK, .4, .86, .07, .1),
        ("oval", BLACK, .7, .86, .07, .1), ("line", "dark", .03, .3, .22, .42, .04, .54, .22))),
    "boat": Shape(category_id=9, aspect=1., colours=("white", "red", "blue", "brown", "orange"), parts=(
        ("line", WOOD, .04, .46, .06, .46, .72), ("poly", WHITE, .50, .08, .94, .62, .50, .62),
        ("poly", "light", .42, .16, .42, .62, .12, .62), ("poly", "main", .0, .70, 1., .70, .84, .98, .16, .98))),
    "traffic light": Shape(category_id=10, aspect=2.4, colours=("black", "yellow", "green"), parts=(
        ("box", GREY, .42, .66, .58, 1.), ("box", "main", .18, .0, .82, .70), ("oval", (230, 40, 36), .5, .13, .22,
        .09),
        ("oval", (240, 190, 40), .5, .35, .22, .09), ("oval", (60, 200, 90), .5, .57, .22, .09))),
    "stop sign": Shape(category_id=13, aspect=1.6, colours=("red",), parts=(
        ("box", GREY, .45, .55, .55, 1.),
        ("poly", WHITE, .28, .0, .72, .0, 1., .18, 1., .44, .72, .62, .28, .62, .0, .44, .0, .18),
        ("poly", "main", .3, .03, .70, .03, .95, .19, .95, .43, .70, .59, .30, .59, .05, .43, .05, .19),
        ("box", WHITE, .18, .25, .82, .37))),
    "bird": Shape(category_id=16, aspect=.8, colours=("blue", "red", "yellow", "black", "brown", "white"), parts=(
        ("poly", "dark", .0, .3, .3, .46, .2, .62), ("oval", "main", .48, .55, .30, .26), ("oval", "main", .74, .28,
        .16, .18),
        ("poly", GOLD, .88, .24, 1., .30, .88, .36), ("oval", BLACK, .78, .24, .03, .035),
        ("poly", "dark", .34, .42, .62, .46, .36, .78), ("line", GOLD, .03, .44, .80, .42, 1.), ("line", GOLD, .03,
        .56, .80, .56, 1.))),
    "cat": Shape(category_id=17, aspect=1.15, colours=("orange", "black", "white", "gray"), parts=(
        ("line", "main", .08, .78, .90, .96, .80, .92, .50), ("oval", "main", .50, .74, .32, .26),
        ("poly", "main", .22, .30, .24, .0, .42, .18), ("poly", "main", .78, .30, .76, .0, .58, .18),
        ("oval", "main", .50, .32, .30, .23), ("oval", (120, 200, 90), .38, .30, .055, .05), ("oval", (120, 200,
        90), .62, .30, .055, .05),
        ("poly", (220, 120, 130), .46, .39, .54, .39, .5, .44), ("box", "dark", .34, .86, .44, 1.), ("box", "dark",
        .56, .86, .66, 1.))),
    "dog": Shape(category_id=18, aspect=.85, colours=("brown", "white", "black", "yellow"), parts=(
        *_FOUR_LEGS, ("line", "main", .07, .18, .46, .02, .22), ("box", "main", .16, .40, .84, .70),
        ("oval", "main", .82, .28, .18, .20), ("poly", "dark", .68, .10, .80, .14, .72, .44), ("box", "light", .88,
        .26, 1., .40),
        ("oval", BLACK, .98, .28, .03, .035), ("oval", BLACK, .86, .22, .025, .03))),
    "horse": Shape(category_id=19, aspect=1.0, colours=("brown", "black", "white", "gray"), parts=(
        *_FOUR_LEGS, ("poly", "dark", .16, .36, .02, .44, .04, .80, .14, .74), ("oval", "main", .48, .50, .36, .17),
        ("poly", "main", .66, .52, .78, .06, .94, .14, .86, .52), ("poly", "main", .78, .04, 1., .18, .98, .30, .80,
        .22),
        ("poly", "dark", .62, .40, .72, .02, .80, .04, .72, .42))),
    "elephant": Shape(category_id=22, aspect=.8, colours=("gray",), parts=(
        ("box", "dark", .14, .6, .28, 1.), ("box", "main", .32, .6, .44, 1.), ("box", "dark", .54, .6, .66, 1.),
        ("oval", "main", .40, .46, .40, .34), ("oval", "main", .76, .36, .20, .26), ("oval", "dark", .64, .36, .12,
        .22),
        ("line", "main", .1, .90, .40, .96, .66, .90, .96), ("poly", WHITE, .86, .52, .98, .60, .86, .60), ("oval",
        BLACK, .82, .28, .02, .025))),
    "giraffe": Shape(category_id=25, aspect=1.7, colours=("yellow", "orange"), parts=(
        ("box", "main", .18, .68, .26, 1.), ("box", "dark", .30, .68, .37, 1.), ("box", "main", .52, .68, .60, 1.),
        ("oval", "main", .38, .62, .28, .13), ("poly", "main", .50, .60, .72, .10, .84, .14, .68, .66),
        ("oval", "main", .84, .10, .15, .07), ("line", "dark", .03, .76, .06, .74, .0), ("oval", WOOD, .30, .60,
        .06, .035),
        ("oval", WOOD, .46, .64, .06, .035), ("oval", WOOD, .64, .44, .045, .03), ("oval", WOOD, .72, .26, .04,
        .03), ("oval", WOOD, .4, .55, .05, .03))),
    "umbrella": Shape(category_id=28, aspect=1.0, colours=("red", "purple", "blue", "green", "pink", "black"), parts=(
        ("line", WOOD, .045, .50, .30, .50, .94, .60, .98, .66, .90),
        ("poly", "main", .0, .48, .08, .26, .28, .08, .50, .02, .72, .08, .92, .26, 1., .48, .84, .42, .66, .48,
        .50, .42, .34, .48, .16, .42),
        ("poly", "light", .34, .48, .42, .20, .50, .02, .58, .20, .66, .48, .50, .42))),
    "sports ball": Shape(category_id=37, aspect=1.0, colours=("orange", "white", "green", "red"), parts=(
        ("oval", "main", .5, .5, .5, .5), ("line", "dark", .05, .0, .5, .3, .44, .7, .44, 1., .5), ("line", "dark",
        .05, .5, .0, .44, .5, .5, 1.))),
    "kite": Shape(category_id=38, aspect=1.5, colours=("red", "purple", "green", "yellow", "blue", "pink"), parts=(
        ("line", BLACK, .03, .5, .62, .38, .76, .6, .88, .46, 1.), ("poly", "main", .5, .0, .96, .28, .5, .66, .04,
        .28),
        ("poly", "accent", .5, .0, .96, .28, .5, .28), ("poly", "accent", .5, .28, .5, .66, .04, .28))),
    "bottle": Shape(category_id=44, aspect=2.8, colours=("green", "brown", "blue", "red"), parts=(
        ("box", "dark", .36, .0, .64, .08), ("box", "main", .38, .06, .62, .32),
        ("poly", "main", .38, .30, .62, .30, .92, .44, .92, 1., .08, 1., .08, .44), ("box", WHITE, .08, .56, .92,
        .80))),
    "cup": Shape(category_id=47, aspect=.9, colours=("white", "blue", "red", "yellow", "black"), parts=(
        ("line", "main", .1, .70, .28, .96, .34, .92, .64, .66, .72), ("poly", "main", .06, .14, .76, .14, .68, 1.,
        .14, 1.),
        ("oval", "dark", .41, .14, .35, .13), ("oval", (92, 56, 34), .41, .15, .28, .09))),
    "banana": Shape(category_id=52, aspect=.6, colours=("yellow", "green"), parts=(
        ("poly", "main", .02, .18, .10, .10, .24, .52, .50, .68, .78, .58, .94, .20, 1., .28, .92, .74, .66, .98,
        .34, .96, .10, .70),
        ("line", "dark", .04, .12, .52, .36, .80, .66, .82, .88, .60), ("poly", WOOD, .0, .20, .03, .06, .11, .06,
        .11, .16))),
    "pizza": Shape(category_id=59, aspect=.7, colours=("orange", "yellow"), parts=(
        ("oval", (186, 126, 64), .5, .5, .5, .5), ("oval", "main", .5, .5, .43, .42), ("oval", (196, 40, 34), .34,
        .34, .085, .095),
        ("oval", (196, 40, 34), .64, .30, .085, .095), ("oval", (196, 40, 34), .48, .58, .085, .095), ("oval", (196,
        40, 34), .26, .64, .085, .095),
        ("oval", LEAF, .72, .58, .06, .05), ("oval", LEAF, .5, .2, .05, .05), ("line", "dark", .02, .5, .06, .5,
        .94))),
    "chair": Shape(category_id=62, aspect=1.5, colours=("brown", "white", "black", "red", "green"), parts=(
        ("box", "dark", .66, .50, .76, .92), ("box", "dark", .20, .56, .30, .9), ("box", "main", .12, .0, .24, 1.),
        ("box", "light", .24, .06, .34, .5), ("poly", "main", .12, .50, .72, .44, .92, .56, .30, .62), ("box",
        "main", .80, .56, .90, 1.))),
    "clock": Shape(category_id=85, aspect=1.0, colours=("white", "black", "brown", "blue", "red"), parts=(
        ("oval", "main", .5, .5, .5, .5), ("oval", (246, 244, 232), .5, .5, .41, .41), ("line", BLACK, .05, .5, .5,
        .5, .18),
        ("line", BLACK, .05, .5, .5, .72, .6), ("oval", BLACK, .5, .13, .03, .03), ("oval", BLACK, .5, .87, .03, .03),
        ("oval", BLACK, .13, .5, .03, .03), ("oval", BLACK, .87, .5, .03, .03))),
}  # fmt: skip

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
