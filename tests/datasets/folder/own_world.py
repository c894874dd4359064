"""A small experiment in an exchange folder, with the arrays behind its files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image

SUBJECTS = ("sub-01", "sub-02")
SESSIONS = ("a", "b")
GRID = (5, 6, 4)
N_TRAIN, N_TEST, N_VOXELS = 24, 6, 40
GROUPS = {"low": ["V1"], "high": ["IT/face or (V1 and IT)"], "all": ["V1 or IT"]}


@dataclass
class Own:
    """24 training pictures shown once, in one of two sessions, and 6 test pictures shown in both.

    betas: (subject, session) -> (T, V) in the order of `place` (subject -> ijk_V3, C order).
    """

    root: Path
    pictures: np.ndarray
    table: pd.DataFrame
    place: dict[str, np.ndarray] = field(default_factory=dict)
    members: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    betas: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def rewrite(self, name: str, content: str) -> None:
        """Put another text into a file."""
        (self.root / name).write_text(content, encoding="utf-8")

    def describe(self, **changes: Any) -> None:
        """dataset.json, with changes."""
        content = {"name": "tiny", "licence": "cc0-1.0", "test": names()[N_TRAIN:]} | changes
        self.rewrite("dataset.json", json.dumps(content))


def names() -> list[str]:
    return [f"p{i:02d}.png" for i in range(N_TRAIN + N_TEST)]


def write_own(root: Path, kind: str = "nifti", *, words: bool = True) -> Own:
    """kind: of the betas: nifti, hdf5 (volumes), npy, rows (HDF5). words: captions and labels."""
    rng = np.random.default_rng(0)
    for folder in ("pictures", "betas", "masks"):
        (root / folder).mkdir(parents=True)
    pictures = rng.integers(0, 256, (N_TRAIN + N_TEST, 32, 32, 3), dtype=np.uint8)
    for name, picture in zip(names(), pictures, strict=True):
        Image.fromarray(picture).save(root / "pictures" / name)
    own = Own(root, pictures, pd.DataFrame())
    own.describe()
    rows = []
    for subject in SUBJECTS:
        inside = np.sort(rng.permutation(np.prod(GRID))[:N_VOXELS])
        own.place[subject] = np.stack(np.unravel_index(inside, GRID), axis=1)
        v1 = np.arange(N_VOXELS) < 25
        it = np.arange(N_VOXELS) >= 20
        own.members[subject] = {"IT": it, "IT/face": it & (np.arange(N_VOXELS) > 30), "V1": v1}
        _write_masks(own, subject, kind)
        for s, session in enumerate(SESSIONS):
            shown = rng.permutation(
                [*range(12 * s, 12 * s + 12), *range(N_TRAIN, N_TRAIN + N_TEST)]
            )
            betas = rng.standard_normal((len(shown), N_VOXELS)).astype(np.float32)
            betas[:, 3] = np.nan if s else 1.0  # no signal in either session
            own.betas[subject, session] = betas
            _write_betas(own, subject, session, kind)
            rows += [(subject, session, names()[i]) for i in shown]
    own.table = pd.DataFrame(rows, columns=["subject", "session", "picture"])
    own.table.to_csv(root / "trials.tsv", sep="\t", index=False)
    if words:
        texts = [(name, f"caption {k} of {name}") for name in names() for k in range(2)]
        pd.DataFrame(texts, columns=["picture", "caption"]).to_csv(
            root / "captions.tsv", sep="\t", index=False
        )
        labels = [(name, ("cat", "dog")[i % 2]) for i, name in enumerate(names())]
        pd.DataFrame(labels, columns=["picture", "label"]).to_csv(
            root / "labels.tsv", sep="\t", index=False
        )
    return own


def _write_masks(own: Own, subject: str, kind: str) -> None:
    members = own.members[subject]
    if kind in ("npy", "rows"):
        table = {name: member.astype(int) for name, member in members.items()}
        pd.DataFrame(table).to_csv(own.root / "masks" / f"{subject}.tsv", sep="\t", index=False)
        return
    for name, member in members.items():
        volume = np.zeros(GRID, dtype=np.float32)
        volume[tuple(own.place[subject].T)] = member
        path = own.root / "masks" / subject / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)


def _write_betas(own: Own, subject: str, session: str, kind: str) -> None:
    betas = own.betas[subject, session]
    stem = own.root / "betas" / f"{subject}_{session}"
    if kind == "npy":
        np.save(f"{stem}.npy", betas)
        return
    volumes = np.zeros((len(betas), *GRID), dtype=np.float32)
    volumes[(slice(None), *own.place[subject].T)] = betas
    if kind == "nifti":
        nib.save(nib.Nifti1Image(np.moveaxis(volumes, 0, 3), np.eye(4)), f"{stem}.nii.gz")
        return
    with h5py.File(f"{stem}.h5", "w") as file:
        file["betas"] = betas if kind == "rows" else volumes.transpose(0, 3, 2, 1)
