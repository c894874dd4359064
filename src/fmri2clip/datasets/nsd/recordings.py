"""NSD's answers about the responses of one subject (datasets/interface.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.interface import Array, Groups, Rois, Trials
from fmri2clip.datasets.nsd import design, layout
from fmri2clip.datasets.nsd.sessions import SessionSource
from fmri2clip.datasets.nsd.voxels import betas, rois
from fmri2clip.datasets.nsd.voxels.ncsnr import read_ncsnr


@dataclass(frozen=True)
class NsdRecordings:
    """One subject of an NSD tree, real or simulated."""

    root: Path
    subject: str
    dataset: Dataset
    source: SessionSource
    repetitions = layout.REPETITIONS
    scale = layout.BETA_SCALE

    @property
    def preparation(self) -> str:
        """As NSD names it."""
        return self.dataset.preparation

    @property
    def place(self) -> str:
        """Folder of the betas."""
        return str(layout.betas_dir(self.root, self.subject, self.preparation))

    @property
    def is_local(self) -> bool:
        """Whether the betas lie in the tree."""
        return self.source.is_local

    def trials(self) -> Trials:
        """Those of the design, in the sessions that the parameters ask for."""
        planned = design.load_design(self.root)
        return design.list_trials(planned, self.subject, self.dataset.sessions)

    def rois(self, groups: Groups) -> Rois:
        """nsdgeneral, with its ROIs."""
        return rois.load_rois(self.root, self.subject, groups)

    def ncsnr(self, rois: Rois) -> Array:
        """As shipped."""
        return read_ncsnr(self.root, self.subject, self.preparation, rois.mask)

    def kept(self) -> Mapping[str, float | str]:
        """Nothing."""
        return {}

    def read(self, session: int, rois: Rois) -> Array:
        """The integers of the session's file."""
        with self.source.open(session) as path:
            stored_TV = betas.read_session(path, rois.mask)
            # Of those in the tree check_data has looked at more.
            if not self.is_local:
                betas.check_session(path, stored_TV)
        return stored_TV

    def noise_free(self) -> Mapping[str, Array] | None:
        """Of a simulated tree."""
        path = layout.noise_free_path(self.root, self.subject, self.preparation)
        if not path.is_file():
            return None
        arrays = betas.read_noise_free(path)
        return {
            "ijk_V3": arrays["ijk"],
            "nsd_id_I": arrays["nsd_id"].astype(np.int64),
            "betas_IV": arrays["betas"],
        }

    def identity(self, n_sessions: int) -> Any:
        """Preparation, and the files."""
        return self.preparation, self.source.identity(n_sessions)

    def close(self) -> None:
        """See SessionSource."""
        self.source.close()
