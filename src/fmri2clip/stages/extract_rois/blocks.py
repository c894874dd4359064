"""Sessions that are read and z-scored, each kept as a file until the subject is complete, so that a
kill costs one.

Several sessions are read at once by threads: inflating a NIfTI stream and the arithmetic of
z-scores leave Python's lock free, only h5py reads one file at a time. Letters: T the trials of a
session, V voxels, S sessions.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmri2clip.core import store
from fmri2clip.datasets.interface import Recordings, Rois
from fmri2clip.stages.extract_rois.zscore import Session, zscore_session

# Each reader holds a session twice, 50 MB of 15,724 voxels: what memory allows, not what helps.
MAX_READERS = 16


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of all sessions, for the same voxels."""

    mean_SV: NDArray[np.float64]  # percent signal change
    std_SV: NDArray[np.float64]
    invalid_SV: NDArray[np.bool_]

    def select(self, kept_V: NDArray[np.bool_]) -> Statistics:
        """The same statistics for the voxels of a mask (V,)."""
        return Statistics(
            mean_SV=self.mean_SV[:, kept_V],
            std_SV=self.std_SV[:, kept_V],
            invalid_SV=self.invalid_SV[:, kept_V],
        )


@dataclass(frozen=True)
class Blocks:
    """Finished sessions (1-based) as files of a folder: one for the betas, and before it one for
    the statistics.
    """

    folder: Path

    def missing(self, n_sessions: int) -> list[int]:
        """The sessions that are still to be read."""
        return [session for session in range(1, n_sessions + 1) if not self._is_whole(session)]

    def _is_whole(self, session: int) -> bool:
        """A file that ends too early does not count: its session is read again."""
        whole = store.is_whole_array(self._betas_path(session))
        return whole and zipfile.is_zipfile(self._statistics_path(session))

    def save(self, session: int, finished: Session) -> None:
        """A session counts once its betas have their final name; a kill before that leaves nothing
        that is read.
        """
        np.savez(
            self._statistics_path(session),
            mean_V=finished.mean_V,
            std_V=finished.std_V,
            invalid_V=finished.invalid_V,
        )
        # The statistics come first: the name of the betas file is what says "finished".
        temporary = self._betas_path(session).with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, finished.betas_TV)
        os.replace(temporary, self._betas_path(session))

    def betas(self, session: int) -> NDArray[np.float16]:
        """z-scores (T, V) of a session, mapped from its file: rows and columns come to memory
        when they are taken.
        """
        mapped: NDArray[np.float16] = np.load(self._betas_path(session), mmap_mode="r")
        return mapped

    def statistics(self, n_sessions: int) -> Statistics:
        """Mean, std and lack of signal (S, V) of the first sessions, all of which are finished."""
        names: dict[str, list[NDArray[np.float64]]] = {"mean_V": [], "std_V": [], "invalid_V": []}
        for session in range(1, n_sessions + 1):
            with np.load(self._statistics_path(session)) as arrays:
                for name, rows in names.items():
                    rows.append(arrays[name])
        mean_SV, std_SV, invalid_SV = (np.stack(rows) for rows in names.values())
        return Statistics(mean_SV=mean_SV, std_SV=std_SV, invalid_SV=invalid_SV.astype(bool))

    def _betas_path(self, session: int) -> Path:
        return self.folder / f"session{session:02d}.npy"

    def _statistics_path(self, session: int) -> Path:
        return self.folder / f"session{session:02d}.npz"


def extract_sessions(
    recordings: Recordings,
    rois: Rois,
    blocks: Blocks,
    used: Sequence[NDArray[np.bool_]],
    workers: int,
    label: str,
) -> None:
    """Read and z-score every session that has no block yet, with progress. Each of those is opened
    once.

    used: of each session, which trials (T) are behind mean and std. workers: sessions read at once
    where they are local. The first error is raised as it is; sessions that were finished before it
    keep their blocks.
    """

    # Nothing is returned: what a thread has read is on disk before it takes the next session.
    def extract(session: int) -> None:
        stored_TV = recordings.read(session, rois)
        where = f"{label}: session {session}"
        finished = zscore_session(stored_TV, used[session - 1], recordings.scale, where)
        blocks.save(session, finished)

    n_sessions = len(used)
    missing = blocks.missing(n_sessions)
    # A source that streams fetches one session after the other; more readers would only wait.
    readers = min(workers, MAX_READERS, len(missing)) if recordings.is_local else 1
    with tqdm(
        total=n_sessions, initial=n_sessions - len(missing), desc=label, unit="session"
    ) as bar:
        for _ in _run(extract, missing, readers):
            bar.update()


def _run(task: Callable[[int], None], sessions: Sequence[int], workers: int) -> Iterator[None]:
    """Do a task for every session and yield after each; in this thread if there is one worker."""
    if workers <= 1:
        yield from map(task, sessions)
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task, session) for session in sessions]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            # Leaving the pool waits for its queue: drop what has not begun, so that an error or
            # Ctrl-C shows at once.
            pool.shutdown(cancel_futures=True)
            raise
