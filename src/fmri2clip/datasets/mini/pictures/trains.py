"""Trains and bicycles."""

from __future__ import annotations

import math
from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    GLASS,
    GREY,
    LAMP,
    SHADOW,
    STEEL,
    Part,
    Sketch,
    box,
    dot,
    line,
    oval,
    poly,
)
from fmri2clip.datasets.mini.pictures.vehicles import three_quarter, wheel, windows


def _rails(x0: float, x1: float) -> list[Part]:
    return [line("prop", 0.03, x0, 0.16, x1, 0.16)]


def train(dice: Dice) -> Sketch:
    """Steam engines, locomotives and railcars, from the side, ahead or a corner."""
    view = dice.pick(("side", "side", "front", "three-quarter"))
    if view == "three-quarter":
        parts = three_quarter(dice, "train", dice.uniform(1.5, 2.0), 0.72, dice.integer(5, 7))
        return Sketch([poly("prop", -0.1, 0.12, 2.1, -0.12, 2.1, -0.17, 0.0, 0.0), *parts], view)
    if view == "front":
        parts = [line("prop", 0.04, s * 0.2, -0.05, s * 0.5, 0.35) for s in (-1, 1)]
        parts += [
            line("prop", 0.05, -0.3 - 0.1 * k, 0.12 * k, 0.3 + 0.1 * k, 0.12 * k) for k in range(3)
        ]
        parts.append(
            poly("main", -0.42, 0, -0.42, -0.75, -0.28, -1.0, 0.28, -1.0, 0.42, -0.75, 0.42, 0)
        )
        parts += windows(-0.36, 0.36, -0.74, -0.46, dice.integer(2, 3), 0.04)
        parts += [poly("accent", -0.42, -0.4, 0.42, -0.4, 0.3, -0.12, -0.3, -0.12)]
        parts += [dot(LAMP, s * 0.31, -0.26, 0.06) for s in (-1, 1)]
        parts += [
            dot(LAMP, 0, -0.88, 0.05),
            box(SHADOW, -0.4, -0.08, 0.4, 0.03),
            dot(STEEL, 0, -0.02, 0.05),
        ]
        return Sketch(parts, view)
    if dice.chance(0.3):
        parts = [box("dark", 0.0, -0.62, 0.36, 0.02), box(GLASS, 0.06, -0.54, 0.28, -0.3)]
        parts += [box("main", 0.3, -0.42, 1.1, 0.0), oval("main", 1.1, -0.21, 0.07, 0.21)]
        parts += [
            box("dark", 0.9, -0.7, 1.0, -0.4),
            poly("dark", 0.85, -0.8, 1.05, -0.8, 1.0, -0.68, 0.9, -0.68),
        ]
        parts += [
            oval("accent", 0.62, -0.42, 0.09, 0.1),
            poly("dark", 1.08, 0.02, 1.3, 0.13, 1.0, 0.13),
        ]
        for x in (0.2, 0.48, 0.76, 1.02):
            parts += wheel(x, 0.03, 0.12)
        parts.append(line(STEEL, 0.03, 0.2, 0.03, 0.76, 0.03))
        return Sketch(_rails(-0.1, 1.4) + parts, view, form="steam")
    long = dice.uniform(1.6, 2.1)
    nose = dice.uniform(0.08, 0.35)
    parts = [poly("main", 0, -0.5, long - nose, -0.5, long, -0.16, long, 0.02, 0, 0.02)]
    parts += windows(0.06, long - nose - 0.12, -0.4, -0.22, dice.integer(4, 7), 0.06)
    parts.append(
        poly(
            GLASS,
            long - nose - 0.06,
            -0.42,
            long - nose,
            -0.42,
            long - 0.3 * nose,
            -0.24,
            long - nose - 0.06,
            -0.24,
        )
    )
    parts += [
        box("accent", 0, -0.15, long - 0.01, -0.09),
        line("dark", 0.02, long * 0.5, -0.5, long * 0.5, 0.0),
    ]
    parts += [box(SHADOW, 0, 0.0, long, 0.05)]
    for x in (0.15, 0.35, long - 0.5, long - 0.3):
        parts += [oval(BLACK, x, 0.08, 0.08, 0.08)]
    if dice.chance(0.5):
        parts.append(line(SHADOW, 0.02, 0.3, -0.5, 0.42, -0.64, 0.3, -0.74, 0.55, -0.74))
    return Sketch(_rails(-0.1, long + 0.1) + parts, view)


def bicycle(dice: Dice) -> Sketch:
    """From the side, a corner (narrower) or ahead."""
    view = dice.pick(("side", "side", "three-quarter", "front"))
    if view == "front":
        lean = dice.uniform(-0.06, 0.06)
        parts = [oval(BLACK, lean, 0.0, 0.06, 0.36), line("main", 0.05, 0.0, -0.75, lean, 0.0)]
        parts += [line("main", 0.03, s * 0.07, -0.4, s * 0.07 + lean, 0.0) for s in (-1, 1)]
        bar = dice.uniform(0.24, 0.36)
        parts += [
            line(SHADOW, 0.05, -bar, -0.66, 0, -0.76, bar, -0.66),
            oval(SHADOW, 0, -0.86, 0.1, 0.05),
        ]
        parts += [dot(LAMP, 0, -0.6, 0.08), line(SHADOW, 0.04, -0.22, 0.1, 0.22, -0.05)]
        return Sketch(parts, view, pose="parked")
    narrow = 1.0 if view == "side" else dice.uniform(0.5, 0.7)
    r = dice.uniform(0.3, 0.38)
    base = dice.uniform(0.48, 0.56)
    parts = []
    for x in (-base, base):
        rim = oval(BLACK, x * narrow, 0.0, r * narrow, r)
        parts.append(Part(BLACK, [*rim.points, rim.points[0]], 0.055))
        for k in range(4):
            c = r * math.cos(k * 0.785)
            s = r * math.sin(k * 0.785)
            parts.append(line(STEEL, 0.012, (x - c) * narrow, -s, (x + c) * narrow, s))
    seat = -dice.uniform(0.52, 0.66)
    crank = (-0.05, 0.02)
    head = (0.34, seat + 0.05)
    frame = (-base, 0.0, *crank, *head, -0.2, seat + 0.1, -base, 0.0)
    parts.append(
        line("main", 0.05, *[v * narrow if k % 2 == 0 else v for k, v in enumerate(frame)])
    )
    post = (crank[0] * narrow, crank[1], -0.24 * narrow, seat - 0.08)
    parts += [
        line("main", 0.05, *post),
        line("main", 0.05, base * narrow, 0.0, 0.3 * narrow, seat - 0.14),
    ]
    grip = dice.pick(((0.42, -0.12, 0.46, 0.02), (0.16, -0.16, 0.1, -0.1)))
    parts.append(
        line(
            SHADOW,
            0.05,
            0.3 * narrow,
            seat - 0.14,
            grip[0] * narrow,
            seat + grip[1],
            grip[2] * narrow,
            seat + grip[3],
        )
    )
    parts.append(oval(SHADOW, -0.25 * narrow, seat - 0.1, 0.13 * narrow, 0.05))
    parts += [
        oval(GREY, crank[0] * narrow, crank[1], 0.08 * narrow, 0.08),
        line(SHADOW, 0.035, -0.05 * narrow, 0.02, 0.06 * narrow, 0.16),
    ]
    if dice.chance(0.3):
        parts.append(
            poly(
                "accent",
                0.4 * narrow,
                seat - 0.05,
                0.68 * narrow,
                seat - 0.05,
                0.63 * narrow,
                seat + 0.2,
                0.44 * narrow,
                seat + 0.2,
            )
        )
    return Sketch(parts, view, pose="parked")


TRAINS: dict[str, Callable[[Dice], Sketch]] = {"train": train, "bicycle": bicycle}
