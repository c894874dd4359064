"""Captions and objects of NSD pictures from the COCO 2017 annotations (Lin et al. 2014), made aware
of NSD's crop.

nsd_stim_info_merged.csv gives a picture its COCO id, its split and cropBox = (top, bottom, left,
right): the share of that side that was cut away; only the longer side was cut, the rest is square
(NSD manual, Experiments). An object's visible area is its area times the share of its bounding box
that the crop keeps, as a fraction of the cropped picture. Captions describe the uncropped picture
and are used as they are. Letters: I images, C the 80 categories, K captions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.datasets import interface
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import coco_files
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES
from fmri2clip.datasets.nsd.pictures.coco_files import Instance

MAX_CAPTIONS = 5  # COCO asked for five; a few pictures have more
CATEGORY_NAMES = tuple(category.name for category in COCO_CATEGORIES)
_COLUMN = {category.id: column for column, category in enumerate(COCO_CATEGORIES)}


class Crop(NamedTuple):
    """Fractions cut from each side of a picture, in the order of the CSV."""

    top: float
    bottom: float
    left: float
    right: float

    def bounds(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Kept part (x0, y0, x1, y1) of a picture of that size, in pixels; upper bounds are
        exclusive.
        """
        return (
            self.left * width,
            self.top * height,
            (1 - self.right) * width,
            (1 - self.bottom) * height,
        )


UNCROPPED = Crop(0.0, 0.0, 0.0, 0.0)


class Source(NamedTuple):
    """Where an NSD picture comes from."""

    coco_id: int
    split: str  # train2017 or val2017
    crop: Crop


@dataclass(frozen=True, kw_only=True)
class Annotations(interface.Annotations):
    """What COCO says about a list of pictures: the first five captions of every one, stripped, in
    COCO's order, and its 80 categories.
    """

    coco_id_I: NDArray[np.int64]
    further_captions: list[list[str]]  # one list a picture: captions beyond the fifth


def read_stim_info(root: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of the CSV, one row a picture in the order of nsdId; a file that lacks one raises
    ValueError.
    """
    path = layout.stim_info_path(root)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download_stimuli stage")
    try:
        table = pd.read_csv(path, usecols=lambda name: name in columns)
    except ValueError as error:
        raise ValueError(f"{path} is no NSD stimulus table ({error}); download it again") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} is no NSD stimulus table: it lacks {', '.join(missing)}; download it again"
        )
    wrong_I = table["nsdId"].to_numpy() != np.arange(len(table))
    if wrong_I.any():
        row = int(wrong_I.argmax())
        raise ValueError(
            f"{path}: nsdId is not 0, 1, ... in order, row {row} has {table['nsdId'][row]}; "
            "download it again"
        )
    return table


def parse_crop(path: Path, nsd_id: int, text: str) -> Crop:
    """Crop from the CSV's text '(top, bottom, left, right)'; anything but four fractions raises
    ValueError.
    """
    try:
        crop = Crop(*(float(side) for side in ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"{path}: the cropBox of nsdId {nsd_id} is {text!r}, not four numbers"
        ) from error
    if min(crop) < 0 or crop.top + crop.bottom >= 1 or crop.left + crop.right >= 1:
        raise ValueError(
            f"{path}: the cropBox of nsdId {nsd_id} is {text!r}; sides from 0 to 1 that leave "
            "something"
        )
    return crop


def load_sources(root: Path, nsd_ids: Iterable[int]) -> dict[int, Source]:
    """COCO id, split and crop of pictures, from the CSV; a missing file, column or picture raises
    ValueError.
    """
    path = layout.stim_info_path(root)
    table = read_stim_info(root, ("cocoId", "cocoSplit", "cropBox", "nsdId"))
    wanted = [int(nsd_id) for nsd_id in nsd_ids]
    missing = sorted({nsd_id for nsd_id in wanted if not 0 <= nsd_id < len(table)})
    if missing:
        raise ValueError(f"{path} has no row for nsdId {missing[:5]} ({len(missing)} in all)")
    if not pd.api.types.is_integer_dtype(table["cocoId"]):
        raise ValueError(
            f"{path}: cocoId is {table['cocoId'].dtype}, not integers; download it again"
        )
    rows = table.loc[wanted]
    return {
        nsd_id: Source(int(coco_id), split, parse_crop(path, nsd_id, crop))
        for nsd_id, coco_id, split, crop in zip(
            wanted, rows["cocoId"], rows["cocoSplit"], rows["cropBox"], strict=True
        )
    }


def visible_fraction(instance: Instance, crop: Crop, width: float, height: float) -> float:
    """Area of an instance inside the crop over the area of the crop, 0 to 1; size of the uncropped
    picture: pixels.
    """
    x0, y0, x1, y1 = crop.bounds(width, height)
    x, y, w, h = instance.bbox
    clipped = max(0.0, min(x + w, x1) - max(x, x0)) * max(0.0, min(y + h, y1) - max(y, y0))
    if clipped == 0:
        return 0.0
    # An object is taken to fill its box evenly: outlines would have to be cut for more.
    return min(1.0, instance.area * clipped / (w * h) / ((x1 - x0) * (y1 - y0)))


def load_annotations(
    root: Path, nsd_ids: Sequence[int] | NDArray[Any], *, min_area: float, cropped: bool = True
) -> Annotations:
    """Captions and labels of pictures, in the order given.

    An object counts if its visible fraction is above 0 and at least min_area. cropped=False is the
    recipe of most other code, for comparison: every object of the uncropped picture counts,
    whatever min_area. A picture without objects has an all-zero row; a picture without captions
    raises ValueError.
    """
    sources = load_sources(root, nsd_ids)
    splits = sorted({source.split for source in sources.values()})
    coco_ids = {source.coco_id for source in sources.values()}
    sizes, instances, captions = _read_splits(root, splits, coco_ids)
    labels_IC = np.zeros((len(nsd_ids), len(CATEGORY_NAMES)), dtype=bool)
    area_IC = np.zeros(labels_IC.shape)
    n_objects_I = np.zeros(len(nsd_ids), dtype=np.int16)
    texts: list[list[str]] = []
    for row, nsd_id in enumerate(nsd_ids):
        coco_id, split, crop = sources[int(nsd_id)]
        if coco_id not in sizes:
            path = layout.instances_path(root, split)
            raise ValueError(f"{path} has no image {coco_id} (nsdId {nsd_id})")
        if coco_id not in captions:
            path = layout.captions_path(root, split)
            raise ValueError(f"{path} has no caption of image {coco_id} (nsdId {nsd_id})")
        texts.append(captions[coco_id])
        for instance in instances.get(coco_id, []):
            fraction = visible_fraction(instance, crop if cropped else UNCROPPED, *sizes[coco_id])
            # min_area 0 still asks for an area above 0.
            if not cropped or fraction >= max(min_area, np.finfo(float).tiny):
                column = _column(root, split, instance)
                labels_IC[row, column] = True
                area_IC[row, column] += fraction
                n_objects_I[row] += 1
    kept = [row[:MAX_CAPTIONS] for row in texts]
    caption_image_K = np.repeat(np.arange(len(texts)), [len(row) for row in kept])
    return Annotations(
        nsd_id_I=np.asarray(nsd_ids, dtype=np.int64),
        coco_id_I=np.array([sources[int(nsd_id)].coco_id for nsd_id in nsd_ids], dtype=np.int64),
        caption_K=[text for row in kept for text in row],
        caption_image_K=caption_image_K.astype(np.int32),
        further_captions=[row[MAX_CAPTIONS:] for row in texts],
        labels_IC=labels_IC,
        area_IC=np.minimum(area_IC, 1).astype(np.float32),
        n_objects_I=n_objects_I,
        category_C=CATEGORY_NAMES,
    )


def _column(root: Path, split: str, instance: Instance) -> int:
    if instance.category_id not in _COLUMN:
        path = layout.instances_path(root, split)
        raise ValueError(
            f"{path}: image {instance.image_id} has category {instance.category_id}, none of "
            "COCO's 80"
        )
    return _COLUMN[instance.category_id]


def _read_splits(
    root: Path, splits: Iterable[str], coco_ids: set[int]
) -> tuple[dict[int, tuple[float, float]], dict[int, list[Instance]], dict[int, list[str]]]:
    """(width, height), instances and captions by COCO id, for the images asked for, in the order of
    the files.
    """
    sizes: dict[int, tuple[float, float]] = {}
    instances: dict[int, list[Instance]] = {}
    captions: dict[int, list[str]] = {}
    for split in splits:
        content = coco_files.decode(layout.instances_path(root, split), coco_files.InstanceFile)
        sizes |= {
            item.id: (item.width, item.height) for item in content.images if item.id in coco_ids
        }
        for instance in content.annotations:
            if instance.image_id in coco_ids:
                instances.setdefault(instance.image_id, []).append(instance)
        path = layout.captions_path(root, split)
        for caption in coco_files.decode(path, coco_files.CaptionFile).annotations:
            if caption.image_id in coco_ids:
                captions.setdefault(caption.image_id, []).append(caption.caption.strip())
    return sizes, instances, captions
