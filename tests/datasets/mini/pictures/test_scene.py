"""Scenes: repeatable, annotated as COCO would, and the same place with and without objects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fmri2clip.datasets.mini.pictures import layout
from fmri2clip.datasets.mini.pictures.dice import Dice
from fmri2clip.datasets.mini.pictures.places import PLACES
from fmri2clip.datasets.mini.pictures.scene import Scene, make_scene, render_many
from fmri2clip.datasets.mini.pictures.things import (
    BY_FREQUENCY,
    CATEGORY_IDS,
    DRAWERS,
    ELSEWHERE,
    draw_categories,
    weights,
)
from fmri2clip.datasets.mini.pictures.wording import UNINFORMATIVE
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES

SCENES = render_many(5, range(300), image_size=64, threads=1)


def test_categories_are_cocos() -> None:
    cocos = {(category.id, category.name) for category in COCO_CATEGORIES}
    assert {(number, name) for name, number in CATEGORY_IDS.items()} <= cocos
    assert set(DRAWERS) == set(CATEGORY_IDS) and len(CATEGORY_IDS) == 24
    assert {name for place in PLACES.values() for name in place.home} == set(CATEGORY_IDS)


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    again = make_scene(5, 17, image_size=64)
    np.testing.assert_array_equal(again.image, SCENES[17].image)
    assert again.instances == SCENES[17].instances
    assert again.captions == SCENES[17].captions
    assert not np.array_equal(make_scene(6, 17, image_size=64).image, again.image)
    assert len({scene.image.tobytes() for scene in SCENES}) == len(SCENES)


def test_processes_change_nothing() -> None:
    many = render_many(5, range(220), image_size=64, threads=2)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(many, SCENES, strict=False))


@pytest.mark.parametrize("size", [64, 96, 128])
def test_size_changes_the_picture_only(size: int) -> None:
    scene = make_scene(5, 3, image_size=size)
    assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
    assert scene.captions == SCENES[3].captions
    assert [i.bbox for i in scene.instances] == [i.bbox for i in SCENES[3].instances]


def test_uninformative_captions_leave_the_picture_alone() -> None:
    for index in range(10):
        control = make_scene(5, index, image_size=64, captions="uninformative")
        np.testing.assert_array_equal(control.image, SCENES[index].image)
        assert set(control.captions) <= set(UNINFORMATIVE)


def test_without_objects_only_their_neighbourhood_changes() -> None:
    """Far from boxes, shadows and signs all pixels are the same."""
    compared = 0
    for index, scene in enumerate(SCENES[:60]):
        empty = make_scene(5, index, image_size=64, without_objects=True)
        # What would be there is listed, without its paint.
        assert [i.bbox for i in empty.instances] == [i.bbox for i in scene.instances]
        assert (empty.n_faces, empty.n_words) == (scene.n_faces, scene.n_words)
        assert empty.crop_box == scene.crop_box and not empty.captions
        assert not any(i.colour or i.texture for i in empty.instances)
        if scene.n_words or not scene.instances:
            continue
        far = _outside_boxes(scene, margin=3)
        same = (empty.image == scene.image).all(-1)
        # Signs too small or covered are not counted in n_words, so a few scenes differ elsewhere.
        compared += bool(same[far].all())
        if same.all():
            assert not _boxes_in_crop(scene)
    assert compared >= 40


def _boxes_in_crop(scene: Scene) -> list[tuple[float, float, float, float]]:
    """Boxes (left, top, right, bottom) in pixels of a 64-pixel crop."""
    side = min(scene.width, scene.height)
    zoom = 64 / side
    left = scene.crop_box[2] * scene.width
    top = scene.crop_box[0] * scene.height
    boxes = []
    for x, y, w, h in (i.bbox for i in scene.instances):
        box = ((x - left) * zoom, (y - top) * zoom, (x + w - left) * zoom, (y + h - top) * zoom)
        if box[2] > 0 and box[3] > 0 and box[0] < 64 and box[1] < 64:
            boxes.append(box)
    return boxes


def _outside_boxes(scene: Scene, margin: int) -> np.ndarray:
    """Pixels that no box reaches, shadows below a box included."""
    far = np.ones((64, 64), dtype=bool)
    for x0, y0, x1, y1 in _boxes_in_crop(scene):
        aside = 0.12 * (x1 - x0) + margin  # a shadow is at most 1.2 times as wide
        left = max(int(x0 - aside), 0)
        top = max(int(y0) - margin, 0)
        far[top : max(int(y1 + aside), 0), left : max(int(x1 + aside), 0)] = False
    return far


def test_annotations_lie_inside_the_picture() -> None:
    for scene in SCENES:
        for instance in scene.instances:
            x, y, w, h = instance.bbox
            assert w > 0 and h > 0
            assert x >= 0 and y >= 0
            assert x + w <= scene.width + 0.01 and y + h <= scene.height + 0.01
            assert 0 < instance.area <= w * h + 1
            assert instance.segmentation
            for polygon in instance.segmentation:
                xy = np.array(polygon).reshape(-1, 2)
                assert len(xy) >= 3
                assert (xy >= np.array((x, y)) - 0.1).all()
                assert (xy <= np.array((x + w, y + h)) + 0.1).all()


@pytest.mark.parametrize("name", BY_FREQUENCY)
def test_area_is_close_to_a_count_of_fine_pixels(name: str) -> None:
    sketch = DRAWERS[name](Dice(4))
    placed = layout.place(Dice(5), name, sketch, 640, 480, 0.5, 0, 1)
    mask = Image.new("1", (640, 480))
    pen = ImageDraw.Draw(mask)
    start = 0
    for role, points, width in sketch.parts:
        stop = start + len(points)
        xy = placed.xy_P2[start:stop].ravel().tolist()
        if role != "prop" and width:
            pen.line(xy, fill=1, width=max(1, round(width * placed.scale)))
        elif role != "prop":
            pen.polygon(xy, fill=1)
        start = stop
    fine = float(np.asarray(mask).sum())
    # Cells of 8 pixels thicken thin things: a bicycle more than a ball.
    assert 0.8 * fine < placed.area < 1.25 * fine + 12000


def test_crops_are_squares_that_nsd_could_have_taken() -> None:
    for scene in SCENES:
        top, bottom, left, right = scene.crop_box
        wide = scene.width * (1 - left - right)
        tall = scene.height * (1 - top - bottom)
        assert abs(wide - tall) < 0.01 and abs(wide - min(scene.width, scene.height)) < 0.01


def test_every_category_differs_in_view_form_and_size() -> None:
    for name in BY_FREQUENCY:
        sketches = [DRAWERS[name](Dice(k, 1)) for k in range(60)]
        assert len({sketch.view for sketch in sketches}) >= 2
        assert len({str(sketch.parts) for sketch in sketches}) > 40
    boxes = [i.bbox for scene in SCENES for i in scene.instances]
    areas = np.array([w * h for _, _, w, h in boxes])
    assert np.quantile(areas, 0.95) / np.quantile(areas, 0.05) > 4


def test_categories_keep_to_places_as_little_as_asked() -> None:
    """Without groups and pairs, frequencies are base x place, counted over many first objects."""
    counts = Counter(draw_categories(Dice(9, k), "kitchen", 1)[0] for k in range(20000))
    expected = np.array(weights("kitchen")) / sum(weights("kitchen"))
    found = np.array([counts[name] for name in BY_FREQUENCY]) / 20000
    np.testing.assert_allclose(found, expected, atol=0.012)
    kitchen = dict(zip(BY_FREQUENCY, weights("kitchen"), strict=True))
    forest = dict(zip(BY_FREQUENCY, weights("forest"), strict=True))
    assert kitchen["dog"] / forest["dog"] == 1.0
    assert kitchen["horse"] / forest["horse"] == pytest.approx(ELSEWHERE)
    assert 0.35 <= ELSEWHERE <= 0.5


def test_rates_of_objects_people_faces_and_words() -> None:
    counts = [len(scene.instances) for scene in SCENES]
    assert 1.9 < np.mean(counts) < 2.5 and max(counts) == 4 and min(counts) == 0
    names = [{i.category for i in scene.instances} for scene in SCENES]
    assert 0.4 < np.mean(["person" in name for name in names]) < 0.7
    assert 0.25 < np.mean([scene.n_faces > 0 for scene in SCENES]) < 0.55
    assert 0.1 < np.mean([scene.n_words > 0 for scene in SCENES]) < 0.25
    assert any(len(name) < count for name, count in zip(names, counts, strict=True))
    assert len({scene.place for scene in SCENES}) == len(PLACES)


def test_mean_colour_says_little_about_the_place() -> None:
    """Nearest class mean of the mean colour, even and odd scenes: not far above chance."""
    colour_I3 = np.array([scene.image.mean((0, 1)) for scene in SCENES])
    names = sorted(PLACES)
    place_I = np.array([names.index(scene.place) for scene in SCENES])
    means = np.stack([colour_I3[::2][place_I[::2] == k].mean(0) for k in range(len(names))])
    distance = ((colour_I3[1::2, None] - means) ** 2).sum(-1)
    assert (distance.argmin(1) == place_I[1::2]).mean() < 0.25


def test_fixed_number_of_objects() -> None:
    assert len(make_scene(5, 8, image_size=64, n_objects=3).instances) == 3
    assert make_scene(5, 8, image_size=64, n_objects=0).instances == []


def test_unknown_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="choose informative or uninformative"):
        make_scene(5, 0, image_size=64, captions="none")
