"""What a picture looks like, in numbers that no decoder is trained on: colour, luminance, edges,
its largest object.

Computed from the picture and COCO's boxes alone; metrics/readout.py tests how well decoded features
predict them. The choice of maps is ours. Every number is an array (I, M), M entries a picture, SIDE
x SIDE places row by row:
colour      mean red-green (R - G), then mean blue-yellow (B - (R + G) / 2) of each place; R, G, B from 0 to 1
luminance   mean luma of each place (weights of ITU-R BT.709 on the stored values), 0 to 1
edges       mean gradient magnitude of the luma of each place, central differences, per pixel of the stored picture
position    centre (x, y) of the visible box of the largest object, fractions of the cropped picture from its left top
size        square root of the largest object's visible fraction: the side of a square of its area
The largest object has the largest visible fraction of all but crowds (datasets/nsd/coco.py), of equal ones COCO's
first.
A picture without an object has NaN in position and size.

Letters: I images, H height, W width, C colour channels, M entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import coco, coco_files, layout, stimuli

Floats = NDArray[np.floating]
SIDE = 4
LUMA = np.array((0.2126, 0.7152, 0.0722), dtype=np.float32)
BLOCK = 100  # pictures in memory at a time


class _Instance(coco_files.Instance, gc=False):
    iscrowd: int = 0


class _InstanceFile(msgspec.Struct):
    images: list[coco_files.Picture]
    annotations: list[_Instance]


def load_maps(
    root: Path, nsd_id_I: Sequence[int] | NDArray[Any], *, min_area: float
) -> dict[str, Floats]:
    """All maps of pictures, float32 (I, M), in the order given.

    min_area: an object counts if at least this fraction of the cropped picture shows it, as for the
    labels.
    """
    blocks = [map_pictures(images) for _, images in stimuli.iterate_images(root, nsd_id_I, BLOCK)]
    if not blocks:
        raise ValueError("no pictures to describe; pass at least one id")
    maps = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    box_I4 = find_largest(root, nsd_id_I, min_area=min_area)
    return maps | {"position": box_I4[:, :2], "size": np.sqrt(box_I4[:, 2:])}


def map_pictures(images_IHWC: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """colour, luminance and edges of uint8 pictures (I, H, W, 3)."""
    rgb = images_IHWC.astype(np.float32) / 255
    luma = rgb @ LUMA
    red_green, blue_yellow = (
        rgb[..., 0] - rgb[..., 1],
        rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2,
    )
    down, right = np.gradient(luma, axis=(1, 2))
    return {
        "colour": np.concatenate([average_places(red_green), average_places(blue_yellow)], axis=1),
        "luminance": average_places(luma),
        "edges": average_places(np.hypot(down, right)),
    }


def average_places(value_IHW: Floats) -> NDArray[np.float32]:
    """Mean over SIDE x SIDE places, (I, SIDE * SIDE), whose sizes differ by a pixel where they
    must.
    """
    _, height, width = value_IHW.shape
    if min(height, width) < SIDE:
        raise ValueError(
            f"pictures are {height} x {width} pixels; a map of {SIDE} x {SIDE} places needs as many"
        )
    rows, columns = (np.linspace(0, n, SIDE + 1).astype(int) for n in (height, width))
    total = np.add.reduceat(np.add.reduceat(value_IHW, rows[:-1], axis=1), columns[:-1], axis=2)
    mean = total / np.outer(np.diff(rows), np.diff(columns))
    return mean.reshape(len(value_IHW), SIDE * SIDE).astype(np.float32)


def find_largest(
    root: Path, nsd_id_I: Sequence[int] | NDArray[Any], *, min_area: float
) -> NDArray[np.float32]:
    """(I, 3): x and y of the centre of the largest object's visible box, and its visible
    fraction; NaN without one.
    """
    sources = coco.load_sources(root, nsd_id_I)
    splits = sorted({source.split for source in sources.values()})
    sizes, instances = _read(root, splits, {source.coco_id for source in sources.values()})
    found_I3 = np.full((len(nsd_id_I), 3), np.nan, dtype=np.float32)
    for row, nsd_id in enumerate(nsd_id_I):
        source = sources[int(nsd_id)]
        if source.coco_id not in sizes:
            path = layout.instances_path(root, source.split)
            raise ValueError(
                f"{path} has no image {source.coco_id} (nsdId {nsd_id}); download it again"
            )
        best = max(min_area, float(np.finfo(np.float32).tiny))
        for instance in instances.get(source.coco_id, []):
            fraction = coco.visible_fraction(instance, source.crop, *sizes[source.coco_id])
            if fraction > best or (fraction == best and np.isnan(found_I3[row, 0])):
                best, found_I3[row, 2] = fraction, fraction
                found_I3[row, :2] = visible_centre(instance, source.crop, *sizes[source.coco_id])
    return found_I3


def visible_centre(
    instance: coco_files.Instance, crop: coco.Crop, width: float, height: float
) -> tuple[float, float]:
    """Centre (x, y) of the part of a box that the crop keeps, as fractions of the cropped
    picture.
    """
    x0, y0, x1, y1 = crop.bounds(width, height)
    x, y, w, h = instance.bbox
    left, right = max(x, x0), min(x + w, x1)
    top, bottom = max(y, y0), min(y + h, y1)
    return ((left + right) / 2 - x0) / (x1 - x0), ((top + bottom) / 2 - y0) / (y1 - y0)


def _read(
    root: Path, splits: Iterable[str], coco_ids: set[int]
) -> tuple[dict[int, tuple[float, float]], dict[int, list[_Instance]]]:
    """(width, height) and objects that are no crowd, by COCO id, in the order of the files."""
    sizes: dict[int, tuple[float, float]] = {}
    instances: dict[int, list[_Instance]] = {}
    for split in splits:
        content = coco_files.decode(layout.instances_path(root, split), _InstanceFile)
        sizes |= {
            item.id: (item.width, item.height) for item in content.images if item.id in coco_ids
        }
        for instance in content.annotations:
            if instance.image_id in coco_ids and not instance.iscrowd:
                instances.setdefault(instance.image_id, []).append(instance)
    return sizes, instances
