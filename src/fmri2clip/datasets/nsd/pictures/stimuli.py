"""Pictures of nsd_stimuli.hdf5: one data set imgBrick (images, height, width, 3) uint8, RGB; its
row is the nsd_id.

The real file has 73,000 pictures of 425 x 425 pixels (39.6 GB, uncompressed); number and size are
read from the file. HDF5 takes only increasing row lists and reads long ones slowly, so runs of
neighbouring rows are read as slices. Letters: I images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import HDF5_ERRORS, describe_failure
from fmri2clip.datasets.nsd import layout

Images = NDArray[np.uint8]


def image_shape(root: Path) -> tuple[int, int, int]:
    """(number of pictures, height, width) of the file."""
    with _brick(root) as brick:
        return brick.shape[0], brick.shape[1], brick.shape[2]


def read_images(root: Path, nsd_id_I: Sequence[int] | NDArray[Any]) -> Images:
    """Pictures (I, H, W, 3) in the order of the ids, which may repeat; an id outside the file
    raises ValueError.
    """
    with _brick(root) as brick:
        return _read_rows(brick, _checked(root, brick, nsd_id_I))


def iterate_images(
    root: Path, nsd_id_I: Sequence[int] | NDArray[Any], block_size: int, start: int = 0
) -> Iterator[tuple[int, Images]]:
    """Yield (position of the first id, pictures) in blocks of at most block_size ids, from position
    start on.
    """
    with _brick(root) as brick:
        ids = _checked(root, brick, nsd_id_I)
        for position in range(start, len(ids), block_size):
            yield position, _read_rows(brick, ids[position : position + block_size])


def _read_rows(brick: h5py.Dataset, ids: NDArray[np.int64]) -> Images:
    rows, inverse = np.unique(ids, return_inverse=True)
    images = np.empty((len(rows), *brick.shape[1:]), dtype=np.uint8)
    edges = np.flatnonzero(np.diff(rows, prepend=-2, append=-2) != 1)
    for first, last in pairwise(edges):
        brick.read_direct(images, np.s_[rows[first] : rows[last - 1] + 1], np.s_[first:last])
    return images if np.array_equal(rows, ids) else images[inverse]


def _checked(
    root: Path, brick: h5py.Dataset, ids: Sequence[int] | NDArray[Any]
) -> NDArray[np.int64]:
    checked = np.asarray(ids, dtype=np.int64)
    if checked.size and not 0 <= checked.min() <= checked.max() < len(brick):
        path = layout.stimuli_path(root)
        raise ValueError(
            f"{path} has pictures 0 to {len(brick) - 1}, but {checked.min()} to {checked.max()} "
            "are needed"
        )
    return checked


@contextmanager
def _brick(root: Path) -> Iterator[h5py.Dataset]:
    path = layout.stimuli_path(root)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download_stimuli stage")
    try:
        with h5py.File(path, "r") as file:
            yield _find_brick(path, file)
    except HDF5_ERRORS as error:
        raise describe_failure(path, error, "HDF5", "delete it and download it again") from error


def _find_brick(path: Path, file: h5py.File) -> h5py.Dataset:
    brick = file.get(layout.IMAGES_DATASET)
    wanted = "(images, height, width, 3) uint8"
    if not isinstance(brick, h5py.Dataset):
        raise ValueError(
            f"{path} has no {layout.IMAGES_DATASET} of {wanted}; it has "
            f"{', '.join(file) or 'nothing'}"
        )
    if brick.dtype != np.uint8 or brick.ndim != 4 or brick.shape[3] != 3 or not brick.size:
        raise ValueError(
            f"{path} has no {layout.IMAGES_DATASET} of {wanted} but one of {brick.shape} "
            f"{brick.dtype}; if that is a copy made by other software, download the original"
        )
    return brick
