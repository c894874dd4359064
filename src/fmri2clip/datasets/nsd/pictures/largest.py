"""The largest object of a picture, from COCO's boxes and NSD's crop. Letters: I images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import coco, coco_files


class _Instance(coco_files.Instance, gc=False):
    iscrowd: int = 0


class _InstanceFile(msgspec.Struct):
    images: list[coco_files.Picture]
    annotations: list[_Instance]


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


def visible_centre(
    instance: coco_files.Instance, crop: coco.Crop, width: float, height: float
) -> tuple[float, float]:
    """Centre (x, y) of the visible part of a box, as fractions of the cropped picture."""
    x0, y0, x1, y1 = crop.bounds(width, height)
    x, y, w, h = instance.bbox
    left = max(x, x0)
    right = min(x + w, x1)
    top = max(y, y0)
    bottom = min(y + h, y1)
    return ((left + right) / 2 - x0) / (x1 - x0), ((top + bottom) / 2 - y0) / (y1 - y0)


def find_largest(
    root: Path, nsd_id_I: Sequence[int] | NDArray[Any], *, min_area: float
) -> NDArray[np.float32]:
    """(I, 3): centre (x, y) and fraction of the largest object's visible box; NaN without one."""
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
        width, height = sizes[source.coco_id]
        # An object must be visible at all, whatever min_area is. The smallest that counts may have
        # just that size; of equal ones after it the first stays.
        best = max(min_area, float(np.finfo(np.float32).tiny))
        for instance in instances.get(source.coco_id, []):
            fraction = coco.visible_fraction(instance, source.crop, width, height)
            if fraction > best or (fraction == best and np.isnan(found_I3[row, 0])):
                best = fraction
                found_I3[row, 2] = fraction
                found_I3[row, :2] = visible_centre(instance, source.crop, width, height)
    return found_I3
