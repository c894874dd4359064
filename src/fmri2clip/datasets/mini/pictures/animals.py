"""Animals: bodies in several poses, seen from the side, from the front, or as a face close up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.heads import FRONT_HEADS, SIDE_HEADS
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    Part,
    Sketch,
    chain,
    dot,
    limb,
    line,
    oval,
    poly,
    reach,
)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Proportions of a four-legged animal; the length of its trunk is 1."""

    depth: tuple[float, float]  # radius of hip and chest
    leg: float  # length of the legs below the trunk
    thick: float  # radius of a leg
    neck: tuple[float, float]  # length, and angle from upright towards the front
    neck_thick: tuple[float, float]  # radius at the trunk and at the head
    head: float  # size of the head
    tail: tuple[float, float]  # length and radius
    poses: tuple[str, ...]


BUILDS = {
    "dog": Build(
        depth=(0.19, 0.24),
        leg=0.5,
        thick=0.065,
        neck=(0.28, 0.7),
        neck_thick=(0.15, 0.12),
        head=0.25,
        tail=(0.45, 0.05),
        poses=("standing", "walking", "running", "sitting", "lying"),
    ),
    "cat": Build(
        depth=(0.21, 0.2),
        leg=0.33,
        thick=0.065,
        neck=(0.16, 0.9),
        neck_thick=(0.14, 0.13),
        head=0.24,
        tail=(0.75, 0.05),
        poses=("standing", "walking", "sitting", "sitting", "lying"),
    ),
    "horse": Build(
        depth=(0.24, 0.25),
        leg=0.72,
        thick=0.06,
        neck=(0.5, 0.65),
        neck_thick=(0.19, 0.11),
        head=0.27,
        tail=(0.6, 0.08),
        poses=("standing", "walking", "running", "eating"),
    ),
    "elephant": Build(
        depth=(0.36, 0.38),
        leg=0.55,
        thick=0.13,
        neck=(0.16, 1.1),
        neck_thick=(0.3, 0.25),
        head=0.36,
        tail=(0.4, 0.025),
        poses=("standing", "walking"),
    ),
    "giraffe": Build(
        depth=(0.2, 0.27),
        leg=1.0,
        thick=0.055,
        neck=(1.25, 0.42),
        neck_thick=(0.17, 0.075),
        head=0.2,
        tail=(0.5, 0.03),
        poses=("standing", "walking", "eating"),
    ),
}
# swing of the legs in radians
SWINGS = {"standing": 0.07, "walking": 0.36, "running": 0.8, "eating": 0.1}


def _leg(role: str, x: float, y: float, build: Build, swing: float, bend: float) -> list[Part]:
    """Two bones and a foot, from the trunk down."""
    length = build.leg + 0.12
    knee = reach(x, y, length * 0.5, swing)
    foot = reach(*knee, length * 0.5, swing - bend)
    parts = chain(role, build.thick * 1.35, build.thick * 0.85, x, y, *knee, *foot)
    parts.append(oval(role, foot[0] + 0.3 * build.thick, foot[1], build.thick * 1.3, build.thick))
    return parts


def _tail(dice: Dice, build: Build, x: float, y: float, name: str) -> list[Part]:
    length, radius = build.tail
    angle = dice.uniform(-1.3, -0.25)
    if name in ("dog", "cat"):
        angle = dice.uniform(-2.7, -0.7)
    middle = reach(x, y, length / 2, angle)
    end = reach(*middle, length / 2, angle + dice.uniform(-0.9, 0.9))
    return chain("dark", radius, radius * 0.7, x, y, *middle, *end)


def _neck_and_head(
    dice: Dice, name: str, build: Build, x: float, y: float, down: bool
) -> list[Part]:
    """Neck from the shoulder (x, y) and the head from the side."""
    length, lean = build.neck
    length *= dice.uniform(0.85, 1.15)
    lean += dice.uniform(-0.22, 0.22)
    if down:
        lean = dice.uniform(1.8, 2.3)
    # Angle 0 of `reach` points down, so an upright neck has the angle pi.
    end = reach(x, y, length, 3.1416 - lean)
    parts = [limb("main", x, y, build.neck_thick[0], *end, build.neck_thick[1])]
    if name in ("horse", "giraffe"):
        width = build.neck_thick[0] * 0.75
        mane = limb("dark", x - width, y - 0.1, 0.05, end[0] - 0.06, end[1] - 0.08, 0.05)
        parts.insert(0, mane)
    tilt = dice.uniform(-0.2, 0.25) + (0.9 if down else 0.0)
    parts += SIDE_HEADS[name](dice, end[0], end[1], build.head * dice.uniform(0.9, 1.15), tilt)
    return parts


def _upright(dice: Dice, name: str, build: Build, pose: str) -> list[Part]:
    """Standing, walking, running or eating, seen from the side."""
    half = 0.5 * dice.uniform(0.85, 1.12)
    hip_r, chest_r = (r * dice.uniform(0.88, 1.14) for r in build.depth)
    swing = SWINGS[pose]
    bend = 0.5 if pose == "running" else 0.2 if pose == "walking" else 0.05
    phase = dice.sign()
    wobble = [dice.uniform(-0.07, 0.07) for _ in range(4)]
    hip = (-half, 0.3 * hip_r)
    chest = (half, 0.3 * chest_r)
    parts = _tail(dice, build, -half - 0.8 * hip_r, -0.3 * hip_r, name)
    parts += _leg("dark", *hip, build, -phase * swing + wobble[0], bend)
    parts += _leg("dark", *chest, build, phase * swing + wobble[1], bend)
    parts.append(limb("main", -half, 0.0, hip_r, half, 0.0, chest_r))
    parts += _leg("main", hip[0] + 0.06, hip[1], build, phase * swing + wobble[2], bend)
    parts += _leg("main", chest[0] + 0.04, chest[1], build, -phase * swing + wobble[3], bend)
    down = pose == "eating" and build.neck[0] > 0.4
    return parts + _neck_and_head(dice, name, build, half, -0.35 * chest_r, down)


def _sitting(dice: Dice, name: str, build: Build) -> list[Part]:
    """Haunches on the ground, front legs upright."""
    rise = dice.uniform(0.55, 0.75)
    hip = (-0.25, 0.0)
    chest = (0.18, -rise)
    hip_r, chest_r = build.depth
    parts = _tail(dice, build, -0.25 - hip_r, 0.12, name)
    foot = chest[0] + 0.14
    parts += chain("dark", 0.08, 0.06, chest[0] + 0.02, chest[1] + 0.1, foot, 0.22)
    parts.append(limb("main", *hip, hip_r * 1.25, *chest, chest_r * 0.85))
    parts.append(oval("dark", -0.2, 0.06, 0.2, 0.19))
    parts.append(oval("main", -0.02, 0.2, 0.2, 0.06))
    parts += chain("main", 0.08, 0.065, chest[0] - 0.02, chest[1] + 0.1, foot - 0.08, 0.24)
    return parts + _neck_and_head(dice, name, build, chest[0] + 0.02, chest[1] - 0.05, False)


def _lying(dice: Dice, name: str, build: Build) -> list[Part]:
    """On the ground with the legs stretched forward."""
    hip_r, chest_r = build.depth
    parts = _tail(dice, build, -0.6, 0.05, name)
    parts.append(limb("main", -0.4, 0.0, hip_r * 1.1, 0.42, 0.0, chest_r))
    parts.append(oval("dark", -0.35, 0.08, 0.24, 0.15))
    parts += chain("dark", 0.07, 0.06, -0.3, 0.18, 0.0, 0.2)
    parts += chain("main", 0.07, 0.06, 0.45, 0.14, 0.85, 0.19)
    return parts + _neck_and_head(dice, name, build, 0.5, -0.12, False)


def _front(dice: Dice, name: str, build: Build) -> list[Part]:
    """Coming towards the viewer: trunk behind, two legs before, the face on top."""
    chest = build.depth[1] * dice.uniform(0.95, 1.2)
    gap = chest * dice.uniform(0.5, 0.75)
    lift = dice.uniform(-0.08, 0.08)
    length = build.leg + chest * 0.6
    thick = build.thick * 1.25
    parts = chain("dark", thick, thick * 0.8, -gap * 0.7, 0.0, -gap * 0.6, length * 0.9)
    parts += chain("dark", thick, thick * 0.8, gap * 0.7, 0.0, gap * 0.6, length * 0.9)
    parts.append(oval("dark", 0.0, -0.05, chest * 1.1, chest * 1.05))
    parts += chain("main", thick * 1.1, thick, -gap, 0.1, -gap, length + lift)
    parts += chain("main", thick * 1.1, thick, gap, 0.1, gap, length - lift)
    parts.append(oval("main", 0.0, 0.05, chest * 0.95, chest))
    neck = build.neck[0] * (1.0 if name == "giraffe" else 0.5)
    top = -chest * 0.5 - neck
    aside = dice.uniform(-0.1, 0.1)
    parts.append(limb("main", 0.0, 0.0, build.neck_thick[0], aside, top, build.neck_thick[1]))
    return parts + FRONT_HEADS[name](dice, aside, top - 0.05, build.head * 1.15)


def _four_legged(name: str) -> Callable[[Dice], Sketch]:
    def draw(dice: Dice) -> Sketch:
        build = BUILDS[name]
        chosen = dice.random()
        if chosen < 0.18:
            return Sketch(FRONT_HEADS[name](dice, 0.0, 0.0, 1.0), "face", pose="looking")
        if chosen < 0.4:
            return Sketch(_front(dice, name, build), "front", pose="standing")
        pose = dice.pick(build.poses)
        if pose == "sitting":
            parts = _sitting(dice, name, build)
        elif pose == "lying":
            parts = _lying(dice, name, build)
        else:
            parts = _upright(dice, name, build, pose)
        return Sketch(parts, "side", pose=pose)

    return draw


def _bird_head(dice: Dice, x: float, y: float, r: float) -> list[Part]:
    beak = r * dice.uniform(0.7, 1.9)
    drop = dice.uniform(-0.1, 0.35) * r
    parts = [
        poly("accent", x + 0.6 * r, y - 0.35 * r, x + r + beak, y + drop, x + 0.6 * r, y + 0.4 * r)
    ]
    parts.append(oval("main", x, y, r, r))
    if dice.chance(0.25):
        parts.append(
            poly("dark", x - r, y - 0.3 * r, x - 0.2 * r, y - 1.9 * r, x + 0.4 * r, y - 0.8 * r)
        )
    parts.append(dot(BLACK, x + 0.35 * r, y - 0.15 * r, 0.2 * r))
    return parts


def _bird_perched(dice: Dice) -> list[Part]:
    """Side view on two legs; the neck may be long."""
    slope = dice.uniform(-0.5, 0.05)
    neck = dice.pick((0.18, 0.22, 0.35, 0.6))
    legs = dice.pick((0.2, 0.3, 0.3, 0.65))
    lean = dice.uniform(0.3, 0.8)
    tail = reach(-0.35, -0.35 * slope, dice.uniform(0.35, 0.6), -1.57 - slope)
    parts = [limb("dark", -0.3, -0.3 * slope, 0.13, *tail, 0.06)]
    for x in (-0.02, 0.12):
        parts.append(line("accent", 0.045, x, 0.15, x + 0.03, 0.25 + legs, x + 0.13, 0.27 + legs))
    parts.append(oval("main", 0.0, 0.0, 0.45, 0.28, slope))
    end = reach(0.28, -0.05, neck + 0.15, 3.1416 - lean)
    parts.append(limb("main", 0.26, -0.02, 0.17, *end, 0.12))
    parts.append(oval("dark", -0.1, 0.0, 0.33, 0.16, slope - 0.12))
    return parts + _bird_head(dice, *end, 0.17)


def _bird_flying(dice: Dice) -> list[Part]:
    """Side view with the wings up or down."""
    lift = dice.sign() * dice.uniform(0.6, 1.0)
    back = dice.uniform(0.1, 0.5)
    parts = [poly("dark", 0.22, 0, 0.1, -0.55 * lift, -back, -lift, -0.3, -0.45 * lift, -0.3, 0)]
    parts.append(poly("dark", -0.35, 0.0, -0.85, -0.14, -0.75, 0.0, -0.8, 0.14))
    parts.append(oval("main", 0.0, 0.0, 0.48, 0.17, dice.uniform(-0.2, 0.1)))
    tip = (-back - 0.15, -1.12 * lift)
    parts.append(poly("light", 0.18, 0.04, 0.2, -0.5 * lift, *tip, -0.3, -0.5 * lift, -0.25, 0.06))
    return parts + _bird_head(dice, 0.48, -0.08, 0.14)


def _bird_from_below(dice: Dice) -> list[Part]:
    """Both wings spread."""
    sweep = dice.uniform(-0.3, 0.45)
    bend = dice.uniform(0.05, 0.3)
    parts = []
    for side in (-1.0, 1.0):
        tip = (side * 1.15, sweep)
        parts.append(
            poly("dark", 0.0, -0.2, side * 0.6, -bend, *tip, side * 0.6, 0.25 - bend, 0.0, 0.2)
        )
    parts.append(poly("dark", 0.0, 0.2, -0.22, 0.7, 0.22, 0.7))
    parts.append(oval("main", 0.0, 0.0, 0.17, 0.42))
    parts.append(poly("accent", -0.07, -0.52, 0.0, -0.78, 0.07, -0.52))
    parts.append(oval("main", 0.0, -0.46, 0.13, 0.14))
    return parts


def _bird_front(dice: Dice) -> list[Part]:
    """Perched, looking at the viewer."""
    tall = dice.uniform(0.4, 0.55)
    parts = [
        line("accent", 0.05, x, 0.3, x, 0.3 + tall, x + 0.06, 0.32 + tall) for x in (-0.1, 0.1)
    ]
    parts.append(oval("main", 0.0, 0.0, 0.36, 0.45))
    parts.append(oval("light", 0.0, 0.1, 0.22, 0.3))
    parts += [oval("dark", s * 0.33, 0.02, 0.11, 0.33, s * 0.15) for s in (-1.0, 1.0)]
    parts.append(oval("main", 0.0, -0.5, 0.25, 0.24))
    parts += [dot(BLACK, s * 0.12, -0.55, 0.045) for s in (-1.0, 1.0)]
    parts.append(poly("accent", -0.08, -0.49, 0.08, -0.49, 0.0, -0.32))
    return parts


def bird(dice: Dice) -> Sketch:
    """Perched from the side or the front, flying from the side or from below."""
    view = dice.pick(("side", "side", "front", "flying", "below"))
    if view == "side":
        return Sketch(_bird_perched(dice), view, pose=dice.pick(("standing", "sitting")))
    if view == "front":
        return Sketch(_bird_front(dice), view, pose="sitting")
    parts = _bird_flying(dice) if view == "flying" else _bird_from_below(dice)
    return Sketch(parts, view, pose="flying", airborne=True)


ANIMALS: dict[str, Callable[[Dice], Sketch]] = {
    **{name: _four_legged(name) for name in BUILDS},
    "bird": bird,
}
