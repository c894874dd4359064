"""largest.py against objects of known size, and centres against counted pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import coco_files, largest
from fmri2clip.datasets.nsd.pictures.coco import Crop
from fmri2clip.datasets.nsd.pictures.largest import visible_centre


def box(image: int, x: float, y: float, w: float, h: float, crowd: int = 0) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": crowd,
        "id": 1,
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Pictures 0 (100 x 50, keeps x 20 to 70), 1 (50 x 50, tiny object and a crowd)."""
    rows = [
        '0,7,train2017,"(0, 0, 0.2, 0.3)",0.1,0,False,False,True',
        '1,5,train2017,"(0, 0, 0, 0)",0.1,1,False,False,False',
    ]
    table = "\n".join(["," + ",".join(layout.CSV_COLUMNS), *(row + ",0" * 32 for row in rows)])
    objects = [
        box(7, 0, 0, 40, 20),
        box(7, 60, 25, 30, 25),
        box(7, 0, 0, 20, 50),
        box(7, 60, 25, 30, 25),
    ]
    objects += [box(5, 0, 0, 2, 2), box(5, 0, 0, 40, 40, crowd=1)]
    images = [{"id": 7, "width": 100, "height": 50}, {"id": 5, "width": 50, "height": 50}]
    for path, text in (
        (layout.stim_info_path(tmp_path), table + "\n"),
        (
            layout.instances_path(tmp_path, "train2017"),
            json.dumps({"images": images, "annotations": objects}),
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_largest_object_after_the_crop(tree: Path) -> None:
    """Object 1 shows 20 x 20 of 50 x 50 pixels, object 2 only 10 x 25, object 3 nothing."""
    found = largest.find_largest(tree, [1, 0], min_area=0.005)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], [10 / 50, 10 / 50, 400 / 2500], atol=1e-6)
    small = largest.find_largest(tree, [1], min_area=0.0)[0]
    np.testing.assert_allclose(small, [1 / 50, 1 / 50, 4 / 2500], atol=1e-6)
    exactly = largest.find_largest(tree, [1], min_area=4 / 2500)[0]
    np.testing.assert_allclose(exactly, small)


def test_visible_centre_equals_counted_pixels() -> None:
    crop, width, height = Crop(0, 0, 0.2, 0.3), 100, 50
    instance = coco_files.Instance(
        image_id=7, category_id=1, area=0.0, bbox=(60.0, 25.0, 30.0, 25.0)
    )
    pixels = [(x + 0.5, y + 0.5) for x in range(60, 90) for y in range(25, 50) if 20 <= x < 70]
    expected = (np.mean(pixels, axis=0) - [20, 0]) / 50
    np.testing.assert_allclose(visible_centre(instance, crop, width, height), expected)


def test_unknown_picture_is_named(tree: Path) -> None:
    with pytest.raises(ValueError, match="no row for nsdId"):
        largest.find_largest(tree, [9], min_area=0.1)
