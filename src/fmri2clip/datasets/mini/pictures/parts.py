"""Parts of a drawing: filled polygons and lines in the drawing's own units, y down.

A part has a role, which is the name of a colour that its owner decides ("main", "accent", ...) or
an RGB triple. A drawing may have any extent; who places it scales it to the size it needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

Colour = tuple[int, int, int]
Role = str | Colour
Point = tuple[float, float]

BLACK: Colour = (26, 26, 30)
WHITE: Colour = (240, 240, 238)
GREY: Colour = (122, 124, 128)
GLASS: Colour = (150, 178, 196)
SHADOW: Colour = (60, 62, 68)
WOOD: Colour = (134, 96, 62)
LAMP: Colour = (244, 232, 170)
STEEL: Colour = (176, 180, 186)

_TURN = 2 * math.pi
_CIRCLE = [(math.cos(_TURN * k / 16), math.sin(_TURN * k / 16)) for k in range(16)]
_SMALL = _CIRCLE[::2]


class Part(NamedTuple):
    """A polygon (width 0) or a line of the given width."""

    role: Role
    points: list[Point]
    width: float


class Mark(NamedTuple):
    """Where something that is counted stands: centre and height in the units of the drawing."""

    x: float
    y: float
    height: float


@dataclass
class Sketch:
    """One drawn thing before it is placed.

    Parts with the role "prop" are painted but belong to no object (the bench somebody sits on).
    """

    parts: list[Part]
    view: str
    pose: str = ""  # what it does; captions tell it
    form: str = ""  # which kind of it this is; captions may tell it
    faces: list[Mark] = field(default_factory=list)
    words: list[Mark] = field(default_factory=list)
    airborne: bool = False


def oval(role: Role, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Part:
    """Ellipse with the radii rx and ry, turned by ``turn`` radians."""
    if not turn:
        return Part(role, [(x + rx * c, y + ry * s) for c, s in _CIRCLE], 0.0)
    cos = math.cos(turn)
    sin = math.sin(turn)
    points = [
        (x + rx * c * cos - ry * s * sin, y + rx * c * sin + ry * s * cos) for c, s in _CIRCLE
    ]
    return Part(role, points, 0.0)


def dot(role: Role, x: float, y: float, r: float) -> Part:
    """Small disc."""
    return Part(role, [(x + r * c, y + r * s) for c, s in _SMALL], 0.0)


def box(role: Role, x0: float, y0: float, x1: float, y1: float) -> Part:
    """Upright rectangle."""
    return Part(role, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], 0.0)


def poly(role: Role, *xy: float) -> Part:
    """Polygon through x0, y0, x1, y1, ..."""
    return Part(role, list(zip(xy[::2], xy[1::2], strict=True)), 0.0)


def line(role: Role, width: float, *xy: float) -> Part:
    """Line through x0, y0, x1, y1, ..."""
    return Part(role, list(zip(xy[::2], xy[1::2], strict=True)), width)


def limb(role: Role, x0: float, y0: float, r0: float, x1: float, y1: float, r1: float) -> Part:
    """Capsule from one point to another, with a radius at each end."""
    angle = math.atan2(y1 - y0, x1 - x0)
    points = []
    for k in range(5):
        bend = angle + math.pi / 2 + math.pi * k / 4
        points.append((x0 + r0 * math.cos(bend), y0 + r0 * math.sin(bend)))
    for k in range(5):
        bend = angle - math.pi / 2 + math.pi * k / 4
        points.append((x1 + r1 * math.cos(bend), y1 + r1 * math.sin(bend)))
    return Part(role, points, 0.0)


def chain(role: Role, r0: float, r1: float, *xy: float) -> list[Part]:
    """Capsules through x0, y0, x1, y1, ..., the radius going from r0 to r1."""
    points = list(zip(xy[::2], xy[1::2], strict=True))
    steps = len(points) - 1
    parts = []
    for k in range(steps):
        near = r0 + (r1 - r0) * k / steps
        far = r0 + (r1 - r0) * (k + 1) / steps
        parts.append(limb(role, *points[k], near, *points[k + 1], far))
    return parts


def moved(
    parts: Iterable[Part], dx: float, dy: float, scale: float = 1.0, stretch: float = 1.0
) -> list[Part]:
    """The parts scaled by ``scale`` (x by ``scale * stretch``), then shifted."""
    wide = scale * stretch
    return [
        Part(role, [(x * wide + dx, y * scale + dy) for x, y in points], width * scale)
        for role, points, width in parts
    ]


def reach(x: float, y: float, length: float, angle: float) -> Point:
    """Where a bone ends that starts at (x, y); angle 0 points down, positive to the right."""
    return x + length * math.sin(angle), y + length * math.cos(angle)
