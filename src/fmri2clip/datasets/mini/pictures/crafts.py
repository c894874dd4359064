"""Boats and aeroplanes, and what stands beside a road: stop signs and traffic lights."""

from __future__ import annotations

from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import lettering
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    GLASS,
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
)


def _hull(length: float, depth: float) -> list[Part]:
    half = length / 2
    return [
        poly("main", -half, 0, half + 0.12, -0.06, half * 0.75, depth, -half * 0.8, depth),
        line("dark", 0.03, -half, 0.03, half + 0.08, -0.02),
        line("accent", 0.04, -half * 0.9, depth * 0.6, half * 0.85, depth * 0.6),
    ]


def boat(dice: Dice) -> Sketch:
    """Sailing, motor and rowing boats from the side, and a boat from ahead."""
    form = dice.pick(("sail", "sail", "motor", "row", "ahead"))
    if form == "ahead":
        tall = dice.uniform(0.5, 1.3)
        parts = [
            line(WOOD, 0.05, 0, 0.1, 0, -tall),
            poly(WHITE, 0.03, -tall, 0.34, -0.1, 0.03, -0.1),
        ]
        if dice.chance(0.5):
            parts = [box("light", -0.3, -0.4, 0.3, 0.1), box(GLASS, -0.24, -0.34, 0.24, -0.14)]
        parts.append(poly("main", -0.5, 0, 0, 0.08, 0.5, 0, 0.3, 0.42, 0, 0.56, -0.3, 0.42))
        parts += [
            line("dark", 0.03, 0, 0.08, 0, 0.54),
            line("accent", 0.04, -0.47, 0.05, 0, 0.13, 0.47, 0.05),
        ]
        return Sketch(parts, "front", pose="floating")
    length = dice.uniform(0.9, 1.3)
    parts = _hull(length, dice.uniform(0.2, 0.32))
    if form == "sail":
        tall = dice.uniform(0.9, 1.4)
        mast = dice.uniform(-0.1, 0.15)
        sails = [line(WOOD, 0.04, mast, 0.0, mast, -tall)]
        sails.append(poly(WHITE, mast - 0.03, -tall, mast - 0.03, -0.12, -0.45 * length, -0.1))
        if dice.chance(0.7):
            sails.append(
                poly("light", mast + 0.03, -tall * 0.9, 0.5 * length, -0.1, mast + 0.03, -0.1)
            )
        return Sketch(sails + parts, "side", pose="sailing", form=form)
    if form == "motor":
        tall = dice.uniform(0.25, 0.45)
        cabin = [
            poly("light", -0.3, 0, -0.26, -tall, 0.14, -tall, 0.3, 0),
            box(SHADOW, -0.2, -tall - 0.2, -0.1, -tall),
        ]
        count = dice.integer(2, 3)
        pitch = 0.36 / count
        cabin += [
            box(GLASS, -0.22 + k * pitch, 0.07 - tall, -0.26 + (k + 1) * pitch, -tall / 3)
            for k in range(count)
        ]
        if dice.chance(0.4):
            cabin.append(line(SHADOW, 0.02, 0.05, -tall, 0.05, -tall - 0.4))
        return Sketch(cabin + parts, "side", pose="floating", form=form)
    oars = [line(WOOD, 0.035, s * 0.1, -0.05, s * 0.55, 0.36) for s in (-1, 1)]
    seats = [box(WOOD, x, -0.05, x + 0.12, 0.02) for x in (-0.3, 0.15)]
    return Sketch(seats + parts + oars, "side", pose="floating", form=form)


def _plane_side(dice: Dice) -> Sketch:
    """In flight, or on its wheels."""
    flying = dice.chance(0.6)
    slim = dice.uniform(0.09, 0.13)
    parts = [poly("accent", -0.86, -0.04, -1.0, -0.42, -0.82, -0.42, -0.6, -slim)]
    parts.append(poly("dark", 0.05, -0.02, -0.3, -0.3, -0.18, -0.3, 0.22, -0.02))
    parts += [
        limb("main", -0.85, -0.03, 0.035, -0.4, 0.0, slim),
        limb("main", -0.45, 0.0, slim, 0.78, 0.0, slim * 0.9),
    ]
    parts += [
        oval("main", 0.85, 0.01, 0.16, slim * 0.85),
        poly(GLASS, 0.8, -0.07, 0.9, -0.06, 0.94, 0.0, 0.8, 0.0),
    ]
    count = dice.integer(5, 9)
    parts += [dot(GLASS, -0.4 + 1.1 * k / count, -0.02, 0.03) for k in range(count)]
    parts.append(poly("dark", -0.8, 0.0, -1.02, 0.03, -0.95, 0.07, -0.68, 0.05))
    drop = dice.uniform(0.25, 0.42)
    parts.append(poly("dark", -0.08, 0.04, -0.42, drop, -0.28, drop, 0.3, 0.05))
    parts += [limb("accent", 0.0, 0.17, 0.06, 0.14, 0.17, 0.055)]
    if not flying:
        for x in (-0.08, 0.62):
            parts += [line(SHADOW, 0.03, x, 0.05, x, 0.3), dot(BLACK, x, 0.32, 0.06)]
    return Sketch(parts, "side", pose="flying" if flying else "parked", airborne=flying)


def _plane_below(dice: Dice) -> Sketch:
    sweep = dice.uniform(0.05, 0.45)
    parts: list[Part] = []
    for s in (-1, 1):
        parts.append(
            poly("light", s * 0.05, -0.2, s * 0.95, sweep, s * 0.95, sweep + 0.12, s * 0.05, 0.18)
        )
        parts.append(poly("dark", 0, 0.65, s * 0.34, 0.78, s * 0.34, 0.88, 0, 0.84))
        parts.append(
            limb("dark", s * 0.4, -0.02 + 0.3 * sweep, 0.055, s * 0.4, 0.13 + 0.3 * sweep, 0.05)
        )
    parts += [limb("main", 0, -0.7, 0.08, 0, 0.2, 0.11), limb("main", 0, 0.2, 0.11, 0, 0.85, 0.04)]
    parts += [
        poly(GLASS, -0.06, -0.7, 0.06, -0.7, 0.04, -0.62, -0.04, -0.62),
        line("accent", 0.03, 0, 0.6, 0, 0.9),
    ]
    return Sketch(parts, "below", pose="flying", airborne=True)


def _plane_front(dice: Dice) -> Sketch:
    rise = dice.uniform(0.0, 0.2)
    flying = dice.chance(0.5)
    parts: list[Part] = [poly("accent", -0.03, -0.1, -0.015, -0.6, 0.015, -0.6, 0.03, -0.1)]
    parts.append(line("dark", 0.035, -0.32, -0.3, 0.32, -0.3))
    for s in (-1, 1):
        parts.append(
            poly("light", s * 0.12, 0.02, s * 1.0, -rise, s * 1.0, 0.04 - rise, s * 0.12, 0.14)
        )
        parts += [
            dot("dark", s * 0.45, 0.14 - 0.4 * rise, 0.1),
            dot(BLACK, s * 0.45, 0.14 - 0.4 * rise, 0.06),
        ]
        if not flying:
            parts += [
                line(SHADOW, 0.03, s * 0.22, 0.1, s * 0.22, 0.36),
                dot(BLACK, s * 0.22, 0.38, 0.06),
            ]
    parts += [
        oval("main", 0, 0, 0.2, 0.22),
        poly(GLASS, -0.12, -0.1, 0.12, -0.1, 0.15, -0.02, -0.15, -0.02),
    ]
    return Sketch(parts, "front", pose="flying" if flying else "parked", airborne=flying)


def airplane(dice: Dice) -> Sketch:
    """From the side, below or ahead."""
    return dice.pick((_plane_side, _plane_side, _plane_below, _plane_front))(dice)


def stop_sign(dice: Dice) -> Sketch:
    """An octagon on a pole with its word, straight or seen at an angle."""
    narrow = 1.0 if dice.chance(0.6) else dice.uniform(0.5, 0.75)
    pole = dice.uniform(0.6, 1.8)
    wide = dice.uniform(0.03, 0.07)
    parts = [box(GREY, -wide, 0.3, wide, 0.5 + pole)]
    a = 0.21
    for role, r in ((WHITE, 1.0), ("main", 0.9)):
        corners = (
            (-a, -0.5),
            (a, -0.5),
            (0.5, -a),
            (0.5, a),
            (a, 0.5),
            (-a, 0.5),
            (-0.5, a),
            (-0.5, -a),
        )
        parts.append(Part(role, [(x * r * narrow, y * r) for x, y in corners], 0.0))
    text = dice.pick(("STOP", "STOP", "STOP", "ALTO", "HALT"))
    letters, mark = lettering(dice, WHITE, text, -0.37 * narrow, -0.2, 0.37 * narrow, 0.2)
    if dice.chance(0.25):
        parts.append(box("accent", -0.35 * narrow, 0.56, 0.35 * narrow, 0.74))
    view = "front" if narrow == 1.0 else "oblique"
    return Sketch(parts + letters, view, words=[mark])


def traffic_light(dice: Dice) -> Sketch:
    """Two or three lamps in a box on a pole, from the front, the side, or hanging."""
    view = dice.pick(("front", "front", "side"))
    count = dice.pick((2, 3, 3))
    lit = dice.integer(0, count - 1)
    lamps = ((232, 60, 48), (244, 196, 60), (80, 210, 120))
    half = dice.uniform(0.21, 0.3)
    pitch = dice.uniform(0.36, 0.44)
    tall = pitch * count / 2 + dice.uniform(0.02, 0.1)
    pole = dice.uniform(0.3, 1.0)
    width = dice.uniform(0.04, 0.08)
    parts = [box(GREY, -width, tall, width, tall + pole)]
    if dice.chance(0.35):
        parts = [box(GREY, -width, -tall - pole, width, -tall)]
    centres = [pitch * (k - (count - 1) / 2) for k in range(count)]
    if view == "front":
        if dice.chance(0.4):
            parts.append(box("accent", -half - 0.1, -tall - 0.1, half + 0.1, tall + 0.1))
        parts.append(box("main", -half, -tall, half, tall))
        for k, y in enumerate(centres):
            parts.append(oval("dark", 0, y - 0.03, 0.19, 0.17))
            parts.append(dot(lamps[-count:][k] if k == lit else SHADOW, 0, y, 0.15))
        return Sketch(parts, view)
    parts.append(box("main", 0.1 - half, -tall, 0.16, tall))
    for k, y in enumerate(centres):
        hood = dice.uniform(0.38, 0.5)
        parts.append(
            poly("dark", 0.12, y - 0.15, hood, y - 0.09, hood - 0.08, y + 0.02, 0.12, y + 0.12)
        )
        if k == lit:
            parts.append(oval(lamps[-count:][k], 0.2, y + 0.02, 0.05, 0.09))
    return Sketch(parts, view)


CRAFTS: dict[str, Callable[[Dice], Sketch]] = {
    "boat": boat,
    "airplane": airplane,
    "stop sign": stop_sign,
    "traffic light": traffic_light,
}
