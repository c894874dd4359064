"""Whose recordings `dataset.source` asks for."""

from __future__ import annotations

from pathlib import Path

from fmri2clip.core.params import Dataset, Download
from fmri2clip.datasets.folder.recordings import FolderRecordings
from fmri2clip.datasets.interface import Recordings
from fmri2clip.datasets.nsd.recordings import NsdRecordings
from fmri2clip.datasets.nsd.sessions import session_source


def open_recordings(tree: Path, subject: str, dataset: Dataset, download: Download) -> Recordings:
    """Responses of a subject. tree: of NSD, real or simulated. Raises ValueError for a folder that
    is not laid out as docs/own_data.md says.
    """
    if dataset.source == "folder":
        return FolderRecordings.open(Path(dataset.folder), subject)
    source = session_source(tree, subject, dataset, download)
    return NsdRecordings(tree, subject, dataset, source)
