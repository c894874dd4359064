"""Indoor places: a wall, a floor, and the fixed furniture that makes a room what it is."""

from __future__ import annotations

from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.colours import any_colour, material, shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Colour
from fmri2clip.datasets.mini.pictures.textures import WALL_TEXTURES


def _shell(
    canvas: Canvas, dice: Dice, h: float, families: tuple[str, ...] = WALL_TEXTURES
) -> Colour:
    """Wall and floor; the skirting board lies at height h."""
    wall = material(dice, "wall")
    canvas.band(dice, 0.0, h, wall, dice.pick(families), dice.uniform(0.1, 0.4))
    floor = material(dice, dice.pick(("wood", "stone", "wall")))
    family = dice.pick(("streaked", "checked", "masonry", "noisy", "hatched", "striped"))
    canvas.band(dice, h, 1.0, floor, family, dice.uniform(0.15, 0.5))
    canvas.rule(shade(wall, 0.7), 0.014, 0.0, h, 1.0, h)
    return wall


def _window(canvas: Canvas, dice: Dice, x: float, y: float, wide: float, tall: float) -> None:
    frame = material(dice, "wood")
    canvas.panel(dice, x, y, x + wide, y + tall, frame)
    canvas.panel(
        dice, x + 0.02, y + 0.02, x + wide - 0.02, y + tall - 0.02, material(dice, "sky"), "cloudy"
    )
    canvas.rule(frame, 0.016, x + wide / 2, y, x + wide / 2, y + tall)
    canvas.rule(frame, 0.016, x, y + tall / 2, x + wide, y + tall / 2)
    if dice.chance(0.6):
        cloth = any_colour(dice)
        family = dice.pick(("striped", "streaked", "spotted", "checked"))
        canvas.panel(dice, x - 0.05, y - 0.03, x + 0.05, y + tall + 0.06, cloth, family)
        canvas.panel(
            dice, x + wide - 0.05, y - 0.03, x + wide + 0.05, y + tall + 0.06, cloth, family
        )


def _shelf(canvas: Canvas, dice: Dice, x0: float, x1: float, y: float, books: bool) -> None:
    """A board with jars or books on it."""
    canvas.panel(dice, x0, y, x1, y + 0.025, material(dice, "wood"))
    x = x0 + 0.01
    while x < x1 - 0.05:
        wide = dice.uniform(0.015, 0.035) if books else dice.uniform(0.04, 0.07)
        tall = dice.uniform(0.06, 0.12)
        if dice.chance(0.85):
            canvas.panel(dice, x, y - tall, x + wide, y, any_colour(dice))
        x += wide + (0.004 if books else 0.02)


def kitchen(canvas: Canvas, dice: Dice, h: float) -> None:
    """Tiled wall, cupboards above and below a worktop, a stove or a tap."""
    _shell(canvas, dice, h, ("masonry", "masonry", "checked", "noisy"))
    wood = material(dice, "wood")
    top = h - dice.uniform(0.1, 0.24)
    count = dice.integer(3, 5)
    left = dice.uniform(-0.15, 0.1)
    wide = dice.uniform(0.18, 0.28)
    for k in range(count):
        x = left + k * wide
        canvas.panel(dice, x, top + 0.04, x + wide - 0.012, h + 0.08, wood, "streaked", 0.2)
        canvas.rule(shade(wood, 0.5), 0.012, x + 0.02, top + 0.1, x + 0.08, top + 0.1)
        if k != 1:
            canvas.panel(dice, x, -0.02, x + wide - 0.012, 0.2, wood, "streaked", 0.2)
            canvas.rule(shade(wood, 0.5), 0.012, x + wide - 0.06, 0.13, x + wide - 0.06, 0.18)
    slab = material(dice, "stone")
    canvas.panel(
        dice, left - 0.02, top, left + count * wide + 0.01, top + 0.045, slab, "noisy", 0.2
    )
    if dice.chance(0.6):
        x = left + wide
        canvas.panel(dice, x, top + 0.01, x + wide - 0.01, h + 0.08, (70, 72, 78))
        canvas.panel(dice, x + 0.03, top + 0.1, x + wide - 0.04, h + 0.04, (34, 34, 38))
        for k in range(3):
            canvas.disc(x + 0.05 + 0.06 * k, top + 0.055, 0.016, 0.016, (210, 210, 206))
    else:
        x = left + wide * dice.uniform(1.0, 2.5)
        canvas.rule(
            (196, 200, 204), 0.02, x, top, x, top - 0.12, x + 0.07, top - 0.12, x + 0.07, top - 0.07
        )
    _shelf(
        canvas,
        dice,
        dice.uniform(0.0, 0.4),
        dice.uniform(0.55, 1.0),
        top - dice.uniform(0.12, 0.2),
        False,
    )


def living_room(canvas: Canvas, dice: Dice, h: float) -> None:
    """A sofa with cushions, pictures or a window, a lamp and a rug."""
    _shell(canvas, dice, h)
    x = dice.uniform(0.05, 0.6)
    if dice.chance(0.5):
        _window(
            canvas,
            dice,
            x,
            dice.uniform(0.05, 0.15),
            dice.uniform(0.25, 0.35),
            dice.uniform(0.25, 0.35),
        )
    else:
        for k in range(dice.integer(1, 3)):
            a = x + 0.2 * k
            y = dice.uniform(0.08, 0.2)
            canvas.panel(dice, a, y, a + 0.16, y + 0.2, material(dice, "wood"))
            canvas.panel(
                dice,
                a + 0.02,
                y + 0.02,
                a + 0.14,
                y + 0.18,
                any_colour(dice),
                dice.pick(("cloudy", "patched", "spotted")),
                0.6,
            )
    rug = any_colour(dice)
    canvas.shape(
        dice,
        [(0.15, h + 0.1), (0.85, h + 0.1), (1.0, h + 0.3), (0.0, h + 0.3)],
        rug,
        dice.pick(("striped", "checked", "spotted")),
        0.4,
    )
    sofa = any_colour(dice)
    family = dice.pick(("plain", "striped", "spotted", "noisy", "checked"))
    left = dice.uniform(-0.1, 0.35)
    right = left + dice.uniform(0.45, 0.7)
    top = h - dice.uniform(0.16, 0.26)
    canvas.panel(dice, left, top, right, h + 0.08, sofa, family)
    canvas.panel(dice, left, h - 0.06, right, h + 0.03, shade(sofa, 1.25), family)
    for a in (left - 0.05, right - 0.03):
        canvas.panel(dice, a, h - 0.12, a + 0.08, h + 0.1, shade(sofa, 0.75), family)
    canvas.panel(
        dice,
        left + 0.08,
        top + 0.05,
        left + 0.2,
        h - 0.05,
        any_colour(dice),
        dice.pick(("striped", "checked", "spotted")),
    )
    lamp = right + 0.1 if right < 0.85 else left - 0.1
    canvas.rule(material(dice, "stone"), 0.014, lamp, h + 0.08, lamp, 0.25)
    canvas.shape(
        dice,
        [(lamp - 0.08, 0.3), (lamp + 0.08, 0.3), (lamp + 0.05, 0.15), (lamp - 0.05, 0.15)],
        (240, 222, 170),
    )


def bathroom(canvas: Canvas, dice: Dice, h: float) -> None:
    """Tiles, a mirror over a basin, a tub, a towel."""
    _shell(canvas, dice, h, ("masonry", "checked", "masonry", "spotted"))
    china = dice.pick(((236, 238, 238), (206, 220, 214), (226, 200, 200), any_colour(dice)))
    x = dice.uniform(0.05, 0.6)
    y = dice.uniform(0.06, 0.2)
    canvas.panel(dice, x, y, x + 0.26, y + 0.26, material(dice, "wood"))
    canvas.panel(
        dice, x + 0.02, y + 0.02, x + 0.24, y + 0.24, material(dice, "sky"), "streaked", 0.2
    )
    sink = h - dice.uniform(0.14, 0.2)
    canvas.shape(
        dice,
        [(x - 0.02, sink), (x + 0.28, sink), (x + 0.2, sink + 0.1), (x + 0.06, sink + 0.1)],
        china,
    )
    canvas.panel(dice, x + 0.1, sink + 0.1, x + 0.16, h + 0.04, shade(china, 0.8))
    canvas.rule(
        (150, 156, 162), 0.016, x + 0.13, sink, x + 0.13, sink - 0.06, x + 0.17, sink - 0.06
    )
    tub = dice.uniform(0.45, 0.7) if x < 0.35 else dice.uniform(-0.2, 0.0)
    low = h + dice.uniform(0.05, 0.12)
    canvas.shape(
        dice, [(tub, h - 0.12), (tub + 0.55, h - 0.12), (tub + 0.5, low), (tub + 0.05, low)], china
    )
    canvas.rule(shade(china, 0.7), 0.02, tub - 0.01, h - 0.12, tub + 0.56, h - 0.12)
    towel = tub + dice.uniform(0.1, 0.3)
    canvas.rule((160, 164, 170), 0.012, towel - 0.03, 0.22, towel + 0.21, 0.22)
    canvas.panel(
        dice,
        towel,
        0.22,
        towel + 0.17,
        dice.uniform(0.4, 0.5),
        any_colour(dice),
        dice.pick(("striped", "checked", "plain", "spotted")),
    )


def office(canvas: Canvas, dice: Dice, h: float) -> None:
    """A desk with a screen, blinds or a bookcase, lamps under the ceiling."""
    _shell(canvas, dice, h)
    x = dice.uniform(0.0, 0.55)
    if dice.chance(0.5):
        glass = material(dice, "sky")
        canvas.panel(dice, x, 0.08, x + 0.4, 0.42, glass)
        for k in range(7):
            canvas.rule(shade(glass, 0.6), 0.014, x, 0.1 + 0.048 * k, x + 0.4, 0.1 + 0.048 * k)
    else:
        case = material(dice, "wood")
        canvas.panel(dice, x, 0.08, x + 0.4, h, case, "streaked")
        for k in range(3):
            _shelf(canvas, dice, x + 0.02, x + 0.38, 0.24 + 0.15 * k, True)
    for k in range(dice.integer(1, 3)):
        a = dice.uniform(0.0, 0.3) + 0.33 * k
        canvas.shape(
            dice, [(a, 0.0), (a + 0.2, 0.0), (a + 0.17, 0.035), (a + 0.03, 0.035)], (246, 244, 226)
        )
    wood = material(dice, "wood")
    left = dice.uniform(0.0, 0.4)
    wide = dice.uniform(0.45, 0.6)
    top = h - dice.uniform(0.02, 0.14)
    for a in (left + 0.03, left + wide - 0.06):
        canvas.panel(dice, a, top, a + 0.03, h + 0.2, shade(wood, 0.7))
    canvas.panel(dice, left, top, left + wide, top + 0.04, wood, "streaked", 0.2)
    canvas.panel(
        dice, left + wide - 0.22, top + 0.04, left + wide - 0.03, h + 0.15, shade(wood, 0.85)
    )
    for k in range(3):
        canvas.rule(
            shade(wood, 0.5),
            0.01,
            left + wide - 0.16,
            top + 0.08 + 0.06 * k,
            left + wide - 0.08,
            top + 0.08 + 0.06 * k,
        )
    screen = left + dice.uniform(0.05, 0.25)
    canvas.panel(dice, screen, top - 0.22, screen + 0.26, top - 0.05, (40, 42, 48))
    canvas.panel(
        dice,
        screen + 0.015,
        top - 0.205,
        screen + 0.245,
        top - 0.065,
        any_colour(dice),
        dice.pick(("cloudy", "striped", "checked")),
    )
    canvas.panel(dice, screen + 0.11, top - 0.05, screen + 0.15, top, (60, 62, 68))
