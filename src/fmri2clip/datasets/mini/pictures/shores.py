"""Beach, harbour and sky. Each is known by its structure; its colours come from wide lists.

Coordinates are fractions of the picture, y down; ``h`` is the height of the horizon.
"""

from __future__ import annotations

import math

from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.colours import material, mix, shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.grounds import heaven, house, ridge, waves
from fmri2clip.datasets.mini.pictures.textures import GROUND_TEXTURES


def beach(canvas: Canvas, dice: Dice, h: float) -> None:
    """Sea with waves, a curved shoreline, sand, and a palm or rocks."""
    heaven(canvas, dice, h)
    water = material(dice, "water")
    shore = h + dice.uniform(0.08, 0.25)
    canvas.band(dice, h, shore + 0.12, water, dice.pick(("streaked", "hatched", "noisy")), 0.3)
    waves(canvas, dice, h, shore, water)
    bend = dice.uniform(0.02, 0.09)
    phase = dice.uniform(0, 6.28)
    edge = [(k / 10, shore + bend * math.sin(phase + 0.5 * k)) for k in range(11)]
    foam = [(x, y - 0.025) for x, y in edge]
    canvas.shape(dice, [*foam, (1.0, 1.0), (0.0, 1.0)], mix(water, (255, 255, 255), 0.75))
    canvas.shape(
        dice,
        [*edge, (1.0, 1.0), (0.0, 1.0)],
        material(dice, "sand"),
        dice.pick(GROUND_TEXTURES),
        0.3,
    )
    if dice.chance(0.6):
        x = dice.uniform(0.05, 0.95)
        top = h * dice.uniform(0.15, 0.6)
        lean = dice.uniform(-0.12, 0.12)
        canvas.rule(
            material(dice, "wood"),
            0.025,
            x,
            shore + 0.1,
            x + lean / 3,
            (shore + top) / 2,
            x + lean,
            top,
        )
        leaf = material(dice, "foliage")
        for k in range(7):
            angle = 3.4 + 0.45 * k
            tip = (x + lean + 0.17 * math.cos(angle), top + 0.12 * math.sin(angle) + 0.05)
            canvas.shape(
                dice,
                [
                    (x + lean, top - 0.01),
                    ((x + lean + tip[0]) / 2, (top + tip[1]) / 2 - 0.05),
                    tip,
                    (x + lean, top + 0.02),
                ],
                leaf,
            )
    for _ in range(dice.integer(0, 4)):
        canvas.disc(
            dice.random(),
            dice.uniform(shore + 0.05, 1.0),
            dice.uniform(0.02, 0.08),
            dice.uniform(0.01, 0.04),
            material(dice, "stone"),
        )


def harbour(canvas: Canvas, dice: Dice, h: float) -> None:
    """Water with ripples, a far shore, masts or a crane, and a jetty on posts."""
    heaven(canvas, dice, h)
    far = ridge(dice, h, dice.uniform(0.03, 0.14), dice.integer(1, 3), dice.chance(0.3))
    canvas.shape(dice, far, material(dice, "foliage"), dice.pick(GROUND_TEXTURES))
    for _ in range(dice.integer(0, 3)):
        x = dice.uniform(0, 0.9)
        house(canvas, dice, x, x + 0.12, h - dice.uniform(0.06, 0.2), h)
    water = material(dice, "water")
    canvas.band(dice, h, 1.0, water, dice.pick(("streaked", "hatched", "cloudy", "noisy")), 0.35)
    waves(canvas, dice, h, 1.0, water)
    iron = material(dice, "stone")
    if dice.chance(0.5):
        x = dice.uniform(0.1, 0.9)
        top = h * dice.uniform(0.1, 0.4)
        canvas.rule(iron, 0.02, x, h, x, top, x + dice.sign() * 0.3, top + 0.02)
        canvas.rule(iron, 0.01, x - 0.06, h, x, top + 0.1, x + 0.06, h)
    else:
        for _ in range(dice.integer(2, 5)):
            x = dice.random()
            canvas.rule(iron, 0.008, x, h, x, h * dice.uniform(0.2, 0.7))
    wood = material(dice, "wood")
    y = dice.uniform(h + 0.08, 0.9)
    reach = dice.uniform(0.25, 0.7)
    left = 0.0 if dice.chance(0.5) else 1.0 - reach
    canvas.panel(dice, left, y, left + reach, y + 0.06, wood, "streaked")
    for k in range(4):
        x = left + reach * (0.1 + 0.27 * k)
        canvas.rule(shade(wood, 0.7), 0.02, x, y - 0.04, x, y + 0.16)


def sky(canvas: Canvas, dice: Dice, h: float) -> None:
    """Clouds above a low skyline, with or without a sun or moon."""
    colour = heaven(canvas, dice, 1.0)
    if dice.chance(0.4):
        canvas.disc(
            dice.random(), dice.uniform(0.05, 0.6), 0.06, 0.06, mix(colour, (255, 250, 220), 0.8)
        )
    for _ in range(dice.integer(2, 5)):
        x = dice.random()
        y = dice.uniform(0.05, 0.85)
        r = dice.uniform(0.04, 0.1)
        cloud = mix(
            colour, (250, 250, 250) if dice.chance(0.7) else (60, 60, 76), dice.uniform(0.3, 0.8)
        )
        for k in range(4):
            canvas.disc(x + r * (k - 1.5), y + 0.4 * r * (k % 2), r, 0.7 * r, cloud)
    skyline = ridge(dice, 1.0, (1 - h) * 1.2, dice.integer(2, 4), dice.chance(0.4))
    canvas.shape(dice, skyline, material(dice, "foliage"), dice.pick(GROUND_TEXTURES))
