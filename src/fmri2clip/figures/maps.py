"""Numbers of voxels as NIfTI volumes, for the viewers and atlases of the field.

Letters: V voxels, X Y Z the grid of the betas.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import describe_failure, replacing

Maps = Mapping[str, tuple[NDArray[np.integer], NDArray[np.floating]]]  # name -> ijk_V3, value_V


def write_maps(folder: Path, like: Path, maps: Maps) -> list[Path]:
    """One float32 volume <name>.nii.gz for each map, with the grid and affine of `like`; NaN where
    a map has no voxel. Returns their paths; either all are written or none.

    Raises ValueError for a `like` that cannot be read, has no three axes or does not hold a voxel.
    """
    try:
        image: Any = nib.load(like)
        shape = image.shape
    except Exception as error:
        raise describe_failure(like, error, "NIfTI", "name a volume of the betas' grid") from error
    if len(shape) != 3:
        raise ValueError(f"{like} has {len(shape)} axes; name one volume, such as a mask")
    paths = [folder / f"{name}.nii.gz" for name in maps]
    volumes = [_fill(like, shape, *of_voxels) for of_voxels in maps.values()]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(*paths) as temporaries:
        for temporary, volume_XYZ in zip(temporaries, volumes, strict=True):
            made = nib.Nifti1Image(volume_XYZ, image.affine)
            # No time in it: equal maps are equal files.
            temporary.write_bytes(gzip.compress(made.to_bytes(), mtime=0))
    return paths


def _fill(
    like: Path,
    shape: tuple[int, ...],
    ijk_V3: NDArray[np.integer],
    value_V: NDArray[np.floating],
) -> NDArray[np.float32]:
    least = tuple(int(n) for n in ijk_V3.max(axis=0) + 1)
    if any(has < needs for has, needs in zip(shape, least, strict=True)):
        raise ValueError(
            f"{like} has the grid {shape}, voxels up to {least} (X, Y, Z) are written; name a "
            "volume of the betas' grid"
        )
    volume_XYZ = np.full(shape, np.nan, dtype=np.float32)
    volume_XYZ[tuple(ijk_V3.T)] = value_V
    return volume_XYZ
