"""What each kind of our HDF5 files holds: names, axes, dtypes and units of its arrays.

Every array name ends with its axes: `betas_NV` has N rows and V columns, `ijk_V3` has V rows and
exactly 3 columns. Within one file (or one group of it) a letter has one size. Letters: N trials, I
images, V voxels, D embedding width, T image tokens, U text tokens, W token width, C categories, S
sessions, K captions, P prompt templates, G ROI groups, M metrics. In generated pictures: N
candidates, H W C height, width and channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Value = NDArray[Any] | Sequence[str]


class Field(NamedTuple):
    """Schema of one array: dtype ('str' for text), unit of its numbers, whether every file of
    the kind has it.
    """

    dtype: str
    unit: str
    required: bool = True


class Rows(NamedTuple):
    """An array too large to hold: blocks of successive rows that add up to the shape."""

    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]


KINDS: dict[str, dict[str, Field]] = {
    "betas": {
        "betas_NV": Field("float16", "z"),
        "nsd_id_N": Field("int64", "row of imgBrick"),
        "session_N": Field("int16", "1-based"),
        "trial_N": Field("int32", "1-based, in time order"),
        "repetition_N": Field("int8", "1-based presentation of the image"),
        "noise_free_IV": Field("float16", "z", False),
        "noise_free_nsd_id_I": Field("int64", "row of imgBrick", False),
    },
    "voxels": {
        "ijk_V3": Field("int16", "zero-based X, Y, Z"),
        "roi_VG": Field("bool", "member"),
        "roi_names_G": Field("str", "name"),
        "ncsnr_V": Field("float32", "signal sd / noise sd, as shipped"),
        "ncsnr_train_V": Field("float32", "signal sd / noise sd, training trials"),
        "mean_SV": Field("float32", "percent signal change"),
        "std_SV": Field("float32", "percent signal change"),
        "invalid_SV": Field("bool", "no signal in the session"),
    },
    "clip": {
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
    "predictions": {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "embedding_ID": Field("float32", "CLIP space", False),
        "text_embedding_ID": Field("float32", "CLIP space", False),
        "noise_free_embedding_ID": Field("float32", "CLIP space", False),
        "class_score_IC": Field("float32", "score", False),
        "metric_M": Field("str", "dotted name"),
        "score_IM": Field("float32", "score of the image, NaN = not scored"),
        "score_weight_IM": Field("float32", "draws behind the score"),
    },
    "reconstructions": {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "subject_I": Field("str", "name", False),
        "seed_IN": Field("int64", "of the noise"),
        "image_INHWC": Field("uint8", "grey level"),
    },
}


def axes(name: str) -> str:
    """Axis letters of an array name; 'betas_NV' -> 'NV'."""
    return name.rsplit("_", 1)[1]


def field(kind: str, name: str) -> Field:
    """Schema entry of an array; `block_5_ITW` is found under the pattern `block_*_ITW`."""
    assert kind in KINDS, f"{kind!r} is not a kind of file; kinds are {', '.join(KINDS)}"
    for pattern, entry in KINDS[kind].items():
        if fnmatchcase(name, pattern):
            return entry
    raise AssertionError(
        f"{name!r} is not an array of kind {kind!r}, which has {', '.join(KINDS[kind])}"
    )


def check(
    kind: str,
    arrays: Mapping[str, Value],
    sizes: Mapping[str, int] | None = None,
    complete: bool = True,
) -> dict[str, NDArray[Any]]:
    """Arrays cast to the schema's dtypes, after checking names, dimensions, agreement of axes
    and range of numbers.
    """
    seen: dict[str, tuple[int, str]] = {
        axis: (size, "the sizes given") for axis, size in (sizes or {}).items()
    }
    checked = {name: _cast(name, value, field(kind, name).dtype) for name, value in arrays.items()}
    for name, array in checked.items():
        assert array.ndim == len(axes(name)), (
            f"{name} has shape {array.shape}, its axes are {axes(name)}"
        )
        for axis, size in zip(axes(name), array.shape, strict=True):
            expected, source = (
                (int(axis), "its name") if axis.isdigit() else seen.setdefault(axis, (size, name))
            )
            assert size == expected, f"{name} has {size} along {axis}, but {source} says {expected}"
    missing = [name for name, entry in KINDS[kind].items() if entry.required and name not in arrays]
    assert not (complete and missing), f"kind {kind!r} needs {', '.join(missing)}"
    return checked


def outline(kind: str, arrays: Mapping[str, Value | Rows]) -> dict[str, Value]:
    """The arrays, with one that takes no memory in the place of Rows: for checks of names,
    shapes and axes.
    """
    return {
        name: np.broadcast_to(np.zeros((), field(kind, name).dtype), value.shape)
        if isinstance(value, Rows)
        else value
        for name, value in arrays.items()
    }


def checked_blocks(kind: str, name: str, rows: Rows) -> Iterator[tuple[slice, NDArray[Any]]]:
    """(place, block in the schema's dtype) one after the other; at the end they must have
    filled the shape.
    """
    start = 0
    for block in rows.blocks:
        array = check(kind, {name: block}, complete=False)[name]
        stop = start + len(array)
        assert array.shape[1:] == rows.shape[1:], (
            f"block of {name} has shape {array.shape}, the array has {rows.shape}"
        )
        assert stop <= rows.shape[0], (
            f"{name}: blocks have {stop} rows or more, the array has {rows.shape[0]}"
        )
        yield slice(start, stop), array
        start = stop
    assert start == rows.shape[0], (
        f"{name}: blocks have {start} rows, the array has {rows.shape[0]}"
    )


def _cast(name: str, value: Value, dtype: str) -> NDArray[Any]:
    """The value in the schema's dtype; an integer that does not fit or a finite number that
    overflows is refused.
    """
    if dtype == "str":
        text = np.asarray(value, dtype=object)
        assert all(isinstance(item, str) for item in text.flat), f"{name} must hold text"
        return text
    array = np.asarray(value)
    if array.dtype == np.dtype(dtype):
        return array
    assert np.can_cast(array.dtype, dtype, casting="same_kind"), (
        f"{name} is {array.dtype}, the schema says {dtype}"
    )
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    same = (
        np.isfinite(cast) == np.isfinite(array)
        if np.issubdtype(cast.dtype, np.floating)
        else cast == array
    )
    assert np.all(same), f"{name} has values that {dtype} cannot hold"
    return cast
