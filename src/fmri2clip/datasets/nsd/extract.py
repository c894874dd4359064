"""One subject's betas, z-scored and cut to nsdgeneral: training file, sealed test file, voxel file and counts.

Every session is z-scored by itself, z_nv = (beta_nv - mean_v) / std_v (unbiased std), with statistics of its training
trials only by default: shared pictures are spread over all sessions, so statistics of all 750 trials have seen the test
set. A voxel without signal in a session gets 0 there, the mean; one without signal in every session is dropped.
Repeats stay single trials. Letters: N trials, I images, V voxels, S sessions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip import store
from fmri2clip.datasets.nsd import betas, design, layout
from fmri2clip.datasets.nsd.rois import GROUP_PREFIX, load_rois, read_volume
from fmri2clip.params import Dataset, Norm

Floats = NDArray[np.floating[Any]]
CHUNK_V = 512  # voxels at a time where float64 copies of all trials are made


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """z-scored betas of all sessions and the statistics behind them, for the same voxels."""

    betas_NV: NDArray[np.float16]
    mean_SV: NDArray[np.float64]  # percent signal change, of the trials that norm.stats names
    std_SV: NDArray[np.float64]
    invalid_SV: NDArray[np.bool_]  # no signal in the session


def extract_subject(
    root: Path,
    subject: str,
    *,
    dataset: Dataset,
    rois: Mapping[str, Sequence[str]],
    norm: Norm,
    train_path: Path,
    test_path: Path,
    voxels_path: Path,
    report_path: Path,
) -> None:
    """Write the four outputs of a subject, all or none.

    root: NSD tree. rois: group -> ROI names. A missing, truncated or misshapen input raises ValueError with its path.
    """
    trials = design.list_trials(design.load_design(root), subject, dataset.sessions)
    regions = load_rois(root, subject, rois)
    sessions = read_sessions(root, subject, dataset.preparation, trials, regions.mask, norm.stats)
    ncsnr_V = _read_ncsnr(root, subject, dataset.preparation, regions.mask)
    kept_V = np.logical_or.reduce(~sessions.invalid_SV)
    if not kept_V.any():
        raise ValueError(
            f"{subject} has no voxel with signal in {layout.betas_dir(root, subject, dataset.preparation)}"
        )
    n_dropped = int(np.sum(~kept_V))
    if n_dropped:
        sessions, ncsnr_V = _keep_voxels(sessions, kept_V), ncsnr_V[kept_V]
    ijk_V3, roi_VG = regions.ijk_V3[kept_V], regions.roi_VG[kept_V]
    train_N = ~trials.is_shared_N
    ncsnr_train_V = compute_ncsnr(sessions.betas_NV[train_N], trials.session_N[train_N], trials.nsd_id_N[train_N])
    noise_free = _read_noise_free(root, subject, dataset.preparation, ijk_V3, trials, sessions)

    attrs: store.Attrs = {
        "subject": subject,
        "preparation": dataset.preparation,
        "sessions": len(sessions.mean_SV),
        "norm_stats": norm.stats,
    }
    voxels: dict[str, Any] = {
        "ijk_V3": ijk_V3,
        "roi_VG": roi_VG,
        "roi_names_G": regions.names_G,
        "ncsnr_V": ncsnr_V,
        "ncsnr_train_V": ncsnr_train_V,
        "mean_SV": sessions.mean_SV,
        "std_SV": sessions.std_SV,
        "invalid_SV": sessions.invalid_SV,
    }
    report = count_everything(trials, voxels, n_dropped)
    with store.replacing(train_path, test_path, voxels_path, report_path) as (train, test, voxel_file, report_file):
        store.write(train, "betas", _select_trials(sessions.betas_NV, trials, train_N), attrs)
        store.write(test, "betas", _select_trials(sessions.betas_NV, trials, ~train_N) | noise_free, attrs)
        store.write(voxel_file, "voxels", voxels, attrs)
        report_file.write_text(json.dumps(report, indent=1) + "\n")


def read_sessions(
    root: Path, subject: str, preparation: str, trials: design.Trials, mask: betas.Mask, stats: str
) -> Sessions:
    """Read and z-score all sessions that the trials span, one at a time. stats: 'train_only' or 'all_trials'."""
    n_sessions, n_voxels = int(trials.session_N[-1]), int(mask.sum())
    paths = [betas.find_session(root, subject, preparation, session) for session in range(1, n_sessions + 1)]
    betas_NV = np.empty((len(trials.trial_N), n_voxels), dtype=np.float16)
    mean_SV, std_SV = np.empty((2, n_sessions, n_voxels))
    invalid_SV = np.empty((n_sessions, n_voxels), dtype=bool)
    for row, path in enumerate(paths):
        here = slice(row * layout.TRIALS_PER_SESSION, (row + 1) * layout.TRIALS_PER_SESSION)
        used_N = np.ones(layout.TRIALS_PER_SESSION, dtype=bool) if stats == "all_trials" else ~trials.is_shared_N[here]
        stored_NV = betas.read_session(path, mask)
        # a constant voxel is recognised by its integers: rounding may leave its std a hair above 0
        invalid_SV[row] = np.ptp(stored_NV[used_N].astype(np.int32), axis=0) == 0
        percent_NV = betas.to_percent(stored_NV).astype(np.float64)
        mean_SV[row] = percent_NV[used_N].mean(axis=0)
        std_SV[row] = np.where(invalid_SV[row], 0, percent_NV[used_N].std(axis=0, ddof=1))
        z_NV = (percent_NV - mean_SV[row]) / np.where(invalid_SV[row], 1, std_SV[row])
        z_NV[:, invalid_SV[row]] = 0
        betas_NV[here] = z_NV
    return Sessions(betas_NV=betas_NV, mean_SV=mean_SV, std_SV=std_SV, invalid_SV=invalid_SV)


def compute_ncsnr(betas_NV: Floats, session_N: NDArray[Any], image_N: NDArray[Any]) -> NDArray[np.float32]:
    """Noise ceiling signal-to-noise ratio per voxel, NaN where undefined.

    noise = mean over images of the unbiased variance over three presentations of the betas z-scored within session;
    ncsnr = sqrt(max(0, 1 - noise)) / sqrt(noise) (Allen et al. 2022; nsddatapaper, main/export_noiseceiling.m).
    For a voxel, images count that have three presentations among these trials, all in sessions where it has signal.
    """
    _, image_of_N, shown_I = np.unique(image_N, return_inverse=True, return_counts=True)
    order = np.argsort(image_of_N, kind="stable")
    thrice_N3 = order[shown_I[image_of_N[order]] == layout.REPETITIONS].reshape(-1, layout.REPETITIONS)
    noise_V = np.full(betas_NV.shape[1], np.nan)
    for start in range(0, betas_NV.shape[1], CHUNK_V):
        z_NV = betas_NV[:, start : start + CHUNK_V].astype(np.float64)
        signal_NV = np.empty(z_NV.shape, dtype=bool)
        for session in np.unique(session_N):
            here = session_N == session
            signal_NV[here] = np.ptp(z_NV[here], axis=0) > 0
            z_NV[here] = (z_NV[here] - z_NV[here].mean(axis=0)) / np.maximum(z_NV[here].std(axis=0, ddof=1), 1e-9)
        counted_IV = signal_NV[thrice_N3].all(axis=1)
        sum_V = np.sum(z_NV[thrice_N3].var(axis=1, ddof=1), axis=0, where=counted_IV)
        noise_V[start : start + CHUNK_V] = sum_V / np.where(counted_IV.any(axis=0), counted_IV.sum(axis=0), np.nan)
    noise_V[noise_V == 0] = np.nan
    return np.sqrt(np.maximum(0, 1 - noise_V) / noise_V).astype(np.float32)


def count_everything(trials: design.Trials, voxels: Mapping[str, Any], n_dropped: int) -> dict[str, Any]:
    """Numbers for the report: voxels per ROI, dropped and filled voxels, median ncsnr per group, trials and images."""
    names_G, roi_VG, invalid_SV = voxels["roi_names_G"], voxels["roi_VG"], voxels["invalid_SV"]
    counts: dict[str, dict[str, int]] = {"rois": {}, "labels": {}, "groups": {}}
    medians: dict[str, dict[str, float]] = {}
    for name, member_V in zip(names_G, roi_VG.T, strict=True):
        if name.startswith(GROUP_PREFIX):
            group = name.removeprefix(GROUP_PREFIX)
            counts["groups"][group] = int(member_V.sum())
            shipped, train = voxels["ncsnr_V"][member_V], voxels["ncsnr_train_V"][member_V]
            medians[group] = _finite_median(shipped, "median") | _finite_median(train, "median_train")
        else:
            counts["labels" if "/" in name else "rois"][name] = int(member_V.sum())
    return {
        "sessions": len(invalid_SV),
        "voxels": {
            "kept": len(roi_VG),
            "dropped": n_dropped,
            "filled": int(invalid_SV.any(axis=0).sum()),  # voxels with a session that has no signal
            "filled_sessions": int(invalid_SV.sum()),  # voxel-session pairs filled with 0
        },
        **counts,
        "ncsnr": medians,
        **{
            part: {
                "trials": int(np.sum(trials.is_shared_N == shared)),
                "images": len(design.list_images(trials, shared=shared)),
                "shown": {str(k): n for k, n in design.count_presentations(trials, shared=shared).items()},
            }
            for part, shared in (("train", False), ("test", True))
        },
    }


def _read_ncsnr(root: Path, subject: str, preparation: str, mask: betas.Mask) -> Floats:
    path = layout.ncsnr_path(root, subject, preparation)
    volume = read_volume(path)
    if volume.shape != mask.shape:
        raise ValueError(f"{path} has shape {volume.shape}, but {layout.GENERAL_ROI} of {subject} has {mask.shape}")
    return volume[mask]


def _keep_voxels(sessions: Sessions, kept_V: NDArray[np.bool_]) -> Sessions:
    return Sessions(
        betas_NV=sessions.betas_NV[:, kept_V],
        mean_SV=sessions.mean_SV[:, kept_V],
        std_SV=sessions.std_SV[:, kept_V],
        invalid_SV=sessions.invalid_SV[:, kept_V],
    )


def _select_trials(betas_NV: Floats, trials: design.Trials, chosen_N: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    return {
        "betas_NV": betas_NV[chosen_N],
        "nsd_id_N": trials.nsd_id_N[chosen_N],
        "session_N": trials.session_N[chosen_N],
        "trial_N": trials.trial_N[chosen_N],
        "repetition_N": trials.repetition_N[chosen_N],
    }


def _read_noise_free(
    root: Path, subject: str, preparation: str, ijk_V3: NDArray[Any], trials: design.Trials, sessions: Sessions
) -> dict[str, NDArray[Any]]:
    """Noise-free responses to the test pictures on the scale of the betas, where the tree has them; otherwise nothing.

    z-scored with the mean over sessions of mean and std, sessions without signal left out.
    """
    path = layout.noise_free_path(root, subject, preparation)
    if not path.is_file():
        return {}
    with h5py.File(path, "r") as file:
        place = {tuple(ijk): column for column, ijk in enumerate(file["ijk"][()].tolist())}
        missing = [ijk for ijk in ijk_V3.tolist() if tuple(ijk) not in place]
        if missing:
            raise ValueError(f"{path} lacks {len(missing)} voxels of {layout.GENERAL_ROI}, the first is {missing[0]}")
        nsd_id_I = file["nsd_id"][()].astype(np.int64)
        rows = np.flatnonzero(np.isin(nsd_id_I, design.list_images(trials, shared=True)))
        rows = rows[np.argsort(nsd_id_I[rows])]
        percent_IV = file["betas"][()][rows][:, [place[tuple(ijk)] for ijk in ijk_V3.tolist()]].astype(np.float64)
    valid_SV = ~sessions.invalid_SV
    mean_V, std_V = (np.average(a, axis=0, weights=valid_SV) for a in (sessions.mean_SV, sessions.std_SV))
    return {"noise_free_IV": (percent_IV - mean_V) / std_V, "noise_free_nsd_id_I": nsd_id_I[rows]}


def _finite_median(values_V: Floats, name: str) -> dict[str, float]:
    finite = values_V[np.isfinite(values_V)]
    return {name: round(float(np.median(finite)), 6)} if finite.size else {}
