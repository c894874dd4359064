"""Whose pictures `dataset.source` asks for, and how one file of a user is read."""

from __future__ import annotations

from pathlib import Path

from fmri2clip.core.params import Dataset, Labels
from fmri2clip.datasets.folder.pictures import FolderPictures
from fmri2clip.datasets.folder.stock import read_picture
from fmri2clip.datasets.interface import Pictures
from fmri2clip.datasets.nsd.pictures.source import NsdPictures

__all__ = ["open_pictures", "read_picture"]


def open_pictures(tree: Path, dataset: Dataset, labels: Labels) -> Pictures:
    """Pictures and their descriptions. tree: of NSD, real or simulated. Raises ValueError for a
    folder that is not laid out as docs/own_data.md says.
    """
    if dataset.source == "folder":
        return FolderPictures.open(Path(dataset.folder))
    return NsdPictures(tree, dataset.sessions, labels.min_area)
