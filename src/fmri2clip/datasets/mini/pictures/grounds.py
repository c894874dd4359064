"""What outdoor places share: sky, ground, skylines, houses and waves.

Coordinates are fractions of the picture, y down; ``h`` is the height of the horizon.
"""

from __future__ import annotations

import math

from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.colours import any_colour, material, mix, shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Colour, Point
from fmri2clip.datasets.mini.pictures.textures import GROUND_TEXTURES, WALL_TEXTURES


def heaven(canvas: Canvas, dice: Dice, h: float) -> Colour:
    colour = material(dice, "sky")
    family = dice.pick(("cloudy", "cloudy", "noisy", "streaked", "plain"))
    canvas.band(dice, 0.0, h, colour, family, dice.uniform(0.15, 0.5))
    return colour


def ground(canvas: Canvas, dice: Dice, h: float, kind: str) -> Colour:
    colour = material(dice, kind)
    canvas.band(dice, h, 1.0, colour, dice.pick(GROUND_TEXTURES), dice.uniform(0.25, 0.6))
    return colour


def ridge(dice: Dice, base: float, height: float, peaks: int, sharp: bool) -> list[Point]:
    """Skyline from the left to the right border, closed along ``base``."""
    points: list[Point] = [(0.0, base)]
    steps = 2 * peaks if sharp else 12
    phase = dice.uniform(0, 6.28)
    for k in range(steps + 1):
        if sharp:
            rise = height * (dice.uniform(0.7, 1.2) if k % 2 else dice.uniform(0.1, 0.5))
        else:
            rise = height * (0.6 + 0.4 * math.sin(phase + peaks * 3.14 * k / steps))
        points.append((k / steps, base - rise))
    return [*points, (1.0, base)]


def house(canvas: Canvas, dice: Dice, x0: float, x1: float, top: float, h: float) -> None:
    wall = material(dice, "wall")
    canvas.panel(dice, x0, top, x1, h, wall, dice.pick(WALL_TEXTURES), 0.3)
    if dice.chance(0.5):
        roof = material(dice, "stone")
        peak = top - (x1 - x0) * dice.uniform(0.3, 0.6)
        canvas.shape(
            dice, [(x0 - 0.02, top), ((x0 + x1) / 2, peak), (x1 + 0.02, top)], roof, "streaked"
        )
    columns = dice.integer(2, 4)
    rows = max(1, min(6, int((h - top) / dice.uniform(0.09, 0.14))))
    pane = any_colour(dice)
    frame = shade(wall, 1.4)
    wide = (x1 - x0) / columns
    tall = (h - top) / rows
    for row in range(rows):
        y = top + row * tall + 0.25 * tall
        for column in range(columns):
            x = x0 + column * wide + 0.25 * wide
            canvas.panel(dice, x, y, x + 0.5 * wide, y + 0.55 * tall, pane)
            canvas.rule(frame, 0.008, x, y + 0.58 * tall, x + 0.5 * wide, y + 0.58 * tall)


def waves(canvas: Canvas, dice: Dice, y0: float, y1: float, water: Colour) -> None:
    crest = mix(water, (255, 255, 255), dice.uniform(0.3, 0.7))
    rows = dice.integer(3, 6)
    for row in range(rows):
        y = y0 + (y1 - y0) * (row + dice.random()) / rows
        length = 0.05 + 0.12 * (y - y0) / (y1 - y0 + 0.01)
        for _ in range(4):
            x = dice.uniform(-0.05, 1.0)
            canvas.rule(crest, 0.008, x, y, x + length / 2, y - 0.012, x + length, y)
