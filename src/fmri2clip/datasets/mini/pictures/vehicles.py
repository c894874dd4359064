"""Cars and buses, and the parts that they share with trains."""

from __future__ import annotations

from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import lettering, registration, word
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    GLASS,
    LAMP,
    SHADOW,
    STEEL,
    WHITE,
    Mark,
    Part,
    Sketch,
    box,
    dot,
    line,
    oval,
    poly,
)

P_LETTERED = 0.2  # vehicles with a legible plate or board


def wheel(x: float, y: float, r: float) -> list[Part]:
    return [
        oval(BLACK, x, y, r, r),
        oval(STEEL, x, y, 0.55 * r, 0.55 * r),
        dot(SHADOW, x, y, r / 5),
    ]


def windows(x0: float, x1: float, y0: float, y1: float, count: int, gap: float) -> list[Part]:
    """A row of windows between x0 and x1."""
    pitch = (x1 - x0) / count
    return [
        box(GLASS, x0 + k * pitch + gap / 2, y0, x0 + (k + 1) * pitch - gap / 2, y1)
        for k in range(count)
    ]


def _car_side(dice: Dice) -> Sketch:
    form = dice.pick(("saloon", "hatchback", "van", "pickup"))
    roof = dice.uniform(0.3, 0.42)
    back, front = {
        "saloon": (0.16, 0.72),
        "hatchback": (0.02, 0.68),
        "van": (0.0, 0.84),
        "pickup": (0.42, 0.76),
    }[form]
    if form == "van":
        roof *= 1.35
    rise = dice.uniform(0.1, 0.18)
    parts = [poly("main", back, 0, back + rise * 0.7, -roof, front - rise, -roof, front, 0.02)]
    count = 1 if form == "pickup" else dice.integer(2, 3)
    left = back + rise * 0.7
    right = front - rise
    pitch = (right - left) / count
    for k in range(count):
        x0 = left + k * pitch + 0.02
        x1 = left + (k + 1) * pitch - 0.02
        lean0 = rise * 0.55 if k == 0 else 0.0
        lean1 = rise * 0.8 if k == count - 1 else 0.0
        parts.append(
            poly(GLASS, x0 - lean0, -0.02, x0, 0.05 - roof, x1, 0.05 - roof, x1 + lean1, -0.02)
        )
    nose = dice.uniform(0.02, 0.08)
    parts.append(poly("main", -0.02, 0.0, 1.0 - nose, 0.02, 1.02, 0.1, 1.02, 0.26, -0.02, 0.26))
    parts.append(box("dark", -0.02, 0.21, 1.02, 0.27))
    parts += [box(LAMP, 0.96, 0.08, 1.02, 0.15), box((190, 60, 50), -0.02, 0.07, 0.03, 0.15)]
    door = left + pitch
    parts += [
        line("dark", 0.012, door, 0.0, door, 0.22),
        box("dark", door + 0.03, 0.06, door + 0.1, 0.08),
    ]
    r = dice.uniform(0.1, 0.13)
    return Sketch(parts + wheel(0.2, 0.26, r) + wheel(0.79, 0.26, r), "side", form=form)


def _plate(dice: Dice, x: float, y: float, w: float, h: float) -> tuple[list[Part], list[Mark]]:
    parts = [box(WHITE, x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
    if not dice.chance(2 * P_LETTERED):
        return parts, []
    text, mark = lettering(
        dice, BLACK, registration(dice), x - 0.44 * w, y - 0.36 * h, x + 0.44 * w, y + 0.36 * h
    )
    return parts + text, [mark]


def _car_front(dice: Dice) -> Sketch:
    """From ahead or from behind, which the lamps tell."""
    tall = dice.uniform(0.3, 0.55)
    top = dice.uniform(0.26, 0.36)
    parts = [box(BLACK, s * 0.4 - 0.09, 0.2, s * 0.4 + 0.09, 0.5) for s in (-1, 1)]
    parts.append(poly("main", -0.44, 0.0, -top, -tall, top, -tall, 0.44, 0.0))
    parts.append(
        poly(GLASS, -0.38, -0.03, 0.04 - top, 0.05 - tall, top - 0.04, 0.05 - tall, 0.38, -0.03)
    )
    parts.append(
        poly("main", -0.5, 0.04, -0.42, -0.02, 0.42, -0.02, 0.5, 0.04, 0.5, 0.38, -0.5, 0.38)
    )
    lamp = LAMP if dice.chance(0.65) else (196, 56, 48)
    shape = dice.chance(0.5)
    for s in (-1, 1):
        if shape:
            parts.append(oval(lamp, s * 0.37, 0.12, 0.09, 0.08))
        else:
            parts.append(box(lamp, s * 0.37 - 0.1, 0.07, s * 0.37 + 0.1, 0.15))
        parts.append(oval("dark", s * 0.52, -0.06, 0.06, 0.05))
    if lamp is LAMP:
        parts += [
            line(BLACK, 0.02, -0.22, 0.06 + 0.05 * k, 0.22, 0.06 + 0.05 * k) for k in range(3)
        ]
    parts.append(box("dark", -0.5, 0.3, 0.5, 0.39))
    plate, words = _plate(dice, 0.0, 0.27, 0.42, 0.12)
    return Sketch(parts + plate, "front", words=words)


def _slanted(
    x0: float, x1: float, y0: float, y1: float, shrink: float
) -> Callable[..., list[float]]:
    """Maps fractions of a receding wall to its corners; its far end is ``shrink`` as high."""

    def corners(a: float, b: float, c: float, d: float) -> list[float]:
        middle = (y0 + y1) / 2
        points = []
        for u, v in ((a, b), (c, b), (c, d), (a, d)):
            high = 1 - (1 - shrink) * u
            points += [x0 + (x1 - x0) * u, middle + (y0 + (y1 - y0) * v - middle) * high]
        return points

    return corners


def three_quarter(dice: Dice, kind: str, length: float, tall: float, count: int) -> list[Part]:
    """The front of a car, bus or train beside its receding side with ``count`` windows."""
    wide = dice.uniform(0.42, 0.6)
    shrink = dice.uniform(0.62, 0.8)
    wall = _slanted(wide, wide + length, -tall, 0.0, shrink)
    if kind == "car":
        parts = [poly("dark", *wall(0, 0.42, 1, 1))]
        parts.append(
            poly("dark", *wall(0.0, 0.02, 0.7, 0.02)[:4], *wall(0.88, 0.42, 0.0, 0.42)[:4])
        )
        parts.append(poly(GLASS, *wall(0.12, 0.1, 0.42, 0.42)))
        parts.append(poly(GLASS, *wall(0.47, 0.12, 0.74, 0.42)))
    else:
        glass_low = dice.uniform(0.42, 0.52)
        parts = [poly("dark", *wall(0, 0, 1, 1))]
        for k in range(count):
            u = 0.05 + 0.92 * k / count
            parts.append(poly(GLASS, *wall(u, 0.1, u + 0.7 / count, glass_low)))
        parts.append(poly("accent", *wall(0, 0.6, 1, 0.68)))
    if kind == "train":
        parts.append(poly(BLACK, *wall(0, 0.88, 1, 1.04)))
        return parts + _train_nose(wide, tall)
    for u in (0.2, 0.78):
        far = 1 - (1 - shrink) * u
        r = 0.15 * far * min(1.0, tall + 0.25)
        parts.append(oval(BLACK, wide + length * u, tall / 2 * (far - 1), 0.75 * r, r))
    waist = -0.58 * tall
    if kind == "car":
        parts.append(poly("main", 0.04, waist, 0.1, -tall, wide - 0.03, -tall, wide, waist))
        top = 0.05 - tall
        parts.append(poly(GLASS, 0.07, waist, 0.12, top, wide - 0.06, top, wide - 0.04, waist))
        parts.append(box("main", 0, waist, wide, 0))
    else:
        parts.append(box("main", 0, -tall, wide, 0))
        parts.append(box(GLASS, 0.05, -tall * 0.86, wide - 0.05, -tall * 0.5))
    for x in (0.09, wide - 0.09):
        parts.append(dot(LAMP, x, -0.28 * tall, 0.055))
    parts.append(box(SHADOW, 0.16, -0.24 * tall, wide - 0.16, -0.1 * tall))
    return parts


def _train_nose(wide: float, tall: float) -> list[Part]:
    """Front of a railcar with two panes, three lamps and a buffer beam."""
    middle = wide / 2
    roof = -tall * 1.06
    parts = [
        poly("main", 0, 0, -0.03, -0.5 * tall, 0.07, roof, wide - 0.05, roof, wide, -tall, wide, 0)
    ]
    for x0, x1 in ((0.05, middle - 0.02), (middle + 0.02, wide - 0.05)):
        parts.append(box(GLASS, x0, -0.84 * tall, x1, -0.52 * tall))
    parts.append(poly("accent", 0, -0.42 * tall, wide, -0.42 * tall, middle, -0.14 * tall))
    parts += [dot(LAMP, x, -0.25 * tall, 0.045) for x in (0.07, wide - 0.07)]
    parts += [dot(LAMP, middle, -0.95 * tall, 0.04), box(BLACK, 0, -0.12 * tall, wide, 0.04)]
    parts += [dot(STEEL, x, -0.04 * tall, 0.05) for x in (0.1, wide - 0.1)]
    return parts


def car(dice: Dice) -> Sketch:
    """Saloons, hatchbacks, vans and pickups."""
    view = dice.pick(("side", "front", "three-quarter"))
    if view == "side":
        return _car_side(dice)
    if view == "front":
        return _car_front(dice)
    length = dice.uniform(0.75, 1.05)
    return Sketch(three_quarter(dice, "car", length, dice.uniform(0.5, 0.62), 2), view)


def _board(dice: Dice, x0: float, y0: float, x1: float, y1: float) -> tuple[list[Part], list[Mark]]:
    """A destination board, sometimes legible."""
    parts = [box(BLACK, x0, y0, x1, y1)]
    if not dice.chance(P_LETTERED):
        return parts, []
    pad = (y1 - y0) * 0.18
    text, mark = lettering(dice, LAMP, word(dice), x0 + pad, y0 + pad, x1 - pad, y1 - pad)
    return parts + text, [mark]


def bus(dice: Dice) -> Sketch:
    """With one deck or two, from the side, ahead or a corner."""
    view = dice.pick(("side", "front", "three-quarter"))
    decks = 2 if dice.chance(0.25) else 1
    if view == "three-quarter":
        tall = dice.uniform(0.75, 0.95)
        return Sketch(
            three_quarter(dice, "bus", dice.uniform(0.9, 1.3), tall, dice.integer(3, 5)), view
        )
    if view == "front":
        tall = dice.uniform(0.9, 1.1) + 0.45 * (decks - 1)
        parts = [box(BLACK, s * 0.32 - 0.09, -0.1, s * 0.32 + 0.09, 0.08) for s in (-1, 1)]
        parts.append(box("main", -0.46, -tall, 0.46, 0.0))
        parts += windows(
            -0.42, 0.42, 0.22 - tall, -tall * 0.42 if decks == 1 else 0.6 - tall, 2, 0.03
        )
        if decks == 2:
            parts += windows(-0.42, 0.42, 0.68 - tall, -0.3, 1, 0.03)
        board, words = _board(dice, -0.34, 0.03 - tall, 0.34, 0.18 - tall)
        parts += [dot(LAMP, s * 0.34, -0.17, 0.06) for s in (-1, 1)]
        parts += [box("accent", -0.46, -0.28, 0.46, -0.25), box(SHADOW, -0.15, -0.14, 0.15, -0.05)]
        parts += [
            box(BLACK, s * 0.55 - 0.04, 0.3 - tall, s * 0.55 + 0.04, 0.5 - tall) for s in (-1, 1)
        ]
        return Sketch(parts + board, view, words=words)
    tall = dice.uniform(0.46, 0.58) + 0.3 * (decks - 1)
    count = dice.integer(3, 6)
    parts = [box("main", 0, -tall, 1.5, 0.0)]
    for deck in range(decks):
        top = 0.1 - tall + 0.32 * deck
        parts += windows(0.04, 1.24, top, top + 0.17, count, 0.03)
    parts += [box(GLASS, 1.27, -0.42, 1.4, -0.02), line("dark", 0.015, 1.335, -0.42, 1.335, -0.02)]
    parts += [box(GLASS, 1.43, 0.08 - tall, 1.5, -0.2), box("accent", 0.0, -0.14, 1.25, -0.09)]
    board, words = _board(dice, 0.3, -0.19, 0.9, -0.06) if dice.chance(0.5) else ([], [])
    wheels = wheel(0.3, 0.0, 0.12) + wheel(1.12, 0.0, 0.12)
    return Sketch(parts + wheels + board, view, words=words)


VEHICLES: dict[str, Callable[[Dice], Sketch]] = {"car": car, "bus": bus}
