"""What must hold for the betas and the noise ceiling of one subject in an NSD tree, real or
simulated.

Every session is read once for all voxels and once more for those of nsdgeneral: memory stays at
about 1 GB. Sources: NSD manual; cvnlab/nsddatapaper, main/export.m, main/export_noiseceiling.m.

Axis letters: N trials, V voxels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import betas, rois
from fmri2clip.stages.check_data import published
from fmri2clip.stages.check_data.check_subject import (
    SubjectFiles,
    general_mask,
    ncsnr_path,
    read_on_grid,
)
from fmri2clip.stages.check_data.outcomes import Outcome, passed, require, shorten, skipped
from fmri2clip.stages.check_data.repeats import Repeats

NCSNR_KNOWN = 0.9  # share of nsdgeneral with a number
NCSNR_CORRELATION = 0.99
NCSNR_NEAR = 0.02  # of a voxel: shipped and computed again
STREAMED = (
    "dataset.keep_raw is false, so no betas lie here; extract_rois checks of each session shape, "
    "empty trials, signal and scale as it comes, nothing else"
)


def check_ncsnr(files: SubjectFiles) -> Outcome:
    """The shipped ncsnr is a number of 0 or more for voxels of nsdgeneral; its median the published
    one if real.
    """
    path = ncsnr_path(files)
    ncsnr_V = read_on_grid(path, files)[general_mask(files)]
    finite_V = np.isfinite(ncsnr_V)
    require(
        finite_V.mean() >= NCSNR_KNOWN,
        f"{path} holds a number for {finite_V.sum()} of {finite_V.size} voxels of nsdgeneral",
    )
    require(
        ncsnr_V[finite_V].min() >= 0,
        f"{path} holds {ncsnr_V[finite_V].min():.3g} in nsdgeneral; 0 or more expected",
    )
    median = float(np.median(ncsnr_V[finite_V]))
    expected = files.entry(published.NCSNR_MEDIANS)
    comparable = files.is_real and files.preparation == published.NCSNR_MEDIANS_OF
    off = comparable and expected is not None and published.differs(median, expected)
    warnings = [f"{path}: median {median:.3f} in nsdgeneral, published {expected}"] if off else []
    return passed(
        f"median {median:.3f} in nsdgeneral, {np.sum(~finite_V)} voxels without a number", warnings
    )


def check_volumes(files: SubjectFiles) -> Outcome:
    """Every session has the grid of the masks, is zero outside the brain mask and reaches both
    int16 limits.
    """
    if not files.keep_raw:
        return skipped(STREAMED)
    brain = rois.read_volume(layout.brainmask_path(files.root, files.subject)) > 0
    warnings: list[str] = []
    for session in range(1, files.n_sessions + 1):
        path = betas.find_session(files.root, files.subject, files.preparation, session)
        lowest, highest, outside = betas.scan_session(path, brain)
        require(outside == 0, f"{path}: {outside} voxels outside the brain mask are not zero")
        limits = np.iinfo(np.int16)
        saturated = (lowest, highest) == (limits.min, limits.max)
        problem = f"{path} holds {lowest} to {highest}; saturated voxels are expected"
        require(saturated or (files.is_real and session > 1), problem)
        warnings += [] if saturated else [problem]
    return passed(f"{files.n_sessions} sessions, {brain.sum()} voxels with data", warnings)


def check_containers(files: SubjectFiles) -> Outcome:
    """Where a session lies in several containers, they hold the same betas."""
    if not files.keep_raw:
        return skipped(STREAMED)
    mask = general_mask(files)
    compared = 0
    for session in range(1, files.n_sessions + 1):
        paths = [
            layout.betas_path(files.root, files.subject, files.preparation, session, suffix)
            for suffix in layout.BETA_SUFFIXES
        ]
        found = [path for path in paths if path.is_file()]
        for other in found[1:]:
            first_NV = betas.read_session(found[0], mask)
            same = np.array_equal(first_NV, betas.read_session(other, mask))
            require(same, f"{found[0]} and {other} differ")
            compared += 1
    if not compared:
        return skipped("every session lies in one container only")
    return passed(f"{compared} pairs")


def check_betas(files: SubjectFiles) -> Outcome:
    """In nsdgeneral, sessions are complete and no two the same, every trial has data, exactly the
    voxels marked as not valid are zero, scale is percent, and the shipped ncsnr follows.
    """
    if not files.keep_raw:
        return skipped(STREAMED)
    mask = general_mask(files)
    repeats = Repeats(files.trials.nsd_id_N, int(mask.sum()))
    medians = []
    n_invalid = 0
    warnings = []
    unmarked = []
    seen: dict[bytes, Path] = {}
    for session in range(1, files.n_sessions + 1):
        path = betas.find_session(files.root, files.subject, files.preparation, session)
        stored_NV = betas.read_session(path, mask)
        twin = seen.setdefault(hashlib.sha256(stored_NV.tobytes()).digest(), path)
        require(twin == path, f"{path} holds the same betas as {twin}")
        flat_V, median = betas.check_session(path, stored_NV)
        marked = layout.valid_path(files.root, files.subject, session)
        # The release lacks some of these masks; a simulated tree has them all.
        if marked.is_file() or not files.is_real:
            valid_V = read_on_grid(marked, files)[mask] > 0
            require(
                not stored_NV[:, ~valid_V].any(),
                f"{path}: voxels that {marked.name} leaves out are not zero",
            )
            silent = int((flat_V & valid_V).sum())
            problem = f"{path}: {silent} voxels that {marked.name} calls valid have no signal"
            require(files.is_real or not silent, problem)
            warnings += [problem] if silent else []
        else:
            unmarked.append(marked.name)
        n_invalid += int(flat_V.sum())
        medians.append(median)
        repeats.add(np.flatnonzero(files.trials.session_N == session), _standardise(stored_NV))
    ncsnr, further = _compare_ncsnr(files, repeats, mask)
    warnings += further
    detail = (
        f"{mask.sum()} voxels, median |beta| {np.median(medians):.3g} percent, {n_invalid} "
        f"voxel-sessions empty, {ncsnr}"
    )
    folder = layout.betas_dir(files.root, files.subject, files.preparation)
    warnings += [f"{folder.name}: {shorten(unmarked)} do not exist"] if unmarked else []
    return passed(detail, warnings)


def _standardise(stored_NV: NDArray[np.int16]) -> NDArray[np.float32]:
    """z-scores of a session; NaN where a voxel has no signal, so that it takes no part in ncsnr."""
    psc_NV = betas.to_percent(stored_NV)
    std_V = psc_NV.std(axis=0, ddof=1)
    psc_NV -= psc_NV.mean(axis=0)
    psc_NV /= np.where(std_V > 0, std_V, np.nan)
    return psc_NV


def _compare_ncsnr(
    files: SubjectFiles, repeats: Repeats, mask: NDArray[np.bool_]
) -> tuple[str, list[str]]:
    """The shipped ncsnr of every voxel beside what its betas give: detail, and warnings."""
    if not files.all_sessions:
        return "ncsnr not compared (it was made from more sessions)", []
    path = ncsnr_path(files)
    shipped_V = read_on_grid(path, files)[mask]
    recomputed_V = repeats.ncsnr()
    both_V = np.isfinite(shipped_V) & np.isfinite(recomputed_V)
    require(both_V.sum() > 2, f"{path} holds a number for {both_V.sum()} of {both_V.size} voxels")
    r = float(np.corrcoef(shipped_V[both_V], recomputed_V[both_V])[0, 1])
    problems = []
    if not r > NCSNR_CORRELATION:
        problems.append(
            f"{path}: shipped and recomputed ncsnr correlate at {r:.4f}; {NCSNR_CORRELATION} "
            "expected"
        )
    off = int((np.abs(shipped_V - recomputed_V)[both_V] > NCSNR_NEAR).sum())
    off += int((np.isfinite(shipped_V) != np.isfinite(recomputed_V)).sum())
    if off:
        problems.append(
            f"{path}: the ncsnr of {off} of {both_V.size} voxels is not what their betas give"
        )
    # How near the release comes to this formula is inferred, and no source says it.
    require(files.is_real or not problems, "; ".join(problems))
    return f"ncsnr median {np.nanmedian(shipped_V):.3f}, recomputed r = {r:.4f}", problems


CHECKS = {
    "ncsnr": check_ncsnr,
    "volumes": check_volumes,
    "containers": check_containers,
    "betas": check_betas,
}
