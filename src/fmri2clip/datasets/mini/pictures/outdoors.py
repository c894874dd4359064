"""Street, field, mountains, forest and station.

Each is known by its structure; its colours come from wide lists.

Coordinates are fractions of the picture, y down; ``h`` is the height of the horizon.
"""

from __future__ import annotations

from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.colours import material, mix, shade, vary
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.grounds import ground, heaven, house, ridge
from fmri2clip.datasets.mini.pictures.textures import GROUND_TEXTURES, WALL_TEXTURES


def street(canvas: Canvas, dice: Dice, h: float) -> None:
    """A row of houses, a pavement and a road with its marks."""
    heaven(canvas, dice, h)
    count = dice.integer(3, 5)
    left = dice.uniform(-0.15, 0.0)
    for _ in range(count):
        wide = dice.uniform(0.18, 0.38)
        house(canvas, dice, left, left + wide, h * dice.uniform(0.1, 0.7), h)
        left += wide + dice.pick((0.0, 0.0, 0.04))
    walk = h + dice.uniform(0.03, 0.1)
    canvas.band(dice, h, walk, material(dice, "stone"), "checked", 0.2)
    road = material(dice, "road")
    canvas.band(dice, walk, 1.0, road, dice.pick(GROUND_TEXTURES), 0.25)
    paint = mix(road, (250, 250, 230) if dice.chance(0.8) else (20, 20, 20), 0.7)
    if dice.chance(0.6):
        vanish = dice.uniform(0.2, 0.8)
        for k in range(4):
            t = 0.12 + 0.24 * k
            y = walk + (1 - walk) * t
            canvas.rule(paint, 0.008 + 0.02 * t, vanish, y, vanish, y + 0.12 * (1 - walk))
    else:
        for k in range(7):
            x = 0.15 * k + 0.02
            y = walk + 0.06
            canvas.shape(
                dice, [(x, y), (x + 0.07, y), (x + 0.04, y + 0.2), (x - 0.05, y + 0.2)], paint
            )
    for _ in range(dice.integer(0, 2)):
        x = dice.uniform(0.05, 0.95)
        pole = material(dice, "stone")
        top = h * dice.uniform(0.15, 0.4)
        canvas.rule(pole, 0.014, x, walk, x, top, x + 0.07, top - 0.02)
        canvas.disc(x + 0.08, top, 0.03, 0.018, (244, 236, 190))


def field(canvas: Canvas, dice: Dice, h: float) -> None:
    """Low hills, furrows or tufts, and a fence."""
    heaven(canvas, dice, h)
    for k in range(2):
        hills = ridge(dice, h + 0.04 * k, dice.uniform(0.04, 0.16), dice.integer(1, 3), False)
        canvas.shape(dice, hills, material(dice, "grass"), dice.pick(GROUND_TEXTURES))
    grass = ground(canvas, dice, h + 0.03, "grass")
    if dice.chance(0.5):
        vanish = dice.uniform(-0.3, 1.3)
        for k in range(9):
            canvas.rule(shade(grass, 0.7), 0.012, vanish, h + 0.02, -1 + 3 * k / 8, 1.0)
    for _ in range(dice.integer(6, 14)):
        x = dice.random()
        y = dice.uniform(h + 0.05, 1.0)
        size = 0.02 + 0.06 * (y - h)
        tuft = vary(dice, grass, 60)
        canvas.shape(
            dice,
            [
                (x - size, y),
                (x - size / 2, y - 2 * size),
                (x, y),
                (x + size / 2, y - 2 * size),
                (x + size, y),
            ],
            tuft,
        )
    if dice.chance(0.7):
        wood = material(dice, "wood")
        y = dice.uniform(h, h + 0.15)
        tall = dice.uniform(0.08, 0.16)
        pitch = dice.uniform(0.1, 0.2)
        for k in range(int(1 / pitch) + 2):
            canvas.rule(wood, 0.018, k * pitch, y, k * pitch, y - tall)
        for share in (0.35, 0.75):
            canvas.rule(wood, 0.012, 0, y - share * tall, 1, y - share * tall)
    else:
        x = dice.uniform(0.1, 0.8)
        house(canvas, dice, x, x + 0.16, h - 0.1, h + 0.03)


def mountains(canvas: Canvas, dice: Dice, h: float) -> None:
    """Jagged peaks with light caps, a slope, and firs."""
    heaven(canvas, dice, h)
    for k in range(dice.integer(1, 2)):
        rock = material(dice, "stone")
        peaks = dice.integer(2, 4)
        skyline = ridge(dice, h + 0.05, h * dice.uniform(0.45, 0.8) * (1 - 0.35 * k), peaks, True)
        canvas.shape(
            dice, skyline, rock, dice.pick(("patched", "hatched", "noisy", "streaked")), 0.5
        )
        cap = mix(rock, (250, 250, 255), dice.uniform(0.5, 0.95))
        for (x0, y0), (x1, y1), (x2, y2) in zip(
            skyline[1:], skyline[2:], skyline[3:], strict=False
        ):
            if y1 < y0 and y1 < y2 and x2 > x1:
                t = 0.35
                low = (x1 + t * (x0 - x1), y1 + t * (y0 - y1))
                far = (x1 + t * (x2 - x1), y1 + t * (y2 - y1))
                canvas.shape(dice, [low, (x1, y1), far, (x1, (low[1] + far[1]) / 2 - 0.02)], cap)
    ground(canvas, dice, h, dice.pick(("grass", "stone", "sand")))
    for _ in range(dice.integer(2, 7)):
        x = dice.random()
        y = dice.uniform(h, h + 0.25)
        _fir(canvas, dice, x, y, dice.uniform(0.1, 0.28))


def _fir(canvas: Canvas, dice: Dice, x: float, y: float, tall: float) -> None:
    needles = material(dice, "foliage")
    canvas.rule(material(dice, "wood"), 0.015, x, y, x, y - tall / 4)
    for k in range(3):
        wide = tall * (0.3 - 0.07 * k)
        low = y - tall * (0.12 + 0.27 * k)
        canvas.shape(dice, [(x - wide, low), (x, low - 0.42 * tall), (x + wide, low)], needles)


def forest(canvas: Canvas, dice: Dice, h: float) -> None:
    """Trunks over the whole height, branches, a canopy of leaves and ferns."""
    heaven(canvas, dice, h)
    canvas.band(
        dice, 0.0, h, material(dice, "foliage"), dice.pick(("patched", "hatched", "noisy")), 0.5
    )
    floor = ground(canvas, dice, h, "grass")
    for depth in range(2):
        for _ in range(dice.integer(2, 5)):
            x = dice.random()
            wide = dice.uniform(0.02, 0.05) * (1 + depth)
            foot = h + dice.uniform(0.0, 0.06) + 0.12 * depth
            bark = material(dice, "wood")
            trunk = [
                (x - wide * 0.35, -0.02),
                (x + wide * 0.35, -0.02),
                (x + wide * 0.5, foot),
                (x - wide * 0.5, foot),
            ]
            canvas.shape(dice, trunk, bark, "streaked", 0.4)
            side = dice.sign()
            y = dice.uniform(0.1, 0.5)
            canvas.rule(bark, wide / 3, x, y, x + side * 0.12, y - 0.1)
    for _ in range(dice.integer(4, 8)):
        leaf = material(dice, "foliage")
        canvas.disc(
            dice.random(),
            dice.uniform(-0.05, 0.15),
            dice.uniform(0.06, 0.16),
            dice.uniform(0.04, 0.1),
            leaf,
        )
    for _ in range(dice.integer(2, 6)):
        x = dice.random()
        y = dice.uniform(h + 0.08, 1.0)
        fern = vary(dice, floor, 70)
        for k in range(5):
            canvas.rule(fern, 0.01, x, y, x + 0.04 * (k - 2), y - 0.1 + 0.02 * abs(k - 2))


def station(canvas: Canvas, dice: Dice, h: float) -> None:
    """A platform, a roof on pillars, rails and sleepers."""
    if dice.chance(0.6):
        heaven(canvas, dice, h)
    else:
        canvas.band(dice, 0.0, h, material(dice, "wall"), dice.pick(WALL_TEXTURES), 0.3)
    ground(canvas, dice, h, "stone")
    vanish = (dice.uniform(0.1, 0.9), h)
    spread = dice.uniform(0.3, 0.6)
    middle = dice.uniform(0.2, 0.8)
    tie = material(dice, "wood")
    for k in range(8):
        t = 0.08 + 0.92 * (k / 7) ** 1.6
        x = vanish[0] + (middle - vanish[0]) * t
        y = h + (1 - h) * t
        canvas.rule(tie, 0.01 + 0.03 * t, x - spread * t, y, x + spread * t, y)
    rail = material(dice, "stone")
    for s in (-1, 1):
        canvas.rule(rail, 0.02, *vanish, middle + s * spread * 0.7, 1.0)
    side = dice.sign()
    slab = material(dice, "stone")
    border = 0.0 if side < 0 else 1.0
    edge = middle + side * spread * 1.1
    canvas.shape(
        dice,
        [vanish, (edge, 1.0), (border, 1.0), (border, h)],
        slab,
        dice.pick(("checked", "noisy", "masonry")),
    )
    canvas.rule(shade(slab, 1.6), 0.015, *vanish, edge, 1.0)
    steel = material(dice, "wall")
    top = dice.uniform(0.05, 0.2)
    canvas.shape(
        dice,
        [
            (0, 0),
            (1, 0),
            (1, top * (1.6 if side > 0 else 0.7)),
            (0, top * (1.6 if side < 0 else 0.7)),
        ],
        steel,
        "streaked",
    )
    for k in range(dice.integer(2, 4)):
        x = border - side * (0.08 + 0.17 * k)
        foot = h + 0.12 * (1 - 0.3 * k)
        canvas.rule(shade(steel, 0.8), 0.025, x, top, x, foot)
        canvas.rule(shade(steel, 0.8), 0.012, x - 0.06, top, x, top + 0.08, x + 0.06, top)
