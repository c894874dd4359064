"""A gallery: CLIP features of pictures, and of captions where they have some, to be searched.

Thumbnails travel along, so that a page can show what was found without the pictures themselves.

Letters: I pictures, K captions, D embedding width, B bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core import store
from fmri2clip.core.schema import Field, Kind

Array = NDArray[Any]
GALLERY = Kind(
    "gallery",
    {
        "name_I": Field("str", "path below the folder of pictures"),
        "image_embedding_ID": Field("float32", "unit norm"),
        "jpeg_B": Field("uint8", "thumbnails, one JPEG file after the other"),
        "jpeg_end_I": Field("int64", "place in jpeg_B behind a picture's thumbnail"),
        "caption_K": Field("str", "text"),
        "caption_image_K": Field("int32", "row of name_I"),
        "text_embedding_KD": Field("float32", "unit norm"),
    },
)


def write_gallery(
    path: Path,
    arrays: Mapping[str, Array | Sequence[str]],
    jpegs: Sequence[bytes],
    clip: Mapping[str, str | int],
) -> None:
    """Write a gallery; it appears when it is complete.

    arrays: all but the thumbnails; jpegs: those of name_I; clip: identity of the CLIP model, as in
    the attributes of a CLIP cache.
    """
    thumbnails = {
        "jpeg_B": np.frombuffer(b"".join(jpegs), np.uint8),
        "jpeg_end_I": np.cumsum([len(jpeg) for jpeg in jpegs]),
    }
    store.write(path, GALLERY, {**arrays, **thumbnails}, clip)


def read_gallery(path: Path) -> store.Arrays:
    """All arrays of a gallery, with the CLIP's identity as attributes.

    Raises ValueError for a file of another kind.
    """
    return store.read(path, GALLERY)


def get_jpeg(gallery: Mapping[str, Array], row: int) -> bytes:
    """Thumbnail of a picture, as a JPEG file."""
    end_I = gallery["jpeg_end_I"]
    start = int(end_I[row - 1]) if row else 0
    return gallery["jpeg_B"][start : end_I[row]].tobytes()
