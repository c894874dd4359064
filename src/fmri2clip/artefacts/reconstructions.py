"""Reconstructed pictures: data/reconstructions/<name>.h5.

Letters: I rows (an image seen by two subjects is two rows), N candidates, H W C height, width,
channels of a picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core import store
from fmri2clip.core.schema import Field, Kind, Rows, Value

Array = NDArray[Any]

RECONSTRUCTIONS = Kind(
    "reconstructions",
    {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "subject_I": Field("str", "name", False),
        "seed_IN": Field("int64", "of the noise"),
        "image_INHWC": Field("uint8", "grey level"),
    },
)


def read_reconstructions(path: Path, names: Sequence[str] | None = None) -> store.Arrays:
    """Pictures of one reconstruction: all arrays, or only those named.

    Raises ValueError for a file of another kind or without them.
    """
    return store.read(path, RECONSTRUCTIONS, names)


def write_reconstructions(
    path: Path, arrays: Mapping[str, Value | Rows], attrs: store.Attrs | None = None
) -> None:
    """Write such a file; it appears when it is complete."""
    store.write(path, RECONSTRUCTIONS, arrays, attrs)


def open_reconstructions(
    path: Path,
    *,
    fixed: Mapping[str, Value],
    sizes: Mapping[str, int],
    names: Sequence[str],
    attrs: store.Attrs | None = None,
    partial: Path,
) -> store.Stream:
    """A file that is written block by block and resumes; see store.open_stream."""
    return store.open_stream(
        path, RECONSTRUCTIONS, fixed=fixed, sizes=sizes, names=names, attrs=attrs, partial=partial
    )


def read_pictures(path: Path, subject: str) -> tuple[NDArray[np.int64], store.MappedRows]:
    """nsd_id_I and pictures (I, H, W, C) of one subject: the kept candidate of each image, read
    from the file where they are looked at.

    Raises ValueError if the file has none of this subject.
    """
    nsd_id_I = read_reconstructions(path, ["nsd_id_I"])["nsd_id_I"]
    rows_I = np.ones(len(nsd_id_I), dtype=bool)
    if list_subjects(path):
        rows_I = read_reconstructions(path, ["subject_I"])["subject_I"].astype(str) == subject
    if not rows_I.any():
        raise ValueError(
            f"{path} has no picture of {subject}; run the reconstruct stage again (dvc repro)"
        )
    kept_IHWC = store.map_array(path, RECONSTRUCTIONS, "image_INHWC", "r")[:, 0]
    return nsd_id_I[rows_I], store.MappedRows(kept_IHWC, np.flatnonzero(rows_I))


def list_subjects(path: Path) -> list[str]:
    """Subjects that a file has pictures of; none if its pictures are the same for all."""
    # A file that is not there is a mistake; one without subjects is none.
    read_reconstructions(path, ["nsd_id_I"])
    with contextlib.suppress(ValueError):
        subject_I = read_reconstructions(path, ["subject_I"])["subject_I"].astype(str)
        return sorted(set(subject_I.tolist()))
    return []
