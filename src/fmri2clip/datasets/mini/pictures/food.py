"""Bottle, cup, banana and pizza."""

from __future__ import annotations

import math
from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import lettering, word
from fmri2clip.datasets.mini.pictures.parts import (
    SHADOW,
    WOOD,
    Mark,
    Part,
    Sketch,
    box,
    dot,
    limb,
    line,
    oval,
    poly,
    reach,
)

CRUST = (190, 134, 74)
TOPPINGS = ((186, 48, 40), (74, 118, 56), (236, 226, 196), (84, 58, 50), (226, 150, 60))
P_LABELLED = 0.3  # bottles and cups with a printed word


def bottle(dice: Dice) -> Sketch:
    """Upright or lying, with shoulders of several kinds and mostly a label."""
    wide = dice.uniform(0.24, 0.4)
    neck = dice.uniform(0.08, 0.13)
    shoulder = dice.uniform(-0.35, 0.1)
    rise = dice.uniform(0.05, 0.35)
    top = shoulder - rise - dice.uniform(0.15, 0.4)
    parts = [
        poly(
            "main",
            -wide,
            1.0,
            -wide,
            shoulder,
            -neck,
            shoulder - rise,
            -neck,
            top,
            neck,
            top,
            neck,
            shoulder - rise,
            wide,
            shoulder,
            wide,
            1.0,
        )
    ]
    cap = dice.uniform(0.08, 0.16)
    parts.append(box("accent dark", -neck - 0.02, top - cap, neck + 0.02, top + 0.02))
    parts.append(line("light", 0.05, -wide + 0.08, shoulder + 0.08, -wide + 0.08, 0.9))
    words: list[Mark] = []
    if dice.chance(0.8):
        low = dice.uniform(0.65, 0.9)
        high = low - dice.uniform(0.35, 0.55)
        parts.append(box("accent", -wide, high, wide, low))
        if dice.chance(P_LABELLED):
            letters, mark = lettering(
                dice, "ink", word(dice)[:4], -wide * 0.86, high + 0.06, wide * 0.86, low - 0.06
            )
            parts += letters
            words.append(mark)
        else:
            parts.append(
                line("ink", 0.04, -wide * 0.5, (low + high) / 2, wide * 0.5, (low + high) / 2)
            )
    if dice.chance(0.25):
        turned = [Part(r, [(-y, x) for x, y in points], w) for r, points, w in parts]
        return Sketch(turned, "lying", pose="still", words=[])
    return Sketch(parts, "upright", words=words)


def cup(dice: Dice) -> Sketch:
    """A mug or teacup from the side, from above, or a little from above."""
    view = dice.pick(("side", "oblique", "oblique", "above"))
    drink = dice.pick(((88, 56, 36), (150, 96, 52), (226, 214, 190), (60, 44, 38)))
    form = "coffee" if dice.chance(0.6) else ""
    if view == "above":
        handle = [limb("main", 0.4, 0.1, 0.09, 0.72, 0.2, 0.08)]
        plate = (
            [oval("accent", 0, 0, 0.85, 0.8), oval("accent dark", 0, 0, 0.6, 0.56)]
            if dice.chance(0.6)
            else []
        )
        return Sketch(
            [*plate, *handle, oval("main", 0, 0, 0.5, 0.48), oval(drink, 0, 0, 0.4, 0.38)],
            view,
            form=form,
        )
    taper = dice.uniform(0.0, 0.18)
    tall = dice.uniform(0.65, 1.15)
    reachout = dice.uniform(0.22, 0.34)
    high = 0.18 * tall
    low = 0.72 * tall
    parts: list[Part] = []
    if dice.chance(0.3):
        parts.append(oval("accent", 0.05, tall, 0.75, 0.12))
    if dice.chance(0.85):
        parts.append(
            line(
                "main",
                0.1,
                0.4,
                high,
                0.45 + reachout,
                high + 0.04,
                0.43 + reachout,
                low - 0.06,
                0.38,
                low,
            )
        )
    parts.append(poly("main", -0.45, 0, 0.45, 0, 0.45 - taper, tall, -0.45 + taper, tall))
    words: list[Mark] = []
    if dice.chance(P_LABELLED * 0.6):
        letters, mark = lettering(dice, "ink", word(dice)[:4], -0.32, 0.25 * tall, 0.32, 0.7 * tall)
        parts += [box("accent", -0.38, 0.2 * tall, 0.38, 0.75 * tall), *letters]
        words.append(mark)
    if view == "oblique":
        ry = dice.uniform(0.1, 0.2)
        parts += [
            oval("main", 0, tall, 0.45 - taper, ry * 0.7),
            oval("light", 0, 0, 0.45, ry),
            oval(drink, 0, 0.02, 0.38, ry * 0.75),
        ]
    return Sketch(parts, view, form=form, words=words)


def _crescent(bend: float, thick: float, dx: float, role: str) -> list[Part]:
    outer = []
    inner = []
    for k in range(9):
        angle = math.pi * (0.12 + 0.76 * k / 8)
        width = thick * math.sin(math.pi * (0.08 + 0.84 * k / 8))
        outer.append(
            (dx - math.cos(angle) * (0.8 + width / 2), bend * math.sin(angle) * (0.8 + width))
        )
        inner.append(
            (dx - math.cos(angle) * (0.8 - width / 2), bend * math.sin(angle) * (0.8 - width))
        )
    tip = outer[0]
    end = outer[-1]
    return [
        Part(role, outer + inner[::-1], 0.0),
        line(
            "dark",
            0.03,
            *[
                v
                for k in range(1, 8)
                for v in ((outer[k][0] + inner[k][0]) / 2, (outer[k][1] + inner[k][1]) / 2)
            ],
        ),
        limb(WOOD, *tip, 0.05, tip[0] - 0.06, tip[1] - 0.14, 0.05),
        dot(SHADOW, *end, 0.06),
    ]


def banana(dice: Dice) -> Sketch:
    """One, a bunch, or one that is half peeled."""
    view = dice.pick(("single", "bunch", "peeled"))
    bend = dice.uniform(0.5, 1.0)
    thick = dice.uniform(0.2, 0.28)
    if view == "single":
        return Sketch(_crescent(bend, thick, 0.0, "main"), view)
    if view == "bunch":
        parts = []
        for k in range(dice.integer(2, 4)):
            parts += [
                Part(r, [(x, y - 0.24 * k) for x, y in points], w)
                for r, points, w in _crescent(
                    bend + 0.14 * k, thick, 0.0, ("dark", "main", "light", "main")[k]
                )
            ]
        return Sketch(parts, view, form="bunch")
    parts = [limb((240, 228, 180), 0, 0.1, 0.17, dice.uniform(-0.1, 0.1), -0.6, 0.12)]
    parts += [poly("main", -0.2, 0.05, 0.2, 0.05, 0.14, 0.7, 0.0, 0.95, -0.14, 0.7)]
    for s in (-1, 1):
        parts.append(
            poly("light", s * 0.1, 0.0, s * 0.55, -0.1, s * 0.6, 0.4, s * 0.42, 0.12, s * 0.16, 0.2)
        )
    return Sketch([*parts, limb(WOOD, 0, 0.92, 0.06, 0.0, 1.05, 0.05)], view, form="peeled")


def _toppings(dice: Dice, count: int, ry: float, wedge: bool) -> list[Part]:
    first = dice.pick(TOPPINGS)
    second = dice.pick(TOPPINGS)
    parts = []
    for k in range(count):
        if wedge:
            y = 0.25 + 0.6 * dice.random()
            x = dice.uniform(-0.3, 0.3) * (1.05 - y)
        else:
            x, y = reach(0, 0, 0.68 * math.sqrt(dice.random()), 6.28 * (k + dice.random()) / count)
        r = dice.uniform(0.07, 0.12)
        parts.append(oval(first if k % 3 else second, x, y * ry, r, r * ry))
    return parts


def pizza(dice: Dice) -> Sketch:
    """Whole from above or obliquely, with a piece missing, or one slice."""
    form = dice.pick(("whole", "whole", "cut", "slice"))
    if form == "slice":
        parts = [
            poly("main", -0.42, 0.1, 0.42, 0.1, 0.03, 1.1, -0.03, 1.1),
            limb(CRUST, -0.42, 0.08, 0.1, 0.42, 0.08, 0.1),
        ]
        return Sketch(parts + _toppings(dice, 6, 1.0, True), "slice", form=form)
    ry = dice.uniform(0.4, 0.6) if dice.chance(0.5) else dice.uniform(0.85, 1.0)
    parts = [oval("accent", 0, 0.06, 1.18, 1.18 * ry)] if dice.chance(0.6) else []
    parts += [oval(CRUST, 0, 0, 1.0, ry), oval("main", 0, 0, 0.86, 0.86 * ry)]
    parts += _toppings(dice, dice.integer(9, 14), ry, False)
    turn = dice.uniform(0, 3.14)
    for k in range(3):
        a = reach(0, 0, 1.0, turn + 1.047 * k)
        parts.append(line((120, 70, 40), 0.025, -a[0], -a[1] * ry, a[0], a[1] * ry))
    if form == "cut":
        arc = [reach(0, 0, 1.04, turn + 0.262 * k) for k in range(5)]
        parts.append(Part("accent dark", [(0.0, 0.0), *[(x, y * ry) for x, y in arc]], 0.0))
    return Sketch(parts, "above" if ry > 0.8 else "oblique", form=form)


FOOD: dict[str, Callable[[Dice], Sketch]] = {
    "bottle": bottle,
    "cup": cup,
    "banana": banana,
    "pizza": pizza,
}
