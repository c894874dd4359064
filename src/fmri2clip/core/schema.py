"""How a kind of file is described: names, axes, dtypes and units of its arrays.

artefacts/ describes each kind.

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
    """Schema of one array: dtype ('str' for text), unit, whether every file of the kind has it."""

    dtype: str
    unit: str
    required: bool = True


class Rows(NamedTuple):
    """An array too large to hold: blocks of successive rows that add up to the shape."""

    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]


class Kind(NamedTuple):
    """One kind of file: the name that stands in it, and its arrays ('block_*_ITW' is a pattern)."""

    name: str
    fields: Mapping[str, Field]


def axes(name: str) -> str:
    """Axis letters of an array name; 'betas_NV' -> 'NV'."""
    return name.rsplit("_", 1)[1]


def field(kind: Kind, name: str) -> Field:
    """Schema entry of an array; `block_5_ITW` is found under the pattern `block_*_ITW`."""
    for pattern, entry in kind.fields.items():
        if fnmatchcase(name, pattern):
            return entry
    raise AssertionError(
        f"{name!r} is not an array of kind {kind.name!r}, which has {', '.join(kind.fields)}"
    )


def check(
    kind: Kind,
    arrays: Mapping[str, Value],
    sizes: Mapping[str, int] | None = None,
    complete: bool = True,
) -> dict[str, NDArray[Any]]:
    """Arrays cast to the schema's dtypes, after checks of names, dimensions, axes and range."""
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
    missing = [name for name, entry in kind.fields.items() if entry.required and name not in arrays]
    assert not (complete and missing), f"kind {kind.name!r} needs {', '.join(missing)}"
    return checked


def outline(kind: Kind, arrays: Mapping[str, Value | Rows]) -> dict[str, Value]:
    """The arrays, with ones that take no memory in place of Rows: for checks of shapes."""
    outlined: dict[str, Value] = {}
    for name, value in arrays.items():
        if isinstance(value, Rows):
            zero = np.zeros((), field(kind, name).dtype)
            outlined[name] = np.broadcast_to(zero, value.shape)
        else:
            outlined[name] = value
    return outlined


def checked_blocks(kind: Kind, name: str, rows: Rows) -> Iterator[tuple[slice, NDArray[Any]]]:
    """(place, block in the schema's dtype), one after the other; together they fill the shape."""
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
    """The value in the schema's dtype; an integer or finite number that does not fit is refused."""
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
    # Numbers may be rounded, but not become infinite; whole numbers must stay what they are.
    if np.issubdtype(cast.dtype, np.floating):
        same = np.isfinite(cast) == np.isfinite(array)
    else:
        same = cast == array
    assert np.all(same), f"{name} has values that {dtype} cannot hold"
    return cast
