"""Single-trial betas of one session, in percent signal change, for the voxels of a mask.

NSD manual, Functional data; nsddatapaper main/export.m: the files hold int16 = percent signal change x 300.
HDF5 (also inside the older .mat) has h5py shape (750, Z, Y, X), stored one voxel a chunk: a bounding box is read, one
trial would touch every chunk. NIfTI has shape (X, Y, Z, 750). Both give the voxels in C order over (X, Y, Z), the order
of `volume[mask]`. Missing voxels are 0 in all trials; there is no NaN. Letters: N trials, V voxels.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout

Mask = NDArray[np.bool_]


def find_session(root: Path, subject: str, preparation: str, session: int) -> Path:
    """File of a session (1-based) in the first container that exists: .hdf5, .nii.gz, .mat."""
    paths = [layout.betas_path(root, subject, preparation, session, suffix) for suffix in layout.BETA_SUFFIXES]
    for path in paths:
        if path.is_file():
            return path
    others = " nor ".join(path.name for path in paths[1:])
    raise ValueError(
        f"{paths[0]} does not exist, {others} either; download session {session} or lower dataset.sessions"
    )


def read_session(path: Path, mask: Mask) -> NDArray[np.int16]:
    """Stored integers (percent signal change x 300) of the voxels of a mask, shape (750, V).

    mask: boolean (X, Y, Z). ValueError names the file when it is corrupt or of another shape than 750 trials x mask.
    """
    assert mask.any(), "mask has no voxel"
    try:
        return _read_nifti(path, mask) if path.name.endswith(".nii.gz") else _read_hdf5(path, mask)
    except (OSError, EOFError, zlib.error, RuntimeError, nib.filebasedimages.ImageFileError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); it is truncated or corrupt: delete it and run the download stage again"
        ) from error


def to_percent(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """Percent signal change (range -109.2 to 109.2) from stored integers; cast first, int16 division truncates."""
    return stored.astype(np.float32) / np.float32(layout.BETA_SCALE)


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box, one slice per axis, that holds every voxel of a mask."""
    bounds = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return tuple(slice(int(index[0]), int(index[-1]) + 1) for index in bounds)


def _read_hdf5(path: Path, mask: Mask) -> NDArray[np.int16]:
    box = bounding_box(mask)
    with h5py.File(path, "r") as file:
        if layout.BETAS_DATASET not in file:
            raise ValueError(f"{path} has no data set {layout.BETAS_DATASET!r}; it is no NSD betas file")
        dataset = file[layout.BETAS_DATASET]
        _check(path, dataset.shape[:1] + dataset.shape[:0:-1], dataset.dtype, mask)
        block = dataset[(slice(None), *box[::-1])]
    # columns of the (Z, Y, X) box in the order of mask[mask]: the same as block.T[mask_box], but row by row
    x, y, z = np.nonzero(mask[box])
    columns = np.ravel_multi_index((z, y, x), block.shape[1:])
    return np.take(block.reshape(len(block), -1), columns, axis=1)


def _read_nifti(path: Path, mask: Mask) -> NDArray[np.int16]:
    image: Any = nib.load(path)
    _check(path, image.shape[-1:] + image.shape[:-1], image.get_data_dtype(), mask)
    return np.ascontiguousarray(np.asarray(image.dataobj.get_unscaled())[mask].T)


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], mask: Mask) -> None:
    """shape: (trials, X, Y, Z) of the file."""
    expected = (layout.TRIALS_PER_SESSION, *mask.shape)
    if shape != expected:
        raise ValueError(
            f"{path} has (trials, X, Y, Z) = {shape}, but {expected} is needed: {layout.TRIALS_PER_SESSION} trials on "
            f"the grid of the ROI masks; is it a complete session of this subject in {layout.SPACE}?"
        )
    if dtype != np.int16:
        raise ValueError(f"{path} holds {dtype}, not the int16 of NSD's volume betas")
