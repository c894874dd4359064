"""Printed signs that are no COCO objects: shop signs, posters, street names, plates, pages."""

from __future__ import annotations

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import lettering, registration, word
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    GREY,
    SHADOW,
    WHITE,
    Part,
    Sketch,
    box,
    dot,
    line,
    oval,
)


def _shop(dice: Dice) -> Sketch:
    """A board, often with a lamp or a rim."""
    text = word(dice)
    half = 0.22 + 0.13 * len(text)
    parts = [
        box("accent dark", -half - 0.05, -0.35, half + 0.05, 0.35),
        box("accent", -half, -0.3, half, 0.3),
    ]
    letters, mark = lettering(dice, "ink", text, -half + 0.1, -0.2, half - 0.1, 0.2)
    return Sketch(parts + letters, "sign", form="sign", words=[mark])


def _poster(dice: Dice) -> Sketch:
    """A sheet with one or two words and a figure."""
    parts = [box(WHITE, -0.5, -0.7, 0.5, 0.7), box("accent", -0.46, -0.66, 0.46, 0.66)]
    letters, mark = lettering(dice, "ink", word(dice), -0.4, -0.6, 0.4, -0.28)
    parts += letters
    words = [mark]
    parts.append(
        oval("main", 0.0, 0.06, 0.26, 0.26)
        if dice.chance(0.5)
        else box("main", -0.3, -0.16, 0.3, 0.26)
    )
    if dice.chance(0.6):
        letters, mark = lettering(dice, "ink", word(dice), -0.36, 0.36, 0.36, 0.6)
        parts += letters
        words.append(mark)
    return Sketch(parts, "sign", form="poster", words=words)


def _street_name(dice: Dice) -> Sketch:
    """A plate on a pole."""
    parts: list[Part] = [box(GREY, -0.05, 0.0, 0.05, dice.uniform(1.0, 1.8))]
    text = word(dice)
    half = 0.25 + 0.12 * len(text)
    parts += [
        box(WHITE, -half, -0.26, half, 0.26),
        box("accent", -half + 0.04, -0.22, half - 0.04, 0.22),
    ]
    letters, mark = lettering(dice, "ink", text, -half + 0.1, -0.15, half - 0.1, 0.15)
    return Sketch(parts + letters, "sign", form="street sign", words=[mark])


def _number_plate(dice: Dice) -> Sketch:
    parts = [box(SHADOW, -1.03, -0.28, 1.03, 0.28), box(WHITE, -1.0, -0.25, 1.0, 0.25)]
    parts.append(box("main", -1.0, -0.25, -0.86, 0.25))
    letters, mark = lettering(dice, BLACK, registration(dice), -0.8, -0.17, 0.92, 0.17)
    return Sketch(parts + letters, "sign", form="number plate", words=[mark])


def _page(dice: Dice) -> Sketch:
    """A sheet with a heading and lines of print."""
    parts = [box((236, 232, 216), -0.5, -0.68, 0.5, 0.68)]
    letters, mark = lettering(dice, BLACK, word(dice), -0.4, -0.58, 0.4, -0.32)
    parts += letters
    for k in range(7):
        end = 0.4 if k % 3 != 2 else dice.uniform(-0.1, 0.35)
        parts.append(line(SHADOW, 0.025, -0.4, -0.18 + 0.11 * k, end, -0.18 + 0.11 * k))
    return Sketch(parts, "sign", form="page", words=[mark])


def _hanging(dice: Dice) -> Sketch:
    """A round or square board that hangs from a bracket."""
    parts = [line(SHADOW, 0.05, -0.6, -0.72, 0.3, -0.72), line(SHADOW, 0.04, 0.0, -0.72, 0.0, -0.5)]
    parts.append(
        oval("accent", 0, 0, 0.55, 0.5)
        if dice.chance(0.5)
        else box("accent", -0.52, -0.5, 0.52, 0.4)
    )
    letters, mark = lettering(dice, "ink", word(dice)[:4], -0.4, -0.22, 0.4, 0.18)
    return Sketch([*parts, *letters, dot("ink", 0, 0.3, 0.05)], "sign", form="sign", words=[mark])


KINDS = (_shop, _shop, _poster, _street_name, _number_plate, _page, _hanging)


def sign(dice: Dice) -> Sketch:
    """Some sign with printed words."""
    return dice.pick(KINDS)(dice)
