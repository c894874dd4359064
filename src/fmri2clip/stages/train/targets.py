"""What training learns to predict: the rows of a CLIP cache that belong to a subject's images.

Axis letters: I images, D embedding width, K captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmri2clip.core import store

Array = NDArray[Any]
POOLED = ("image_embedding_ID", "text_embedding_KD")


def select_images(clip: store.Arrays, rows_I: Array, targets: Sequence[str]) -> dict[str, Any]:
    """Embeddings and captions of the images at these rows of the cache.

    Of data without captions the picture's own embedding stands where text is asked for, so that a
    term for text teaches the picture once more.
    """
    if not len(clip["caption_image_K"]):
        clip = _caption_by_picture(clip)
    new_row = np.full(len(clip["nsd_id_I"]), -1)
    new_row[rows_I] = np.arange(len(rows_I))
    caption_image_K = new_row[clip["caption_image_K"]]
    keep_K = caption_image_K >= 0
    without = np.setdiff1d(np.arange(len(rows_I)), caption_image_K)
    if len(without):
        nsd_id = clip["nsd_id_I"][rows_I[without[0]]]
        raise ValueError(
            f"{len(without)} training images have no caption (first nsd_id {nsd_id}); run "
            "cache_clip again"
        )
    labels_IC = clip["labels_IC"][rows_I]
    return {
        "labels_IC": torch.from_numpy(labels_IC) if labels_IC.shape[1] else None,
        "image_embedding_ID": _unit(clip["image_embedding_ID"][rows_I]),
        "text_embedding_KD": _unit(clip["text_embedding_KD"][keep_K]),
        "caption_image_K": torch.from_numpy(caption_image_K[keep_K].astype(np.int64)),
        "caption_K": [str(text) for text in clip["caption_K"][keep_K]],
        "features": {name: _take(clip[name], rows_I) for name in _found(clip, targets)},
    }


def _caption_by_picture(clip: store.Arrays) -> store.Arrays:
    """The cache with a caption of each picture whose embedding is the picture's."""
    own = {
        "text_embedding_KD": clip["image_embedding_ID"],
        "caption_image_K": np.arange(len(clip["nsd_id_I"])),
        "caption_K": np.array([f"picture {nsd_id}" for nsd_id in clip["nsd_id_I"]], dtype=object),
    }
    return store.Arrays({**clip, **own}, clip.attrs)


def _take(array: Array, rows_I: Array) -> Tensor:
    """Rows of an array, which is not copied where all are wanted, as they are by default.

    Tokens are mapped from the file, and a copy of them takes 8 GB at real size.
    """
    if len(rows_I) == len(array) and np.array_equal(rows_I, np.arange(len(array))):
        return torch.from_numpy(array)
    return torch.from_numpy(np.asarray(array[rows_I]))


def _found(clip: store.Arrays, targets: Sequence[str]) -> list[str]:
    """Names of the targets that are not pooled embeddings, as the cache has them."""
    return [next(n for n in t.split("|") if n in clip) for t in targets if t not in POOLED]


def _unit(embedding: Array) -> Tensor:
    """float32 with norm 1 again: float16 on disk has rounded it."""
    return torch.nn.functional.normalize(torch.from_numpy(embedding.astype(np.float32)), dim=1)
