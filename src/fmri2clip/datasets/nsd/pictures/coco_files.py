"""COCO's 2017 annotation files (Lin et al. 2014; Chen et al. 2015 for captions), with the fields
that are used here.

instances_train2017.json has 448 MB and 860,001 annotations, mostly outlines, which json.loads would
turn into several GB of lists: the files are mapped and decoded into these types, and what they do
not name becomes no object.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TypeVar

import msgspec

from fmri2clip.datasets.nsd import layout

T = TypeVar("T")


class Instance(msgspec.Struct, gc=False):
    """One object: area in square pixels, bbox (x, y, width, height) in the uncropped picture."""

    image_id: int
    category_id: int
    area: float
    bbox: tuple[float, float, float, float]


class Picture(msgspec.Struct, gc=False):
    """Size of an uncropped picture, in pixels."""

    id: int
    width: float
    height: float


class Caption(msgspec.Struct, gc=False):
    """One caption of one picture."""

    image_id: int
    caption: str


class NamedCategory(msgspec.Struct):
    """A category with its COCO id."""

    id: int
    name: str


class InstanceFile(msgspec.Struct):
    """What is read of an instance file: pictures and the objects on them."""

    images: list[Picture]
    annotations: list[Instance]


class ImageFile(msgspec.Struct):
    """The pictures of a file alone."""

    images: list[Picture]


class CategoryFile(msgspec.Struct):
    """The categories of a file alone."""

    categories: list[NamedCategory]


class CaptionFile(msgspec.Struct):
    """The captions of a file alone."""

    annotations: list[Caption]


def load_categories(root: Path, split: str) -> list[tuple[int, str]]:
    """(id, name) of the categories of an annotation file, in its order."""
    return [
        (item.id, item.name)
        for item in decode(layout.instances_path(root, split), CategoryFile).categories
    ]


def load_sizes(root: Path, split: str) -> dict[int, tuple[float, float]]:
    """(width, height) in pixels of the uncropped pictures of a split, by COCO id."""
    content = decode(layout.instances_path(root, split), ImageFile)
    return {item.id: (item.width, item.height) for item in content.images}


def decode(path: Path, content: type[T]) -> T:
    """Content of a file, without the fields that the type does not name; a missing or broken file
    raises ValueError.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; put the COCO 2017 annotations there or run the "
            "download_stimuli stage"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; download it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        try:
            return msgspec.json.decode(buffer, type=content)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"{path} is not laid out as COCO's annotations ({error}); download it again"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no JSON ({error}); download it again") from error
