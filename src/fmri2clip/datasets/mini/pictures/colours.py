"""Colours: named paints for things, coats of animals, materials of places, and the light that falls
on a finished picture.
"""

from __future__ import annotations

import numpy as np

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Colour

PALETTE: dict[str, Colour] = {
    "red": (200, 48, 44),
    "orange": (232, 134, 40),
    "yellow": (234, 208, 66),
    "green": (62, 146, 74),
    "blue": (52, 94, 196),
    "purple": (134, 66, 158),
    "brown": (120, 80, 48),
    "white": (234, 234, 230),
    "black": (42, 42, 48),
    "gray": (136, 138, 142),
    "pink": (232, 144, 172),
}
PAINTS = tuple(PALETTE)
# Coats that any animal may have: the name that captions use and the colour.
COATS: tuple[tuple[str, Colour], ...] = (
    ("brown", (118, 78, 48)),
    ("brown", (160, 116, 74)),
    ("brown", (82, 56, 40)),
    ("black", (44, 42, 44)),
    ("white", (228, 224, 214)),
    ("gray", (132, 130, 128)),
    ("gray", (98, 98, 104)),
    ("orange", (196, 120, 60)),
    ("yellow", (206, 178, 120)),
)
SKINS: tuple[Colour, ...] = (
    (244, 206, 178),
    (226, 178, 142),
    (204, 150, 112),
    (168, 116, 80),
    (126, 84, 58),
    (88, 58, 44),
)
HAIRS: tuple[Colour, ...] = (
    (36, 30, 28),
    (72, 48, 32),
    (124, 82, 46),
    (196, 158, 92),
    (150, 70, 40),
    (168, 166, 164),
    (222, 218, 210),
)
# What the parts of a place may be made of. The lists overlap, and P_ANY of all surfaces have a
# colour of no material at all: paint, flowers, lamplight.
MATERIALS: dict[str, tuple[Colour, ...]] = {
    "sky": (
        (140, 186, 230),
        (190, 196, 204),
        (236, 180, 130),
        (60, 70, 110),
        (220, 226, 230),
        (210, 150, 170),
        (110, 120, 134),
        (238, 216, 160),
    ),
    "grass": (
        (104, 150, 72),
        (168, 164, 84),
        (194, 168, 110),
        (74, 96, 60),
        (224, 224, 220),
        (150, 110, 74),
        (140, 176, 120),
    ),
    "sand": ((222, 200, 152), (186, 160, 124), (128, 118, 108), (236, 226, 204), (150, 150, 150)),
    "water": (
        (64, 116, 166),
        (104, 160, 160),
        (120, 126, 136),
        (58, 70, 90),
        (206, 170, 140),
        (170, 196, 206),
        (92, 112, 84),
    ),
    "road": ((98, 98, 104), (140, 134, 128), (176, 160, 140), (64, 66, 74), (214, 212, 208)),
    "wall": (
        (226, 214, 188),
        (176, 104, 84),
        (150, 168, 180),
        (206, 186, 196),
        (120, 140, 110),
        (92, 88, 96),
        (238, 236, 230),
        (214, 178, 96),
        (96, 120, 160),
    ),
    "wood": ((134, 96, 62), (186, 148, 104), (88, 62, 48), (214, 206, 192), (110, 116, 110)),
    "foliage": (
        (66, 108, 58),
        (120, 132, 56),
        (190, 122, 52),
        (56, 72, 62),
        (206, 210, 206),
        (150, 84, 60),
        (160, 180, 110),
    ),
    "stone": ((140, 136, 132), (108, 98, 92), (168, 150, 130), (86, 94, 108), (226, 228, 232)),
}
P_ANY = 0.4
_LEVELS = np.arange(256.0)


def paint(dice: Dice) -> tuple[str, Colour]:
    """Name and RGB of a colour in which an artefact may be painted."""
    name = dice.pick(PAINTS)
    return name, vary(dice, PALETTE[name], 26)


def any_colour(dice: Dice) -> Colour:
    """Any muted to vivid colour, from dark to light."""
    value = dice.uniform(45, 235)
    vivid = dice.uniform(0.05, 0.75)
    red = value * (1 - vivid * dice.random())
    green = value * (1 - vivid * dice.random())
    blue = value * (1 - vivid * dice.random())
    return int(red), int(green), int(blue)


def material(dice: Dice, kind: str) -> Colour:
    """Colour of a surface of a place, from the list of its material or any at all."""
    if dice.chance(P_ANY):
        return any_colour(dice)
    return vary(dice, dice.pick(MATERIALS[kind]), 30)


def vary(dice: Dice, colour: Colour, spread: float) -> Colour:
    """A colour at most ``spread`` away in brightness, and half of it in every channel."""
    shift = dice.uniform(-spread, spread)
    red, green, blue = (_byte(c + shift + dice.uniform(-spread, spread) / 2) for c in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor below 1) or lighter (above 1, towards white)."""
    if factor <= 1:
        return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)
    return mix(colour, (255, 255, 255), factor - 1)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    keep = 1 - share
    return (
        int(first[0] * keep + second[0] * share),
        int(first[1] * keep + second[1] * share),
        int(first[2] * keep + second[2] * share),
    )


def brightness(colour: Colour) -> float:
    """Luma, 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def distance(first: Colour, second: Colour) -> float:
    """Sum over the channels of the absolute difference, luma counted twice."""
    channels = sum(abs(a - b) for a, b in zip(first, second, strict=True))
    return channels + 2 * abs(brightness(first) - brightness(second))


def grading(dice: Dice) -> list[int]:
    """Look-up table of 3 x 256 bytes: exposure, contrast and tint of the whole picture."""
    exposure = dice.uniform(0.88, 1.26)
    contrast = dice.uniform(0.78, 1.12)
    lift = dice.uniform(-8, 24)
    if dice.chance(0.14):  # night
        exposure *= 0.6
    table: list[int] = []
    for _ in range(3):
        gain = exposure * dice.uniform(0.84, 1.16) * contrast
        table += np.clip(gain * _LEVELS + lift, 0, 255).astype(int).tolist()
    return table


def _byte(value: float) -> int:
    return 0 if value < 0 else 255 if value > 255 else int(value)
