"""Files of the BrainDecoderToolbox2 and of bdpy (BData), in HDF5: Subject1.h5 and so on.

`dataSet` (or `dataset`) is one matrix (rows, columns), a row a trial; columns are voxels and labels
alike. `metaData` (or `metadata`) says which is which: `key` (K) names and `value` (K, columns), in
which row DataType is 1 in the one column that holds the type of the trial, row ROI_V1 is 1 in the
columns of voxels of V1, and so on; NaN or 0 elsewhere. bdpy only parses this; so does this file.
Letters: N trials, V voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import HDF5_ERRORS, describe_failure
from fmri2clip.core.strict import suggest

Array = NDArray[Any]
MATRIX = ("dataSet", "dataset")
META = ("metaData", "metadata")
ROI = "ROI_"
REMEDY = "download it again"


@dataclass(frozen=True, kw_only=True)
class BData:
    """One file. flags: name -> value of every column."""

    path: Path
    matrix: Array
    flags: dict[str, Array]

    @property
    def rois(self) -> dict[str, NDArray[np.bool_]]:
        """ROI -> its columns, of all ROIs that have some; names without ROI_."""
        found = {
            name.removeprefix(ROI): self._is_member(name)
            for name in self.flags
            if name.startswith(ROI)
        }
        return {name: member for name, member in found.items() if member.any()}

    def label(self, *names: str) -> Array:
        """Column (N) of a label; the names that releases gave it, the first that is there."""
        for name in names:
            if name in self.flags and self._is_member(name).sum() == 1:
                return self.matrix[:, self._is_member(name)][:, 0]
        raise ValueError(
            f"{self.path} has no label {names[0]!r}; it has {', '.join(sorted(self.flags))}"
            f"{suggest(names[0], list(self.flags))}"
        )

    def _is_member(self, name: str) -> NDArray[np.bool_]:
        """Columns with a 1: others hold 0 or NaN."""
        return self.flags[name] == 1


def read_bdata(path: Path) -> BData:
    """One file in memory, a few hundred MB. Raises ValueError for another kind of file."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; put GOD's Subject1.h5 ... there")
    try:
        with h5py.File(path, "r") as file:
            matrix = _find(file, MATRIX, path)[()]
            meta = _find(file, META, path)
            keys = [_to_text(key) for key in meta["key"][()].ravel()]
            values = meta["value"][()]
    except HDF5_ERRORS as error:
        raise describe_failure(path, error, "BData (HDF5)", REMEDY) from error
    if values.shape != (len(keys), matrix.shape[1]):
        raise ValueError(
            f"{path}: metaData/value is {values.shape}, expected {len(keys)} keys x "
            f"{matrix.shape[1]} columns; {REMEDY}"
        )
    return BData(path=path, matrix=matrix, flags=dict(zip(keys, values, strict=True)))


def _find(file: h5py.File, names: tuple[str, ...], path: Path) -> Any:
    for name in names:
        if name in file:
            return file[name]
    raise ValueError(f"{path} has no {names[0]}, so it is no BData file; {REMEDY}")


def _to_text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)
