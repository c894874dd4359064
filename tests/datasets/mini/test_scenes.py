"""Scenes: repeatable, annotated as COCO would, captions that tell the truth or nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmri2clip.datasets.mini import captions as texts
from fmri2clip.datasets.mini import scenes
from fmri2clip.datasets.mini.scenes import BACKGROUNDS, BY_FREQUENCY, make_scene, render_many
from fmri2clip.datasets.mini.shapes import CATEGORIES, PALETTE, SHAPES, outline
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES

SCENES = render_many(5, range(150), threads=1)


def test_categories_are_cocos() -> None:
    cocos = {(category.id, category.name) for category in COCO_CATEGORIES}
    assert {(shape.category_id, name) for name, shape in SHAPES.items()} <= cocos
    assert sorted(BY_FREQUENCY) == sorted(CATEGORIES)
    assert {name for background in BACKGROUNDS.values() for name in background.home} == set(
        CATEGORIES
    )


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    again = make_scene(5, 17)
    np.testing.assert_array_equal(again.image, SCENES[17].image)
    assert again.instances == SCENES[17].instances and again.captions == SCENES[17].captions
    assert not np.array_equal(make_scene(6, 17).image, again.image)
    assert len({scene.image.tobytes() for scene in SCENES}) == len(SCENES)


def test_processes_change_nothing() -> None:
    many = render_many(5, range(250), threads=2)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(many, SCENES, strict=False))


def test_background_is_a_shaded_column_under_a_texture_of_tiles() -> None:
    style, canvas = BACKGROUNDS["field"], 32
    found = np.asarray(scenes._paint_background(np.random.default_rng(4), style, canvas))
    rng = np.random.default_rng(4)
    horizon, shade, rows = (
        rng.uniform(*style.horizon),
        rng.integers(-16, 17, size=(2, 3)),
        np.linspace(0, 1, canvas),
    )
    texture = np.kron(rng.normal(0, 6.0, size=(8, 8)), np.ones((canvas // 8, canvas // 8)))
    upper = np.array(style.upper) + shade[0] + 24 * (rows[:, None] - 0.3)
    lower = np.array(style.lower) + shade[1] - 24 * (rows[:, None] - 0.7)
    column = np.where(rows[:, None] < horizon, upper, lower)
    expected = np.clip(column[:, None] + texture[:, :, None], 0, 255).astype(np.uint8)
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
    assert (found == expected).mean() > 0.999


def test_picture_is_the_mean_of_a_finer_painting_in_noisy_light() -> None:
    found = scenes._render(np.random.default_rng(4), "beach", [], np.zeros(2), 480, 16)
    rng = np.random.default_rng(4)
    fine = np.asarray(scenes._paint_background(rng, BACKGROUNDS["beach"], 32), dtype=np.float32)
    pixels = fine.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    light = rng.uniform(0.82, 1.12) * pixels + rng.normal(0, 3.0, size=pixels.shape)
    np.testing.assert_array_equal(found, np.clip(light, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", CATEGORIES)
def test_polygons_are_the_filled_outlines_inside_the_picture(name: str) -> None:
    painted = scenes._place(np.random.default_rng(2), name, 640, 480, 3, 0)
    parts = zip(painted.polygons, painted.line_widths, strict=True)
    filled = [np.clip(points, 0, (640, 480)).ravel() for points, line in parts if line == 0]
    assert painted.instance.segmentation == [[round(float(v), 1) for v in xy] for xy in filled]


def test_annotations_lie_inside_the_picture() -> None:
    for scene in SCENES:
        for instance in scene.instances:
            x, y, w, h = instance.bbox
            assert min(x, y) >= 0 and min(w, h) > 0
            assert x + w <= scene.width + 0.02 and y + h <= scene.height + 0.02
            assert 0 < instance.area <= w * h + 1
            for polygon in instance.segmentation:
                points = np.reshape(polygon, (-1, 2))
                assert (points >= -0.06).all() and (points <= np.add((x + w, y + h), 0.06)).all()


def test_crops_are_square_and_cut_the_longer_side_only() -> None:
    for scene in SCENES:
        top, bottom, left, right = scene.crop_box
        height, width = scene.height * (1 - top - bottom), scene.width * (1 - left - right)
        assert height == pytest.approx(width, abs=1)
        assert height == pytest.approx(min(scene.width, scene.height), abs=1)


def test_objects_are_painted_inside_their_boxes_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The picture differs from the same one without objects only where the annotated boxes are."""
    whole = [
        i for i, scene in enumerate(SCENES) if scene.width == scene.height and scene.instances
    ][:8]
    assert len(whole) == 8
    monkeypatch.setattr(scenes, "_paint", lambda *args: None)
    for index in whole:
        bare, scene = make_scene(5, index), SCENES[index]
        changed = (bare.image != scene.image).any(axis=2)
        boxes = np.zeros((64, 64), dtype=bool)
        for instance in scene.instances:
            x, y, w, h = np.array(instance.bbox) * 64 / scene.width
            boxes[max(0, int(y) - 2) : int(y + h) + 3, max(0, int(x) - 2) : int(x + w) + 3] = True
        assert not (changed & ~boxes).any()
        assert changed.mean() == pytest.approx(
            sum(i.area for i in scene.instances) / scene.width**2, rel=0.35
        )


def test_frequencies_are_long_tailed_and_depend_on_the_background() -> None:
    counts = {
        name: sum(i.category == name for s in SCENES for i in s.instances) for name in CATEGORIES
    }
    assert counts["person"] > 5 * max(1, counts["stop sign"])
    kitchen = [i.category for s in SCENES if s.background == "kitchen" for i in s.instances]
    assert np.mean([name in BACKGROUNDS["kitchen"].home for name in kitchen]) > 0.6


def test_captions_name_only_what_is_there_and_not_all_of_it() -> None:
    n_partial = 0
    for scene in SCENES:
        present = {instance.category for instance in scene.instances}
        assert len(scene.captions) in (5, 6)
        for caption in scene.captions:
            named = {name for name in CATEGORIES if re.search(rf"\b{name}\b", caption)}
            assert named <= present
            n_partial += named < present
    assert n_partial > 100


def test_uninformative_captions_leave_the_picture_alone() -> None:
    told, silent = make_scene(5, 3), make_scene(5, 3, captions="uninformative")
    np.testing.assert_array_equal(told.image, silent.image)
    assert set(silent.captions) <= set(texts.UNINFORMATIVE)
    with pytest.raises(ValueError, match="informative or uninformative"):
        make_scene(5, 3, captions="other")


def test_outlines_equal_what_pillow_draws() -> None:
    """An oval's outline covers nearly the pixels of Pillow's own ellipse."""
    points, line = outline(("oval", "main", 0.5, 0.5, 0.4, 0.3))
    assert line == 0
    ours, theirs = Image.new("1", (200, 200)), Image.new("1", (200, 200))
    ImageDraw.Draw(ours).polygon([tuple(p) for p in points * 200], fill=1)
    ImageDraw.Draw(theirs).ellipse((20, 40, 180, 160), fill=1)
    a, b = np.asarray(ours), np.asarray(theirs)
    assert (a & b).sum() / (a | b).sum() > 0.95
    assert outline(("line", "main", 0.1, 0, 0, 1, 1))[1] == 0.1
    assert set(PALETTE) >= {colour for shape in SHAPES.values() for colour in shape.colours}
