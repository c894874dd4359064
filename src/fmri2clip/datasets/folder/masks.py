"""Voxels of a subject in an exchange folder, and the ROIs that they belong to.

masks/<subject>.tsv has a row for each voxel of the betas and a column of 0 and 1 for each ROI; or
masks/<subject>/ has a NIfTI volume for each ROI, above 0 inside, whose path below that folder is
its name. The voxels are the rows, or those of any volume, in C order over (X, Y, Z).

Letters: V voxels, G columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.files import describe_failure
from fmri2clip.core.strict import suggest
from fmri2clip.datasets.folder.tables import MASKS, read_numbers, read_table
from fmri2clip.datasets.interface import GROUP_PREFIX, Groups, Rois
from fmri2clip.datasets.nsd.voxels import roi_groups

NCSNR = "ncsnr"  # column or volume that is no ROI
PLACE = ("x", "y", "z")  # columns that are none: zero-based place of the voxel
SUFFIXES = (".nii.gz", ".nii")
LINE = 1000  # voxels without a place stand in lines of so many
AFFINE_TOLERANCE = 0.01  # mm


@dataclass(frozen=True, kw_only=True)
class Masks:
    """What a folder says of the voxels of a subject.

    has_places: ijk_V3 are places in the grid of the betas, else numbers of rows; affine_44: of that
    grid, which a table does not know.
    """

    path: Path
    ijk_V3: NDArray[np.int16]
    grid: tuple[int, ...]  # X, Y, Z
    members: Mapping[str, NDArray[np.bool_]]  # ROI -> (V,)
    ncsnr_V: NDArray[np.float32] | None
    has_places: bool
    is_table: bool
    affine_44: NDArray[Any] | None = None

    def check_affine(self, path: Path, affine_44: NDArray[Any] | None) -> None:
        """Raise ValueError for volumes of a file that lie elsewhere than the masks."""
        if affine_44 is None or self.affine_44 is None:
            return
        if not np.allclose(affine_44, self.affine_44, atol=AFFINE_TOLERANCE):
            raise ValueError(
                f"{path} has the affine {affine_44.tolist()}, the masks {self.affine_44.tolist()}, "
                "so its voxels may lie elsewhere; resample one to the grid of the other, or give "
                "it that affine if the grids agree"
            )


def parse_groups(groups: Groups) -> dict[str, roi_groups.Expression]:
    """Each group as one expression, the union of its entries; names are not looked at."""
    parsed: dict[str, roi_groups.Expression] = {}
    for group, entries in groups.items():
        if not entries:
            raise ValueError(f"rois.{group} is empty; list at least one ROI of the folder")
        try:
            parsed[group] = roi_groups.Or(tuple(roi_groups.parse(entry) for entry in entries))
        except ValueError as error:
            raise ValueError(f"rois.{group}: {error}") from None
    return parsed


def make_rois(masks: Masks, groups: Groups) -> Rois:
    """The voxels, with a column for each ROI and each group; `not X` is the rest of the voxels."""
    columns = dict(masks.members)
    for group, expression in parse_groups(groups).items():
        for name in roi_groups.names(expression):
            if name not in masks.members:
                known = list(masks.members)
                raise ValueError(
                    f"rois.{group}: {name!r} is not in {masks.path}, which has {', '.join(known)}"
                    f"{suggest(name, known)}"
                )
        member_V = roi_groups.evaluate(expression, masks.members)
        if not member_V.any():
            raise ValueError(
                f"rois.{group} has no voxel in {masks.path}; its members are {list(groups[group])}"
            )
        columns[GROUP_PREFIX + group] = member_V
    mask = np.zeros(masks.grid, dtype=bool)
    mask[tuple(masks.ijk_V3.T)] = True
    return Rois(
        mask=mask,
        ijk_V3=masks.ijk_V3,
        roi_VG=np.stack(list(columns.values()), axis=1),
        names_G=list(columns),
    )


def read_masks(root: Path, subject: str) -> Masks:
    """Voxels and ROIs of a subject; ValueError for files that are missing or disagree."""
    table = root / MASKS / f"{subject}.tsv"
    folder = root / MASKS / subject
    if table.is_file() == folder.is_dir():
        both = "are both there; keep one" if table.is_file() else "do not exist; write one of them"
        raise ValueError(f"{table} and {folder}/ {both} (docs/own_data.md)")
    return _read_table(table) if table.is_file() else _read_volumes(folder)


def _read_table(path: Path) -> Masks:
    table = read_table(path, [])
    names = [str(name) for name in table.columns if name not in (*PLACE, NCSNR)]
    if not names or table.empty:
        raise ValueError(f"{path} has {len(table)} voxels and {len(names)} ROIs; name one at least")
    members = {}
    for name in names:
        values = np.array(read_numbers(table, name, path, 0))
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{path}: column {name} holds other values than 0 and 1")
        members[name] = values == 1
    here = [axis for axis in PLACE if axis in table.columns]
    if here and len(here) < len(PLACE):
        raise ValueError(f"{path} has column {here[0]} without the others of x, y, z; add them")
    if here:
        columns = [read_numbers(table, axis, path, 0) for axis in PLACE]
        ijk_V3 = np.array(columns).T
        if (
            (ijk_V3 % 1 != 0).any()
            or ijk_V3.min() < 0
            or len(np.unique(ijk_V3, axis=0)) < len(table)
        ):
            raise ValueError(f"{path}: x, y, z are no places, whole, from 0 on, each voxel its own")
    else:
        rows_V = np.arange(len(table))
        ijk_V3 = np.stack([0 * rows_V, rows_V // LINE, rows_V % LINE], axis=1)
    ncsnr_V = None
    if NCSNR in table.columns:
        ncsnr_V = np.array(read_numbers(table, NCSNR, path, 0)).astype(np.float32)
    return Masks(
        path=path,
        ijk_V3=ijk_V3.astype(np.int16),
        grid=tuple(int(n) + 1 for n in ijk_V3.max(axis=0)),
        members=members,
        ncsnr_V=ncsnr_V,
        has_places=bool(here),
        is_table=True,
    )


def _read_volumes(folder: Path) -> Masks:
    volumes: dict[str, NDArray[Any]] = {}
    affine: NDArray[Any] | None = None
    # Names that begin with a dot are other programs' notes.
    for path in sorted(p for p in folder.rglob("[!.]*") if p.name.endswith(SUFFIXES)):
        try:
            image: Any = nib.load(path)
            volume = np.asarray(image.dataobj)
        except Exception as error:
            raise describe_failure(path, error, "NIfTI", "write it again") from error
        name = path.relative_to(folder).as_posix()
        name = name.removesuffix(".gz").removesuffix(".nii")
        first = next(iter(volumes.values()), volume)
        affine = image.affine if affine is None else affine
        if volume.ndim != 3 or volume.shape != first.shape:
            raise ValueError(
                f"{path} has shape {volume.shape}, the others have {first.shape}; resample it to "
                "their grid"
            )
        if not np.allclose(image.affine, affine, atol=AFFINE_TOLERANCE):
            raise ValueError(
                f"{path} has another affine than the others; resample it to their grid"
            )
        volumes[name] = volume
    ncsnr = volumes.pop(NCSNR, None)
    inside = [np.nan_to_num(volume) > 0 for volume in volumes.values()]
    mask = np.logical_or.reduce(inside) if inside else np.zeros(0, bool)
    if not mask.any():
        raise ValueError(f"{folder} has no mask with a voxel above 0; put NIfTI volumes there")
    return Masks(
        path=folder,
        ijk_V3=np.argwhere(mask).astype(np.int16),
        grid=mask.shape,
        members={name: own[mask] for name, own in zip(volumes, inside, strict=True)},
        ncsnr_V=None if ncsnr is None else ncsnr[mask].astype(np.float32),
        has_places=True,
        is_table=False,
        affine_44=affine,
    )
