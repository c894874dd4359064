"""People: whole bodies in poses, seen from the front, the side and behind, and portraits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fmri2clip.datasets.mini.pictures.colours import HAIRS, SKINS, any_colour, shade, vary
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.faces import Face, face_front, face_side, hair_behind
from fmri2clip.datasets.mini.pictures.parts import (
    Colour,
    Mark,
    Part,
    Role,
    Sketch,
    box,
    chain,
    limb,
    oval,
    poly,
    reach,
)

POSES = ("standing", "standing", "walking", "walking", "running", "sitting", "waving", "reaching")
P_PORTRAIT = 0.28
P_CHILD = 0.22
_DOWN = math.pi


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Who somebody is: what all views of a person share."""

    kind: str  # man, woman or child
    face: Face
    trousers: Role
    shoes: Colour
    skirt: bool
    sleeves: bool
    build: float  # width of the trunk, 1 on average
    head: float  # radius of the head, in body heights

    @property
    def skin(self) -> Colour:
        """Colour of hands, legs and neck."""
        return self.face.skin


def _figure(dice: Dice) -> Figure:
    kind = "child" if dice.chance(P_CHILD) else dice.pick(("man", "woman"))
    long_hair = dice.chance({"man": 0.06, "woman": 0.8, "child": 0.4}[kind])
    styles: tuple[str, ...] = (
        ("long", "bun", "tail", "bob") if long_hair else ("short", "short", "bald", "curly")
    )
    if kind == "child" and not long_hair:
        styles = ("short", "curly")
    face = Face(
        skin=vary(dice, dice.pick(SKINS), 12),
        hair=vary(dice, dice.pick(HAIRS), 12),
        style=dice.pick(styles),
        hat=any_colour(dice) if dice.chance(0.16) else None,
        beard=kind == "man" and dice.chance(0.25),
        glasses=dice.chance(0.16),
        long=dice.uniform(0.88, 1.12) * (0.9 if kind == "child" else 1.0),
    )
    return Figure(
        kind=kind,
        face=face,
        trousers="accent" if dice.chance(0.67) else any_colour(dice),
        shoes=any_colour(dice),
        skirt=kind != "man" and dice.chance(0.35),
        sleeves=dice.chance(0.55),
        build=dice.uniform(0.85, 1.25),
        head=(0.105 if kind == "child" else 0.075) * dice.uniform(0.95, 1.08),
    )


def _arm(figure: Figure, role: Role, x: float, y: float, upper: float, lower: float) -> list[Part]:
    """Upper arm in the sleeve, forearm in it or bare, and the hand."""
    elbow = reach(x, y, 0.16, upper)
    wrist = reach(*elbow, 0.15, lower)
    forearm = role if figure.sleeves else figure.skin
    return [
        limb(role, x, y, 0.04, *elbow, 0.034),
        limb(forearm, *elbow, 0.032, *wrist, 0.026),
        oval(figure.skin, *reach(*wrist, 0.02, lower), 0.03, 0.034),
    ]


def _leg(
    figure: Figure, x: float, y: float, upper: float, lower: float, toe: float, far: bool
) -> list[Part]:
    role: Role = figure.skin if figure.skirt else figure.trousers
    if far:
        role = (
            "accent dark"
            if role == "accent"
            else shade(role, 0.7)
            if not isinstance(role, str)
            else role
        )
    knee = reach(x, y, 0.235, upper)
    ankle = reach(*knee, 0.22, lower)
    parts = chain(role, 0.056, 0.038, x, y, *knee, *ankle)
    parts.append(oval(figure.shoes, ankle[0] + toe, ankle[1] + 0.022, 0.032 + abs(toe), 0.024))
    return parts


def _skirt(figure: Figure, hips: float, y: float, long: float) -> list[Part]:
    if not figure.skirt:
        return []
    return [
        poly("accent", -hips, y - 0.04, hips, y - 0.04, hips * 1.7, y + long, -hips * 1.7, y + long)
    ]


def _arms_of(dice: Dice, pose: str) -> list[tuple[float, float]]:
    """Angles of upper arm and forearm, for the left (mirrored) and the right arm."""
    low = [(dice.uniform(0.1, 0.5), dice.uniform(-0.25, 0.4)) for _ in range(2)]
    up = [(dice.uniform(2.1, 2.8), dice.uniform(2.5, 3.3)) for _ in range(2)]
    if pose == "waving":
        return [low[0], up[1]] if dice.chance(0.5) else [up[0], low[1]]
    if pose == "reaching":
        return up
    if pose == "running" or dice.chance(0.2):
        return [(0.6, -1.2), (0.5, dice.uniform(1.2, 2.2))]  # one hand on the hip or raised
    return low


def _upright(dice: Dice, figure: Figure, pose: str, back: bool) -> Sketch:
    """Seen from the front or from behind, on both legs."""
    shoulder = 0.125 * figure.build
    hips = 0.085 * figure.build
    top = 0.2
    waist = 0.5
    spread = 0.3 if pose == "running" else 0.14 if pose == "walking" else 0.05
    parts: list[Part] = []
    for s in (-1, 1):
        upper = s * spread * dice.uniform(0.4, 1.2)
        lower = upper * dice.uniform(-0.3, 1.0)
        lift = -0.06 if pose in ("walking", "running") and s > 0 else 0.0
        parts += _leg(figure, s * hips * 0.6, waist + lift, upper, lower, 0.012 * s, False)
    parts += _skirt(figure, hips, waist, dice.uniform(0.12, 0.3))
    arms = _arms_of(dice, pose)
    drawn = [
        _arm(figure, "dark", s * (shoulder - 0.02), top + 0.035, s * a, s * b)
        for s, (a, b) in zip((-1, 1), arms, strict=True)
    ]
    parts += drawn[0] + drawn[1] if back else []
    parts.append(box(figure.skin, -0.03, top - 0.06, 0.03, top + 0.02))
    parts.append(
        poly(
            "main",
            -shoulder,
            top + 0.02,
            -0.06,
            top - 0.012,
            0.06,
            top - 0.012,
            shoulder,
            top + 0.02,
            hips,
            waist + 0.02,
            -hips,
            waist + 0.02,
        )
    )
    parts += [] if back else drawn[0] + drawn[1]
    centre = top - 0.03 - figure.head
    hair = hair_behind(figure.face, 0.0, centre, figure.head)
    parts = parts + hair if back else hair + parts
    parts += face_front(dice, figure.face, 0.0, centre, figure.head, back=back, detail=False)
    marks = [] if back else [Mark(0.0, centre, 2 * figure.head)]
    return Sketch(parts, "back" if back else "front", pose=pose, form=figure.kind, faces=marks)


def _profile(dice: Dice, figure: Figure, pose: str) -> Sketch:
    """Seen from the side, facing right."""
    wide = 0.07 * figure.build
    lean = {"running": 0.16, "walking": 0.05, "sitting": -0.04}.get(pose, 0.0)
    hip = (0.0, 0.52)
    neck = reach(*hip, 0.34, _DOWN - lean)
    stride = {"running": 0.75, "walking": 0.42}.get(pose, 0.06)
    phase = dice.sign()
    parts: list[Part] = []
    swing = stride * phase
    if pose == "sitting":
        parts += [
            box("prop", -0.14, 0.58, 0.16, 0.64),
            box("prop", -0.1, 0.64, -0.06, 0.84),
            box("prop", 0.08, 0.64, 0.12, 0.84),
        ]
        legs = [(1.45, 0.1), (1.35, dice.uniform(-0.2, 0.5))]
    else:
        bend = 0.9 if pose == "running" else 0.3
        legs = [(-swing, -swing - bend * (swing > 0)), (swing, swing - bend * (swing < 0))]
    far_arm = _arm(figure, "dark", neck[0], neck[1] + 0.05, swing + 0.1, swing + 0.5)
    parts += far_arm
    parts += _leg(figure, *hip, *legs[0], 0.03, True)
    parts += _leg(figure, *hip, *legs[1], 0.03, False)
    if figure.skirt and pose != "sitting":
        parts += _skirt(figure, wide, hip[1], 0.18)
    parts.append(limb("main", hip[0], hip[1] - 0.02, wide, neck[0], neck[1] + 0.06, wide * 1.05))
    head = (neck[0] + 0.012, neck[1] - 0.045 - figure.head * 0.75)
    parts.insert(len(parts) - 1, limb(figure.skin, *neck, 0.032, *head, 0.03))
    upper, lower = -swing, -swing + (1.3 if pose == "running" else 0.35)
    if pose in ("waving", "reaching"):
        upper, lower = dice.uniform(1.6, 2.5), dice.uniform(2.0, 2.9)
    elif pose == "sitting":
        upper, lower = 0.35, dice.uniform(0.9, 1.5)
    parts += face_side(dice, figure.face, *head, figure.head)
    parts += _arm(figure, "dark", neck[0], neck[1] + 0.06, upper, lower)
    return Sketch(parts, "side", pose=pose, form=figure.kind, faces=[Mark(*head, 2 * figure.head)])


def _seated_front(dice: Dice, figure: Figure) -> Sketch:
    """Sitting, seen from the front: short thighs, shins down."""
    shoulder = 0.125 * figure.build
    hips = 0.1 * figure.build
    parts = [
        box("prop", -0.24, 0.5, 0.24, 0.57),
        box("prop", -0.2, 0.57, -0.16, 0.78),
        box("prop", 0.16, 0.57, 0.2, 0.78),
    ]
    for s in (-1, 1):
        knee = (s * hips * dice.uniform(0.8, 1.5), 0.6)
        role: Role = figure.skin if figure.skirt else figure.trousers
        parts += [
            limb(role, *knee, 0.05, knee[0], 0.82, 0.036),
            oval(figure.shoes, knee[0], 0.85, 0.04, 0.026),
        ]
        parts.append(
            limb("accent" if figure.skirt else role, s * hips * 0.5, 0.52, 0.06, *knee, 0.06)
        )
    parts.append(box(figure.skin, -0.03, 0.14, 0.03, 0.22))
    parts.append(
        poly(
            "main",
            -shoulder,
            0.22,
            -0.06,
            0.188,
            0.06,
            0.188,
            shoulder,
            0.22,
            hips,
            0.54,
            -hips,
            0.54,
        )
    )
    for s in (-1, 1):
        parts += _arm(
            figure, "dark", s * (shoulder - 0.02), 0.24, s * 0.25, -s * dice.uniform(0.1, 0.5)
        )
    centre = 0.17 - figure.head
    parts = hair_behind(figure.face, 0.0, centre, figure.head) + parts
    parts += face_front(dice, figure.face, 0.0, centre, figure.head, back=False, detail=False)
    marks = [Mark(0.0, centre, 2 * figure.head)]
    return Sketch(parts, "front", pose="sitting", form=figure.kind, faces=marks)


def _portrait(dice: Dice, figure: Figure) -> Sketch:
    """Head and shoulders, close up."""
    shoulder = 1.35 * figure.build * (0.85 if figure.kind == "child" else 1.0)
    drop = dice.uniform(0.1, 0.3)
    low = dice.uniform(1.9, 2.6)
    parts = [box(figure.skin, -0.36, 0.6, 0.36, 1.35)]
    parts.append(
        poly(
            "main",
            -shoulder,
            low,
            -shoulder,
            1.35 + drop,
            -0.4,
            1.12,
            0.4,
            1.12,
            shoulder,
            1.35 + drop,
            shoulder,
            low,
        )
    )
    collar = dice.random()
    if collar < 0.35:
        parts.append(poly(figure.skin, -0.34, 1.1, 0.34, 1.1, 0.0, dice.uniform(1.4, 1.8)))
    elif collar < 0.6:
        parts += [poly("light", s * 0.04, 1.45, s * 0.42, 1.05, s * 0.52, 1.35) for s in (-1, 1)]
    parts = hair_behind(figure.face, 0.0, 0.0, 0.98) + parts
    parts += face_front(dice, figure.face, 0.0, 0.0, 0.98, back=False, detail=True)
    return Sketch(parts, "portrait", pose="looking", form=figure.kind, faces=[Mark(0.0, 0.0, 2.0)])


def person(dice: Dice) -> Sketch:
    """Somebody, in a pose and a view."""
    figure = _figure(dice)
    if dice.chance(P_PORTRAIT):
        return _portrait(dice, figure)
    pose = dice.pick(POSES)
    view = dice.random()
    if pose == "sitting":
        return _profile(dice, figure, pose) if view < 0.5 else _seated_front(dice, figure)
    if view < 0.34:
        return _profile(dice, figure, pose)
    return _upright(dice, figure, pose, back=view > 0.8)
