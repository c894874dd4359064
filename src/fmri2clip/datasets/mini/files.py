"""Containers of a simulated tree: HDF5, NIfTI and plain files that appear under their name only
when complete.

Bytes depend on the content alone: no dates, no file names inside gzip, no random temporary names.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from fmri2clip.datasets.nsd import layout

BETAS_TR = 4 / 3  # pixdim[4] of func1pt8mm betas (export.m, nsd_savenifti.m)
SLOPE_BYTES = slice(112, 120)  # scl_slope and scl_inter of a NIfTI-1 header; NSD's files hold zeros


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """Temporary path beside ``path``, moved there when the block ends well and removed when it does
    not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears under its name when it is complete."""
    with finished(path) as partial:
        partial.write_bytes(content)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, level: int = 6) -> None:
    """(X, Y, Z) or (X, Y, Z, T) volume with the header fields of the release (nsd_savenifti.m).

    sform_code 1, qform_code 0, xyzt_units 0, scl_slope 0 (values are not scaled by the reader),
    pixdim[4] = 4/3.
    """
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    image.header["pixdim"][1:4] = np.diag(affine)[:3]
    if array.ndim == 4:
        image.header["pixdim"][4] = BETAS_TR
    content = bytearray(image.to_bytes())
    content[SLOPE_BYTES] = bytes(8)
    write_bytes(path, gzip.compress(bytes(content), compresslevel=level, mtime=0))


def write_betas(
    path: Path, betas_VT: np.ndarray, ijk_V3: np.ndarray, shape: tuple[int, int, int]
) -> None:
    """One session as NSD stores it: `betas` int16, h5py shape (750, Z, Y, X), chunks (750, 1, 1,
    1).

    One chunk is one voxel's session, so voxels are written whole and in file order. Voxels outside
    ``ijk_V3`` are not stored; HDF5 reads them as 0, which is what the release holds there, at less
    than half the size.
    """
    n_trials = betas_VT.shape[1]
    with finished(path) as partial, h5py.File(partial, "w") as file:
        data = file.create_dataset(
            layout.BETAS_DATASET,
            shape=(n_trials, *shape[::-1]),
            dtype="<i2",
            chunks=(n_trials, 1, 1, 1),
        )
        for v in np.lexsort(ijk_V3.T):
            x, y, z = (int(i) for i in ijk_V3[v])
            data.id.write_direct_chunk((0, z, y, x), betas_VT[v].astype("<i2").tobytes())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Plain HDF5 file with one data set for each name."""
    with finished(path) as partial, h5py.File(partial, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def remove_others(folders: Iterable[Path], keep: set[Path]) -> None:
    """Deletes every file below the folders that is not to be kept, then the folders left empty."""
    for folder in folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in keep:
                path.unlink()
