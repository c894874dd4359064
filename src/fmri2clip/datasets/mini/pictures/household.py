"""Umbrella, ball, chair, book and clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import lettering, word
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    GREY,
    SHADOW,
    WHITE,
    WOOD,
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

PAPER = (232, 226, 208)


def umbrella(dice: Dice) -> Sketch:
    """Open from the side, open from above, or closed."""
    form = dice.pick(("open", "open", "above", "closed"))
    if form == "above":
        count = dice.pick((6, 8))
        lean = dice.uniform(0.65, 1.0)
        rim = [
            (math.cos(2 * math.pi * k / count), lean * math.sin(2 * math.pi * k / count))
            for k in range(count)
        ]
        parts: list[Part] = [line(WOOD, 0.05, 0.0, 0.0, 0.35, 1.25)]
        for k in range(count):
            role = "main" if k % 2 == 0 else "accent"
            parts.append(Part(role, [(0.05, -0.1), rim[k], rim[(k + 1) % count]], 0.0))
        parts += [line(SHADOW, 0.02, 0.05, -0.1, *point) for point in rim]
        return Sketch([*parts, dot(SHADOW, 0.05, -0.1, 0.05)], "above", form="open")
    hook = [line(WOOD, 0.06, 0, -0.1, 0, 0.95, 0.06, 1.03, 0.14, 1.03, 0.18, 0.94)]
    if form == "closed":
        wide = dice.uniform(0.1, 0.18)
        folds = [poly("main", 0, -0.9, wide, 0.5, 0, 0.62, -wide, 0.5)]
        folds += [line("dark", 0.02, 0, -0.9, s * wide / 2, 0.54) for s in (-1, 1)]
        return Sketch(
            [*hook, line(GREY, 0.04, 0, -1.05, 0, -0.85), *folds], "closed", form="closed"
        )
    dome = dice.uniform(0.55, 0.8)
    ribs = dice.integer(3, 5)
    points = [(-math.cos(math.pi * k / 12), -dome * math.sin(math.pi * k / 12)) for k in range(13)]
    lower = []
    for k in range(ribs):
        x0 = 1.0 - 2.0 * k / ribs
        lower += [(x0 - 1.0 / ribs, -0.1), (x0 - 2.0 / ribs, 0.0)]
    parts = [
        *hook,
        Part("main", points + lower[:-1], 0.0),
        line(GREY, 0.05, 0, -dome - 0.12, 0, -dome),
    ]
    for k in range(1, ribs):
        x = -1.0 + 2.0 * k / ribs
        parts.append(line("dark", 0.025, x, 0.0, x * 0.55, -dome * 0.65, 0, -dome))
    return Sketch(parts, "side", form="open")


def ball(dice: Dice) -> Sketch:
    """Basketball, football, tennis ball, beach ball, rugby ball."""
    form = dice.pick(("basket", "foot", "tennis", "beach", "rugby"))
    turn = dice.uniform(0, 3.14)
    if form == "rugby":
        parts = [oval("main", 0, 0, 0.75, 0.48), line(WHITE, 0.04, -0.3, -0.1, 0.3, -0.1)]
        parts += [line(WHITE, 0.03, x, -0.18, x, -0.02) for x in (-0.2, -0.07, 0.07, 0.2)]
        parts += [line("accent", 0.06, s * 0.5, -0.34, s * 0.58, 0, s * 0.5, 0.34) for s in (-1, 1)]
        return Sketch(parts, form, form=form)
    parts = [oval("main", 0, 0, 0.5, 0.5)]
    if form == "foot":
        parts.append(Part("accent", [reach(0, 0, 0.17, turn + 1.257 * k) for k in range(5)], 0.0))
        for k in range(5):
            inner = reach(0, 0, 0.17, turn + 1.257 * k)
            outer = reach(0, 0, 0.36, turn + 1.257 * k)
            rim = [reach(0, 0, 0.49, turn + 1.257 * k + d) for d in (-0.24, 0.24)]
            parts += [line("accent", 0.025, *inner, *outer), Part("accent", [outer, *rim], 0.0)]
    elif form == "beach":
        for k in range(3):
            arc = [reach(0, 0, 0.5, turn + 2.094 * k + 0.26 * j) for j in range(5)]
            parts.append(Part("accent" if k else WHITE, [(0.06, -0.08), *arc], 0.0))
        parts.append(dot(WHITE, 0.06, -0.08, 0.07))
    elif form == "basket":
        ends = [reach(0, 0, 0.5, turn + 1.571 * k) for k in range(4)]
        parts += [line(SHADOW, 0.03, *ends[0], *ends[2]), line(SHADOW, 0.03, *ends[1], *ends[3])]
        for s in (0, 2):
            near = [reach(0, 0, 0.5, turn + 1.571 * s + d) for d in (-0.7, 0.7)]
            middle = reach(0, 0, 0.22, turn + 1.571 * s)
            parts.append(Part(SHADOW, [near[0], middle, near[1]], 0.03))
    else:
        for half in (0.0, math.pi):
            near = [reach(0, 0, 0.5, turn + half + d) for d in (-0.9, 0.9)]
            middle = reach(0, 0, 0.16, turn + half)
            parts.append(Part(WHITE, [near[0], middle, near[1]], 0.045))
    return Sketch(parts, form, form=form)


def chair(dice: Dice) -> Sketch:
    """A kitchen, arm, or office chair from the side, ahead or a corner."""
    view = dice.pick(("side", "front", "three-quarter"))
    form = dice.pick(("kitchen", "kitchen", "arm", "office"))
    tall = dice.uniform(0.7, 1.05)
    leg = dice.uniform(0.05, 0.08) if form != "arm" else 0.1
    seat = 0.14 if form == "arm" else 0.08
    low = 0.45 if form == "arm" else 0.72
    parts: list[Part] = []
    feet: list[Part] = []
    if form == "office":
        feet = [
            line(SHADOW, 0.07, 0, 0.05, 0, 0.6),
            line(SHADOW, 0.06, -0.38, 0.72, 0, 0.58, 0.38, 0.72),
        ]
        feet += [dot(BLACK, x, 0.74, 0.06) for x in (-0.38, 0.0, 0.38)]
    if view == "side":
        lean = dice.uniform(0.02, 0.2)
        feet = feet or [box("dark", x, 0.05, x + leg, low) for x in (-0.36, 0.3)]
        parts += [
            *feet,
            poly("main", -0.38, 0.0, -0.38 - lean, -tall, -0.28 - lean, -tall, -0.26, 0.0),
        ]
        parts.append(box("light", -0.4, 0.0, 0.42, seat))
        if form == "arm":
            parts += [
                box("main", -0.38, 0.0, 0.4, 0.4),
                limb("light", -0.34, -0.26, 0.07, 0.3, -0.26, 0.07),
                box("dark", 0.2, -0.22, 0.28, 0.02),
            ]
        return Sketch(parts, view, form=form)
    skew = 0.0 if view == "front" else dice.uniform(0.16, 0.28)
    rise = dice.uniform(0.14, 0.24)
    if not feet:
        feet = [
            box("dark", x - leg / 2, -rise / 2, x + leg / 2, low - rise)
            for x in (-0.3 + skew, 0.36 + skew)
        ]
        feet += [box("main", x - leg / 2, 0.05, x + leg / 2, low) for x in (-0.38, 0.38)]
    back_x = skew
    parts += feet
    if form == "kitchen" and dice.chance(0.7):
        count = dice.integer(2, 5)
        for k in range(count):
            x = -0.3 + back_x + 0.6 * k / (count - 1)
            parts.append(line("dark", 0.06, x, -tall, x, -rise))
        parts += [line("main", 0.09, x + back_x, -tall, x + back_x, -rise) for x in (-0.34, 0.34)]
        parts.append(box("main", -0.38 + back_x, -tall - 0.08, 0.38 + back_x, 0.08 - tall))
    else:
        parts.append(box("main", -0.4 + back_x, -tall, 0.4 + back_x, -rise))
        parts.append(box("dark", -0.3 + back_x, 0.1 - tall, 0.3 + back_x, -rise - 0.08))
    parts.append(poly("light", -0.36 + skew, -rise, 0.38 + skew, -rise, 0.44, 0.0, -0.44, 0.0))
    parts.append(box("main", -0.44, 0.0, 0.44, seat))
    if form == "arm":
        parts += [box("main", -0.44, 0.0, 0.44, 0.36)]
        parts += [limb("dark", s * 0.46, -0.28, 0.09, s * 0.46, 0.3, 0.09) for s in (-1, 1)]
    return Sketch(parts, view, form=form)


def _page(dice: Dice, x0: float, x1: float, y0: float, y1: float, lean: float) -> list[Part]:
    """Lines of print on a page."""
    rows = 6
    parts = []
    for k in range(rows):
        y = y0 + (y1 - y0) * (k + 0.6) / rows
        end = x1 if k % 3 != 2 else x0 + (x1 - x0) * dice.uniform(0.4, 0.9)
        parts.append(line(SHADOW, 0.025, x0, y, end, y + lean * (end - x0)))
    return parts


def book(dice: Dice) -> Sketch:
    """Closed with a title, open with two pages, or a row of spines."""
    view = dice.pick(("cover", "cover", "open", "spines"))
    if view == "spines":
        parts = []
        x = 0.0
        for _ in range(dice.integer(3, 5)):
            wide = dice.uniform(0.14, 0.26)
            tall = dice.uniform(0.75, 1.05)
            role = dice.pick(("main", "dark", "light", "accent"))
            parts += [
                box(role, x, -tall, x + wide, 0),
                box(PAPER, x + 0.03, 0.12 - tall, x + wide - 0.03, 0.22 - tall),
            ]
            parts.append(line("accent dark", 0.03, x, -0.15, x + wide, -0.15))
            x += wide + 0.01
        return Sketch(parts, view, form="row")
    if view == "open":
        rise = dice.uniform(0.04, 0.16)
        parts = [poly("main", -0.82, -0.46, 0.82, -0.46, 0.86, 0.54, -0.86, 0.54)]
        for s in (-1, 1):
            parts.append(poly(PAPER, 0, -0.42 + rise, s * 0.78, -0.44, s * 0.8, 0.46, 0, 0.5))
        parts.append(line(SHADOW, 0.03, 0, -0.42 + rise, 0, 0.5))
        heading, mark = lettering(dice, BLACK, word(dice), -0.68, -0.36, -0.12, -0.16)
        parts += (
            heading
            + _page(dice, -0.68, -0.12, -0.1, 0.42, 0.0)
            + _page(dice, 0.12, 0.68, -0.36, 0.42, 0.0)
        )
        return Sketch(parts, view, form="open", words=[mark])
    wide = dice.uniform(0.34, 0.46)
    parts = [
        poly(PAPER, wide, -0.55, wide + 0.1, -0.48, wide + 0.1, 0.62, wide, 0.58),
        box("main", -wide, -0.6, wide, 0.6),
    ]
    parts.append(box("dark", -wide, -0.6, -wide + 0.08, 0.6))
    title, mark = lettering(dice, "ink", word(dice), -wide + 0.16, -0.44, wide - 0.06, -0.16)
    parts += [box("accent", -wide + 0.12, -0.5, wide - 0.03, -0.1), *title]
    parts.append(
        dice.pick(
            (
                oval("accent", 0.04, 0.24, 0.2, 0.2),
                box("accent", -0.14, 0.1, 0.22, 0.44),
                line("accent", 0.05, -0.2, 0.4, 0.24, 0.4),
            )
        )
    )
    return Sketch(parts, "cover", words=[mark])


def clock(dice: Dice) -> Sketch:
    """On a wall, with bells, on a pole or a tower; round or square; straight or oblique."""
    form = dice.pick(("wall", "wall", "alarm", "pole", "tower"))
    narrow = 1.0 if dice.chance(0.65) else dice.uniform(0.55, 0.8)
    parts: list[Part] = []
    if form == "alarm":
        parts += [line(SHADOW, 0.08, s * 0.2, 0.3, s * 0.36, 0.62) for s in (-1, 1)]
        parts += [oval("accent", s * 0.3 * narrow, -0.5, 0.18, 0.14, 0.5 * s) for s in (-1, 1)]
    elif form == "pole":
        parts += [
            box("dark", -0.06, 0.4, 0.06, dice.uniform(1.2, 1.9)),
            box("dark", -0.2, 0.5, 0.2, 0.56),
        ]
    elif form == "tower":
        parts += [
            box("main", -0.7, -0.7, 0.7, dice.uniform(1.0, 1.8)),
            poly("dark", -0.85, -0.7, 0, -1.5, 0.85, -0.7),
        ]
    square = dice.chance(0.25)
    face = dice.pick((WHITE, PAPER, PAPER, (46, 48, 56)))
    hand = WHITE if face[0] < 100 else BLACK
    if square:
        parts += [
            box("main", -0.5 * narrow, -0.5, 0.5 * narrow, 0.5),
            box(face, -0.4 * narrow, -0.4, 0.4 * narrow, 0.4),
        ]
    else:
        if narrow < 1:
            parts.append(oval("dark", 0.08, 0, 0.5 * narrow, 0.5))
        rim = "dark" if form == "tower" else "main"
        parts += [oval(rim, 0, 0, 0.5 * narrow, 0.5), oval(face, 0, 0, 0.42 * narrow, 0.42)]
    for k in range(12 if dice.chance(0.5) else 4):
        step = 0.5236 if len(parts) % 2 else 1.5708
        outer = reach(0, 0, 0.38, step * k)
        inner = reach(0, 0, 0.31, step * k)
        parts.append(line(hand, 0.035, inner[0] * narrow, inner[1], outer[0] * narrow, outer[1]))
    for length, width in ((0.2, 0.055), (0.31, 0.035)):
        x, y = reach(0, 0, length, dice.uniform(0, 6.28))
        parts.append(line(hand, width, 0, 0, x * narrow, y))
    parts.append(dot(hand, 0, 0, 0.04))
    return Sketch(parts, "front" if narrow == 1.0 else "oblique", form=form)


HOUSEHOLD: dict[str, Callable[[Dice], Sketch]] = {
    "umbrella": umbrella,
    "sports ball": ball,
    "chair": chair,
    "book": book,
    "clock": clock,
}
