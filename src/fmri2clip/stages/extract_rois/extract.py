"""One subject's betas, z-scored and cut to its ROIs (NSD: to nsdgeneral): training file, sealed
test file, voxel file and counts.

Every session is z-scored by itself (zscore.py), with statistics of its training trials only by
default: shared pictures are spread over all sessions, so statistics of all 750 trials have seen the
test set. A voxel without signal in a session gets 0 there, the mean; one without signal in every
session is dropped. Repeats stay single trials.

Sessions are read one by one into blocks (blocks.py), from which the outputs are put together:
memory does not grow with their number. Letters: N trials, I images, V voxels, S sessions, T the 750
trials of a session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import write_betas, write_noise_free, write_voxels
from fmri2clip.core import resume, store
from fmri2clip.core.closure import code_digest
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Norm
from fmri2clip.core.schema import Rows
from fmri2clip.datasets.interface import Groups, Recordings, Rois, Trials
from fmri2clip.stages.extract_rois.blocks import Blocks, Statistics, extract_sessions
from fmri2clip.stages.extract_rois.counts import count_everything
from fmri2clip.stages.extract_rois.ncsnr import compute_ncsnr
from fmri2clip.stages.extract_rois.zscore import cut

BAND_V = 1024  # voxels of all training trials that are held at once, 55 MB of 27,000 trials
NO_TRUTH: Mapping[str, NDArray[Any]] = {  # of responses before noise, where data are measured
    "ijk_V3": np.zeros((0, 3), dtype=np.int16),
    "nsd_id_I": np.zeros(0, dtype=np.int64),
    "betas_IV": np.zeros((0, 0), dtype=np.float32),
}


def extract_subject(
    paths: Paths,
    subject: str,
    *,
    recordings: Recordings,
    rois: Groups,
    norm: Norm,
    workers: int,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Write the five outputs of a subject, all or none. A killed extraction goes on with the
    session it was at.

    rois: group -> ROI names. workers: sessions read at once. A missing, truncated or misshapen
    input raises ValueError with its path.
    """
    # The order of trials is that of the recordings; every array of N in this file follows it.
    trials = recordings.trials()
    regions = recordings.rois(rois)
    # Pictures of the test set: unless all trials are asked for, no statistic may see them.
    used_N = ~trials.is_shared_N | (norm.stats == "all_trials")
    used = _by_session(trials, used_N)
    _check_used(subject, used)
    folder = _resume_dir(subject, recordings, regions, used, resume_root)
    blocks = Blocks(folder)
    extract_sessions(recordings, regions, blocks, used, workers, subject)
    recordings.close()

    # A voxel that one session lacks is filled there; only one that all sessions lack is dropped.
    statistics = blocks.statistics(len(used))
    kept_V = np.logical_or.reduce(~statistics.invalid_SV)
    if not kept_V.any():
        raise ValueError(f"{subject} has no voxel with signal in {recordings.place}")
    statistics = statistics.select(kept_V)
    train_N = ~trials.is_shared_N
    ncsnr_train_V = _compute_ncsnr(blocks, trials, train_N, kept_V, recordings.repetitions)
    ncsnr_V = recordings.ncsnr(regions)
    if ncsnr_V is None:
        # As NSD's own is made: from all trials.
        all_N = np.ones_like(train_N)
        ncsnr_V = np.full(len(kept_V), np.nan, dtype=np.float32)
        ncsnr_V[kept_V] = _compute_ncsnr(blocks, trials, all_N, kept_V, recordings.repetitions)
    voxels = _describe_voxels(regions, kept_V, ncsnr_V, ncsnr_train_V, statistics)
    truth = recordings.noise_free() or NO_TRUTH
    noise_free: dict[str, NDArray[Any]] = {}
    if len(truth["nsd_id_I"]):
        noise_free = _standardise_noise_free(truth, voxels["ijk_V3"], trials, statistics)
    attrs: store.Attrs = {
        "subject": subject,
        "preparation": recordings.preparation,
        "sessions": len(used),
        "norm_stats": norm.stats,
    }
    kept = recordings.kept()
    if kept:
        # Files of rows have those of all voxels.
        voxels["mask_row_V"] = np.flatnonzero(kept_V)
        kept = {**kept, "n_mask_rows": len(kept_V)}
    report = count_everything(trials, voxels, int(np.sum(~kept_V)))
    train = _select_trials(blocks, trials, train_N, kept_V)
    test = _select_trials(blocks, trials, ~train_N, kept_V)
    outputs = (
        paths.train_betas(subject),
        paths.test_betas(subject),
        paths.voxels(subject),
        paths.noise_free(subject),
        paths.roi_report(subject),
    )
    with replacing(*outputs) as temporaries:
        train_file, test_file, voxel_file, truth_file, report_file = temporaries
        write_betas(train_file, train, attrs)
        write_betas(test_file, {**test, **noise_free}, attrs)
        write_voxels(voxel_file, voxels, {**attrs, **kept})
        write_noise_free(truth_file, truth)
        report_file.write_text(json.dumps(report, indent=1) + "\n")
    # The blocks go last: a kill before this line costs the writing, not the reading.
    resume.remove(folder, resume_root)


def _by_session(trials: Trials, chosen_N: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The mask of the trials (T) of every session."""
    edges = np.flatnonzero(np.diff(trials.session_N)) + 1
    return np.split(chosen_N, edges)


def _check_used(subject: str, used: Sequence[NDArray[np.bool_]]) -> None:
    """Raise ValueError for a session without trials for mean and spread of its voxels."""
    for session, used_T in enumerate(used, start=1):
        if used_T.sum() < 2:
            raise ValueError(
                f"{subject}: session {session} has {used_T.sum()} training trials, of which mean "
                "and spread of its voxels are taken; join it with a session that has them, or set "
                "norm.stats: all_trials"
            )


def _compute_ncsnr(
    blocks: Blocks,
    trials: Trials,
    chosen_N: NDArray[np.bool_],
    kept_V: NDArray[np.bool_],
    repetitions: int,
) -> NDArray[np.float32]:
    bands = _bands(blocks, _by_session(trials, chosen_N), np.flatnonzero(kept_V))
    session_N = trials.session_N[chosen_N]
    return compute_ncsnr(bands, session_N, trials.nsd_id_N[chosen_N], repetitions)


def _describe_voxels(
    regions: Rois,
    kept_V: NDArray[np.bool_],
    ncsnr_V: NDArray[Any],
    ncsnr_train_V: NDArray[np.float32],
    statistics: Statistics,
) -> dict[str, Any]:
    """Arrays of a voxel file. ncsnr_train_V and the statistics are of the kept voxels already."""
    return {
        "ijk_V3": regions.ijk_V3[kept_V],
        "roi_VG": regions.roi_VG[kept_V],
        "roi_names_G": regions.names_G,
        "ncsnr_V": ncsnr_V[kept_V],
        "ncsnr_train_V": ncsnr_train_V,
        "mean_SV": statistics.mean_SV,
        "std_SV": statistics.std_SV,
        "invalid_SV": statistics.invalid_SV,
    }


def _resume_dir(
    subject: str,
    recordings: Recordings,
    regions: Rois,
    used: Sequence[NDArray[np.bool_]],
    root: Path,
) -> Path:
    """Folder of the finished sessions; its name depends on all that decides about them."""
    # Code is part of the key as well: blocks of another version are not taken up.
    shapes = [list(regions.mask.shape), [len(used_T) for used_T in used]]
    arrays = (np.packbits(regions.mask), regions.ijk_V3, np.packbits(np.concatenate(used)))
    digests = [
        hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays
    ]
    identity = recordings.identity(len(used))
    code = code_digest(Blocks.__module__, type(recordings).__module__)
    key = (shapes, digests, identity, recordings.scale, code)
    return resume.resume_dir(f"extract_rois/{subject}", *key, root=root)


def _bands(
    blocks: Blocks, chosen: Sequence[NDArray[np.bool_]], columns: NDArray[np.intp]
) -> Iterator[NDArray[np.float16]]:
    """z-scores (N, v) of the chosen trials of all sessions, for some of the columns at a time."""
    for part in cut(len(columns), BAND_V):
        here = columns[part]
        band_NV = np.empty((sum(map(np.sum, chosen)), len(here)), dtype=np.float16)
        start = 0
        for session, chosen_T in enumerate(chosen, start=1):
            stop = start + int(chosen_T.sum())
            # A range of columns first: from a mapped file it is read at a fraction of the cost of
            # single columns, and what lies between the columns wanted is dropped in memory.
            span_TV = blocks.betas(session)[chosen_T, here[0] : here[-1] + 1]
            band_NV[start:stop] = span_TV[:, here - here[0]]
            start = stop
        yield band_NV


def _select_trials(
    blocks: Blocks, trials: Trials, chosen_N: NDArray[np.bool_], kept_V: NDArray[np.bool_]
) -> dict[str, NDArray[Any] | Rows]:
    """Arrays of a betas file; the betas themselves come session by session."""
    shape = int(chosen_N.sum()), int(kept_V.sum())
    parts = (
        blocks.betas(session)[chosen_T][:, kept_V]
        for session, chosen_T in enumerate(_by_session(trials, chosen_N), start=1)
    )
    return {
        "betas_NV": Rows(shape, parts),
        "nsd_id_N": trials.nsd_id_N[chosen_N],
        "session_N": trials.session_N[chosen_N],
        "trial_N": trials.trial_N[chosen_N],
        "repetition_N": trials.repetition_N[chosen_N],
    }


def _standardise_noise_free(
    truth: Mapping[str, NDArray[Any]],
    ijk_V3: NDArray[Any],
    trials: Trials,
    statistics: Statistics,
) -> dict[str, NDArray[Any]]:
    """Noise-free responses to the test pictures on the scale of the betas.

    z-scored with the mean over sessions of mean and std, sessions without signal left out. Raises
    ValueError for a voxel that they lack.
    """
    place = {tuple(ijk): column for column, ijk in enumerate(truth["ijk_V3"].tolist())}
    missing = [ijk for ijk in ijk_V3.tolist() if tuple(ijk) not in place]
    if missing:
        raise ValueError(
            f"the noise-free responses lack {len(missing)} voxels of the subject, the "
            f"first is {missing[0]}; download the subject again"
        )
    # Simulated trees hold all pictures; the sessions asked for may show fewer.
    nsd_id_I = truth["nsd_id_I"]
    rows = np.flatnonzero(np.isin(nsd_id_I, trials.nsd_id_N[trials.is_shared_N]))
    rows = rows[np.argsort(nsd_id_I[rows])]
    columns = [place[tuple(ijk)] for ijk in ijk_V3.tolist()]
    percent_IV = truth["betas_IV"][rows][:, columns].astype(np.float64)
    # A noise-free response belongs to no session, so it gets the mean scale of all of them.
    valid_SV = ~statistics.invalid_SV
    mean_V = np.average(statistics.mean_SV, axis=0, weights=valid_SV)
    std_V = np.average(statistics.std_SV, axis=0, weights=valid_SV)
    return {"noise_free_IV": (percent_IV - mean_V) / std_V, "noise_free_nsd_id_I": nsd_id_I[rows]}
