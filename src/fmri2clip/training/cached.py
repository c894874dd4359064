"""What training reads of a CLIP cache: targets, and the rows that belong to a subject's images.

Axis letters: I images, D embedding width, K captions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmri2clip import store

Array = NDArray[Any]

CLIP_NAMES = (
    "nsd_id_I",
    "image_embedding_ID",
    "text_embedding_KD",
    "caption_K",
    "caption_image_K",
    "labels_IC",
    "area_IC",
    "category_C",
    "present_C",
)


def read_clip(path: Path, targets: Sequence[str] = ()) -> store.Arrays:
    """Pooled embeddings, captions and labels of the training images, and any further cached arrays
    in `targets`.

    A target 'a_ITD|b_ITW' is the first of these that the file has, under its own name. Raises
    ValueError where the file has none of them.
    """
    arrays = store.read(path, "clip", CLIP_NAMES)
    for target in targets:
        if target not in arrays:
            name, array = read_target(path, target)
            arrays[name] = array
    return arrays


def read_target(path: Path, target: str) -> tuple[str, Array]:
    """Name and content of a cached array; 'a_ITD|b_ITW' is the first of these that the file has."""
    *others, last = target.split("|")
    for name in others:
        with contextlib.suppress(ValueError):
            return name, store.read(path, "clip", [name])[name]
    try:
        return last, store.read(path, "clip", [last])[last]
    except ValueError as error:
        advice = "; set tokens of the clip to true in params.yaml" if "_tokens_" in last else ""
        raise ValueError(f"{error}{advice}") from None


def find_rows(cached_I: Array, wanted_I: Array, subject: str) -> Array:
    """Row of each wanted id in the CLIP cache."""
    order = np.argsort(cached_I)
    rows_I = order[np.searchsorted(cached_I, wanted_I, sorter=order).clip(max=len(order) - 1)]
    missing = wanted_I[cached_I[rows_I] != wanted_I]
    if len(missing):
        raise ValueError(
            f"the CLIP cache lacks {len(missing)} images that {subject} saw (first nsd_id "
            f"{missing[0]}); "
            "run cache_clip again"
        )
    return rows_I


def select_images(clip: store.Arrays, rows_I: Array, targets: Sequence[str]) -> dict[str, Any]:
    """Embeddings and captions of the images at these rows of the cache."""
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
    return {
        "labels_IC": torch.from_numpy(clip["labels_IC"][rows_I]),
        "image_embedding_ID": _unit(clip["image_embedding_ID"][rows_I]),
        "text_embedding_KD": _unit(clip["text_embedding_KD"][keep_K]),
        "caption_image_K": torch.from_numpy(caption_image_K[keep_K].astype(np.int64)),
        "caption_K": [str(text) for text in clip["caption_K"][keep_K]],
        "features": {name: torch.from_numpy(clip[name][rows_I]) for name in _found(clip, targets)},
    }


def _found(clip: store.Arrays, targets: Sequence[str]) -> list[str]:
    """Names of the targets that are not pooled embeddings, as the cache has them."""
    return [next(n for n in t.split("|") if n in clip) for t in targets if t not in CLIP_NAMES[1:3]]


def _unit(embedding: Array) -> Tensor:
    """float32 with norm 1 again: float16 on disk has rounded it."""
    return torch.nn.functional.normalize(torch.from_numpy(embedding.astype(np.float32)), dim=1)
