"""Synthetic NSD trees of real size for benchmarks: subj01's grid, NSD's chunks, noise that packs
like real betas.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from scipy import ndimage

from fmri2clip.datasets.nsd import layout

SUBJECT, PREPARATION = "subj01", "betas_fithrf_GLMdenoise_RR"
SHAPE = layout.VOLUME_SHAPES[0]  # X, Y, Z
N_BRAIN, N_RIBBON = 370_503, layout.NSDGENERAL_VOXELS[0]
N_TRIALS = layout.TRIALS_PER_SESSION
N_DISTINCT = {".hdf5": 2, ".nii.gz": 1}  # files; further sessions are hard links to them


def write_trees(scratch: Path, sessions: dict[str, int]) -> None:
    """A tree for each suffix with so many sessions, below `scratch`, and the ribbon as
    ribbon.npy.
    """
    rng = np.random.default_rng(0)
    brain, ribbon = make_masks(rng)
    np.save(scratch / "ribbon.npy", ribbon)
    for suffix, n_sessions in sessions.items():
        root = tree(scratch, suffix)
        betas_path(scratch, suffix, 1).parent.mkdir(parents=True)
        write_design(root, rng)
        write_volume(
            layout.roi_path(root, SUBJECT, layout.GENERAL_ROI),
            np.where(ribbon, 1.0, np.where(brain, 0.0, -1.0)),
        )
        write_volume(
            layout.ncsnr_path(root, SUBJECT, PREPARATION),
            np.where(brain, rng.random(SHAPE), np.nan),
        )
        for session in range(1, n_sessions + 1):
            path = betas_path(scratch, suffix, session)
            if session > N_DISTINCT[suffix]:
                os.link(betas_path(scratch, suffix, (session - 1) % N_DISTINCT[suffix] + 1), path)
            else:
                write = write_hdf5 if suffix == ".hdf5" else write_nifti
                write(path, make_session(brain, rng))


def make_masks(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Brain (an ellipsoid) and a folded ribbon near its surface at the back, both boolean (X, Y,
    Z).
    """
    centre = (np.array(SHAPE) - 1) / 2
    grid = np.moveaxis(np.indices(SHAPE), 0, -1) - centre
    radius = np.linalg.norm(grid / [36, 48, 38], axis=-1) + 0.03 * smooth_noise(rng, 3)
    brain = np.zeros(SHAPE, dtype=bool)
    brain.flat[np.argsort(radius, axis=None)[:N_BRAIN]] = True
    depth = np.abs(radius / radius[brain].max() - 0.86 + 0.05 * smooth_noise(rng, 1.5))
    backwards = grid[..., 1] + 0.25 * np.abs(grid[..., 2])
    ribbon = np.zeros(SHAPE, dtype=bool)
    ribbon.flat[
        np.argsort(np.where(brain & (depth < 0.045), backwards, np.inf), axis=None)[:N_RIBBON]
    ] = True
    return brain, ribbon


def smooth_noise(rng: np.random.Generator, width: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), width)
    return noise / noise.std()


def make_session(brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stored integers (Z, Y, X, 750): 2 to 3 percent of noise around a mean inside the brain, zero
    outside.
    """
    session = np.zeros((*SHAPE[::-1], N_TRIALS), dtype="<i2")
    for plane, inside in zip(session, brain.T, strict=True):
        sd, mean = (
            600 * (1 + 0.5 * rng.random(inside.sum())),
            150 * rng.standard_normal(inside.sum()),
        )
        values = (
            rng.standard_normal((inside.sum(), N_TRIALS), dtype=np.float32) * sd[:, None]
            + mean[:, None]
        )
        plane[inside] = np.clip(np.rint(values), -32768, 32767)
    return session


def write_hdf5(path: Path, session: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "betas", shape=(N_TRIALS, *SHAPE[::-1]), dtype="<i2", chunks=(N_TRIALS, 1, 1, 1)
        )
        for z, y, x in np.ndindex(session.shape[:3]):
            data.id.write_direct_chunk((0, z, y, x), session[z, y, x].tobytes())


def write_nifti(path: Path, session: np.ndarray) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((*SHAPE, N_TRIALS))
    header.set_data_dtype("<i2")
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.GzipFile(path, "wb", compresslevel=6) as stream:
        stream.write(header.binaryblock + bytes(4))
        for first in range(0, N_TRIALS, 50):
            stream.write(np.moveaxis(session[..., first : first + 50], -1, 0).tobytes())


def write_volume(path: Path, volume: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1])), path)


def write_design(root: Path, rng: np.random.Generator) -> None:
    """40 sessions with the sizes of the real design."""
    n_images = layout.IMAGES_PER_SUBJECT
    ids = rng.permutation(layout.N_IMAGES)[: layout.N_SHARED + 8 * (n_images - layout.N_SHARED)] + 1
    shared, own_SJ = np.sort(ids[: layout.N_SHARED])[None], ids[layout.N_SHARED :].reshape(8, -1)
    ordering = rng.permutation(np.repeat(np.arange(1, n_images + 1), layout.REPETITIONS))
    tables = {
        "masterordering": ordering[None].astype(np.uint16),
        "subjectim": np.hstack([np.tile(shared, (8, 1)), own_SJ]).astype(np.int32),
        "sharedix": shared.astype(np.int32),
    }
    layout.expdesign_path(root).parent.mkdir(parents=True)
    scipy.io.savemat(layout.expdesign_path(root), tables)


def tree(scratch: Path, suffix: str) -> Path:
    return scratch / suffix.strip(".")


def betas_path(scratch: Path, suffix: str, session: int) -> Path:
    return layout.betas_path(tree(scratch, suffix), SUBJECT, PREPARATION, session, suffix)
