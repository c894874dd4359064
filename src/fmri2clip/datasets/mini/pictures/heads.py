"""Heads of animals, from the side (facing right) and from the front."""

from __future__ import annotations

import math
from collections.abc import Callable

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    WHITE,
    Part,
    chain,
    dot,
    limb,
    line,
    oval,
    poly,
)

SideHead = Callable[[Dice, float, float, float, float], list[Part]]
FrontHead = Callable[[Dice, float, float, float], list[Part]]
PINK = (214, 140, 146)
IVORY = (236, 230, 206)


def _placed(parts: list[Part], x: float, y: float, size: float, tilt: float) -> list[Part]:
    """Parts in units of the head, turned by ``tilt`` and moved to (x, y)."""
    cos = size * math.cos(tilt)
    sin = size * math.sin(tilt)
    return [
        Part(
            role, [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in points], width * size
        )
        for role, points, width in parts
    ]


def _dog_side(dice: Dice, x: float, y: float, size: float, tilt: float) -> list[Part]:
    snout = dice.uniform(0.7, 1.35)
    parts = [limb("light", 0.2, 0.2, 0.42, snout, 0.28, 0.25), oval("main", 0, 0, 0.72, 0.66)]
    if dice.chance(0.5):  # hanging or pricked ears
        parts.append(oval("dark", -0.4, 0.25, 0.25, dice.uniform(0.5, 0.75), 0.25))
    else:
        parts.append(poly("dark", -0.65, -0.3, -0.5, -1.25, 0.05, -0.55))
    parts.append(dot(BLACK, snout + 0.17, 0.14, 0.15))
    parts.append(dot(BLACK, 0.3, -0.14, 0.1))
    parts.append(line(BLACK, 0.06, 0.45, 0.46, snout + 0.1, 0.42))
    return _placed(parts, x, y, size, tilt)


def _cat_side(dice: Dice, x: float, y: float, size: float, tilt: float) -> list[Part]:
    parts = [poly("dark", -0.55, -0.4, -0.55, -1.2, 0.0, -0.6)]
    parts += [oval("main", 0, 0, 0.78, 0.7), oval("light", 0.55, 0.2, 0.35, 0.27)]
    parts.append(poly("main", -0.2, -0.55, 0.1, -1.25, 0.45, -0.5))
    parts.append(poly(PINK, 0.78, 0.02, 0.95, 0.06, 0.82, 0.18))
    parts.append(dot((150, 190, 90), 0.32, -0.1, 0.14))
    parts.append(dot(BLACK, 0.36, -0.1, 0.07))
    parts += [line(WHITE, 0.03, 0.6, 0.25, 1.3, 0.1 + 0.2 * k) for k in range(2)]
    return _placed(parts, x, y, size, tilt)


def _horse_side(dice: Dice, x: float, y: float, size: float, tilt: float) -> list[Part]:
    parts = [poly("main", -0.25, -0.5, -0.05, -1.0, 0.2, -0.4)]
    parts.append(limb("main", 0.0, 0.0, 0.55, 1.15, 0.75, 0.34))
    parts.append(limb("dark", 1.1, 0.75, 0.3, 1.3, 0.85, 0.28))
    parts.append(poly("dark", -0.5, -0.5, 0.1, -0.55, 0.25, -0.2, -0.3, 0.3))
    parts += [dot(BLACK, 0.35, -0.05, 0.1), dot(BLACK, 1.4, 0.75, 0.08)]
    parts.append(line(BLACK, 0.05, 1.0, 1.0, 1.35, 1.08))
    return _placed(parts, x, y, size, tilt)


def _elephant_side(dice: Dice, x: float, y: float, size: float, tilt: float) -> list[Part]:
    curl = dice.uniform(-0.9, 0.9)
    parts = [oval("main", 0.15, 0, 0.8, 0.85)]
    parts += chain(
        "main", 0.36, 0.13, 0.7, 0.15, 1.0, 0.9, 1.05 + 0.1 * curl, 1.5, 1.1 + curl, 1.95
    )
    parts.append(poly(IVORY, 0.65, 0.6, 1.35, 1.0, 1.3, 1.12, 0.6, 0.8))
    parts.append(oval("dark", -0.35, 0.1, 0.6, dice.uniform(0.75, 1.0), 0.15))
    parts.append(dot(BLACK, 0.5, -0.15, 0.08))
    return _placed(parts, x, y, size, tilt)


def _giraffe_side(dice: Dice, x: float, y: float, size: float, tilt: float) -> list[Part]:
    parts = [line("dark", 0.14, dx, -0.4, dx - 0.1, -1.05) for dx in (-0.15, 0.15)]
    parts.append(oval("main", -0.65, -0.3, 0.45, 0.16, 0.4))
    parts += [limb("main", 0.0, 0.0, 0.52, 1.25, 0.42, 0.3), oval("light", 1.35, 0.48, 0.28, 0.26)]
    parts += [dot(BLACK, 0.3, -0.1, 0.1), dot(BLACK, 1.45, 0.4, 0.07)]
    return _placed(parts, x, y, size, tilt)


def _eyes(x: float, y: float, apart: float, r: float, iris: tuple[int, int, int]) -> list[Part]:
    parts = []
    for side in (-apart, apart):
        parts += [dot(iris, x + side, y, r), dot(BLACK, x + side, y, 0.6 * r)]
    return parts


def _dog_front(dice: Dice, x: float, y: float, size: float) -> list[Part]:
    parts: list[Part] = []
    if dice.chance(0.5):
        wide = dice.uniform(0.85, 1.0)
        parts += [oval("dark", s * wide, 0.1, 0.27, 0.72, -0.2 * s) for s in (-1, 1)]
    else:
        parts += [poly("dark", s * 0.85, -0.2, s * 0.85, -1.25, s * 0.2, -0.65) for s in (-1, 1)]
    parts.append(oval("main", 0, 0, 0.82, 0.85))
    if dice.chance(0.4):  # tongue
        parts.append(oval(PINK, 0.05, 0.95, 0.18, 0.35))
    parts += [oval("light", 0, 0.5, 0.46, 0.42), oval(BLACK, 0, 0.32, 0.2, 0.14)]
    parts += [line(BLACK, 0.05, 0, 0.4, 0, 0.66), line(BLACK, 0.05, -0.25, 0.7, 0, 0.62, 0.25, 0.7)]
    parts += _eyes(0, -0.15, 0.36, 0.13, (110, 76, 44))
    return _placed(parts, x, y, size, dice.uniform(-0.25, 0.25))


def _cat_front(dice: Dice, x: float, y: float, size: float) -> list[Part]:
    parts: list[Part] = []
    for s in (-1, 1):
        parts.append(poly("main", s * 0.9, -0.1, s * 0.8, -1.15, s * 0.15, -0.65))
        parts.append(poly(PINK, s * 0.78, -0.4, s * 0.72, -0.95, s * 0.38, -0.62))
    parts.append(oval("main", 0, 0, 0.95, 0.8))
    parts += [oval("light", s * 0.2, 0.36, 0.27, 0.22) for s in (-1, 1)]
    iris = dice.pick(((150, 190, 90), (210, 180, 70), (110, 160, 190)))
    for x_eye in (-0.4, 0.4):
        parts += [oval(iris, x_eye, -0.12, 0.2, 0.17), oval(BLACK, x_eye, -0.12, 0.07, 0.15)]
    parts.append(poly(PINK, -0.12, 0.16, 0.12, 0.16, 0.0, 0.3))
    parts.append(line(BLACK, 0.04, -0.2, 0.46, 0.0, 0.36, 0.2, 0.46))
    for s in (-1, 1):
        parts += [line(WHITE, 0.03, s * 0.3, 0.34, s * 1.25, 0.2 + 0.22 * k) for k in range(2)]
    return _placed(parts, x, y, size, dice.uniform(-0.25, 0.25))


def _horse_front(dice: Dice, x: float, y: float, size: float) -> list[Part]:
    parts = [poly("main", s * 0.5, -0.6, s * 0.5, -1.3, s * 0.12, -0.75) for s in (-1, 1)]
    parts.append(limb("main", 0, -0.3, 0.58, 0, 1.0, 0.4))
    if dice.chance(0.5):  # blaze
        parts.append(limb(WHITE, 0, -0.2, 0.12, 0, 0.8, 0.18))
    parts.append(oval("dark", 0, 1.15, 0.43, 0.32))
    parts += [dot(BLACK, s * 0.2, 1.12, 0.09) for s in (-1, 1)]
    parts += [dot(BLACK, s * 0.46, -0.15, 0.12) for s in (-1, 1)]
    parts.append(poly("dark", -0.25, -0.85, 0.25, -0.85, 0.15, -0.25, -0.05, -0.4))
    return _placed(parts, x, y, size, dice.uniform(-0.15, 0.15))


def _elephant_front(dice: Dice, x: float, y: float, size: float) -> list[Part]:
    wide = dice.uniform(0.95, 1.3)
    parts = [oval("dark", s * wide, 0.0, 0.62, 0.85, 0.15 * s) for s in (-1, 1)]
    parts.append(oval("main", 0, -0.05, 0.72, 0.85))
    parts += [
        poly(IVORY, s * 0.3, 0.6, s * 0.62, 1.35, s * 0.48, 1.4, s * 0.2, 0.75) for s in (-1, 1)
    ]
    curl = dice.uniform(-0.5, 0.5)
    parts += chain("main", 0.33, 0.15, 0, 0.3, 0, 1.1, 0.2 * curl, 1.6, curl, 2.0)
    parts += [line("dark", 0.06, -0.25, 0.7 + 0.3 * k, 0.25, 0.7 + 0.3 * k) for k in range(3)]
    parts += [dot(BLACK, s * 0.42, -0.05, 0.09) for s in (-1, 1)]
    return _placed(parts, x, y, size, dice.uniform(-0.1, 0.1))


def _giraffe_front(dice: Dice, x: float, y: float, size: float) -> list[Part]:
    parts: list[Part] = []
    for s in (-1, 1):
        parts.append(line("dark", 0.16, s * 0.22, -0.5, s * 0.26, -1.2))
        parts.append(dot(BLACK, s * 0.26, -1.2, 0.13))
        parts.append(oval("main", s * 0.85, -0.4, 0.45, 0.17, -0.3 * s))
    parts.append(limb("main", 0, -0.2, 0.56, 0, 0.85, 0.36))
    parts.append(oval("light", 0, 0.95, 0.42, 0.3))
    parts += [dot(BLACK, s * 0.17, 0.85, 0.07) for s in (-1, 1)]
    parts += [dot(BLACK, s * 0.45, -0.1, 0.13) for s in (-1, 1)]
    return _placed(parts, x, y, size, dice.uniform(-0.15, 0.15))


SIDE_HEADS: dict[str, SideHead] = {
    "dog": _dog_side,
    "cat": _cat_side,
    "horse": _horse_side,
    "elephant": _elephant_side,
    "giraffe": _giraffe_side,
}
FRONT_HEADS: dict[str, FrontHead] = {
    "dog": _dog_front,
    "cat": _cat_front,
    "horse": _horse_front,
    "elephant": _elephant_front,
    "giraffe": _giraffe_front,
}
