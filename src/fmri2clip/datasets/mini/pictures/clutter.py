"""Things without a name that stand about in every place, in the sizes and colours of objects, so
that a patch of colour or a contour alone tells nothing.
"""

from __future__ import annotations

from fmri2clip.datasets.mini.pictures.canvas import Canvas
from fmri2clip.datasets.mini.pictures.colours import COATS, SKINS, any_colour, shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Colour
from fmri2clip.datasets.mini.pictures.textures import SURFACES


def _colour(dice: Dice) -> Colour:
    """Paint, or a colour that skin and coats have too."""
    chosen = dice.random()
    if chosen < 0.2:
        return dice.pick(SKINS)
    return dice.pick(COATS)[1] if chosen < 0.4 else any_colour(dice)


def _crate(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    colour = _colour(dice)
    wide = s * dice.uniform(0.6, 1.3)
    canvas.panel(dice, x, y - s, x + wide, y, colour, dice.pick(SURFACES), 0.5)
    lid = s * dice.uniform(0.1, 0.3)
    canvas.shape(
        dice,
        [(x, y - s), (x + lid, y - s - lid), (x + wide + lid, y - s - lid), (x + wide, y - s)],
        shade(colour, 1.3),
    )
    canvas.shape(
        dice,
        [
            (x + wide, y),
            (x + wide, y - s),
            (x + wide + lid, y - s - lid),
            (x + wide + lid, y - lid),
        ],
        shade(colour, 0.7),
    )


def _mound(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    wide = s * dice.uniform(0.6, 1.0)
    points = [(x - wide, y)]
    for k in range(5):
        points.append(
            (x + wide * (k - 2) / 2.5, y - s * dice.uniform(0.5, 1.0) * (1 - 0.2 * abs(k - 2)))
        )
    canvas.shape(dice, [*points, (x + wide, y)], _colour(dice), dice.pick(SURFACES), 0.5)


def _post(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    colour = _colour(dice)
    lean = dice.uniform(-0.1, 0.1)
    canvas.rule(colour, s * dice.uniform(0.06, 0.2), x, y, x + lean * s, y - 1.6 * s)
    if dice.chance(0.5):
        canvas.disc(x + lean * s, y - 1.6 * s, 0.25 * s, 0.25 * s, shade(_colour(dice), 0.9))


def _drum(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    colour = _colour(dice)
    r = s * dice.uniform(0.3, 0.5)
    canvas.disc(x, y, r, r * 0.35, shade(colour, 0.7))
    canvas.panel(dice, x - r, y - s, x + r, y, colour, dice.pick(SURFACES), 0.5)
    canvas.disc(x, y - s, r, r * 0.35, shade(colour, 1.3))


def _rag(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    """A hanging or lying cloth with a ragged outline."""
    points = []
    for k in range(8):
        side = (1, 1, 0.3, -0.6, -1, -1, -0.3, 0.6)[k]
        rise = (0, -0.7, -1, -0.9, -0.4, 0.5, 0.8, 0.7)[k]
        loose = dice.uniform(0.5, 1.2)
        points.append((x + 0.6 * s * side * loose, y - 0.5 * s + 0.6 * s * rise * loose))
    canvas.shape(dice, points, _colour(dice), dice.pick(SURFACES), 0.6)


def _hoop(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    """A ring, a tyre, a coil."""
    r = 0.5 * s
    canvas.disc(x, y - r, r, r * dice.uniform(0.5, 1.0), _colour(dice))
    canvas.disc(x, y - r, 0.55 * r, 0.5 * r, _colour(dice))


def _frame(canvas: Canvas, dice: Dice, x: float, y: float, s: float) -> None:
    """A trestle or ladder."""
    colour = _colour(dice)
    wide = s * dice.uniform(0.3, 0.6)
    lean = dice.uniform(-0.3, 0.3) * s
    thick = s * dice.uniform(0.05, 0.12)
    canvas.rule(colour, thick, x, y, x + lean, y - 1.2 * s)
    canvas.rule(colour, thick, x + wide, y, x + wide + lean, y - 1.2 * s)
    for k in range(dice.integer(1, 4)):
        t = 0.25 + 0.22 * k
        canvas.rule(
            colour, thick, x + lean * t, y - 1.2 * s * t, x + wide + lean * t, y - 1.2 * s * t
        )


KINDS = (_crate, _mound, _post, _drum, _rag, _hoop, _frame)


def strew(canvas: Canvas, dice: Dice, h: float) -> None:
    """Up to three things about the place, most of them on the ground."""
    for _ in range(dice.integer(0, 3)):
        size = 0.07 + 0.3 * dice.random() ** 2
        low = dice.uniform(h, 1.1) if dice.chance(0.7) else dice.uniform(0.2, 1.0)
        dice.pick(KINDS)(canvas, dice, dice.uniform(-0.05, 1.0), low, size)
