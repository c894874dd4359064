"""What must hold for the files of one subject in an NSD tree, real or simulated.

Every function checks one property: it returns a short description of what it saw and raises ValueError where the
property does not hold. Sources: NSD manual; cvnlab/nsddatapaper, main/export.m, main/export_noiseceiling.m,
main/analysis_surfaceroistovolume.m; nsd_savenifti.m for the header.

Axis letters: N trials, I images, R presentations, V voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import betas, layout, rois
from fmri2clip.datasets.nsd import design as designs

VOXEL_MM = 1.8
N_SAMPLE = 1000  # voxels of nsdgeneral read from every session: neighbours, so that a real tree is read in minutes
PSC_RANGE = (0.1, 10.0)  # of the median |beta| in nsdgeneral, percent signal change
NCSNR_CORRELATION = 0.99
SLAB_VOXELS = 250_000


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """A subject of a tree, the sessions asked for, and what is read once for all checks."""

    root: Path
    subject: str
    preparation: str
    trials: designs.Trials
    all_sessions: bool  # the trials are all that the tree's ncsnr was computed from
    is_real: bool

    @property
    def n_sessions(self) -> int:
        return int(self.trials.session_N[-1])


def require(condition: bool | np.bool_, problem: str) -> None:
    """Raises ValueError with the problem unless the condition holds."""
    if not condition:
        raise ValueError(problem)


def check_responses(files: SubjectFiles) -> str:
    """19 columns; the picture of every trial that was run is the one that the design names."""
    path, trials = layout.responses_path(files.root, files.subject), files.trials
    require(path.is_file(), f"{path} does not exist")
    table = pd.read_csv(path, sep="\t")
    require(tuple(table.columns) == layout.RESPONSE_COLUMNS, f"{path} has the columns {list(table.columns)}")
    require(len(table) >= len(trials.trial_N), f"{path} has {len(table)} trials, {len(trials.trial_N)} are needed")
    table = table.iloc[: len(trials.trial_N)]
    wrong = int(np.sum(table["73KID"].to_numpy().astype(int) - 1 != trials.nsd_id_N))
    require(wrong == 0, f"{path}: 73KID of {wrong} trials is not the picture of the design")
    require(np.array_equal(table["SESSION"].astype(int), trials.session_N), f"{path}: SESSION is out of step")
    lengths = table.groupby(["SESSION", "RUN"])["TRIAL"].agg(["size", "max"]).to_numpy()
    expected = np.resize(layout.TRIALS_PER_RUN, len(lengths))[:, None]
    require((lengths == expected).all(), f"{path}: runs are not of {layout.TRIALS_PER_RUN} trials in turn")
    return f"{len(table)} trials"


def check_grid(files: SubjectFiles) -> str:
    """All volumes share one grid and the header's affine: 1.8 mm, centred; the published shape in a real tree."""
    mask = rois.read_volume(layout.brainmask_path(files.root, files.subject))
    if files.is_real:
        expected = layout.VOLUME_SHAPES[layout.subject_number(files.subject) - 1]
        require(mask.shape == expected, f"brainmask has shape {mask.shape}, the release {expected}")
    affine = np.diag((VOXEL_MM,) * 3 + (1.0,))
    affine[:3, 3] = (1 - (np.array(mask.shape) + 1) / 2) * VOXEL_MM
    paths = [*layout.volumes_dir(files.root, files.subject).rglob("*.nii.gz"), _ncsnr_path(files)]
    for path in paths:
        require(path.is_file(), f"{path} does not exist")
        image: Any = nib.load(path)
        require(image.shape[:3] == mask.shape, f"{path} has shape {image.shape}, brainmask {mask.shape}")
        require(np.allclose(image.affine, affine, atol=1e-3), f"{path} has the affine {image.affine.tolist()}")
    return f"{len(paths)} volumes of {mask.shape}"


def check_rois(files: SubjectFiles) -> str:
    """float64 labels in {-1, 0, 1..N}; the merged volume is the left one with the right one where left is -1."""
    present = rois.list_rois(files.root, files.subject)
    for roi in layout.ROI_LABELS:
        merged = rois.read_roi(files.root, files.subject, roi)
        left, right = (rois.read_roi(files.root, files.subject, roi, hemisphere) for hemisphere in layout.HEMISPHERES)
        combined = np.where(left == layout.OUTSIDE_CORTEX, right, left)
        require(np.array_equal(merged, combined), f"{roi} is not lh.{roi} and rh.{roi} put together")
        for hemisphere in ("", *layout.HEMISPHERES):
            image: Any = nib.load(layout.roi_path(files.root, files.subject, roi, hemisphere))
            require(image.get_data_dtype() == np.float64, f"{hemisphere} {roi} is stored as {image.get_data_dtype()}")
        counts = np.bincount(merged[merged > 0], minlength=len(layout.roi_labels(roi)) + 1)
        require(counts.sum() == np.sum(merged > 0) > 0, f"{roi}: labels do not add up to the {counts.sum()} voxels")
    return f"{len(present)} volumes"


def check_nsdgeneral(files: SubjectFiles) -> str:
    """nsdgeneral lies in the brain mask; its size is the published one in a real tree."""
    mask = _general(files)
    brain = rois.read_volume(layout.brainmask_path(files.root, files.subject)) > 0
    outside = int(np.sum(mask & ~brain))
    require(files.is_real or outside == 0, f"{outside} voxels of nsdgeneral lie outside the brain mask")
    n_published = layout.NSDGENERAL_VOXELS[layout.subject_number(files.subject) - 1]
    require(
        not files.is_real or mask.sum() == n_published, f"nsdgeneral has {mask.sum()} voxels, published {n_published}"
    )
    return f"{mask.sum()} voxels"


def check_first_session(files: SubjectFiles) -> str:
    """Session 1 has the grid of the masks, is zero outside the brain mask and reaches both int16 limits."""
    brain = rois.read_volume(layout.brainmask_path(files.root, files.subject)) > 0
    path = betas.find_session(files.root, files.subject, files.preparation, 1)
    lowest, highest, outside = 0, 0, 0
    for slab in _slabs(brain.shape):
        stored_NV = betas.read_session(path, slab)
        outside += int(stored_NV[:, ~brain[slab]].any(axis=0).sum())
        lowest, highest = min(lowest, int(stored_NV.min())), max(highest, int(stored_NV.max()))
    require(outside == 0, f"{path}: {outside} voxels outside the brain mask are not zero")
    limits = np.iinfo(np.int16)
    saturated = (lowest, highest) == (limits.min, limits.max)
    require(saturated, f"{path} holds {lowest} to {highest}; saturated voxels are expected in every session")
    return f"{brain.sum()} voxels with data, values {lowest} to {highest}"


def _slabs(shape: tuple[int, ...]) -> Iterator[NDArray[np.bool_]]:
    """Masks that cut a grid along Z into parts of at most SLAB_VOXELS voxels, so that memory stays bounded."""
    thickness = max(1, SLAB_VOXELS // (shape[0] * shape[1]))
    for z in range(0, shape[2], thickness):
        slab = np.zeros(shape, dtype=bool)
        slab[..., z : z + thickness] = True
        yield slab


def check_containers(files: SubjectFiles) -> str:
    """Where a session lies in several containers, they hold the same betas."""
    sample, compared = _sample(files), 0
    for session in range(1, files.n_sessions + 1):
        paths = [
            layout.betas_path(files.root, files.subject, files.preparation, session, suffix)
            for suffix in layout.BETA_SUFFIXES
        ]
        found = [path for path in paths if path.is_file()]
        for other in found[1:]:
            same = np.array_equal(betas.read_session(found[0], sample), betas.read_session(other, sample))
            require(same, f"{found[0]} and {other} differ")
            compared += 1
    return f"{compared} pairs"


def check_betas(files: SubjectFiles) -> str:
    """Sessions are complete, voxels marked as not valid are zero, scale is percent, and the shipped ncsnr follows."""
    sample = _sample(files)
    z_NV = np.empty((len(files.trials.trial_N), int(sample.sum())), dtype=np.float32)
    medians, n_invalid = [], 0
    for session in range(1, files.n_sessions + 1):
        path = betas.find_session(files.root, files.subject, files.preparation, session)
        psc_NV = betas.to_percent(betas.read_session(path, sample))
        valid_V = rois.read_volume(layout.valid_path(files.root, files.subject, session))[sample] > 0
        require(
            not psc_NV[:, ~valid_V].any(), f"{path}: voxels that valid_session{session:02d} leaves out are not zero"
        )
        std_V = psc_NV.std(axis=0, ddof=1)
        n_invalid += int(np.sum(std_V == 0))
        medians.append(float(np.median(np.abs(psc_NV[:, std_V > 0]))))
        z_NV[files.trials.session_N == session] = (psc_NV - psc_NV.mean(axis=0)) / np.where(std_V > 0, std_V, np.nan)
    median = float(np.median(medians))
    require(
        PSC_RANGE[0] < median < PSC_RANGE[1],
        f"median |beta| is {median:.4g} percent, {PSC_RANGE} expected: scaled twice or not at all?",
    )
    ncsnr = _compare_ncsnr(files, z_NV, rois.read_volume(_ncsnr_path(files))[sample])
    return f"{z_NV.shape[1]} voxels, median |beta| {median:.3g} percent, {n_invalid} voxel-sessions empty, {ncsnr}"


def compute_ncsnr(z_NV: NDArray[np.float32], nsd_id_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """sqrt(max(0, 1 - n) / n), n = mean over pictures shown three times of the unbiased variance; NaN z = missing."""
    order = np.argsort(nsd_id_N, kind="stable")
    _, counts = np.unique(nsd_id_N, return_counts=True)
    shown = np.repeat(counts == layout.REPETITIONS, counts)
    z_IRV = z_NV[order[shown]].reshape(-1, layout.REPETITIONS, z_NV.shape[1])
    variance_IV = z_IRV.var(axis=1, ddof=1, dtype=np.float64)
    missing_IV = np.isnan(variance_IV)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise_V = np.where(missing_IV, 0, variance_IV).sum(axis=0) / (~missing_IV).sum(axis=0)
        return np.sqrt(np.maximum(0, 1 - noise_V) / noise_V)


def _compare_ncsnr(files: SubjectFiles, z_NV: NDArray[np.float32], shipped_V: NDArray[Any]) -> str:
    if not files.all_sessions:
        return "ncsnr not compared (it was made from more sessions)"
    recomputed_V = compute_ncsnr(z_NV, files.trials.nsd_id_N)
    both = np.isfinite(shipped_V) & np.isfinite(recomputed_V)
    r = float(np.corrcoef(shipped_V[both], recomputed_V[both])[0, 1])
    require(r > NCSNR_CORRELATION, f"shipped and recomputed ncsnr correlate at {r:.4f}; {NCSNR_CORRELATION} expected")
    return f"ncsnr median {np.nanmedian(shipped_V):.3f}, recomputed r = {r:.4f}"


def _general(files: SubjectFiles) -> NDArray[np.bool_]:
    return rois.read_roi(files.root, files.subject, layout.GENERAL_ROI) > 0


def _sample(files: SubjectFiles) -> NDArray[np.bool_]:
    """Up to N_SAMPLE voxels of nsdgeneral in neighbouring slices, which HDF5 files store together."""
    mask = _general(files)
    k, j, i = np.nonzero(mask.T)
    start = max(0, (len(k) - N_SAMPLE) // 2)
    chosen = np.zeros_like(mask)
    chosen[i[start : start + N_SAMPLE], j[start : start + N_SAMPLE], k[start : start + N_SAMPLE]] = True
    return chosen


def _ncsnr_path(files: SubjectFiles) -> Path:
    return layout.ncsnr_path(files.root, files.subject, files.preparation)


CHECKS = {
    "responses": check_responses, "grid": check_grid, "rois": check_rois, "nsdgeneral": check_nsdgeneral,
    "first_session": check_first_session, "containers": check_containers, "betas": check_betas,
}  # fmt: skip
