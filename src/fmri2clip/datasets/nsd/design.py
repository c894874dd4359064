"""Which picture every trial showed, which pictures are shared (the test set), and how many sessions
are used.

NSD manual, Experiments: masterordering holds, for every trial in time order, the 1-based column j
of subjectim, which holds 1-based picture numbers (nsd_id = number - 1); columns up to sharedix.size
are the same for all eight subjects. masterordering is uint16 in the file and is cast before any
arithmetic, which would wrap. Session lengths never differ (750), but subjects have 30 to 40
sessions, and the planned design goes on after a subject's last session. Letters: N trials, I
images, S subjects, J columns of subjectim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from fmri2clip.core.files import NotOpened, describe_failure
from fmri2clip.datasets.interface import Ints, Trials
from fmri2clip.datasets.nsd import layout


@dataclass(frozen=True, kw_only=True)
class Design:
    """The planned experiment, common to all subjects but for the pictures behind the columns."""

    ordering_N: Ints  # 1-based column of subjectim shown on each planned trial
    nsd_id_SJ: Ints  # row of imgBrick (0-based) behind each column, one row per subject 1 to 8
    n_shared: int  # columns 1..n_shared show the same picture to everybody

    @property
    def n_sessions(self) -> int:
        """Number of planned sessions."""
        return len(self.ordering_N) // layout.TRIALS_PER_SESSION


def load_design(root: Path) -> Design:
    """Read nsd_expdesign.mat; a missing, unreadable or inconsistent file raises ValueError."""
    path = layout.expdesign_path(root)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download_stimuli stage")
    try:
        mat = scipy.io.loadmat(path, variable_names=["masterordering", "subjectim", "sharedix"])
    except Exception as error:
        remedy = "delete it and download it again"
        failure = describe_failure(path, error, "a MATLAB 5 file", remedy)
        if not isinstance(failure, NotOpened) and (what := _guess_content(path)):
            failure = ValueError(f"{path} {what}; {remedy}")
        raise failure from error
    missing = {"masterordering", "subjectim", "sharedix"} - set(mat)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}; download it again")
    return make_design(mat["masterordering"], mat["subjectim"], mat["sharedix"], str(path))


def _guess_content(path: Path) -> str:
    """What a file that is no MATLAB 5 file seems to be, '' if unknown."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "is empty, no MATLAB 5 file"
    if head.lstrip().startswith(b"<"):
        return (
            "is a web page or an error message of a server saved under this name, no MATLAB 5 file"
        )
    if b"HDF" in head[:8] or head.startswith(b"MATLAB 7.3"):
        return "is a MATLAB 7.3 file (HDF5), but NSD's is MATLAB 5"
    return ""


def make_design(
    masterordering: NDArray[Any],
    subjectim: NDArray[Any],
    sharedix: NDArray[Any],
    source: str = "design",
) -> Design:
    """Design from the arrays of nsd_expdesign.mat (1-based, any integer dtype), checked for
    consistency.
    """
    arrays = {"masterordering": masterordering, "subjectim": subjectim, "sharedix": sharedix}
    for name, array in arrays.items():
        if array.dtype.kind not in "iu" or array.ndim > 2:
            raise ValueError(
                f"{source}: {name} is {array.dtype} of shape {array.shape}, not a table of integers"
            )
    ordering_N = masterordering.astype(np.int64).ravel()
    nsd_id_SJ = np.atleast_2d(subjectim.astype(np.int64)) - 1
    # The first problem is raised; later ones may only follow from it.
    for problem in _find_problems(ordering_N, nsd_id_SJ, sharedix.astype(np.int64).ravel() - 1):
        raise ValueError(f"{source}: {problem}; download it again")
    return Design(ordering_N=ordering_N, nsd_id_SJ=nsd_id_SJ, n_shared=sharedix.size)


def _find_problems(ordering_N: Ints, nsd_id_SJ: Ints, shared_I: Ints) -> Iterator[str]:
    """Contradictions, in an order in which each may rely on the absence of those before it."""
    n_subjects, n_columns = nsd_id_SJ.shape
    n_shared = shared_I.size
    if ordering_N.size % layout.TRIALS_PER_SESSION or not ordering_N.size:
        yield (
            f"masterordering has {ordering_N.size} trials, no multiple of "
            f"{layout.TRIALS_PER_SESSION}"
        )
    if n_subjects != len(layout.SUBJECTS):
        yield f"subjectim has {n_subjects} rows, not {len(layout.SUBJECTS)}"
    wrong_N = (ordering_N < 1) | (ordering_N > n_columns)
    if wrong_N.any():
        trial = int(wrong_N.argmax())
        yield f"masterordering leaves 1..{n_columns}: trial {trial + 1} shows {ordering_N[trial]}"
    if ordering_N.size != layout.REPETITIONS * n_columns:
        yield (
            f"masterordering has {ordering_N.size} trials, not {layout.REPETITIONS} for each of "
            f"{n_columns} pictures"
        )
    if nsd_id_SJ.min() < 0:
        yield f"an id of subjectim is below 1: {nsd_id_SJ.min() + 1}"
    if nsd_id_SJ.max() >= layout.N_IMAGES:
        yield (
            f"an id of subjectim is above the {layout.N_IMAGES} pictures of NSD: "
            f"{nsd_id_SJ.max() + 1}"
        )
    if n_shared > n_columns:
        yield f"sharedix has {n_shared} pictures, subjectim only {n_columns}"
    if np.ptp(nsd_id_SJ[:, :n_shared], axis=0).any():
        yield f"the first {n_shared} columns of subjectim differ between subjects"
    if not np.array_equal(nsd_id_SJ[0, :n_shared], shared_I):
        yield f"the first {n_shared} columns of subjectim are not sharedix"
    if (np.diff(np.sort(nsd_id_SJ, axis=1), axis=1) == 0).any():
        yield "subjectim names a picture twice for one subject"


def count_sessions(design: Design, subject: str, sessions: str | int) -> int:
    """Number of sessions to use: 'released', 'old37' (the first release), or a number up to the
    released ones.
    """
    released = min(layout.released_sessions(subject), design.n_sessions)
    if sessions == "released":
        return released
    if sessions == "old37":
        return min(layout.old37_sessions(subject), design.n_sessions)
    if not isinstance(sessions, int) or isinstance(sessions, bool) or not 1 <= sessions <= released:
        raise ValueError(
            f"sessions is {sessions!r}; {subject} allows released, old37 or a number from 1 to "
            f"{released}"
        )
    return sessions


def list_trials(design: Design, subject: str, sessions: str | int) -> Trials:
    """All trials of a subject in the sessions asked for."""
    n_trials = count_sessions(design, subject, sessions) * layout.TRIALS_PER_SESSION
    ordering_N = design.ordering_N[:n_trials]
    return Trials(
        trial_N=np.arange(1, n_trials + 1),
        session_N=np.arange(n_trials) // layout.TRIALS_PER_SESSION + 1,
        nsd_id_N=design.nsd_id_SJ[layout.subject_number(subject) - 1, ordering_N - 1],
        repetition_N=count_repetitions(ordering_N),
        is_shared_N=ordering_N <= design.n_shared,
    )


def count_repetitions(ids_N: NDArray[Any]) -> Ints:
    """How often each entry has occurred up to and including its own position: [7, 4, 7] -> [1, 1,
    2].
    """
    order = np.argsort(ids_N, kind="stable")
    ranked = ids_N[order]
    # Equal ids stand together now, in time order: their rank is the distance from the first.
    if ranked.size:
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    else:
        starts = np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, ranked.size])
    repetition_N = np.empty(ranked.size, dtype=np.int64)
    repetition_N[order] = np.arange(ranked.size) - np.repeat(starts, lengths) + 1
    return repetition_N


def list_images(trials: Trials, *, shared: bool) -> Ints:
    """Sorted nsd_ids of the test pictures (shared) or the training pictures that these trials
    show.
    """
    return np.unique(trials.nsd_id_N[trials.is_shared_N == shared])


def count_presentations(trials: Trials, *, shared: bool) -> dict[int, int]:
    """Number of test (shared) or training pictures that these trials show exactly 1, 2 and 3
    times.
    """
    chosen_N = trials.is_shared_N == shared
    _, shown_I = np.unique(trials.nsd_id_N[chosen_N], return_counts=True)
    return {times: int(np.sum(shown_I == times)) for times in range(1, layout.REPETITIONS + 1)}


Array = NDArray[Any]


def list_pictures(
    root: Path, subjects: Sequence[str], sessions: str | int
) -> dict[str, NDArray[np.int64]]:
    """Sorted nsd_ids that the subjects see in the sessions asked for.

    'train' (not shared) and 'shared' (the test set).
    """
    planned = load_design(root)
    trials = [list_trials(planned, subject, sessions) for subject in subjects]
    return {
        name: np.unique(np.concatenate([list_images(t, shared=shared) for t in trials]))
        for name, shared in (("train", False), ("shared", True))
    }
