"""Features of pictures and captions, and what training reads of them.

They lie in data/clip/<clip>/: train/<subject>.h5 holds the training images of one subject, which
nobody else sees, and shared.h5 those that all see, the test set.

Letters: I images, K captions, C categories, P prompts, D embedding width, T tokens, W token width,
U text tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.components import COMPONENTS, read_components
from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
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
        "present_C": Field("bool", "occurs in the pictures considered"),
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
SCORED = frozenset(COMPONENTS.fields) - {"nsd_id_I"}
NO_TOKENS = "set tokens of the clip to true in params.yaml"


def read_clip(
    path: Path, targets: Sequence[str] = (), components: Path | None = None
) -> store.Arrays:
    """Pooled embeddings, captions and labels of a subject's training images, and `targets`.

    components: the file of scores on components of tokens, for targets that lie there. A target
    'a_ITD|b_ITW' is the first of these that the file has, under its own name; targets are mapped,
    not read: tokens are 8 GB a subject at real size. Raises ValueError where the file has none of
    them, or a file of components does not fit.
    """
    arrays = read_cache(path, TRAINING_NAMES)
    if components and not SCORED.isdisjoint(targets):
        scores = read_components(components)
        if not np.array_equal(scores["nsd_id_I"], arrays["nsd_id_I"]):
            raise ValueError(
                f"{components} lists other pictures than {path}; run the stage components again"
            )
        for target in (name for name in targets if name in SCORED):
            if target not in scores:
                raise ValueError(f"{components} has no {target}; {NO_TOKENS}")
            arrays[target] = scores[target]
    for target in targets:
        if target not in arrays:
            name, array = read_target(path, target)
            arrays[name] = array
    return arrays


def read_target(path: Path, target: str) -> tuple[str, Array]:
    """Name and content of a cached array; 'a_ITD|b_ITW' is the first of these that the file has.

    Mapped: what is looked at is read from the file.
    """
    *others, last = target.split("|")
    for name in others:
        with contextlib.suppress(ValueError):
            return name, store.map_array(path, CLIP, name)
    try:
        return last, store.map_array(path, CLIP, last)
    except ValueError as error:
        advice = f"; {NO_TOKENS}" if "_tokens_" in last else ""
        raise ValueError(f"{error}{advice}") from None


def read_together(paths: Sequence[Path], names: Sequence[str]) -> store.Arrays:
    """The named arrays of several subjects' images as one, in ascending order of their ids.

    Rows are images, captions in the order of their images; present_C says what occurs in any of the
    files, and other arrays without these axes are those of the first. Attributes are those that all
    files have.
    """
    needed = dict.fromkeys(["nsd_id_I", *names])
    if "text_embedding_KD" in needed or "caption_K" in needed:
        needed["caption_image_K"] = None
    parts = [read_cache(path, list(needed)) for path in paths]
    nsd_id_I = np.concatenate([part["nsd_id_I"] for part in parts])
    order_I = np.argsort(nsd_id_I, kind="stable")
    joined: dict[str, Array] = {}
    for name in needed:
        axes = name.rsplit("_", 1)[1]
        if "I" in axes or "K" in axes:
            joined[name] = np.concatenate([part[name] for part in parts])
        else:
            joined[name] = parts[0][name]
    if "caption_image_K" in joined:
        # Row of each caption's image among the ordered ones; captions follow their images.
        nsd_id_K = np.concatenate([part["nsd_id_I"][part["caption_image_K"]] for part in parts])
        row_K = find_rows(nsd_id_I[order_I], nsd_id_K, "the CLIP cache")
        order_K = np.argsort(row_K, kind="stable")
        joined["caption_image_K"] = row_K.astype(np.int32)
        joined |= {n: joined[n][order_K] for n in joined if n.rsplit("_", 1)[1].startswith("K")}
    joined |= {n: joined[n][order_I] for n in joined if n.rsplit("_", 1)[1].startswith("I")}
    if "present_C" in joined:
        joined["present_C"] = np.any([part["present_C"] for part in parts], axis=0)
    same = set.intersection(*(set(part.attrs.items()) for part in parts))
    return store.Arrays({name: joined[name] for name in needed}, dict(same))
