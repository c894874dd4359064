"""Where things stand: size, position and tilt in the original picture, COCO's annotation, the crop.

Axis letters: P points of all parts of a thing, 2 x and y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fmri2clip.datasets.mini.pictures.canvas import silhouette
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import Mark, Sketch

ORIGINAL_SIDE = 480  # shorter side of the original picture in annotation pixels
ASPECTS = ((640, 480), (480, 640), (480, 480))
ASPECT_WEIGHTS = (0.6, 0.85, 1.0)  # cumulative
# Square root of the box area over the shorter side, by number of things.
SIZES = ((0.5, 1.0), (0.5, 1.0), (0.42, 0.9), (0.36, 0.76), (0.32, 0.68))
LONGEST = 1.05  # longest side of a box over the shorter side of the picture
GRAIN = 8  # the silhouette is counted on a grid this many times coarser than the picture
MAX_POLYGONS = 10  # of the annotation, the largest parts first
P_FLOATING = 0.35  # things whose height in the picture has nothing to do with the ground
P_CUT = 0.75  # portraits that the lower border cuts


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A sketch at its place in the original picture."""

    name: str  # category, or "sign"
    sketch: Sketch
    xy_P2: np.ndarray  # points of the parts in original pixels
    scale: float  # original pixels per unit of the sketch
    faces: list[Mark]  # in original pixels
    words: list[Mark]
    bbox: tuple[float, float, float, float]  # x, y, width, height inside the picture
    mask: Image.Image  # silhouette, GRAIN pixels a cell

    @property
    def bottom(self) -> float:
        """Lower border of the box; who stands lower is nearer."""
        return self.bbox[1] + self.bbox[3]

    @property
    def area(self) -> float:
        """Pixels of the silhouette inside the picture, at least one cell, at most the box."""
        cells = self.mask.histogram()[1]
        return max(min(cells * GRAIN**2, self.bbox[2] * self.bbox[3]), 1.0)

    def polygons(self, width: int, height: int) -> list[list[float]]:
        """The largest filled parts, clipped to the picture."""
        inside = np.round(np.clip(self.xy_P2, 0, (width, height)), 1)
        found = []
        start = 0
        for role, points, line in self.sketch.parts:
            stop = start + len(points)
            if not line and role != "prop":
                part = inside[start:stop]
                extent = np.ptp(part, axis=0)
                found.append((float(extent[0] * extent[1]), part))
            start = stop
        found.sort(key=lambda item: -item[0])
        kept = [part.ravel().tolist() for size, part in found[:MAX_POLYGONS] if size > 0]
        return kept or [[self.bbox[0], self.bbox[1]] * 3]


def place(
    dice: Dice,
    name: str,
    sketch: Sketch,
    width: int,
    height: int,
    horizon: float,
    slot: int,
    count: int,
) -> Placed:
    """A sketch scaled, mirrored, tilted and moved into the picture.

    slot, count: number of the thing and how many there are, so that they share the width.
    """
    points = np.array([point for part in sketch.parts for point in part.points])
    low = points.min(0)
    extent = points.max(0) - low
    smallest, largest = SIZES[min(count, len(SIZES) - 1)]
    if name == "sign":
        smallest, largest = 0.17, 0.4
    elif sketch.view == "portrait":
        smallest = (smallest + largest) / 2
    # Areas are even between the limits, so that sizes are spread over the whole range.
    size = math.sqrt(dice.uniform(smallest**2, largest**2)) * ORIGINAL_SIDE
    scale = size / math.sqrt(float(extent[0] * extent[1]))
    scale = min(scale, LONGEST * ORIGINAL_SIDE / float(extent.max()))
    mirror = 1.0 if sketch.words else dice.sign()
    angle = dice.normal(0, 0.2 if sketch.airborne or dice.chance(0.15) else 0.07)
    half = extent * scale / 2
    x = (slot + dice.uniform(-0.1, 1.1)) / count if count else dice.random()
    if sketch.airborne:
        y = dice.uniform(0.12, 0.7) * height
    elif name == "sign":
        y = dice.uniform(0.12, 0.75) * height
    elif sketch.view == "portrait" and dice.chance(P_CUT):
        y = dice.uniform(0.9, 1.1) * height + 0.1 * half[1] - half[1]
    elif dice.chance(P_FLOATING):
        y = dice.uniform(0.25, 0.85) * height
    else:
        ground = dice.uniform(min(horizon + 0.06, 0.8), 1.1)
        y = ground * height - half[1]
    # A fifth of a thing may be cut off at a side or below, less at the top, where heads are.
    x = min(max(x * width, 0.6 * half[0]), width - 0.6 * half[0])
    y = max(min(y, height - 0.6 * half[1]), 0.9 * half[1])
    turn = np.array(
        (
            (mirror * scale * math.cos(angle), -scale * math.sin(angle)),
            (mirror * scale * math.sin(angle), scale * math.cos(angle)),
        )
    )
    middle = low + extent / 2
    shift = np.array((x, y)) - turn @ middle
    xy_P2 = points @ turn.T + shift

    def mark(spot: Mark) -> Mark:
        a, b = turn @ (spot.x, spot.y) + shift
        return Mark(float(a), float(b), spot.height * scale)

    return Placed(
        name=name,
        sketch=sketch,
        xy_P2=xy_P2,
        scale=scale,
        faces=[mark(spot) for spot in sketch.faces],
        words=[mark(spot) for spot in sketch.words],
        bbox=_box(sketch, xy_P2, width, height),
        mask=silhouette(
            sketch.parts, xy_P2 / GRAIN, scale / GRAIN, width // GRAIN, height // GRAIN
        ),
    )


def _box(
    sketch: Sketch, xy_P2: np.ndarray, width: int, height: int
) -> tuple[float, float, float, float]:
    """Box around all parts but props, clipped to the picture, in hundredths of a pixel."""
    if any(part.role == "prop" for part in sketch.parts):
        owned = np.repeat(
            [part.role != "prop" for part in sketch.parts],
            [len(part.points) for part in sketch.parts],
        )
        xy_P2 = xy_P2[owned]
    x0, y0 = np.maximum(xy_P2.min(0), 0).tolist()
    x1, y1 = np.minimum(xy_P2.max(0), (width, height)).tolist()
    return round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)


def choose_crop(
    dice: Dice, width: int, height: int, placed: list[Placed]
) -> tuple[tuple[float, float, float, float], tuple[float, float], int]:
    """Square crop with the least loss of objects among start, middle and end, as NSD chose its
    crops: fractions removed (top, bottom, left, right), corner (x, y) and side in pixels.
    """
    side = min(width, height)
    spare = abs(width - height)
    axis = 0 if width >= height else 1
    spans = [(p.bbox[axis], p.bbox[axis] + p.bbox[axis + 2]) for p in placed if p.name != "sign"]
    lost = []
    for start in (0.0, 0.5 * spare, 1.0 * spare):
        loss = sum(max(0, start - a) + max(0, b - start - side) for a, b in spans)
        lost.append((round(loss, 6), dice.random(), start))
    start = min(lost)[2]
    first = round(start / max(width, height), 7)
    last = round((spare - start) / max(width, height), 7)
    if axis == 0:
        return (0.0, 0.0, first, last), (start, 0.0), side
    return (first, last, 0.0, 0.0), (0.0, start), side
