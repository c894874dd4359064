"""Printed words in a stroke font of our own, as parts of a drawing."""

from __future__ import annotations

from functools import lru_cache

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Mark, Part, Role

# Strokes on a grid 4 wide and 6 high; two digits are a point (x, y), a blank ends a stroke.
GLYPHS = {
    "A": "062046 1434",
    "B": "0006 0030413303 3344453606",
    "C": "4130100105163645",
    "D": "0006 003042443606",
    "E": "40000646 0333",
    "F": "400006 0333",
    "G": "41301001051636454323",
    "H": "0006 4046 0343",
    "I": "2026",
    "J": "4045361605",
    "K": "0006 400346",
    "L": "000646",
    "M": "0600234046",
    "N": "06004640",
    "O": "103041453616050110",
    "P": "060030413303",
    "R": "060030413303 2346",
    "S": "4130100113334445361605",
    "T": "0040 2026",
    "U": "000516364540",
    "V": "002640",
    "W": "0016233640",
    "X": "0046 4006",
    "Y": "002340 2326",
    "Z": "00400646",
    "0": "103041453616050110",
    "1": "112026",
    "2": "01103041420646",
    "3": "0040234445361605",
    "4": "36300444",
    "5": "4000023344453616",
    "7": "004016",
    " ": "",
}
# Words that say nothing about what else a picture shows.
WORDS = (
    "OPEN",
    "SALE",
    "BEST",
    "NEWS",
    "ZONE",
    "PLUS",
    "NOVA",
    "MAXI",
    "TREND",
    "LUMEN",
    "DELTA",
    "ALPHA",
    "VISTA",
    "MARK",
    "PRIME",
    "ROYAL",
    "METRO",
    "FINE",
    "KILO",
    "LOGO",
    "EXTRA",
    "GRAND",
    "TEMPO",
    "FRESH",
    "WORK",
    "MILO",
    "UNIT",
    "FOLK",
    "IDEAL",
    "DUE",
    "NOW",
    "TWIN",
    "VOLT",
    "ZERO",
)
_PITCH = 6.0  # from one letter to the next, in grid units
_LETTERS = "ABCDEHKLMNPRSTUVX"
_DIGITS = "0123457"


@lru_cache(maxsize=512)
def _strokes(text: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Strokes of a word in grid units, starting at x = 0."""
    strokes = []
    for k, letter in enumerate(text):
        for stroke in GLYPHS[letter].split():
            xy = [int(c) for c in stroke]
            points = zip(xy[::2], xy[1::2], strict=True)
            strokes.append(tuple((x + k * _PITCH, float(y)) for x, y in points))
    return tuple(strokes)


def lettering(
    dice: Dice, role: Role, text: str, x0: float, y0: float, x1: float, y1: float
) -> tuple[list[Part], Mark]:
    """A word that fits a box, in a drawn weight, slant and width, and where it stands."""
    slant = dice.pick((0.0, 0.0, 0.0, 0.25))
    weight = dice.uniform(0.7, 1.35)
    columns = _PITCH * len(text) - 2 + 6 * slant
    scale_x = (x1 - x0) / columns
    scale_y = (y1 - y0) / 6
    # A narrow box makes letters lower rather than thinner than half their height.
    scale_y = min(scale_y, 1.9 * scale_x)
    scale_x = min(scale_x, 1.3 * scale_y)
    left = (x0 + x1 - scale_x * columns) / 2
    top = (y0 + y1 - scale_y * 6) / 2
    width = weight * min(scale_x, scale_y)
    parts = [
        Part(
            role,
            [(left + scale_x * (x + slant * (6 - y)), top + scale_y * y) for x, y in stroke],
            width,
        )
        for stroke in _strokes(text)
    ]
    return parts, Mark((x0 + x1) / 2, top + 3 * scale_y, 6 * scale_y)


def word(dice: Dice) -> str:
    """One of the words."""
    return dice.pick(WORDS)


def registration(dice: Dice) -> str:
    """Text of a number plate."""
    letters = dice.pick(_LETTERS) + dice.pick(_LETTERS)
    return f"{letters} {dice.pick(_DIGITS)}{dice.pick(_DIGITS)}{dice.pick(_DIGITS)}"
