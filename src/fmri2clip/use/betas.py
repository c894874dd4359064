"""Single-trial betas of a file, in the columns that a model reads.

    .h5, .hdf5      data/rois/{train,test}/<subject>.h5 of the pipeline (z-scores); or a data set
                    `betas` of volumes as NSD has them, of which the model's voxels are taken, or
                    of (trials, voxels), with data sets `picture` and `session`
    .nii.gz, .nii   4D volumes
    .npy            (trials, voxels), the voxels of ijk_V3 in this order
    .csv .tsv .parquet   the same as a table; a column `picture` says what a trial shows, a column
                    `session` when it was

What a file does not say of its trials, a table beside it may: a row a trial, columns `picture` and,
where it is known, `session`.

Letters: N trials, V voxels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.model import required, select_voxels
from fmri2clip.artefacts.trials import read_betas
from fmri2clip.datasets.folder import tables, volumes
from fmri2clip.datasets.folder.masks import AFFINE_TOLERANCE
from fmri2clip.use.model import Model

Array = NDArray[Any]
PICTURE = "picture"
SESSION = "session"
FRACTION = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?(?:\.\d+)?")  # pandas numbers equal names


@dataclass(frozen=True, kw_only=True)
class Trials:
    """betas_NV: as the file has them; is_z: they are z-scores, as the file says.

    picture_N: what each trial shows; session_N: label of its session; None where the file says
    nothing.
    """

    betas_NV: Array
    picture_N: Array | None = None
    session_N: Array | None = None
    is_z: bool = False


def read_trials(path: Path, model: Model) -> Trials:
    """Trials of a file, with the columns that the model reads.

    Raises ValueError for a file of an unknown kind or a broken one, of another subject, with
    another number of voxels, or without trials.
    """
    readers: dict[str, Callable[[Path, Model], Trials]] = {
        ".h5": _read_hdf5,
        ".hdf5": _read_hdf5,
        ".nii": _read_nifti,
        ".nii.gz": _read_nifti,
        ".npy": _read_npy,
        ".csv": _read_table,
        ".tsv": _read_table,
        ".parquet": _read_table,
    }
    if not path.is_file():
        raise ValueError(f"{path} is no file; name one of betas: {', '.join(readers)}")
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    if suffix not in readers:
        raise ValueError(f"{path.name} is no file of betas; {', '.join(readers)} can be read")
    trials = _take_rows(readers[suffix](path, model), model)
    n_trials, n_voxels = trials.betas_NV.shape
    if n_voxels != len(model.ijk_V3) == n_trials:
        raise ValueError(
            f"{path.name} has {n_trials} rows, as many as the model reads voxels; turn it round: "
            "rows are trials, columns are voxels"
        )
    if n_voxels != len(model.ijk_V3):
        raise ValueError(
            f"{path.name} has {n_voxels} voxels, the model reads {len(model.ijk_V3)}; give those "
            "of ijk_V3 in the model's inputs.safetensors, in this order, or whole volumes"
        )
    if not n_trials:
        raise ValueError(f"{path.name} has no trial; give one row for each")
    return trials


def _take_rows(trials: Trials, model: Model) -> Trials:
    """Of files that have all voxels of the folder that the model was trained on, the model's."""
    inputs = model.content.inputs
    n_voxels = trials.betas_NV.shape[1]
    n_rows = inputs["n_mask_rows_1"].item() if "n_mask_rows_1" in inputs else 0
    if n_voxels != n_rows or n_voxels == len(model.ijk_V3):
        return trials
    return replace(trials, betas_NV=trials.betas_NV[:, inputs["mask_row_V"]])


def add_pictures(trials: Trials, path: Path) -> Trials:
    """The trials of a file, with what the table beside it says of them, a row a trial in the same
    order.

    Raises ValueError for a table that cannot be read, is not whole or contradicts the file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; name a table with a row for each trial")
    table = tables.read_table(path, [PICTURE]).replace("", None)
    said = {name: table[name].to_numpy() for name in (PICTURE, SESSION) if name in table}
    read = _from_rows(path, trials.betas_NV, said)
    for name, known_N, said_N in (
        (PICTURE, trials.picture_N, read.picture_N),
        (SESSION, trials.session_N, read.session_N),
    ):
        if known_N is None or said_N is None:
            continue
        if (known_N.astype(str) != said_N.astype(str)).any():
            raise ValueError(
                f"{path.name} and the file of betas say different things under {name!r}; leave it "
                "out of one of them"
            )
    session_N = trials.session_N if read.session_N is None else read.session_N
    return replace(trials, picture_N=read.picture_N, session_N=session_N)


def _read_hdf5(path: Path, model: Model) -> Trials:
    if volumes.has_volumes(path):
        rows, subject = volumes.read_rows(path)
        _check_subject(path, subject, model)
        if rows:
            return _from_rows(path, rows["betas"], rows)
        return _from_volumes(path, model, *volumes.read_hdf5(path, model.ijk_V3))
    found = read_betas(path, ["betas_NV", "nsd_id_N"])
    _check_subject(path, str(found.attrs.get("subject", "")), model)
    return Trials(
        betas_NV=found["betas_NV"][:, _find_columns(path, found["betas_NV"].shape[1], model)],
        picture_N=found["nsd_id_N"],
        is_z=True,
    )


def _find_columns(path: Path, n_columns: int, model: Model) -> Array:
    """Columns of the model's voxels in a betas file of the pipeline, which has all ROIs."""
    listed = path.parent.parent / "voxels" / path.name
    if listed.is_file():
        return select_voxels(model.content, listed)
    rows_V = required(model.content, "voxel_rows_V")
    if rows_V.max() >= n_columns:
        raise ValueError(
            f"{path.name} has {n_columns} voxels, the model reads number {rows_V.max() + 1} too; "
            "extract the ROIs that it was trained with"
        )
    return rows_V


def _read_nifti(path: Path, model: Model) -> Trials:
    return _from_volumes(path, model, *volumes.read_nifti(path, model.ijk_V3))


def _from_volumes(
    path: Path, model: Model, betas_NV: Array, grid: volumes.Grid, affine_44: Array | None = None
) -> Trials:
    _check_subject(path, volumes.find_owner(path, grid), model)
    _check_place(path, model, grid, affine_44)
    session = volumes.find_session(path)
    return Trials(betas_NV=betas_NV, session_N=np.full(len(betas_NV), session) if session else None)


def _check_place(path: Path, model: Model, grid: volumes.Grid, affine_44: Array | None) -> None:
    """Raise ValueError for volumes that lie elsewhere than those of the training, where the model
    knows these: voxels are taken by their numbers.
    """
    inputs = model.content.inputs
    if "grid_3" in inputs and tuple(inputs["grid_3"].tolist()) != tuple(grid):
        raise ValueError(
            f"{path.name} has volumes of {tuple(grid)}, the model was trained on volumes of "
            f"{tuple(inputs['grid_3'].tolist())}; resample it to their grid"
        )
    known_44 = inputs.get("affine_44")
    if affine_44 is None or known_44 is None:
        return
    if not np.allclose(affine_44, known_44, atol=AFFINE_TOLERANCE):
        raise ValueError(
            f"{path.name} has the affine {affine_44.tolist()}, the model was trained on "
            f"{known_44.tolist()}, so its voxels may lie elsewhere; resample it to that grid, axes "
            "in that order"
        )


def _check_subject(path: Path, subject: str, model: Model) -> None:
    if subject and subject != model.subject:
        raise ValueError(
            f"{path.name} holds betas of {subject}, the model was trained on {model.subject}; "
            "decode each subject with its own model"
        )


def _from_rows(path: Path, betas_NV: Array, said: Mapping[str, Array]) -> Trials:
    """Rows of numbers, with what the file says of them under PICTURE and SESSION."""
    import pandas as pd

    if betas_NV.ndim != 2 or betas_NV.dtype.kind not in "iuf":
        raise ValueError(
            f"{path.name} is {betas_NV.dtype} of shape {betas_NV.shape}; betas are numbers of "
            "shape (trials, voxels)"
        )
    for name in (PICTURE, SESSION):
        if name in said and pd.isna(said[name]).any():
            raise ValueError(f"{path.name}: {name!r} has empty entries; give one for each trial")
        if name in said and said[name].shape != (len(betas_NV),):
            raise ValueError(
                f"{path.name}: {name!r} has the shape {said[name].shape} for {len(betas_NV)} "
                "trials; give one entry for each"
            )
    if SESSION in said and said[SESSION].dtype.kind == "f":
        raise ValueError(f"{path.name}: {SESSION!r} holds no whole numbers, nor labels")
    return Trials(betas_NV=betas_NV, picture_N=said.get(PICTURE), session_N=said.get(SESSION))


def _read_npy(path: Path, model: Model) -> Trials:
    try:
        betas_NV = np.load(path, allow_pickle=False)
    # NumPy reads the header as Python, which refuses what is none in many ways.
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read as an array ({error})") from None
    return _from_rows(path, betas_NV, {})


def _check_header(path: Path, names: list[str]) -> None:
    """Raise ValueError where the first row is a trial: its numbers are no names.

    Whole numbers may be names: of voxels, counted.
    """
    if sum(FRACTION.fullmatch(name) is not None for name in names) > len(names) / 2:
        raise ValueError(
            f"{path.name} begins with numbers ({', '.join(names[:3])}, ...), which are read as "
            "names of columns; put a row of names above the first trial"
        )


def _read_table(path: Path, model: Model) -> Trials:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            # A label may be 01.
            types = {SESSION: str}
            table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=types)
    except ImportError:
        raise ValueError(
            f"{path.name}: Parquet needs a package more; pip install pyarrow, or save the table as "
            ".tsv"
        ) from None
    except (ValueError, OSError) as error:
        said = " ".join(str(error).split())  # of pandas it ends in a new line
        raise ValueError(f"{path.name} cannot be read as a table ({said})") from None
    _check_header(path, [str(name) for name in table])
    notes = {name: table.pop(name).to_numpy() for name in (PICTURE, SESSION) if name in table}
    words = [str(name) for name in table if table[name].dtype.kind not in "iuf"]
    if words:
        raise ValueError(
            f"{path.name}: column {words[0]!r} holds no numbers; beside voxels a table has the "
            f"columns {PICTURE!r} and {SESSION!r} at most"
        )
    return _from_rows(path, table.to_numpy(), notes)
