"""Betas as the decoders read them: z-scores of single trials.

    stored    z = (beta - mean) / std, percent signal change, with the statistics of a session that
              the model was trained on
    session   the same with the statistics of the given trials, session by session where it is known
              which trial belongs to which: transductive, as what one trial becomes depends on the
              others
    none      the betas are z-scores already

Letters: N trials, T those of a session, V voxels, S sessions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.strict import check_known
from fmri2clip.datasets.nsd.layout import BETA_SCALE

Array = NDArray[Any]
STORED = "stored"
SESSION = "session"
NONE = "none"
NORMS = (STORED, SESSION, NONE)
# Correlation over voxels of spreads with those of raw betas. In the simulated NSD z-scores have .1
# at most, raw betas .9 for 50 trials and .75 for 10.
LIKENESS = 0.6
UNLIKENESS = 0.3
ENOUGH_TRIALS = 10  # behind a likeness of raw betas that is not near that
LEAST_VOXELS = 20
LEAST_TRIALS = 50  # behind a standard deviation that is known within 10 %
SPREADS = (0.1, 2.0)  # of what passes as z-scores; a mean of many trials keeps .3, its signal


def normalise(
    betas_NV: Array, norm: str, inputs: Mapping[str, Array], session_N: Array | int | str = 0
) -> NDArray[np.float32]:
    """z-scores (N, V) of single trials; a voxel that never changes, or is NaN in all, becomes 0.

    betas_NV: z-scores for `none`; else numbers as the files of the training had them, where the
    model keeps their scale, or percent signal change, or NSD's integers, which are 300 times that.
    inputs: the model's. session_N: of each trial or of all; for `stored` the label of a session of
    the model's training (list_sessions). Raises ValueError for values that are not finite, for
    fewer than LEAST_TRIALS trials in a session with `session`, for an unknown session, and where
    the result is not spread as z-scores are.
    """
    check_known(norm, NORMS, "betas", "norm")
    whole = np.issubdtype(betas_NV.dtype, np.integer)
    if whole and norm == NONE:
        raise ValueError(
            f"the betas are {betas_NV.dtype}, which are no z-scores; NSD's integers need norm "
            f"{STORED!r} or {SESSION!r}"
        )
    # As in training: a voxel of which the session has nothing. One trial cannot tell.
    silent_V = np.flatnonzero(np.isnan(betas_NV).all(axis=0))
    if len(betas_NV) == 1 or len(silent_V) == betas_NV.shape[1]:
        silent_V = silent_V[:0]
    if len(silent_V):
        betas_NV = betas_NV.copy()
        betas_NV[:, silent_V] = 0
    _check_finite(betas_NV)
    if norm == NONE:
        z_NV = betas_NV.astype(np.float32)
        _check_likeness(z_NV, norm, inputs)
    else:
        scale = BETA_SCALE if whole else 1.0
        if "betas_scale_1" in inputs:
            scale = inputs["betas_scale_1"].item()
        percent_NV = betas_NV.astype(np.float64) / scale
        if norm == STORED:
            mean, std = _find_statistics(inputs, session_N, len(betas_NV))
            _check_likeness(percent_NV, norm, inputs)
        else:
            mean, std = _take_statistics(percent_NV, np.broadcast_to(session_N, len(betas_NV)))
        centred_NV = percent_NV - mean
        z_NV = np.divide(centred_NV, std, out=np.zeros_like(centred_NV), where=std > 0)
        z_NV = z_NV.astype(np.float32)
    z_NV[:, silent_V] = 0
    _check_spread(z_NV, norm)
    return z_NV


def list_sessions(inputs: Mapping[str, Array]) -> list[str]:
    """Labels of the sessions whose statistics a model keeps, in the order of training: those of a
    folder, else 1, 2, ...
    """
    if "session_labels_B" in inputs:
        return [str(label) for label in json.loads(inputs["session_labels_B"].tobytes())]
    return [str(s + 1) for s in range(len(inputs.get("session_mean_SV", ())))]


def _check_finite(betas_NV: Array) -> None:
    wrong_NV = ~np.isfinite(betas_NV)
    if wrong_NV.any():
        trial, voxel = np.argwhere(wrong_NV)[0]
        raise ValueError(
            f"{wrong_NV.sum()} betas are NaN or infinite, the first in trial {trial + 1}, voxel "
            f"{voxel + 1}; leave such trials out, or set the voxel to its mean"
        )


def _find_statistics(
    inputs: Mapping[str, Array], session_N: Array | int | str, n_trials: int
) -> tuple[Array, Array]:
    """Mean and std (N, V), percent signal change, of the session of each trial."""
    if "session_mean_SV" not in inputs:
        raise ValueError(
            f"the model keeps no statistics of sessions; use norm {SESSION!r} or {NONE!r}"
        )
    labels = list_sessions(inputs)
    row = {label: s for s, label in enumerate(labels)}
    said_N = np.broadcast_to(np.asarray(session_N).astype(str), n_trials)
    unknown = [label for label in said_N.tolist() if label not in row]
    if unknown:
        is_said = unknown[0] not in ("", "0")
        came = (
            f"session {unknown[0]} is not known" if is_said else f"norm {STORED!r} needs a session"
        )
        raise ValueError(
            f"{came}; the model keeps statistics of sessions {', '.join(labels)} of its training: "
            f"name one, or use norm {SESSION!r} for other sessions"
        )
    row_N = [row[label] for label in said_N.tolist()]
    return inputs["session_mean_SV"][row_N], inputs["session_std_SV"][row_N]


def _take_statistics(percent_NV: Array, session_N: Array) -> tuple[Array, Array]:
    """Mean and unbiased std (N, V), of the given trials of the session of each trial."""
    mean_NV = np.empty_like(percent_NV)
    std_NV = np.empty_like(percent_NV)
    sessions = np.unique(session_N)
    for session in sessions:
        own_N = session_N == session
        percent_TV = percent_NV[own_N]
        if len(percent_TV) < LEAST_TRIALS:
            which = f" of session {session}" if len(sessions) > 1 else ""
            raise ValueError(
                f"norm {SESSION!r} takes mean and spread from the given trials of a session, and "
                f"{len(percent_TV)}{which} are too few: give {LEAST_TRIALS} or more, or use norm "
                f"{STORED!r}"
            )
        mean_NV[own_N] = percent_TV.mean(axis=0)
        # By integers of the file a constant voxel is exactly constant; rounding leaves a hair.
        std_V = percent_TV.std(axis=0, ddof=1)
        std_NV[own_N] = np.where(np.ptp(percent_TV, axis=0) > 0, std_V, 0)
    return mean_NV, std_NV


def _check_likeness(betas_NV: Array, norm: str, inputs: Mapping[str, Array]) -> None:
    """Raw betas may have the spread of z-scores by their unit, but not the same in all voxels, and
    z-scores that of raw ones.
    """
    if "session_mean_SV" not in inputs:
        return
    raw_V = np.square(inputs["session_mean_SV"]) + np.square(inputs["session_std_SV"])
    found = np.stack([np.square(betas_NV, dtype=np.float64).mean(axis=0), raw_V.mean(axis=0)])
    log_2V = np.log(found[:, (found > 0).all(axis=0)])
    if log_2V.shape[1] < LEAST_VOXELS or (log_2V.std(axis=1) < 1e-6).any():
        return
    likeness = np.corrcoef(log_2V)[0, 1]
    if norm == NONE and likeness > LIKENESS:
        raise ValueError(
            "the betas spread over voxels as percent signal change does, so they are no z-scores; "
            f"use norm {STORED!r} or {SESSION!r}"
        )
    if norm == STORED and likeness < UNLIKENESS and len(betas_NV) >= ENOUGH_TRIALS:
        raise ValueError(
            "the betas do not spread over voxels as percent signal change of this person does; use "
            f"norm {NONE!r} for z-scores, {SESSION!r} for betas of another preparation"
        )


def _check_spread(z_NV: NDArray[np.float32], norm: str) -> None:
    """Root mean square of the median voxel: 1 for z-scores, less for means of trials."""
    spread = float(np.median(np.sqrt(np.square(z_NV, dtype=np.float64).mean(axis=0))))
    low, high = SPREADS
    if not low <= spread <= high:
        advice = {
            NONE: f"are they raw betas? Use norm {STORED!r} or {SESSION!r}",
            STORED: "are they percent signal change, and of that session?",
            SESSION: "do most voxels never change?",
        }
        raise ValueError(
            f"the betas have a spread of {spread:.3g} with norm {norm!r}, z-scores have one of "
            f"about 1 ({low:g} to {high:g} is allowed); {advice[norm]}"
        )
