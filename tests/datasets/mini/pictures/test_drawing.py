"""Dice, parts, letters and textures."""

from __future__ import annotations

import numpy as np
import pytest

from fmri2clip.datasets.mini.pictures.canvas import Canvas, Look, role_colours
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.lettering import GLYPHS, WORDS, lettering, registration
from fmri2clip.datasets.mini.pictures.parts import box, limb, moved, oval
from fmri2clip.datasets.mini.pictures.people import person
from fmri2clip.datasets.mini.pictures.signs import sign
from fmri2clip.datasets.mini.pictures.textures import FAMILIES, grain, tiles, window


def _area(points: list[tuple[float, float]]) -> float:
    """Shoelace formula."""
    x, y = np.array(points).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def test_dice_are_streams_of_their_own() -> None:
    first = [Dice(1, 2, 0).random() for _ in range(3)]
    assert len(set(first)) == 1
    assert Dice(1, 2, 1).random() != first[0]
    dice = Dice(3)
    uniform = np.array([dice.uniform(2, 4) for _ in range(4000)])
    assert uniform.min() >= 2 and uniform.max() < 4 and abs(uniform.mean() - 3) < 0.05
    normal = np.array([dice.normal(1, 2) for _ in range(4000)])
    assert abs(normal.mean() - 1) < 0.15 and abs(normal.std() - 2) < 0.1
    picks = [dice.weighted((1.0, 4.0)) for _ in range(4000)]
    assert abs(np.mean(picks) - 0.75) < 0.03
    assert {dice.integer(1, 3) for _ in range(100)} == {1, 2, 3}
    assert sorted(dice.shuffled(range(9))) == list(range(9))


def test_areas_of_parts() -> None:
    assert _area(oval("main", 3, 4, 2, 1).points) == pytest.approx(2 * np.pi, rel=0.04)
    assert _area(oval("main", 3, 4, 2, 1, 0.7).points) == pytest.approx(2 * np.pi, rel=0.04)
    assert _area(box("main", 1, 1, 3, 2).points) == pytest.approx(2)
    capsule = limb("main", 0, 0, 1, 5, 0, 1)
    assert _area(capsule.points) == pytest.approx(10 + np.pi, rel=0.05)
    twice = moved([capsule], 3, 0, 2.0)[0]
    assert _area(twice.points) == pytest.approx(4 * _area(capsule.points))


def test_words_are_legible_and_fit_their_box() -> None:
    assert all(set(word) <= set(GLYPHS) for word in WORDS)
    assert len({GLYPHS[letter] for letter in "ABCDEFGHIJKLMNPRSTUVWXYZ"}) == 24
    for k in range(30):
        dice = Dice(k)
        parts, mark = lettering(dice, "ink", registration(dice), -1, -0.2, 1, 0.2)
        xy = np.array([point for part in parts for point in part.points])
        assert (np.abs(xy) <= (1.001, 0.201)).all()
        assert mark.height <= 0.4 and mark.height == pytest.approx(np.ptp(xy[:, 1]))


def test_signs_and_faces_are_marked() -> None:
    assert all(sign(Dice(k)).words for k in range(30))
    people = [person(Dice(k)) for k in range(200)]
    for sketch in people:
        assert bool(sketch.faces) == (sketch.view != "back")
    views = [sketch.view for sketch in people]
    assert {"front", "side", "back", "portrait"} == set(views)
    assert 0.15 < np.mean([view == "portrait" for view in views]) < 0.45
    assert {sketch.form for sketch in people} == {"man", "woman", "child"}


@pytest.mark.parametrize("canvas", [128, 192])
def test_textures_have_contrast_at_every_size(canvas: int) -> None:
    bank = tiles(canvas)
    assert {family: len(found) for family, found in bank.items()} == FAMILIES
    for found in bank.values():
        for tile in found:
            assert tile.size == (2 * canvas, 2 * canvas)
            assert 15 < np.asarray(tile).std() <= 128
    assert window(Dice(0), canvas, "noisy", canvas, 7).size == (canvas, 7)


def test_grain_is_centred() -> None:
    noise = np.asarray(grain(64)).astype(float)
    assert abs(noise.mean() - 128) < 0.1 and 2 < noise.std() < 4


def test_only_surfaces_bear_the_texture() -> None:
    """A thing of two boxes: the accent keeps its colour, the surface gets a second one."""
    colours = role_colours((200, 40, 40), (40, 40, 200), (0, 0, 0))
    look = Look(
        colours=colours, texture="checked", second=(250, 250, 250), shading=0.0, outlined=False
    )
    parts = [box("main", 0, 0, 1, 1), box("accent", 1, 0, 2, 1)]
    points = np.array([point for part in parts for point in part.points]) * 60 + 4
    canvas = Canvas(128)
    canvas.thing(Dice(1), parts, points, 60.0, look)
    image = np.asarray(canvas.image)
    surface = {tuple(int(v) for v in c) for c in image[10:60, 10:60].reshape(-1, 3)}
    assert {(200, 40, 40), (250, 250, 250)} <= surface
    assert {tuple(int(v) for v in c) for c in image[10:60, 70:120].reshape(-1, 3)} == {
        (40, 40, 200)
    }
