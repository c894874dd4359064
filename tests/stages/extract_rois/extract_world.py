"""A tree of two tiny sessions with known arrays behind its files, and a source that records what is
opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import scipy.io

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import resume
from fmri2clip.core.params import Dataset, Norm
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.recordings import NsdRecordings
from fmri2clip.datasets.nsd.voxels import betas
from fmri2clip.stages.extract_rois import extract

PREP = "betas_fithrf_GLMdenoise_RR"
SHAPE = (4, 5, 3)
N_SHARED = 60
GROUPS = {"low": ["prf-visualrois"], "all": ["nsdgeneral"]}
DEAD, HALF, FLAT = (
    (1, 1, 1),
    (1, 2, 1),
    (2, 2, 2),
)  # never a signal; none in session 1; constant 1 % in session 2


class Tree:
    """A subject with 500 pictures, each shown three times in two sessions, and the arrays behind
    its files.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.rng = root, np.random.default_rng(0)
        self._write_design()
        self._write_rois()
        self._write_betas()

    def _write_design(self) -> None:
        self.ordering = self.rng.permutation(np.repeat(np.arange(1, 501), 3))
        columns = self.rng.permutation(900)[:500] + 1
        columns[:N_SHARED].sort()
        self.subjectim = np.tile(columns, (8, 1))
        layout.experiments_dir(self.root).mkdir(parents=True)
        scipy.io.savemat(
            layout.expdesign_path(self.root),
            {
                "masterordering": self.ordering[None].astype(np.uint16),
                "subjectim": self.subjectim.astype(np.int32),
                "sharedix": self.subjectim[:1, :N_SHARED].astype(np.int32),
            },
        )
        self.nsd_id = self.subjectim[0, self.ordering - 1] - 1
        self.shared = self.ordering <= N_SHARED

    def save(self, path: Path, volume: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume.astype(np.float64), np.eye(4)), path)

    def _write_rois(self) -> None:
        general = self.rng.choice([-1, 0, 1], SHAPE, p=[0.2, 0.2, 0.6])
        for voxel in (DEAD, HALF, FLAT):
            general[voxel] = 1
        self.mask = general == 1
        self.prf = self.rng.integers(-1, 8, SHAPE)
        self.save(layout.roi_path(self.root, "subj01", "nsdgeneral"), general)
        self.save(layout.roi_path(self.root, "subj01", "prf-visualrois"), self.prf)
        self.ncsnr = np.where(self.rng.random(SHAPE) < 0.1, np.nan, self.rng.random(SHAPE))
        self.save(layout.ncsnr_path(self.root, "subj01", PREP), self.ncsnr)

    def _write_betas(self) -> None:
        self.signal = self.rng.standard_normal((501, *SHAPE))
        percent = self.signal[self.ordering] + self.rng.standard_normal((1500, *SHAPE))
        percent[750:] = 3 * percent[750:] + 2
        stored = np.clip(np.round(percent * 300), -32768, 32767).astype(np.int16)
        stored[(slice(None), *DEAD)] = 0
        stored[(slice(0, 750), *HALF)] = 0
        stored[(slice(750, None), *FLAT)] = 300
        self.percent = stored / 300
        for session in (1, 2):
            volume = stored[(session - 1) * 750 : session * 750]
            with h5py.File(layout.betas_path(self.root, "subj01", PREP, session), "w") as file:
                file.create_dataset(
                    "betas", data=volume.transpose(0, 3, 2, 1), chunks=(750, 1, 1, 1)
                )

    def write_noise_free(self) -> None:
        ijk = np.argwhere(self.mask)[::-1].astype(np.int16)
        with h5py.File(layout.noise_free_path(self.root, "subj01", PREP), "w") as file:
            file["ijk"] = ijk
            file["nsd_id"] = self.subjectim[0, ::-1] - 1
            file["betas"] = self.signal[500:0:-1][(slice(None), *ijk.T)].astype(np.float32)

    def kept(self) -> np.ndarray:
        kept = self.mask.copy()
        kept[DEAD] = False
        return kept

    def z_scores(self, stats: str = "train_only") -> np.ndarray:
        """(1500, V) by the definition, one session and voxel at a time."""
        result = np.zeros((1500, int(self.kept().sum())))
        for session in range(2):
            here = slice(session * 750, session * 750 + 750)
            used = ~self.shared[here] | (stats == "all_trials")
            for column, voxel in enumerate(np.argwhere(self.kept())):
                x = self.percent[(here, *voxel)]
                if x[used].min() < x[used].max():
                    result[here, column] = (x - x[used].mean()) / x[used].std(ddof=1)
        return result


class Source:
    """The sessions of a tree, and a record of those that were opened; some of them fail."""

    def __init__(
        self, root: Path, subject: str = "subj01", failing: tuple[int, ...] = (), local: bool = True
    ) -> None:
        self.root, self.subject, self.failing, self.is_local = root, subject, failing, local
        self.opened: list[int] = []
        self.closed = 0

    def find(self, session: int) -> Path:
        return betas.find_session(self.root, self.subject, PREP, session)

    @contextmanager
    def open(self, session: int) -> Iterator[Path]:
        self.opened.append(session)
        if session in self.failing:
            raise ValueError(f"session {session} fails")
        yield self.find(session)

    def identity(self, n_sessions: int) -> dict[str, list[int]]:
        return resume.fingerprint([self.find(session) for session in range(1, n_sessions + 1)])

    def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class Outputs(Paths):
    """A tree as input, and outputs flat in one folder, whoever the subject is."""

    folder: Path = Path()

    def train_betas(self, subject: str) -> Path:
        return self.folder / "train" / "s.h5"

    def test_betas(self, subject: str) -> Path:
        return self.folder / "test" / "s.h5"

    def voxels(self, subject: str) -> Path:
        return self.folder / "voxels" / "s.h5"

    def noise_free(self, subject: str) -> Path:
        return self.folder / "noise_free" / "s.h5"

    def roi_report(self, subject: str) -> Path:
        return self.folder / "s.json"


def list_outputs(folder: Path) -> dict[str, Path]:
    """The files that an extraction leaves, by kind."""
    at = Outputs(folder=folder)
    return {
        "train": at.train_betas(""),
        "test": at.test_betas(""),
        "voxels": at.voxels(""),
        "noise_free": at.noise_free(""),
        "report": at.roi_report(""),
    }


def run(
    tree: Tree, folder: Path, stats: Any = "train_only", sessions: Any = "released", **changes: Any
) -> Path:
    dataset = Dataset(preparation=PREP, sessions=sessions)
    source = changes.pop("source", None) or Source(tree.root)
    arguments: dict[str, Any] = {
        "recordings": NsdRecordings(tree.root, "subj01", dataset, source),
        "rois": GROUPS,
        "norm": Norm(stats=stats),
        "workers": 1,
        "resume_root": tree.root / "resume",
        **changes,
    }
    extract.extract_subject(Outputs(nsd=tree.root, folder=folder), "subj01", **arguments)
    return folder
