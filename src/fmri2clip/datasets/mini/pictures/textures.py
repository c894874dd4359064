"""Surface textures: grey tiles through which a second colour is painted over a first one.

All tiles of a canvas size are made once per process from a fixed seed, by Pillow's integer
arithmetic, and are twice as wide as the canvas, so that a random window of a tile fits any object.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from fmri2clip.datasets.mini.pictures.dice import Dice

DESIGN = 384  # side of a tile as designed; other canvases get it resized
# kind of texture -> number of tiles
FAMILIES = {
    "striped": 8,
    "checked": 5,
    "spotted": 5,
    "noisy": 6,
    "patched": 4,
    "streaked": 6,
    "cloudy": 4,
    "masonry": 6,
    "hatched": 5,
}
SURFACES = ("plain", "striped", "checked", "spotted", "noisy", "streaked", "hatched")
COAT_TEXTURES = ("plain", "plain", "plain", "noisy", "streaked", "patched", "spotted", "striped")
GROUND_TEXTURES = ("noisy", "streaked", "cloudy", "patched", "hatched", "spotted")
WALL_TEXTURES = ("masonry", "striped", "noisy", "cloudy", "streaked", "hatched", "checked")
STRENGTHS = 16  # steps of the strength of a gradient
_SEED = 20240


@lru_cache(maxsize=4)
def tiles(canvas: int) -> dict[str, tuple[Image.Image, ...]]:
    """Tiles of every family, grey images with sides of twice the canvas in pixels."""
    side = 2 * canvas
    bank = {}
    for number, (family, count) in enumerate(FAMILIES.items()):
        dice = Dice(_SEED, number)
        made = [_MAKERS[family](dice, k) for k in range(count)]
        if side != DESIGN:
            made = [tile.resize((side, side), Image.Resampling.BOX) for tile in made]
        bank[family] = tuple(made)
    return bank


def window(dice: Dice, canvas: int, family: str, width: int, height: int) -> Image.Image:
    """A random window of a random tile of a family, grey, (width, height) pixels."""
    tile = dice.pick(tiles(canvas)[family])
    left = dice.integer(0, 2 * canvas - width)
    top = dice.integer(0, 2 * canvas - height)
    return tile.crop((left, top, left + width, top + height))


@lru_cache(maxsize=STRENGTHS)
def _slopes(level: int) -> tuple[Image.Image, ...]:
    """Gradients from 0 to ``level`` steps of STRENGTHS - 1."""
    down = Image.linear_gradient("L").point([v * level // (STRENGTHS - 1) for v in range(256)])
    right = down.transpose(Image.Transpose.ROTATE_90)
    flips = (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT)
    centre = ImageChops.invert(Image.radial_gradient("L"))
    centre = centre.point([v * level // (STRENGTHS - 1) for v in range(256)])
    return (down, right, down.transpose(flips[0]), right.transpose(flips[1]), centre)


def slope(dice: Dice, width: int, height: int, strength: float = 1.0) -> Image.Image:
    """A gradient from 0 to ``strength`` (of 255) in one of four directions or from the rim to the
    centre.
    """
    level = round(strength * (STRENGTHS - 1))
    return dice.pick(_slopes(level)).resize((width, height), Image.Resampling.NEAREST)


@lru_cache(maxsize=4)
def grain(size: int) -> Image.Image:
    """RGB noise around 128 with sides of twice the picture, for the sensor noise of pictures."""
    rng = np.random.default_rng(_SEED)
    total = rng.integers(0, 7, size=(2 * size, 2 * size, 3), dtype=np.uint8)
    total += rng.integers(0, 7, size=total.shape, dtype=np.uint8)
    return Image.fromarray(total + np.uint8(122))


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    tile = Image.new("L", (DESIGN, DESIGN))
    return tile, ImageDraw.Draw(tile)


def _octaves(dice: Dice, cells: tuple[int, ...], stretch: float = 1.0) -> Image.Image:
    """Sum of smooth random fields; ``cells`` are their numbers of cells across the tile."""
    total = None
    for weight, n in enumerate(cells, start=2):
        columns = max(2, round(n * stretch))
        rows = max(2, round(n / stretch))
        values = bytes(int(256 * dice.random()) for _ in range(columns * rows))
        field = Image.frombytes("L", (columns, rows), values)
        field = field.resize((DESIGN, DESIGN), Image.Resampling.BICUBIC)
        total = field if total is None else Image.blend(total, field, 1.0 / weight)
    assert total is not None
    return total


def _contrast(tile: Image.Image, centre: float, gain: float) -> Image.Image:
    table = [min(255, max(0, int(128 + gain * (v - centre)))) for v in range(256)]
    return tile.point(table)


def _cloudy(dice: Dice, k: int) -> Image.Image:
    return _contrast(_octaves(dice, (3 + k, 8, 16)), 128, 2.0)


def _noisy(dice: Dice, k: int) -> Image.Image:
    return _contrast(_octaves(dice, ((12, 20, 30, 44, 60, 90)[k], 96)), 128, 1.9)


def _patched(dice: Dice, k: int) -> Image.Image:
    return _contrast(_octaves(dice, ((7, 11, 16, 24)[k], 40)), 140, 9.0)


def _streaked(dice: Dice, k: int) -> Image.Image:
    """Fibres: upright, lying, and turned by 45 degrees either way."""
    tile = _octaves(dice, (18, 44), stretch=(4.0, 0.25, 3.0, 0.4, 4.0, 4.0)[k])
    if k >= 4:
        wide = tile.resize((2 * DESIGN, 2 * DESIGN), Image.Resampling.BICUBIC)
        edge = DESIGN // 2
        turned = wide.rotate(45 if k == 4 else -45, Image.Resampling.BILINEAR)
        tile = turned.crop((edge, edge, edge + DESIGN, edge + DESIGN))
    return _contrast(tile, 128, 2.4)


def _striped(dice: Dice, k: int) -> Image.Image:
    """Bars: lying, upright and two diagonals, each in two widths."""
    tile, pen = _blank()
    period = (14, 26)[k // 4] + dice.integer(-3, 3)
    for start in range(-DESIGN, 2 * DESIGN, period):
        bar = period // 2
        if k % 4 == 0:
            pen.rectangle((0, start, DESIGN, start + bar), fill=255)
        elif k % 4 == 1:
            pen.rectangle((start, 0, start + bar, DESIGN), fill=255)
        else:
            lean = DESIGN if k % 4 == 2 else -DESIGN
            corners = (start, 0, start + bar, 0, start + bar + lean, DESIGN, start + lean, DESIGN)
            pen.polygon(corners, fill=255)
    return tile


def _checked(dice: Dice, k: int) -> Image.Image:
    tile, pen = _blank()
    cell = (9, 13, 18, 26, 15)[k]
    for row in range(DESIGN // cell + 1):
        for column in range(DESIGN // cell + 1):
            if (row + column) % 2:
                x = column * cell
                y = row * cell
                pen.rectangle((x, y, x + cell - 1, y + cell - 1), fill=255)
    return tile.rotate(45) if k == 4 else tile


def _spotted(dice: Dice, k: int) -> Image.Image:
    tile, pen = _blank()
    pitch = (14, 20, 28, 34, 24)[k]
    loose = (0.0, 0.2, 0.1, 0.45, 0.6)[k]
    for row in range(-1, DESIGN // pitch + 2):
        for column in range(-1, DESIGN // pitch + 2):
            x = pitch * (column + 0.5 * (row % 2) + loose * dice.uniform(-0.5, 0.5))
            y = pitch * (row + loose * dice.uniform(-0.5, 0.5))
            r = pitch * dice.uniform(0.26, 0.34)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return tile


def _masonry(dice: Dice, k: int) -> Image.Image:
    """Bricks, tiles and boards: joints are 255."""
    tile, pen = _blank()
    tall = (12, 18, 24, 16, 40, 30)[k]
    wide = (28, 40, 24, 16, 16, 400)[k]
    for row in range(DESIGN // tall + 1):
        y = row * tall
        pen.rectangle((0, y, DESIGN, y + 2), fill=255)
        shift = wide // 2 if row % 2 and wide != tall else 0
        for x in range(shift, DESIGN, wide):
            pen.rectangle((x, y, x + 2, y + tall), fill=255)
            if dice.chance(0.3):
                pen.rectangle((x + 3, y + 3, x + wide - 1, y + tall - 1), fill=90)
    return tile


def _hatched(dice: Dice, k: int) -> Image.Image:
    """Short strokes: grass, needles, ripples, rubble."""
    tile, pen = _blank()
    for _ in range(1500):
        x = dice.uniform(0, DESIGN)
        y = dice.uniform(0, DESIGN)
        run = dice.uniform(5, 14)
        lean = dice.uniform(-4, 4)
        dx, dy = ((lean, run), (run, lean / 2), (run, run), (run, -run), (lean * 2, run - 9))[k]
        level = dice.integer(140, 255)
        pen.line((x, y, x + dx, y + dy), fill=level, width=2)
    return tile


_MAKERS = {
    "striped": _striped,
    "checked": _checked,
    "spotted": _spotted,
    "noisy": _noisy,
    "patched": _patched,
    "streaked": _streaked,
    "cloudy": _cloudy,
    "masonry": _masonry,
    "hatched": _hatched,
}
