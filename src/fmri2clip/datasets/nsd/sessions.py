"""Where a session's betas come from: the tree, or the bucket, one session at a time.

This is the one place after the download stage that knows whether raw betas are kept
(`dataset.keep_raw`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fmri2clip.core import resume
from fmri2clip.core.params import Dataset, Download
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.datasets.nsd.bucket import open_bucket, require_terms
from fmri2clip.datasets.nsd.voxels import betas
from fmri2clip.transfer import transfer
from fmri2clip.transfer.remotes import RemoteFile

SCRATCH = resume.RESUME_ROOT / "stream"


class SessionSource(Protocol):
    """Betas of one subject and preparation, session by session (1-based)."""

    # False: sessions come one after the other, so reading several at once gains nothing
    is_local: bool

    def open(self, session: int) -> AbstractContextManager[Path]:
        """The file of a session, there as long as the context is open."""
        ...

    def identity(self, n_sessions: int) -> Any:
        """What tells these sessions from others, for the key of a resume folder."""
        ...

    def close(self) -> None:
        """Remove what is left of the sessions; called once they are all extracted."""
        ...


@dataclass(frozen=True)
class LocalSource:
    """Sessions that lie in the tree."""

    root: Path
    subject: str
    preparation: str
    is_local = True

    @contextmanager
    def open(self, session: int) -> Iterator[Path]:
        """The file in the tree, which stays. ValueError if the session has none."""
        yield betas.find_session(self.root, self.subject, self.preparation, session)

    def identity(self, n_sessions: int) -> dict[str, list[int]]:
        """Path of every file -> its size and time of change."""
        paths = [
            betas.find_session(self.root, self.subject, self.preparation, s)
            for s in range(1, n_sessions + 1)
        ]
        return resume.fingerprint(paths)

    def close(self) -> None:
        """Nothing to remove: the files are the tree's."""


@dataclass(frozen=True)
class StreamingSource:
    """Sessions that the manifest names and the bucket holds. Each is fetched into scratch and
    deleted after use.

    A fetch that was interrupted goes on where it stopped, so `scratch` outlives a kill until
    close().
    """

    root: Path
    subject: str
    preparation: str
    download: Download
    scratch: Path = SCRATCH
    is_local = False

    @contextmanager
    def open(self, session: int) -> Iterator[Path]:
        """The session in scratch, fetched when the context opens and deleted when it closes."""
        entry = self._entry(session)
        path = self.scratch / self.subject / Path(entry.key).name
        file = RemoteFile(key=entry.key, size=entry.bytes, etag=entry.etag)
        transfer.fetch(
            open_bucket(self.download),
            [transfer.Item(file=file, path=path)],
            connections=self.download.connections,
            part_bytes=self.download.part_mib * 2**20,
            retries=self.download.retries,
            label=f"{self.subject} session {session}",
        )
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def identity(self, n_sessions: int) -> list[list[Any]]:
        """Key, size and etag of every session, as the manifest has them."""
        entries = [self._entry(session) for session in range(1, n_sessions + 1)]
        return [[entry.key, entry.bytes, entry.etag] for entry in entries]

    def close(self) -> None:
        """Remove the subject's folder of scratch, with what an interrupted fetch left there."""
        shutil.rmtree(self.scratch / self.subject, ignore_errors=True)

    def _entry(self, session: int) -> manifest.Entry:
        """Entry of a session in whichever container the manifest has it."""
        path = layout.manifest_path(self.root, self.subject)
        entries = manifest.by_key(manifest.read(path))
        # The download wrote down what the bucket had, HDF5 or NIfTI.
        for suffix in layout.BETA_SUFFIXES:
            file = layout.betas_path(self.root, self.subject, self.preparation, session, suffix)
            if (key := file.relative_to(self.root).as_posix()) in entries:
                return entries[key]
        raise ValueError(
            f"{path} does not name session {session} of {self.preparation}; run the download stage "
            "again"
        )


def session_source(root: Path, subject: str, dataset: Dataset, download: Download) -> SessionSource:
    """The source that `dataset.keep_raw` asks for."""
    if dataset.keep_raw:
        return LocalSource(root, subject, dataset.preparation)
    require_terms(dataset)
    return StreamingSource(root, subject, dataset.preparation, download)
