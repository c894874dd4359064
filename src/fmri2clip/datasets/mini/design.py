"""Which picture is shown when: the design tables of a simulated NSD experiment.

The structure follows the NSD manual (Experiments) and Allen et al. 2022: every picture three times,
the same order of 10k ids for all subjects, the first ids shared by everybody, repeats bunched in
time so that more than half of the pictures have two presentations within one session. The ordering
itself is ours; nothing is copied from the release.

Axis letters: N trials, S sessions, I images of one subject.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.io import savemat

from fmri2clip.datasets.nsd import layout

BLOCK = layout.TRIALS_PER_SESSION
BUNCHED = 0.62  # probability that a presentation lies near the first draw of its picture
BUNCH_WIDTH = 0.25  # standard deviation of that lie, in sessions
COCO_ID_STEP = 7  # largest step from one COCO id to the next; ids rise with the nsd id, with gaps
VAL2017_SHARE = 0.04  # of the pictures that are not shared; all shared ones are train2017
# Instead of scipy's, which holds the date.
MAT_HEADER = b"MATLAB 5.0 MAT-file, simulated NSD design"
# A run begins and ends with blank slots.
FIRST_SLOT = 3
LAST_SLOT = 71


@dataclass(frozen=True, eq=False, kw_only=True)
class Design:
    """The tables of nsd_expdesign.mat; ids in them are 1-based.

    masterordering_N uint16: 10k id of every trial; subjectim (8, I) int32: 73k id of each 10k id;
    sharedix: the first n_shared columns; stimpattern (S, 12, 75) uint8: slots with a picture;
    basiccnt (3, S) uint16: pictures shown exactly 1, 2, 3 times within the session.
    """

    masterordering_N: np.ndarray
    subjectim: np.ndarray
    sharedix: np.ndarray
    stimpattern: np.ndarray
    basiccnt: np.ndarray

    @property
    def n_images(self) -> int:
        """Number of pictures in imgBrick: the shared ones and eight times the own ones."""
        n_shared = self.sharedix.size
        n_own = self.subjectim.shape[1] - self.sharedix.size
        return int(n_shared + len(layout.SUBJECTS) * n_own)

    def nsd_id_N(self, subject: str) -> np.ndarray:
        """0-based row of imgBrick of every trial of a subject, (N,) int64."""
        row = self.subjectim[layout.subject_number(subject) - 1].astype(np.int64)
        return row[self.masterordering_N.astype(np.int64) - 1] - 1

    def nsd_ids(self, subjects: list[str] | tuple[str, ...]) -> np.ndarray:
        """Sorted 0-based ids of all pictures that these subjects see, int64."""
        rows = [layout.subject_number(subject) - 1 for subject in subjects]
        return np.unique(self.subjectim[rows].astype(np.int64)) - 1


def make_design(world_seed: int, n_sessions: int, n_shared: int) -> Design:
    """Design of a world; ValueError if there are more shared pictures than pictures of a
    subject.
    """
    n_images = BLOCK * n_sessions // layout.REPETITIONS
    if not 0 < n_shared < n_images:
        raise ValueError(
            f"world.n_shared is {n_shared}, but a subject sees {n_images} pictures in {n_sessions} "
            f"sessions; choose 1 to {n_images - 1}"
        )
    rng = np.random.default_rng((world_seed, 0xDE51))
    masterordering_N = _order_trials(rng, n_images, n_sessions)
    n_own = n_images - n_shared
    ids = rng.permutation(n_shared + len(layout.SUBJECTS) * n_own) + 1
    shared = np.sort(ids[:n_shared])
    own = ids[n_shared:].reshape(len(layout.SUBJECTS), n_own)
    subjectim = np.concatenate((np.tile(shared, (len(layout.SUBJECTS), 1)), own), axis=1)
    return Design(
        masterordering_N=masterordering_N.astype(np.uint16),
        subjectim=subjectim.astype(np.int32),
        sharedix=shared.astype(np.int32),
        stimpattern=_place_trials(rng, n_sessions),
        basiccnt=count_repeats(masterordering_N),
    )


def _order_trials(rng: np.random.Generator, n_images: int, n_sessions: int) -> np.ndarray:
    """10k ids 1..n_images in time order, each three times, repeats bunched around a time of their
    own.
    """
    middle = rng.random((n_images, 1)) * n_sessions
    near = middle + rng.normal(0, BUNCH_WIDTH, (n_images, layout.REPETITIONS))
    anywhere = rng.random((n_images, layout.REPETITIONS)) * n_sessions
    # A circle: no session is special.
    time = np.where(rng.random(near.shape) < BUNCHED, near, anywhere) % n_sessions
    order = np.argsort(time, axis=None, kind="stable")
    return order // layout.REPETITIONS + 1


def _place_trials(rng: np.random.Generator, n_sessions: int) -> np.ndarray:
    """stimpattern (S, 12, 75) uint8: 63 pictures in odd runs, 62 in even ones, blanks at both ends
    and in between.
    """
    pattern = np.zeros((n_sessions, layout.RUNS_PER_SESSION, layout.SLOTS_PER_RUN), dtype=np.uint8)
    for session in range(n_sessions):
        for run in range(layout.RUNS_PER_SESSION):
            n_trials = layout.TRIALS_PER_RUN[run % 2]
            slots = rng.choice(np.arange(FIRST_SLOT, LAST_SLOT), size=n_trials, replace=False)
            pattern[session, run, slots] = 1
    return pattern


def count_repeats(masterordering_N: np.ndarray) -> np.ndarray:
    """basiccnt (3, S) uint16: pictures shown exactly 1, 2, 3 times within each session of 750
    trials.
    """
    counts = [np.unique(ids, return_counts=True)[1] for ids in masterordering_N.reshape(-1, BLOCK)]
    return np.stack([np.bincount(c, minlength=4)[1:] for c in counts], axis=1).astype(np.uint16)


def design_mat(design: Design) -> bytes:
    """nsd_expdesign.mat: a MATLAB 5 file with the names, shapes and dtypes of the release, without
    a date.
    """
    buffer = io.BytesIO()
    tables = {
        "basiccnt": design.basiccnt,
        "masterordering": design.masterordering_N[None],
        "sharedix": design.sharedix[None],
        "stimpattern": design.stimpattern,
        "subjectim": design.subjectim,
    }
    savemat(buffer, tables, format="5")
    return MAT_HEADER.ljust(116) + buffer.getvalue()[116:]


def presentations(design: Design) -> np.ndarray:
    """1-based trials of each picture for each subject, (n_images, 8, 3) int64; 0 = never shown to
    this subject.
    """
    by_id_IR = (
        np.argsort(design.masterordering_N, kind="stable").reshape(-1, layout.REPETITIONS) + 1
    )
    trials = np.zeros((design.n_images, len(layout.SUBJECTS), layout.REPETITIONS), dtype=np.int64)
    for number, row in enumerate(design.subjectim.astype(np.int64)):
        trials[row - 1, number] = by_id_IR
    return trials


def coco_ids(world_seed: int, n_images: int) -> np.ndarray:
    """COCO id of every picture, rising with the nsd id, (n_images,) int64."""
    steps = np.random.default_rng((world_seed, 0xC0C0)).integers(1, COCO_ID_STEP + 1, n_images)
    return 8 + np.cumsum(steps)


def stim_info(
    world_seed: int, design: Design, crop_boxes: dict[int, tuple[float, float, float, float]]
) -> pd.DataFrame:
    """nsd_stim_info_merged.csv, one row per picture, with `layout.CSV_COLUMNS` and the nsd id as
    unnamed index.

    ``crop_boxes`` (nsd id -> top, bottom, left, right) holds the drawn pictures; the others belong
    to subjects that are not simulated, nobody reads their crop, and they get the commonest one.
    """
    rng = np.random.default_rng((world_seed, 0x1F0))
    n = design.n_images
    shared = np.zeros(design.n_images, dtype=bool)
    shared[design.sharedix - 1] = True
    in_val = (rng.random(n) < VAL2017_SHARE) & ~shared
    boxes = (crop_boxes.get(i, (0, 0, 0.125, 0.125)) for i in range(n))
    columns: dict[str, object] = {
        "cocoId": coco_ids(world_seed, n),
        "cocoSplit": np.where(in_val, layout.COCO_SPLITS[1], layout.COCO_SPLITS[0]),
        "cropBox": [f"({', '.join(f'{edge:.7g}' for edge in box)})" for box in boxes],
        "loss": rng.exponential(0.1, n).round(6),
        "nsdId": np.arange(n),
        "flagged": rng.random(n) < 0.01,
        "BOLD5000": rng.random(n) < 0.02,
        "shared1000": shared,
    }
    trials = presentations(design)
    columns |= {
        f"subject{s + 1}": (trials[:, s, 0] > 0).astype(int) for s in range(len(layout.SUBJECTS))
    }
    columns |= {
        f"subject{s + 1}_rep{r}": trials[:, s, r]
        for s in range(trials.shape[1])
        for r in range(trials.shape[2])
    }
    return pd.DataFrame(columns)[list(layout.CSV_COLUMNS)]
