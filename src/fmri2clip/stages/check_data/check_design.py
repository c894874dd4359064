"""What must hold for nsd_expdesign.mat, real or simulated, and the published numbers of the real
one.

Sources: NSD manual, Experiments; Allen et al. 2022; constants recounted from the released
nsd_expdesign.mat.

Axis letters: N trials, S sessions or subjects, J columns of subjectim.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import design as designs
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.design import Design
from fmri2clip.stages.check_data.outcomes import Outcome, passed, require

# From the released design. 0-based trial -> nsd id of the first shared trials; nsd ids of subj01's
# first ten trials; nsd id -> (subjects who see it, 1-based trials).
FIRST_SHARED = {
    0: 46002,
    28: 48617,
    35: 44980,
    44: 32625,
    55: 53052,
    56: 4930,
    90: 32625,
    120: 6431,
    126: 70335,
    132: 36576,
}
FIRST_OF_SUBJ01 = (46002, 61882, 828, 67573, 16020, 40422, 51517, 62325, 50610, 55065)
PRESENTATIONS = {
    2950: (layout.SUBJECTS, (2616, 9716, 27566)),
    46002: (layout.SUBJECTS, (1, 12803, 25837)),
    0: (("subj03",), (13792, 14918, 28011)),
    72999: (("subj01",), (16206, 22389, 22664)),
}
# Of sharedix, 0-based.
FIRST_SHARED_IDS = (2950, 2990, 3049, 3077, 3146, 3157, 3164, 3171, 3181, 3386)
LAST_SHARED_ID = 72948


class SplitCounts(NamedTuple):
    """How the first sessions divide into training and test set; the same for all subjects."""

    train_trials: int
    train_pictures: int
    test_trials: int
    test_pictures: int
    test_seen: tuple[int, int, int]  # test pictures seen three times, twice, once


SPLITS = {  # number of sessions -> counts
    1: SplitCounts(688, 536, 62, 47, (2, 11, 34)),
    3: SplitCounts(2049, 1431, 201, 145, (12, 32, 101)),
    27: SplitCounts(18265, 7907, 1985, 872, (413, 287, 172)),
    29: SplitCounts(19637, 8188, 2113, 894, (481, 257, 156)),
    30: SplitCounts(20312, 8302, 2188, 907, (515, 251, 141)),
    32: SplitCounts(21629, 8481, 2371, 930, (614, 213, 103)),
    37: SplitCounts(24980, 8859, 2770, 982, (839, 110, 33)),
    40: SplitCounts(27000, 9000, 3000, 1000, (1000, 0, 0)),
}


class Structure(NamedTuple):
    """How repeats and shared pictures are spread over the sessions of a design."""

    shared_trials: tuple[int, int, int]  # in session 1, fewest, most
    percent_together: float  # pictures with two or more of their presentations in one session
    median_gap: float  # trials from one presentation to the next
    seen_in_first: tuple[int, int, int]  # pictures shown once, twice, three times in session 1


STRUCTURE = Structure((62, 57, 101), 55.9, 1517.5, (447, 105, 31))


def check_design(root: Path) -> Outcome:
    """Dtypes and shapes of nsd_expdesign.mat; every picture three times; own pictures of nobody
    else; run lengths.
    """
    path = layout.expdesign_path(root)
    design = designs.load_design(root)
    mat = scipy.io.loadmat(path)
    n_shared = design.n_shared
    n_columns = design.nsd_id_SJ.shape[1]
    n_sessions = layout.REPETITIONS * n_columns // layout.TRIALS_PER_SESSION
    expected = {
        "masterordering": (np.uint16, (1, layout.REPETITIONS * n_columns)),
        "subjectim": (np.int32, (len(layout.SUBJECTS), n_columns)),
        "sharedix": (np.int32, (1, n_shared)),
        "stimpattern": (np.uint8, (n_sessions, layout.RUNS_PER_SESSION, layout.SLOTS_PER_RUN)),
        "basiccnt": (np.uint16, (3, n_sessions)),
    }
    for name, (dtype, shape) in expected.items():
        require(name in mat, f"{path} lacks {name}")
        seen = (mat[name].dtype, mat[name].shape)
        require(
            seen == (np.dtype(dtype), shape),
            f"{path}: {name} is {seen[0]} {seen[1]}, not {dtype.__name__} {shape}",
        )
    counts = np.bincount(design.ordering_N, minlength=n_columns + 1)[1:]
    require(
        (counts == layout.REPETITIONS).all(),
        f"{path}: not every picture is shown {layout.REPETITIONS} times",
    )
    _check_columns(path, mat["subjectim"], mat["sharedix"].ravel())
    lengths = mat["stimpattern"].sum(axis=2, dtype=np.int64)
    require(
        (lengths == np.tile(layout.TRIALS_PER_RUN, 6)).all(),
        f"{path}: runs are not of 63 and 62 trials in turn",
    )
    repeats = [_count_repeats(block) for block in _sessions(design)]
    require(
        np.array_equal(mat["basiccnt"], np.transpose(repeats)),
        f"{path}: basiccnt is not what is shown",
    )
    shared_S = (_sessions(design) <= n_shared).sum(axis=1)
    require(shared_S.min() > 0, f"{path}: session {shared_S.argmin() + 1} shows no shared picture")
    return passed(f"{n_sessions} sessions, {n_columns} pictures each, {n_shared} shared")


def _check_columns(path: Path, subjectim: NDArray[np.int32], sharedix: NDArray[np.int32]) -> None:
    n_shared = sharedix.size
    require((np.diff(sharedix) > 0).all(), f"{path}: sharedix is not sorted")
    # Each picture once: the shared ones, and the own ones of all subjects.
    ids = np.concatenate((sharedix, subjectim[:, n_shared:].ravel()))
    every = np.array_equal(np.sort(ids), np.arange(1, ids.size + 1))
    require(every, f"{path}: shared and own pictures are not each of 1 to {ids.size} once")


def check_published_design(root: Path) -> Outcome:
    """Spot values, split sizes and structure of the released design."""
    path = layout.expdesign_path(root)
    design = designs.load_design(root)
    shown_SN = design.nsd_id_SJ[:, design.ordering_N - 1]
    for trial, nsd_id in FIRST_SHARED.items():
        everybody = (shown_SN[:, trial] == nsd_id).all()
        require(everybody, f"{path}: trial {trial + 1} does not show nsd id {nsd_id} to everybody")
    require(
        tuple(shown_SN[0, :10]) == FIRST_OF_SUBJ01,
        f"{path}: subj01 begins with {shown_SN[0, :10].tolist()}",
    )
    for nsd_id, (subjects, trials) in PRESENTATIONS.items():
        for subject, shown_N in zip(layout.SUBJECTS, shown_SN, strict=True):
            seen = tuple((np.flatnonzero(shown_N == nsd_id) + 1).tolist())
            expected = trials if subject in subjects else ()
            require(
                seen == expected,
                f"{path}: {subject} sees nsd id {nsd_id} on trials {seen}, published {expected}",
            )
    shared_J = design.nsd_id_SJ[0, : design.n_shared]
    ends = (tuple(shared_J[:10]), shared_J[-1])
    require(
        ends == (FIRST_SHARED_IDS, LAST_SHARED_ID),
        f"{path}: sharedix is {shared_J[:10].tolist()} to {ends[1]}",
    )
    n_pictures = np.unique(design.nsd_id_SJ).size
    require(
        n_pictures == layout.N_IMAGES,
        f"{path} names {n_pictures} pictures, the release has {layout.N_IMAGES}",
    )
    for n_sessions, published in SPLITS.items():
        counts = count_split(design, n_sessions)
        require(
            counts == published,
            f"{path}: {n_sessions} sessions split into {counts}, published {published}",
        )
    structure = describe_structure(design)
    warnings = [] if structure == STRUCTURE else [f"{path}: {structure}, published {STRUCTURE}"]
    return passed(
        f"{len(SPLITS)} split sizes and {len(FIRST_SHARED) + 10} trials as published", warnings
    )


def count_split(design: Design, n_sessions: int) -> SplitCounts:
    """Trials and pictures of the training and the test set in the first sessions of a design."""
    ordering_N = design.ordering_N[: n_sessions * layout.TRIALS_PER_SESSION]
    train = ordering_N[ordering_N > design.n_shared]
    test = ordering_N[ordering_N <= design.n_shared]
    once, twice, thrice = _count_repeats(test)
    return SplitCounts(
        train.size, np.unique(train).size, test.size, np.unique(test).size, (thrice, twice, once)
    )


def describe_structure(design: Design) -> Structure:
    """Spread of shared trials and of repeats over the sessions of a design."""
    blocks = _sessions(design)
    shared_S = (blocks <= design.n_shared).sum(axis=1).tolist()
    order = np.argsort(design.ordering_N, kind="stable")  # trials of column 1, of column 2, ...
    trials_JR = order.reshape(-1, layout.REPETITIONS)
    sessions_JR = trials_JR // layout.TRIALS_PER_SESSION
    together = (np.diff(sessions_JR, axis=1) == 0).any(axis=1)
    return Structure(
        (shared_S[0], min(shared_S), max(shared_S)),
        round(100 * float(together.mean()), 1),
        float(np.median(np.diff(trials_JR, axis=1))),
        _count_repeats(blocks[0]),
    )


def _sessions(design: Design) -> NDArray[np.int64]:
    """Columns shown, one row a session: (sessions, 750)."""
    return design.ordering_N.reshape(-1, layout.TRIALS_PER_SESSION)


def _count_repeats(columns_N: NDArray[np.int64]) -> tuple[int, int, int]:
    """Number of columns that occur once, twice and three times."""
    _, occurrences = np.unique(columns_N, return_counts=True)
    once, twice, thrice = np.bincount(occurrences, minlength=4)[1:4].tolist()
    return once, twice, thrice
