"""The canvas: paints parts and textured surfaces with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from fmri2clip.datasets.mini.pictures.colours import mix, shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Colour, Part, Point
from fmri2clip.datasets.mini.pictures.textures import slope, window

SURFACE_ROLES = ("main", "dark", "light")  # they bear the texture of the thing


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours of the roles of one thing and the texture of its surface."""

    colours: dict[str, Colour]
    texture: str
    second: Colour  # painted over the surface through the texture
    shading: float  # darkness of the shaded side, 0 to 1
    outlined: bool


class Canvas:
    """A square RGB image with the unit square as coordinates of its background."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.image = Image.new("RGB", (size, size))
        self.pen = ImageDraw.Draw(self.image)

    def mean(self, box: tuple[int, int, int, int]) -> Colour:
        """Mean colour of a box in pixels."""
        red, green, blue = self.image.resize((1, 1), Image.Resampling.BOX, box).getpixel((0, 0))  # type: ignore[misc]
        return red, green, blue

    def band(
        self, dice: Dice, y0: float, y1: float, colour: Colour, family: str, contrast: float = 0.3
    ) -> None:
        """A textured band over the whole width, from y0 to y1 of the height."""
        self.panel(dice, 0.0, y0, 1.0, y1, colour, family, contrast)

    def panel(
        self,
        dice: Dice,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        colour: Colour,
        family: str = "plain",
        contrast: float = 0.3,
    ) -> None:
        """A textured rectangle; ``contrast`` is the share of black or white in the second
        colour.
        """
        left, top, right, bottom = self._clip(x0, y0, x1, y1)
        if right <= left or bottom <= top:
            return
        box = (left, top, right, bottom)
        self.image.paste(colour, box)
        if family != "plain":
            other = self._other(dice, colour, contrast)
            mask = window(dice, self.size, family, right - left, bottom - top)
            self.image.paste(other, box, mask)

    def shape(
        self,
        dice: Dice,
        points: Sequence[Point],
        colour: Colour,
        family: str = "plain",
        contrast: float = 0.3,
    ) -> None:
        """A textured polygon in unit coordinates."""
        size = self.size
        xy = [(x * size, y * size) for x, y in points]
        self.pen.polygon(xy, fill=colour)
        if family == "plain":
            return
        columns = [p[0] for p in points]
        rows = [p[1] for p in points]
        left, top, right, bottom = self._clip(min(columns), min(rows), max(columns), max(rows))
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in xy], fill=255)
        mask = ImageChops.multiply(mask, window(dice, size, family, right - left, bottom - top))
        self.image.paste(self._other(dice, colour, contrast), (left, top, right, bottom), mask)

    def rule(self, colour: Colour, width: float, *xy: float) -> None:
        """A line in unit coordinates."""
        size = self.size
        self.pen.line([v * size for v in xy], fill=colour, width=max(1, round(width * size)))

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """An ellipse in unit coordinates."""
        size = self.size
        corners = ((x - rx) * size, (y - ry) * size, (x + rx) * size, (y + ry) * size)
        self.pen.ellipse(corners, fill=colour)

    def cast_shadow(self, x: float, y: float, rx: float, ry: float, strength: int) -> None:
        """A translucent dark ellipse, in pixels."""
        box = (int(x - rx), int(y - ry), int(x + rx) + 1, int(y + ry) + 1)
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).ellipse((0, 0, mask.width - 1, mask.height - 1), fill=strength)
        self.image.paste((20, 20, 26), box, mask)

    def thing(
        self, dice: Dice, parts: Sequence[Part], xy_P2: np.ndarray, zoom: float, look: Look
    ) -> None:
        """Paints the parts of a thing.

        xy_P2: their points, one part after the other, in pixels of the canvas.
        zoom: pixels of the canvas per unit of a line's width.
        """
        low = np.maximum(np.floor(xy_P2.min(0)), 0)
        high = np.minimum(np.ceil(xy_P2.max(0)) + 1, self.size)
        if (high <= low).any():
            return
        left, top = (int(v) for v in low)
        right, bottom = (int(v) for v in high)
        mask = Image.new("L", (right - left, bottom - top))
        mask_pen = ImageDraw.Draw(mask)
        on_canvas = xy_P2.ravel().tolist()
        on_mask = (xy_P2 - low).ravel().tolist()
        start = 0
        for role, points, width in parts:
            stop = start + 2 * len(points)
            colour = look.colours[role] if isinstance(role, str) else role
            level = 255 if role in SURFACE_ROLES else 0
            if width:
                thick = max(1, round(width * zoom))
                self.pen.line(on_canvas[start:stop], fill=colour, width=thick)
                mask_pen.line(on_mask[start:stop], fill=level, width=thick)
            else:
                edge = shade(colour, 0.6) if look.outlined else None
                self.pen.polygon(on_canvas[start:stop], fill=colour, outline=edge)
                mask_pen.polygon(on_mask[start:stop], fill=level)
            start = stop
        self._cover(dice, mask, (left, top, right, bottom), look)

    def _cover(
        self, dice: Dice, mask: Image.Image, box: tuple[int, int, int, int], look: Look
    ) -> None:
        """Texture and shading over the surface of a thing."""
        width, height = mask.size
        if look.texture == "gradient":
            cover = ImageChops.multiply(mask, slope(dice, width, height))
            self.image.paste(look.second, box, cover)
        elif look.texture != "plain":
            cover = window(dice, self.size, look.texture, width, height)
            self.image.paste(look.second, box, ImageChops.multiply(mask, cover))
        if look.shading > 0:
            cover = ImageChops.multiply(mask, slope(dice, width, height, look.shading))
            self.image.paste((16, 16, 24), box, cover)

    def _other(self, dice: Dice, colour: Colour, contrast: float) -> Colour:
        target = dice.pick(((0, 0, 0), (255, 255, 255), (70, 60, 50), (200, 200, 190)))
        return mix(colour, target, contrast * dice.uniform(0.5, 1.3))

    def _clip(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int]:
        size = self.size
        left = max(0, int(x0 * size))
        top = max(0, int(y0 * size))
        return left, top, min(size, int(x1 * size) + 1), min(size, int(y1 * size) + 1)


def silhouette(
    parts: Sequence[Part], xy_P2: np.ndarray, zoom: float, width: int, height: int
) -> Image.Image:
    """Grey image with 1 where the thing is; props are left out."""
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    flat = xy_P2.ravel().tolist()
    start = 0
    for role, points, line in parts:
        stop = start + 2 * len(points)
        if role != "prop":
            if line:
                pen.line(flat[start:stop], fill=1, width=max(1, round(line * zoom)))
            else:
                pen.polygon(flat[start:stop], fill=1)
        start = stop
    return mask


def role_colours(main: Colour, accent: Colour, prop: Colour) -> dict[str, Colour]:
    """Colours of all named roles from three of them."""
    ink = (30, 30, 36) if sum(accent) > 330 else (238, 238, 232)
    return {
        "main": main,
        "dark": shade(main, 0.66),
        "light": shade(main, 1.35),
        "accent": accent,
        "accent dark": shade(accent, 0.66),
        "ink": ink,
        "prop": prop,
    }
