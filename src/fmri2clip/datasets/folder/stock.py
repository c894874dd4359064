"""Pictures of an exchange folder, by the names that trials.tsv has for them.

pictures/ holds image files, and a picture is named by its file; or pictures.h5 holds a data set
`images` (I, H, H, 3) uint8, and a picture is named by its row, from 0 on. The id of a picture is
its place among the sorted files, or its row. Letters: I images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from unicodedata import normalize

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmri2clip.core.files import HDF5_ERRORS, describe_failure
from fmri2clip.core.strict import suggest
from fmri2clip.datasets.folder.tables import PICTURES
from fmri2clip.datasets.interface import Ints

IMAGES = "images"  # data set of pictures.h5
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEEP = ("I", "F")  # begin the names of Pillow's modes with 16 or 32 bits
OPAQUE = 255  # alpha


class Stock(Protocol):
    """All pictures of a folder."""

    def find(self, names: Iterable[str], where: str) -> Ints:
        """Ids of pictures; one that is not there raises ValueError with `where` it is named."""
        ...

    def name(self, nsd_id: int) -> str:
        """What the tables call a picture."""
        ...

    def size(self) -> tuple[int, int]:
        """Height and width of every picture, in pixels."""
        ...

    def read(self, nsd_id_I: Ints) -> NDArray[np.uint8]:
        """Pictures (I, H, W, 3)."""
        ...


def read_picture(path: Path) -> Image.Image:
    """One picture in RGB, turned as its EXIF says.

    Raises ValueError for a file that is no picture, or whose colours are not plain: of more than 8
    bits, which would be cut off, or see-through, which would stand before no known background.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            plain = picture.convert("RGB")
            is_transparent = (
                picture.has_transparency_data
                and np.asarray(picture.convert("RGBA"))[..., 3].min() < OPAQUE
            )
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise describe_failure(path, error, "a picture", "write it again") from error
    if picture.mode.startswith(DEEP):
        raise ValueError(
            f"{path} has pixels of mode {picture.mode}, which are not 8 bits; save it as 8 bits"
        )
    if is_transparent:
        raise ValueError(
            f"{path} has transparent pixels; paste it onto the background that was shown"
        )
    return plain


def open_stock(root: Path, side: int = 0) -> Stock:
    """The pictures of a folder. side: pixels that files are cropped and resized to; 0: they are
    taken as they are.
    """
    folder = root / PICTURES
    brick = root / f"{PICTURES}.h5"
    if folder.is_dir() == brick.is_file():
        both = "are both there; keep one" if brick.is_file() else "do not exist; write one of them"
        raise ValueError(f"{folder}/ and {brick} {both} (docs/own_data.md)")
    return Files(folder, side) if folder.is_dir() else Brick(brick)


@dataclass(frozen=True)
class Files:
    """Image files in one folder, or in folders of it."""

    folder: Path
    side: int = 0

    @cached_property
    def names(self) -> list[str]:
        """Paths below the folder, sorted; names that begin with a dot are other programs' notes."""
        found = [p for p in self.folder.rglob("[!.]*") if p.suffix.lower() in SUFFIXES]
        return sorted(p.relative_to(self.folder).as_posix() for p in found if p.is_file())

    def find(self, names: Iterable[str], where: str) -> Ints:
        """Places among the sorted names. Letters with accents are the same in one sign and in two:
        archives of macOS have two.
        """
        place = {normalize("NFC", name): row for row, name in enumerate(self.names)}
        wanted = list(names)
        for name in wanted:
            if normalize("NFC", name) not in place:
                raise ValueError(
                    f"{where}: picture {name!r} is not in {self.folder}, which has "
                    f"{len(place)} image files{suggest(name, self.names)}"
                )
        return np.array([place[normalize("NFC", name)] for name in wanted], dtype=np.int64)

    def name(self, nsd_id: int) -> str:
        """Path below the folder."""
        return self.names[nsd_id]

    def size(self) -> tuple[int, int]:
        """The side asked for, or the size of the first file."""
        if self.side:
            return self.side, self.side
        if not self.names:
            raise ValueError(f"{self.folder} has no image file ({', '.join(SUFFIXES)})")
        height, width = self._open(self.names[0]).shape[:2]
        return height, width

    def read(self, nsd_id_I: Ints) -> NDArray[np.uint8]:
        """One file after the other."""
        size = self.size()
        images = np.empty((len(nsd_id_I), *size, 3), dtype=np.uint8)
        for row, nsd_id in enumerate(nsd_id_I.tolist()):
            image = self._open(self.names[nsd_id])
            if image.shape[:2] != size or size[0] != size[1]:
                raise ValueError(
                    f"{self.folder / self.names[nsd_id]} is {image.shape[1]} pixels wide and "
                    f"{image.shape[0]} high; pictures are square, all {size[1]} wide as the first: "
                    "set picture_size in dataset.json, to which all are cropped (centre) and "
                    "resized; what CLIP takes in is enough, 224 for photographs"
                )
            images[row] = image
        return images

    def _open(self, name: str) -> NDArray[np.uint8]:
        """One picture (H, W, 3)."""
        image = read_picture(self.folder / name)
        if self.side:
            short = min(image.size)
            left = (image.width - short) // 2
            top = (image.height - short) // 2
            # Cropped first: resizing a box of a picture lets what is around it in.
            image = image.crop((left, top, left + short, top + short))
            image = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return np.asarray(image)


@dataclass(frozen=True)
class Brick:
    """All pictures in one HDF5 file."""

    path: Path

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(I, H, W, 3)."""
        return self._take(None)

    def find(self, names: Iterable[str], where: str) -> Ints:
        """The rows themselves."""
        rows = []
        for name in names:
            if not (name.isascii() and name.isdecimal() and int(name) < self.shape[0]):
                raise ValueError(
                    f"{where}: picture {name!r} is no row of {self.path}, which has 0 to "
                    f"{self.shape[0] - 1}"
                )
            rows.append(int(name))
        return np.array(rows, dtype=np.int64)

    def name(self, nsd_id: int) -> str:
        """The row as text."""
        return str(nsd_id)

    def size(self) -> tuple[int, int]:
        """Of all pictures."""
        return self.shape[1], self.shape[2]

    def read(self, nsd_id_I: Ints) -> NDArray[np.uint8]:
        """Rows of the data set."""
        rows, inverse = np.unique(nsd_id_I, return_inverse=True)
        images: NDArray[np.uint8] = self._take(rows)[inverse]
        return images

    def _take(self, rows: Sequence[int] | NDArray[Any] | None) -> Any:
        """Shape of the data set, or some rows, ascending."""
        try:
            with h5py.File(self.path, "r") as file:
                images = file.get(IMAGES)
                is_there = isinstance(images, h5py.Dataset)
                if (
                    not is_there
                    or images.ndim != 4
                    or images.shape[3] != 3
                    or images.shape[1] != images.shape[2]
                    or images.dtype != np.uint8
                ):
                    raise ValueError(
                        f"{self.path} has no data set {IMAGES!r} (images, side, side, 3) of "
                        "uint8; write it"
                    )
                if rows is None:
                    return images.shape
                return images[rows] if len(rows) else np.empty((0, *images.shape[1:]), np.uint8)
        except HDF5_ERRORS as error:
            raise describe_failure(self.path, error, "HDF5", "write it again") from error
