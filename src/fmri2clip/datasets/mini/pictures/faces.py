"""Human heads: identity (skin, hair, shape), expression and gaze."""

from __future__ import annotations

from dataclasses import dataclass

from fmri2clip.datasets.mini.pictures.colours import shade
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.parts import (
    BLACK,
    WHITE,
    Colour,
    Part,
    dot,
    limb,
    line,
    moved,
    oval,
    poly,
)

LIPS = (170, 80, 80)
IRISES = ((84, 56, 38), (66, 104, 140), (88, 120, 82), (50, 40, 36))


@dataclass(frozen=True, kw_only=True)
class Face:
    """What makes a face somebody's."""

    skin: Colour
    hair: Colour
    style: str  # short, bald, curly, long, bob, bun, tail
    hat: Colour | None
    beard: bool
    glasses: bool
    long: float  # height over width, 1 on average


def hair_behind(face: Face, x: float, y: float, radius: float) -> list[Part]:
    """Hair that head and trunk cover, for a head as ``face_front`` draws it."""
    return moved(_mane(face), x, y, radius * face.long, 1 / face.long)


def _mane(face: Face) -> list[Part]:
    """Hair behind the head, in head radii."""
    if face.style in ("long", "bob"):
        low = 1.25 if face.style == "long" else 0.65
        return [limb(face.hair, 0, -0.15, 1.0, 0, low, 0.86)]
    if face.style == "curly":
        return [oval(face.hair, 0, -0.25, 1.16, 1.0)]
    if face.style == "bun":
        return [oval(face.hair, 0, -1.1, 0.38, 0.34)]
    if face.style == "tail":
        return [limb(face.hair, 0.55, -0.6, 0.3, 1.0, 0.5, 0.18)]
    return []


def _hair_before(face: Face, turn: float) -> list[Part]:
    if face.hat is not None:
        return [
            poly(face.hat, -0.9, -0.42, -0.8, -1.05, -0.4, -1.3, 0.4, -1.3, 0.8, -1.05, 0.9, -0.42),
            oval(shade(face.hat, 0.7), 0.25 * turn, -0.42, 1.18, 0.15),
        ]
    if face.style == "bald":
        return []
    part = -0.35 + 0.5 * turn
    return [
        poly(
            face.hair,
            -0.93,
            -0.05,
            -0.98,
            -0.6,
            -0.6,
            -1.08,
            0,
            -1.22,
            0.6,
            -1.08,
            0.98,
            -0.6,
            0.93,
            -0.05,
            0.72,
            -0.5,
            part,
            -0.62,
            -0.7,
            -0.45,
        ),
    ]


def _features(dice: Dice, face: Face, turn: float, detail: bool) -> list[Part]:
    """Eyes, brows, nose and mouth; ``turn`` shifts them towards one side."""
    shift = 0.28 * turn
    squeeze = 1.0 - 0.25 * abs(turn)
    dark = shade(face.skin, 0.62)
    mood = dice.pick(("smile", "smile", "neutral", "open", "frown"))
    parts: list[Part] = []
    apart = dice.uniform(0.34, 0.44)
    level = dice.uniform(-0.14, -0.02)
    eye = dice.uniform(0.15, 0.2)
    gaze_x = dice.uniform(-0.07, 0.07)
    iris = dice.pick(IRISES)
    brow = {"smile": -0.03, "neutral": 0.0, "open": -0.08, "frown": 0.09}[mood]
    thick = dice.uniform(0.07, 0.13)
    for s in (-1, 1):
        x = shift + s * apart * squeeze
        if detail:
            parts += [
                oval(WHITE, x, level, eye, eye * 0.62),
                dot(iris, x + gaze_x, level, eye * 0.55),
                dot(BLACK, x + gaze_x, level, eye * 0.28),
            ]
        else:
            parts += [
                oval(WHITE, x, level, eye, eye * 0.8),
                dot(BLACK, x + gaze_x, level, eye * 0.62),
            ]
        parts.append(
            line(
                shade(face.hair, 0.7),
                thick,
                x - s * 0.2,
                level - 0.27 + brow,
                x + s * 0.2,
                level - 0.27 - brow / 2,
            )
        )
    nose = 0.3 + dice.uniform(-0.06, 0.08)
    parts.append(
        poly(dark, shift * 1.3 - 0.03, 0.0, shift * 1.6 + 0.14, nose, shift * 1.3 - 0.12, nose)
    )
    mouth = dice.uniform(0.2, 0.34)
    low = 0.56 + dice.uniform(-0.04, 0.05)
    if mood == "open":
        parts += [
            oval(LIPS, shift, low, mouth * 0.8, 0.15),
            oval((70, 26, 30), shift, low, mouth * 0.55, 0.09),
        ]
    elif mood == "smile":
        parts.append(
            poly(
                LIPS,
                shift - mouth,
                low - 0.06,
                shift,
                low,
                shift + mouth,
                low - 0.06,
                shift + mouth / 2,
                low + 0.13,
                shift - mouth / 2,
                low + 0.13,
            )
        )
        if detail:
            parts.append(
                line(WHITE, 0.05, shift - mouth * 0.6, low + 0.02, shift + mouth * 0.6, low + 0.02)
            )
    else:
        bow = 0.07 if mood == "frown" else 0.0
        parts.append(
            line(
                LIPS, 0.1, shift - mouth, low + bow, shift, low - bow / 2, shift + mouth, low + bow
            )
        )
    if face.glasses:
        for s in (-1, 1):
            x = shift + s * apart * squeeze
            ring = oval(BLACK, x, level, 0.27, 0.22)
            parts.append(Part(BLACK, [*ring.points, ring.points[0]], 0.06))
        parts.append(line(BLACK, 0.06, shift - 0.12, level, shift + 0.12, level))
    return parts


def face_front(
    dice: Dice, face: Face, x: float, y: float, radius: float, back: bool, detail: bool
) -> list[Part]:
    """The head from the front, turned a little, or from behind, without the hair behind it."""
    turn = dice.uniform(-1.0, 1.0) if dice.chance(0.6) else 0.0
    parts = [oval(shade(face.skin, 0.85), s * 0.86, 0.05, 0.14, 0.22) for s in (-1, 1)]
    parts.append(oval(face.skin, 0, 0, 0.86, 1.0))
    if back:
        if face.style != "bald":
            low = 0.75 if face.style in ("long", "bob", "tail") else 0.45
            parts.append(limb(face.hair, 0, -0.2, 0.92, 0, low - 0.3, 0.82))
        if face.hat is not None:
            parts.append(poly(face.hat, -0.95, -0.2, -0.8, -1.05, 0, -1.35, 0.8, -1.05, 0.95, -0.2))
        if face.style in ("bun", "tail"):
            parts.append(oval(shade(face.hair, 0.7), 0, 0.1, 0.34, 0.4))
    else:
        if face.beard:
            parts.append(
                poly(
                    face.hair,
                    -0.84,
                    0.1,
                    -0.6,
                    0.3,
                    0,
                    0.36,
                    0.6,
                    0.3,
                    0.84,
                    0.1,
                    0.62,
                    0.85,
                    0,
                    1.12,
                    -0.62,
                    0.85,
                )
            )
        parts += _features(dice, face, turn, detail)
        parts += _hair_before(face, turn)
    return moved(parts, x, y, radius * face.long, 1 / face.long)


def face_side(dice: Dice, face: Face, x: float, y: float, radius: float) -> list[Part]:
    """The head in profile, facing right."""
    parts: list[Part] = []
    if face.style in ("long", "bob"):
        parts.append(
            limb(face.hair, -0.3, -0.2, 0.85, -0.5, 1.1 if face.style == "long" else 0.5, 0.5)
        )
    elif face.style in ("tail", "bun"):
        parts.append(
            limb(face.hair, -0.8, -0.5, 0.32, -1.25, 0.3 if face.style == "tail" else -0.6, 0.2)
        )
    parts.append(oval(face.skin, 0, 0, 0.84, 1.0))
    parts.append(poly(face.skin, 0.7, -0.15, 1.08, 0.28, 0.75, 0.36))
    parts.append(poly(face.skin, 0.1, 0.6, 0.75, 0.55, 0.72, 0.95, 0.35, 1.0))
    if face.beard:
        parts.append(poly(face.hair, -0.15, 0.3, 0.7, 0.5, 0.75, 1.0, 0.3, 1.1, -0.1, 0.7))
    parts += [oval(WHITE, 0.5, -0.12, 0.15, 0.12), dot(BLACK, 0.55, -0.12, 0.1)]
    parts.append(line(shade(face.hair, 0.7), 0.1, 0.35, -0.36, 0.7, -0.36))
    parts.append(line(LIPS, 0.1, 0.45, 0.58, 0.78, 0.56 + dice.uniform(-0.06, 0.06)))
    parts.append(oval(shade(face.skin, 0.8), -0.1, 0.08, 0.16, 0.22))
    if face.hat is not None:
        parts.append(poly(face.hat, -0.9, -0.4, -0.75, -1.1, 0, -1.3, 0.7, -1.05, 0.85, -0.45))
        parts.append(poly(shade(face.hat, 0.7), 0.3, -0.55, 1.4, -0.42, 1.4, -0.34, 0.3, -0.38))
    elif face.style != "bald":
        parts.append(
            poly(
                face.hair,
                0.72,
                -0.45,
                0.35,
                -1.08,
                -0.3,
                -1.18,
                -0.85,
                -0.8,
                -0.98,
                0.1,
                -0.7,
                0.55,
                -0.35,
                0.2,
                -0.25,
                -0.35,
            )
        )
    return moved(parts, x, y, radius * face.long, 1 / face.long)
