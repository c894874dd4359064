"""Features of pictures and captions, and what training reads of them.

They lie in data/clip/<clip>/{train,shared}.h5.

Letters: I images, K captions, C categories, P prompts, D embedding width, T tokens, W token width,
U text tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fmri2clip.core import store
from fmri2clip.core.schema import Field, Kind, Rows, Value

Array = NDArray[Any]

CLIP = Kind(
    "clip",
    {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "image_embedding_ID": Field("float16", "unit norm"),
        "text_embedding_KD": Field("float16", "unit norm"),
        "caption_K": Field("str", "text"),
        "caption_image_K": Field("int32", "row of nsd_id_I"),
        "labels_IC": Field("bool", "visible in the crop"),
        "area_IC": Field("float32", "fraction of the cropped picture"),
        "n_objects_I": Field("int16", "visible instances"),
        "category_C": Field("str", "COCO name"),
        "present_C": Field("bool", "occurs in any configured picture"),
        "prompt_P": Field("str", "template"),
        "prompt_embedding_PCD": Field("float16", "unit norm"),
        "block_*_ITW": Field("float16", "activation", False),
        "low_cls_IW": Field("float16", "activation of block 1, class token", False),
        "low_mean_IW": Field("float16", "activation of block 1, mean over patches", False),
        "semantic_tokens_ITD": Field("float16", "CLIP space, class token has norm 1", False),
        "detail_tokens_ITD": Field("float16", "CLIP space, class token has norm 1", False),
        "detail_tokens_ITW": Field("float16", "activation, class token has norm 1", False),
        "text_tokens_IUD": Field("float16", "CLIP space, pooled token has norm 1", False),
    },
)


def read_cache(path: Path, names: Sequence[str] | None = None) -> store.Arrays:
    """Features of one CLIP model: all arrays, or only those named.

    Raises ValueError for a file of another kind or without them.
    """
    return store.read(path, CLIP, names)


def write_cache(
    path: Path, arrays: Mapping[str, Value | Rows], attrs: store.Attrs | None = None
) -> None:
    """Write such a file; it appears when it is complete."""
    store.write(path, CLIP, arrays, attrs)


def open_cache(
    path: Path,
    *,
    fixed: Mapping[str, Value],
    sizes: Mapping[str, int],
    names: Sequence[str],
    attrs: store.Attrs | None = None,
    partial: Path,
) -> store.Stream:
    """A cache that is written block by block and resumes; see store.open_stream."""
    return store.open_stream(
        path, CLIP, fixed=fixed, sizes=sizes, names=names, attrs=attrs, partial=partial
    )


TEST_NAMES = (
    "nsd_id_I",
    "image_embedding_ID",
    "text_embedding_KD",
    "caption_image_K",
    "labels_IC",
    "area_IC",
    "n_objects_I",
    "category_C",
    "present_C",
    "prompt_embedding_PCD",
)
"""Arrays that every scoring of test images reads."""
TRAINING_NAMES = (
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
"""Arrays that every training reads."""


def read_clip(path: Path, targets: Sequence[str] = ()) -> store.Arrays:
    """Pooled embeddings, captions and labels of the training images, and the arrays in `targets`.

    A target 'a_ITD|b_ITW' is the first of these that the file has, under its own name. Raises
    ValueError where the file has none of them.
    """
    arrays = read_cache(path, TRAINING_NAMES)
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
            return name, read_cache(path, [name])[name]
    try:
        return last, read_cache(path, [last])[last]
    except ValueError as error:
        advice = "; set tokens of the clip to true in params.yaml" if "_tokens_" in last else ""
        raise ValueError(f"{error}{advice}") from None
