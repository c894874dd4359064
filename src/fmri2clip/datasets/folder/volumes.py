"""Single-trial betas as volumes, of any number of trials: HDF5 as NSD lays it out, or 4D NIfTI.

HDF5 has a data set `betas` of h5py shape (trials, Z, Y, X), NIfTI has shape (X, Y, Z, trials). Both
keep the numbers of the file: NSD's int16 are percent signal change x 300. HDF5 may have rows in
place of volumes: `betas` of shape (trials, voxels), with `picture` and `session` of the trials
beside it. Letters: N trials, V voxels.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import HDF5_ERRORS
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels.betas import BROKEN

Array = NDArray[Any]
Grid = tuple[int, ...]  # X, Y, Z


# All that is read of an HDF5 file but for its numbers. The HDF5 library looks for ever for a text
# whose place is damaged, and nothing in the same process can stop it.
PROBE = """
import sys
import h5py

def look(name, node):
    dict(node.attrs)
    if isinstance(node, h5py.Dataset) and h5py.check_string_dtype(node.dtype):
        node[()]

with h5py.File(sys.argv[1], "r") as file:
    look("", file)
    file.visititems(look)
"""
PROBE_S = 20.0


def check_ends(path: Path, limit_s: float = PROBE_S) -> None:
    """Raise ValueError for an HDF5 file whose texts take longer than that to read."""
    try:
        subprocess.run(
            [sys.executable, "-c", PROBE, str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # what is wrong is said by who reads it here
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{path.name} cannot be read as HDF5 in {limit_s:g} s, so it is damaged; write it again"
        ) from None


def has_volumes(path: Path) -> bool:
    """Whether an HDF5 file holds a data set of volumes. Raises ValueError for another file."""
    check_ends(path)
    try:
        with h5py.File(path, "r") as file:
            return isinstance(file.get(layout.BETAS_DATASET), h5py.Dataset)
    except HDF5_ERRORS as error:
        raise ValueError(f"{path.name} cannot be read as HDF5 ({error})") from None


def read_rows(path: Path) -> tuple[dict[str, Array], str]:
    """betas (N, V) of an HDF5 file that has no volumes, with picture and session (N) where it has
    them; nothing of a file of volumes. And the subject that its attributes name, or ''.
    """
    with h5py.File(path, "r") as file:
        subject = str(file.attrs.get("subject", ""))
        if file[layout.BETAS_DATASET].ndim != 2:
            return {}, subject
        names = [name for name in (layout.BETAS_DATASET, "picture", "session") if name in file]
        found = {name: file[name] for name in names}
        return {
            name: dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
            for name, dataset in found.items()
        }, subject


def read_hdf5(path: Path, ijk_V3: Array) -> tuple[Array, Grid]:
    """betas_NV of these voxels (zero-based X, Y, Z) as stored, and the grid of the file.

    Raises ValueError for a file that is broken, or of another shape than volumes of these voxels.
    """
    try:
        with h5py.File(path, "r") as file:
            dataset = file[layout.BETAS_DATASET]
            grid = dataset.shape[:0:-1]
            _check(path, dataset.shape, grid, ijk_V3)
            betas_NV = np.empty((len(dataset), len(ijk_V3)), dataset.dtype)
            # Slice by slice, as a whole session would take a gigabyte.
            for z in np.unique(ijk_V3[:, 2]):
                here_V = np.flatnonzero(ijk_V3[:, 2] == z)
                x_V = ijk_V3[here_V, 0]
                y_V = ijk_V3[here_V, 1]
                plane_NYX = dataset[:, z, : y_V.max() + 1, : x_V.max() + 1]
                betas_NV[:, here_V] = plane_NYX[:, y_V, x_V]
    except HDF5_ERRORS as error:
        raise ValueError(f"{path.name} cannot be read as HDF5 ({error})") from None
    return betas_NV, grid


def read_nifti(path: Path, ijk_V3: Array) -> tuple[Array, Grid, Array]:
    """The same of a 4D NIfTI file, which is held in memory as a whole, and its affine (4, 4)."""
    try:
        image: Any = nib.load(path)
        # Integers stay integers where the header scales nothing.
        volumes_XYZN = np.asarray(image.dataobj)
    except BROKEN as error:
        raise ValueError(f"{path.name} cannot be read as NIfTI ({error})") from None
    grid = volumes_XYZN.shape[:3]
    _check(path, volumes_XYZN.shape, grid, ijk_V3)
    return volumes_XYZN[tuple(ijk_V3.T)].T, grid, np.asarray(image.affine)


def find_owner(path: Path, grid: Grid) -> str:
    """The NSD subject that the folder names in NSD's tree, or whose volumes alone have this grid;
    '' if neither says.
    """
    named = re.search(r"/ppdata/(subj\d\d)/", path.absolute().as_posix())
    if named:
        return named[1]
    owners = [
        subject
        for subject, shape in zip(layout.SUBJECTS, layout.VOLUME_SHAPES, strict=True)
        if shape == grid
    ]
    return owners[0] if len(owners) == 1 else ""


def find_session(path: Path) -> int:
    """Session, 1-based, in a name of NSD's such as betas_session05.hdf5; 0 for other names."""
    named = re.match(r"betas_session(\d\d)\.", path.name)
    return int(named[1]) if named else 0


def _check(path: Path, shape: Grid, grid: Grid, ijk_V3: Array) -> None:
    if len(shape) != 4:
        raise ValueError(
            f"{path.name} has {len(shape)} axes, betas have 4: one volume for each trial; join the "
            "trials into one file"
        )
    least = tuple(int(n) for n in ijk_V3.max(axis=0) + 1)
    if any(has < needs for has, needs in zip(grid, least, strict=True)):
        raise ValueError(
            f"{path.name} has volumes of {grid}, voxels up to {least} (X, Y, Z) are read; bring "
            "the betas into the space of these voxels, with the axes in their order"
        )
