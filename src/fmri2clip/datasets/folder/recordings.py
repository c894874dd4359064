"""The responses of one subject in an exchange folder (datasets/interface.py, docs/own_data.md).

betas/<subject>_<session> holds a session, its trials in the order of trials.tsv: .npy or .h5 (data
set `betas`) with rows (T, V), whose columns are the rows of masks/<subject>.tsv; or volumes, .h5 of
h5py shape (T, Z, Y, X) and .nii.gz of shape (X, Y, Z, T). Letters: N trials, T trials of a session,
V voxels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri2clip.core import resume
from fmri2clip.datasets.folder import masks, tables, volumes
from fmri2clip.datasets.folder.stock import Stock, open_stock
from fmri2clip.datasets.interface import Array, Groups, Rois, Trials

SUFFIXES = (".npy", ".h5", ".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class FolderRecordings:
    """One subject. rows: its trials, sessions one after the other; table: those with a picture, the
    others are passed over with their betas.
    """

    root: Path
    subject: str
    description: tables.Description
    rows: pd.DataFrame
    stock: Stock
    repetitions = 0
    is_local = True

    @classmethod
    def open(cls, root: Path, subject: str) -> FolderRecordings:
        """Read the tables; betas are read later. Raises ValueError for what does not fit."""
        description = tables.read_description(root)
        table = tables.read_trials(root)
        return cls(
            root=root,
            subject=subject,
            description=description,
            rows=tables.subject_rows(table, subject, root / tables.TRIALS),
            stock=open_stock(root, description.picture_size),
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """Trials with a picture."""
        return self.rows[tables.is_filled(self.rows["picture"])].reset_index(drop=True)

    @property
    def preparation(self) -> str:
        """As dataset.json says."""
        return self.description.preparation

    @property
    def place(self) -> str:
        """Folder of the betas."""
        return str(self.root / tables.BETAS)

    @property
    def scale(self) -> float:
        """As dataset.json says."""
        return self.description.betas_scale

    @property
    def sessions(self) -> list[str]:
        """Labels of the sessions, in their order."""
        return [str(label) for label in self.table["session"].unique()]

    def trials(self) -> Trials:
        """Those of trials.tsv."""
        where = str(self.root / tables.TRIALS)
        nsd_id_N = self.stock.find(self.table["picture"], where)
        test_I = self.stock.find(self.description.test, str(self.root / tables.DESCRIPTION))
        sessions = pd.Categorical(self.table["session"], categories=self.sessions)
        return Trials(
            trial_N=np.arange(1, len(self.table) + 1),
            session_N=sessions.codes.astype(np.int64) + 1,
            nsd_id_N=nsd_id_N,
            repetition_N=self._count_repetitions(nsd_id_N),
            is_shared_N=np.isin(nsd_id_N, test_I),
        )

    def _count_repetitions(self, nsd_id_N: Array) -> Array:
        """As the table says, or counted."""
        if "repetition" not in self.table.columns:
            counted: Array = pd.Series(nsd_id_N).groupby(nsd_id_N).cumcount().to_numpy() + 1
            return counted
        path = self.root / tables.TRIALS
        given_N = np.array(tables.read_numbers(self.table, "repetition", path, 1))
        if (given_N % 1 != 0).any() or given_N.min() < 1 or given_N.max() > 127:
            raise ValueError(f"{path}: repetition is no whole number from 1 to 127 everywhere")
        given = pd.DataFrame({"id": nsd_id_N, "repetition": given_N.astype(np.int64)})
        twice = given[given.duplicated()]
        if len(twice):
            nsd_id, n = twice.iloc[0]
            raise ValueError(
                f"{path}: picture {self.stock.name(nsd_id)!r} of {self.subject} has repetition {n} "
                "twice; count its trials over all sessions, or leave the column out"
            )
        return given_N.astype(np.int64)

    def masks(self) -> masks.Masks:
        """Voxels and ROIs."""
        return masks.read_masks(self.root, self.subject)

    def rois(self, groups: Groups) -> Rois:
        """Masks of the folder, and groups of them."""
        return masks.make_rois(self.masks(), groups)

    def ncsnr(self, rois: Rois) -> Array | None:
        """Where the masks have it."""
        return self.masks().ncsnr_V

    def kept(self) -> Mapping[str, float | str]:
        """Scale and labels, and where the volumes of the masks lie."""
        found: dict[str, float | str] = {
            "betas_scale": self.scale,
            "session_labels": json.dumps(self.sessions),
        }
        own = self.masks()
        if own.affine_44 is not None:
            found["grid"] = json.dumps(own.grid)
            found["affine"] = json.dumps(own.affine_44.tolist())
        return found

    def find(self, session: int) -> Path:
        """File of a session (1-based)."""
        stem = f"{self.subject}_{self.sessions[session - 1]}"
        paths = [self.root / tables.BETAS / f"{stem}{suffix}" for suffix in SUFFIXES]
        found = [path for path in paths if path.is_file()]
        if len(found) != 1:
            what = "are both there; keep one" if found else "do not exist; write one of them"
            names = " and ".join(path.name for path in found or paths)
            raise ValueError(f"{self.root / tables.BETAS}: {names} {what} (docs/own_data.md)")
        return found[0]

    def read(self, session: int, rois: Rois) -> Array:
        """Numbers of the session's file. NaN in all trials of a voxel is a voxel without signal."""
        path = self.find(session)
        stored_TV = self._load(path, rois)
        rows = self.rows[self.rows["session"] == self.sessions[session - 1]]
        if stored_TV.shape != (len(rows), len(rois.ijk_V3)):
            raise ValueError(
                f"{path} has (trials, voxels) = {stored_TV.shape}, {tables.TRIALS} and "
                f"{tables.MASKS} say {len(rows), len(rois.ijk_V3)}; write a pattern for each "
                "trial, in the order of the table"
            )
        if stored_TV.dtype.kind not in "iuf":
            raise ValueError(f"{path} holds {stored_TV.dtype}, expected numbers")
        shown_T = np.flatnonzero(tables.is_filled(rows["picture"]))
        # Nothing is copied of files all of whose trials have a picture.
        if len(shown_T) < len(rows):
            stored_TV = stored_TV[shown_T]
        if stored_TV.dtype.kind == "f":
            unknown_TV = ~np.isfinite(stored_TV)
            partly_V = unknown_TV.any(axis=0) & ~unknown_TV.all(axis=0)
            if partly_V.any():
                first = int(unknown_TV[:, partly_V].any(axis=1).argmax())
                raise ValueError(
                    f"{path}: {partly_V.sum()} voxels are NaN or infinite in some trials, first in "
                    f"trial {int(shown_T[first]) + 1} of the session"
                    "; fill these, or make the voxel NaN in all of its trials, which takes it as "
                    "missing there"
                )
            stored_TV = np.where(unknown_TV, 0, stored_TV)
        return stored_TV

    def _load(self, path: Path, rois: Rois) -> Array:
        """Rows of a table of voxels, or the voxels of volumes."""
        if path.suffix == ".npy":
            try:
                rows_TV: Array = np.load(path)
            except (ValueError, OSError, EOFError) as error:
                raise ValueError(
                    f"{path} cannot be read as .npy ({error}); write it again"
                ) from None
            return self._check_rows(path, rows_TV)
        if path.suffix == ".h5":
            if not volumes.has_volumes(path):
                raise ValueError(f"{path} has no data set 'betas'; write it under that name")
            rows, _ = volumes.read_rows(path)
            if rows:
                return self._check_rows(path, rows["betas"])
        masks = self.masks()
        if not masks.has_places:
            raise ValueError(
                f"{path} has volumes, but {masks.path} does not say where its voxels are; add the "
                "columns x, y, z"
            )
        affine_44 = None  # HDF5 has none
        if path.suffix == ".h5":
            stored_TV, grid = volumes.read_hdf5(path, rois.ijk_V3)
        else:
            stored_TV, grid, affine_44 = volumes.read_nifti(path, rois.ijk_V3)
        if not masks.is_table and tuple(grid) != masks.grid:
            raise ValueError(
                f"{path} has volumes of {tuple(grid)}, the masks {masks.grid} (X, Y, Z); bring "
                "both to one grid"
            )
        masks.check_affine(path, affine_44)
        return stored_TV

    def _check_rows(self, path: Path, rows_TV: Array) -> Array:
        if rows_TV.ndim != 2:
            raise ValueError(
                f"{path} has {rows_TV.ndim} axes, rows have 2: (trials, voxels); volumes go into "
                ".nii.gz or .h5"
            )
        if not self.masks().is_table:
            raise ValueError(
                f"{path} has rows, whose voxels {tables.MASKS}/{self.subject}.tsv must describe, "
                "one a row; write it in the place of volumes"
            )
        return rows_TV

    def noise_free(self) -> Mapping[str, Array] | None:
        """Nobody knows them."""
        return None

    def identity(self, n_sessions: int) -> Any:
        """Path of every file -> its size and time of change."""
        return resume.fingerprint([self.find(s) for s in range(1, n_sessions + 1)])

    def close(self) -> None:
        """Nothing to remove: the files are the user's."""
