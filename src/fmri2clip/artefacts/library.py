"""Pictures that a decoder may weigh as a prior: data/libraries/<name>/<part>.h5.

A part is a subject, whose training pictures these are, or FOLDER. Only what the stage cache_library
accepted is here: no picture of the test set, and none that is almost one.

Letters: J pictures, K captions, C categories, D embedding width, P components of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import store
from fmri2clip.core.params import ALL, NO_LIBRARY, OWN, Params, run_library
from fmri2clip.core.schema import Field, Kind

Array = NDArray[Any]
FOLDER = "folder"
LIBRARY = Kind(
    "library",
    {
        "name_J": Field("str", "path below the folder, or NSD id"),
        "nsd_id_J": Field("int64", "row of imgBrick; of other pictures -1 less their row here"),
        "image_embedding_JD": Field("float16", "unit norm"),
        "semantic_components_JP": Field("float32", "score", False),
        "detail_components_JP": Field("float32", "score", False),
        "caption_K": Field("str", "text"),
        "caption_picture_K": Field("int32", "row of name_J"),
        "text_embedding_KD": Field("float16", "unit norm"),
        "labels_JC": Field("bool", "visible"),
        "is_labelled_J": Field("bool", "its categories are known"),
    },
)


def write_library(path: Path, arrays: Mapping[str, Any], attrs: store.Attrs) -> None:
    """Write one part; attrs: numbers of pictures that were refused, by reason."""
    store.write(path, LIBRARY, arrays, attrs)


def read_library(path: Path) -> store.Arrays:
    """All arrays of one part. Raises ValueError for a file of another kind."""
    return store.read(path, LIBRARY)


def find_parts(params: Params, run_name: str, subject: str, paths: Paths) -> list[Path]:
    """Files of the pictures that a model of this run weighs; none for a decoder without library.

    Raises ValueError for a library that params do not have.
    """
    name, asked = run_library(params, run_name)
    if asked == NO_LIBRARY:
        return []
    if asked == ALL:
        return [paths.library(name, s) for s in params.runs[run_name].subjects]
    return [paths.library(name, subject if asked == OWN else FOLDER)]


def read_parts(files: Sequence[Path]) -> dict[str, Array]:
    """The parts as one; a picture that two subjects saw is there once."""
    parts = [read_library(file) for file in files]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ends = np.cumsum([0, *(len(part["name_J"]) for part in parts)])
    joined["caption_picture_K"] = np.concatenate(
        [part["caption_picture_K"] + start for part, start in zip(parts, ends, strict=False)]
    )
    first_J = np.sort(np.unique(joined["nsd_id_J"], return_index=True)[1])
    return take_pictures(joined, first_J)


def take_pictures(arrays: Mapping[str, Array], row_J: Array) -> dict[str, Array]:
    """These pictures alone, with their captions."""
    new_J = np.full(len(arrays["name_J"]), -1)
    new_J[row_J] = np.arange(len(row_J))
    picture_K = new_J[arrays["caption_picture_K"]]
    found = {
        name: array[picture_K >= 0] if "_K" in name else array[row_J]
        for name, array in arrays.items()
    }
    return found | {"caption_picture_K": picture_K[picture_K >= 0]}
