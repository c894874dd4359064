"""coco.py: crops, visible areas against counted pixels, captions, both label recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import coco, coco_files

PERSON, CAR, TOOTHBRUSH = 0, 2, 79  # columns of ids 1, 3 and 90


def _box(image: int, category: int, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
    }


def _tree(root: Path) -> Path:
    """Pictures 0 (wide, cropped left and right), 1 (tall, cropped at the top, no objects left), 2
    (no objects, val).
    """
    table = "\n".join(
        [
            "," + ",".join(layout.CSV_COLUMNS),
            '0,7,train2017,"(0, 0, 0.2, 0.3)",0.1,0,False,False,True' + ",0" * 32,
            '1,5,train2017,"(0.5, 0, 0, 0)",0.1,1,False,False,False' + ",0" * 32,
            '2,9,val2017,"(0, 0, 0, 0)",0.1,2,False,False,False' + ",0" * 32,
        ]
    )
    layout.experiments_dir(root).mkdir(parents=True)
    layout.stim_info_path(root).write_text(table + "\n")
    objects = [
        _box(7, 1, 0, 0, 40, 20),  # half inside x 20..70: 20 x 20 of 50 x 50
        _box(7, 1, 30, 10, 10, 10),
        _box(7, 3, 0, 0, 20, 50),  # cut away entirely
        _box(7, 90, 69, 0, 2, 2),  # 1 x 2 of 2500: below 0.005
        _box(5, 3, 0, 0, 40, 40),  # above the crop of a 50 x 100 picture
    ]
    images = [{"id": 7, "width": 100, "height": 50}, {"id": 5, "width": 50, "height": 100}]
    captions = [{"image_id": 7, "caption": f" caption {k}\n", "id": 10 - k} for k in range(6)]
    captions[1:1] = [
        {"image_id": 5, "caption": "only one", "id": 50},
        {"image_id": 3, "caption": "other", "id": 51},
    ]
    content = {
        layout.instances_path(root, "train2017"): {"images": images, "annotations": objects},
        layout.captions_path(root, "train2017"): {"images": images, "annotations": captions},
        layout.instances_path(root, "val2017"): {
            "images": [{"id": 9, "width": 50, "height": 50}],
            "annotations": [],
        },
        layout.captions_path(root, "val2017"): {
            "annotations": [{"image_id": 9, "caption": "empty", "id": 1}]
        },
    }
    layout.annotations_dir(root).mkdir(parents=True)
    for path, value in content.items():
        path.write_text(json.dumps(value))
    return root


def test_crop_sides_and_order() -> None:
    assert coco.Crop(0, 0, 0.2, 0.3).bounds(100, 50) == (20, 0, 70, 50)
    assert coco.Crop(0.1, 0.4, 0, 0).bounds(50, 100) == (0, 10, 50, 60)


def test_visible_fraction_against_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        width, height = (int(v) for v in rng.integers(20, 60, 2))
        x0, x1 = sorted(int(v) for v in rng.choice(width + 1, 2, replace=False))
        y0, y1 = sorted(int(v) for v in rng.choice(height + 1, 2, replace=False))
        left, right = (int(v) for v in rng.integers(0, 9, 2))
        pixels = np.zeros((height, width), dtype=bool)
        pixels[y0:y1, x0:x1] = True
        crop = coco.Crop(0, 0, left / width, right / width)
        expected = pixels[:, left : width - right].mean()
        fields = _box(1, 1, x0, y0, x1 - x0, y1 - y0)
        box = coco_files.Instance(
            **{name: fields[name] for name in coco_files.Instance.__struct_fields__}
        )
        assert coco.visible_fraction(box, crop, width, height) == pytest.approx(expected, abs=1e-12)
        box.area /= 2  # a shape that fills half of its box is taken to be spread over it evenly
        assert coco.visible_fraction(box, crop, width, height) == pytest.approx(
            expected / 2, abs=1e-12
        )


def test_crop_aware_labels(tmp_path: Path) -> None:
    read = coco.load_annotations(_tree(tmp_path), [0, 1, 2], min_area=0.005)
    assert np.argwhere(read.labels_IC).tolist() == [[0, PERSON]]
    assert read.area_IC[0, PERSON] == pytest.approx(20 * 20 / 2500 + 100 / 2500)
    assert read.n_objects_I.tolist() == [2, 0, 0]
    assert read.labels_IC.shape == (3, 80) and read.area_IC.dtype == np.float32
    small = coco.load_annotations(tmp_path, [0], min_area=0)
    assert np.argwhere(small.labels_IC)[:, 1].tolist() == [PERSON, TOOTHBRUSH], (
        "nothing visible is never a label"
    )


def test_uncropped_labels(tmp_path: Path) -> None:
    read = coco.load_annotations(_tree(tmp_path), [0, 1, 2], min_area=0.9, cropped=False)
    assert np.argwhere(read.labels_IC).tolist() == [
        [0, PERSON],
        [0, CAR],
        [0, TOOTHBRUSH],
        [1, CAR],
    ]
    assert read.n_objects_I.tolist() == [4, 1, 0]
    assert read.area_IC[1, CAR] == pytest.approx(1600 / 5000)


def test_captions_in_file_order(tmp_path: Path) -> None:
    read = coco.load_annotations(_tree(tmp_path), [1, 0, 2], min_area=0)
    assert read.caption_K == ["only one", *(f"caption {k}" for k in range(5)), "empty"]
    assert read.caption_image_K.tolist() == [0, 1, 1, 1, 1, 1, 2]
    assert read.further_captions == [[], ["caption 5"], []]
    assert read.nsd_id_I.tolist() == [1, 0, 2] and read.coco_id_I.tolist() == [5, 7, 9]


def test_category_names_follow_the_ids() -> None:
    assert (coco.CATEGORY_NAMES[PERSON], coco.CATEGORY_NAMES[CAR]) == ("person", "car")
    assert coco.CATEGORY_NAMES[TOOTHBRUSH] == "toothbrush"


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"merged\.csv does not exist"):
        coco.load_annotations(tmp_path, [0], min_area=0)
    _tree(tmp_path)
    with pytest.raises(ValueError, match=r"merged\.csv has no row for nsdId \[3\]"):
        coco.load_annotations(tmp_path, [0, 3], min_area=0)
    path = layout.captions_path(tmp_path, "val2017")
    path.write_text(json.dumps({"annotations": []}))
    with pytest.raises(ValueError, match=r"captions_val2017\.json has no caption of image 9"):
        coco.load_annotations(tmp_path, [2], min_area=0)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"captions_val2017\.json is no JSON"):
        coco.load_annotations(tmp_path, [2], min_area=0)
    path.unlink()
    with pytest.raises(ValueError, match=r"captions_val2017\.json does not exist"):
        coco.load_annotations(tmp_path, [2], min_area=0)
    layout.instances_path(tmp_path, "train2017").write_text(
        json.dumps({"images": [], "annotations": []})
    )
    with pytest.raises(ValueError, match=r"instances_train2017\.json has no image 7"):
        coco.load_annotations(tmp_path, [0], min_area=0)
    layout.stim_info_path(tmp_path).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no NSD stimulus table"):
        coco.load_annotations(tmp_path, [0], min_area=0)


def _rewrite(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda c: c.pop("images"), "missing required field `images`"),
        (lambda c: c["annotations"][0].pop("area"), "missing required field `area`"),
        (
            lambda c: c["annotations"][1].update(bbox=[1, 2, 3]),
            r"length 4 - at `\$\.annotations\[1\]\.bbox`",
        ),
        (lambda c: c["annotations"][1].update(bbox=None), "Expected `array`, got `null`"),
        (lambda c: c["images"][0].update(width="wide"), "Expected `float`, got `str`"),
        (
            lambda c: c["annotations"][1].update(category_id=12),
            "image 7 has category 12, none of COCO's 80",
        ),
    ],
)
def test_hostile_instances(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    path = layout.instances_path(_tree(tmp_path), "train2017")
    _rewrite(path, edit)
    with pytest.raises(ValueError, match=problem) as error:
        coco.load_annotations(tmp_path, [0], min_area=0)
    assert str(error.value).startswith(str(path))


def test_hostile_captions(tmp_path: Path) -> None:
    path = layout.captions_path(_tree(tmp_path), "train2017")
    _rewrite(path, lambda c: c["annotations"][0].update(caption=3))
    with pytest.raises(
        ValueError, match=r"captions_train2017\.json is not laid out .*Expected `str`, got `int`"
    ):
        coco.load_annotations(tmp_path, [0], min_area=0)
    not_text = b'{"annotations": [{"image_id": 7, "caption": "\xff"}]}'
    for content, problem in (
        (b"", "is empty"),
        (b"<html>", "is no JSON"),
        (not_text, "is no JSON"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"captions_train2017\.json {problem}"):
            coco.load_annotations(tmp_path, [0], min_area=0)


def test_hostile_picture_table(tmp_path: Path) -> None:
    path = layout.stim_info_path(_tree(tmp_path))
    text = path.read_text()
    for old, new, problem in (
        ("cropBox", "crop", "is no NSD stimulus table: it lacks cropBox"),
        (",1,False", ",0,False", "nsdId is not 0, 1, ... in order, row 1 has 0"),
        ("0,7,", "0,7.5,", "cocoId is float64, not integers"),
        (
            "(0, 0, 0.2, 0.3)",
            "(0, 0, 0.2)",
            "the cropBox of nsdId 0 is '(0, 0, 0.2)', not four numbers",
        ),
    ):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=re.escape(problem)):
            coco.load_annotations(tmp_path, [0], min_area=0)


def test_file_layer_against_json(tmp_path: Path) -> None:
    path = layout.instances_path(_tree(tmp_path), "train2017")
    _rewrite(
        path, lambda c: c.update(categories=[{"id": 3, "name": "car", "supercategory": "vehicle"}])
    )
    content = json.loads(path.read_text())
    assert coco_files.load_categories(tmp_path, "train2017") == [(3, "car")]
    assert coco_files.load_sizes(tmp_path, "train2017") == {
        i["id"]: (i["width"], i["height"]) for i in content["images"]
    }
