"""The only reader and writer of our own HDF5 files; artefacts/ says what each kind of file holds.

A reader that asks for another kind, or finds a name, dtype or shape that the schema does not allow,
stops with a ValueError; a writer that breaks the schema is a mistake of ours (assert). Files appear
under their name only when complete, and equal content gives equal bytes. `open_stream` writes a
large file block by block and resumes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip.core import watch
from fmri2clip.core.files import HDF5_ERRORS, describe_failure, replacing
from fmri2clip.core.schema import Kind, Rows, Value, axes, check, checked_blocks, field, outline

Attrs = Mapping[str, str | int | float]
HDF5_VERSION: str = h5py.version.hdf5_version


class Arrays(dict[str, NDArray[Any]]):
    """Arrays of one file (or group) by name; text is an object array of str.

    attrs: the file's attributes.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> None:
        super().__init__(arrays)
        self.attrs: dict[str, Any] = dict(attrs)


def write(
    path: Path, kind: Kind, arrays: Mapping[str, Value | Rows], attrs: Attrs | None = None
) -> None:
    """Write the arrays of one file of a kind.

    Rows give the bytes of the whole array and need memory for one block.
    """
    rows = {name: value for name, value in arrays.items() if isinstance(value, Rows)}
    checked: dict[str, NDArray[Any] | Rows] = {**check(kind, outline(kind, arrays)), **rows}
    with replacing(path) as (temporary,), h5py.File(temporary, "w") as file:
        _put_header(file, kind, attrs or {})
        _put_arrays(file, kind, checked)


def write_groups(
    path: Path, kind: Kind, groups: Mapping[str, Mapping[str, Value]], attrs: Attrs | None = None
) -> None:
    """Write one group of arrays per name (such as a subject); axis sizes agree within a group."""
    checked = {name: check(kind, arrays) for name, arrays in groups.items()}
    with replacing(path) as (temporary,), h5py.File(temporary, "w") as file:
        _put_header(file, kind, attrs or {})
        for name, arrays in checked.items():
            _put_arrays(file.create_group(name), kind, arrays)


def read(
    path: Path, kind: Kind, names: Sequence[str] | None = None, group: str | None = None
) -> Arrays:
    """Read all arrays of a file, or only those named; of one group where the file has groups."""
    with _opened(path, kind) as file:
        node = file if group is None else _child(file, group, path, h5py.Group)
        if names is None:
            names_read = [name for name in node if isinstance(node[name], h5py.Dataset)]
        else:
            names_read = list(names)
        arrays = {name: _get_array(_child(node, name, path, h5py.Dataset)) for name in names_read}
        attrs = {
            key: value.item() if hasattr(value, "item") else value
            for key, value in file.attrs.items()
        }
    try:
        return Arrays(check(kind, arrays, complete=names is None), attrs)
    except AssertionError as error:
        raise ValueError(
            f"{path} does not hold what a {kind.name!r} file must: {error}; write it again"
        ) from error


def shape(path: Path, kind: Kind, name: str) -> tuple[int, ...]:
    """Shape of an array, without reading it."""
    with _opened(path, kind) as file:
        found: tuple[int, ...] = _child(file, name, path, h5py.Dataset).shape
    return found


def read_rows(path: Path, kind: Kind, name: str, row_I: NDArray[np.integer]) -> NDArray[Any]:
    """Rows of an array, in the order given; they may repeat.

    HDF5 takes only increasing row lists and reads long ones slowly, so runs of neighbouring rows
    are read as slices.
    """
    wanted, inverse = np.unique(row_I, return_inverse=True)
    with _opened(path, kind) as file:
        dataset = _child(file, name, path, h5py.Dataset)
        rows = np.empty((len(wanted), *dataset.shape[1:]), dtype=dataset.dtype)
        edges = np.flatnonzero(np.diff(wanted, prepend=-2, append=-2) != 1)
        for first, last in pairwise(edges):
            dataset.read_direct(
                rows, np.s_[wanted[first] : wanted[last - 1] + 1], np.s_[first:last]
            )
    return rows if np.array_equal(wanted, row_I) else rows[inverse]


def map_array(path: Path, kind: Kind, name: str, mode: Literal["r", "c"] = "c") -> NDArray[Any]:
    """An array that the system reads from the file where it is looked at; not for text.

    Its pages are not the process' own memory: the system drops them where it needs the room, and
    processes share them. mode: "c", as torch wants an array: writing to it changes a private copy,
    for which the system asks for memory of the whole size. "r" asks for none and is read-only.
    """
    with _opened(path, kind) as file:
        dataset = _child(file, name, path, h5py.Dataset)
        start = dataset.id.get_offset()
        # Without an address (empty, in chunks) there is nothing to map.
        if start is None or not dataset.size:
            return check(kind, {name: _get_array(dataset)}, complete=False)[name]
        dtype = dataset.dtype
        shape = dataset.shape
    assert dtype == field(kind, name).dtype, f"{path}: {name} is {dtype}"
    return np.memmap(path, dtype, mode=mode, offset=start, shape=shape)


class MappedRows:
    """Rows of a mapped array in an order of their own, read where one or a slice is taken.

    What is read is a copy. A list of rows gives another such view; as an array (np.asarray,
    np.concatenate) all are read.
    """

    def __init__(self, array: NDArray[Any], row_I: NDArray[np.integer]) -> None:
        self.array = array
        self.row_I = row_I
        self.dtype = array.dtype
        self.shape = (len(row_I), *array.shape[1:])
        self.ndim = array.ndim
        self.size = math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.row_I)

    @overload
    def __getitem__(self, rows: int | slice) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, rows: NDArray[Any]) -> MappedRows: ...

    def __getitem__(self, rows: int | slice | NDArray[Any]) -> NDArray[Any] | MappedRows:
        if isinstance(rows, np.ndarray):
            return MappedRows(self.array, self.row_I[rows])
        if isinstance(rows, slice):
            return np.asarray(self.array[self.row_I[rows]])
        return np.array(self.array[self.row_I[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def groups(path: Path, kind: Kind) -> list[str]:
    """Names of the groups of a file, sorted."""
    with _opened(path, kind) as file:
        return sorted(name for name in file if isinstance(file[name], h5py.Group))


def open_stream(
    path: Path,
    kind: Kind,
    *,
    fixed: Mapping[str, Value],
    sizes: Mapping[str, int],
    names: Sequence[str],
    attrs: Attrs | None = None,
    partial: Path,
) -> Stream:
    """Open a file that is written block by block, or take up one that was interrupted.

    path: final file, which appears at close(). fixed: arrays known now. names: arrays that come in
    blocks of rows. sizes: length of every axis of those arrays, by letter. partial: folder outside
    the outputs that keeps the finished blocks; blocks left there by a stream with another kind,
    size, attribute or fixed array are thrown away.
    """
    return Stream(
        path,
        kind,
        check(kind, fixed, sizes, complete=False),
        dict(sizes),
        list(names),
        attrs or {},
        partial,
    )


class Stream:
    """Resumable writer; see open_stream.

    Usable as a context manager: leaving it without an error calls close(). A block is kept as one
    file of the partial folder and counts once that file has its final name, so a kill at any moment
    loses the current block only. The HDF5 file is put together at the end in one go: its bytes do
    not depend on interruptions.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        fixed: dict[str, NDArray[Any]],
        sizes: dict[str, int],
        names: list[str],
        attrs: Attrs,
        partial: Path,
    ) -> None:
        self.path = path
        self.kind = kind
        self.fixed = fixed
        self.attrs = attrs
        self.partial = partial
        known = sizes | {
            axis: size
            for name in fixed
            for axis, size in zip(axes(name), fixed[name].shape, strict=True)
        }
        self.shapes = {
            name: tuple(int(known.get(axis, axis)) for axis in axes(name)) for name in names
        }
        required = [name for name, entry in kind.fields.items() if entry.required]
        missing = [name for name in required if name not in fixed and name not in names]
        assert not missing, f"kind {kind.name!r} needs {', '.join(missing)}"
        stamp = partial / "stream.json"
        # Blocks of another stream in this folder are no part of this one.
        if not stamp.is_file() or stamp.read_text() != self._identity():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            stamp.write_text(self._identity())
        for path in partial.glob("*.npy"):
            if not is_whole_array(path):
                path.unlink()

    def rows_done(self, *names: str) -> int:
        """Leading rows that every named array (default: all) has: the row to go on from."""
        return min(self._blocks(name)[-1][1] for name in names or self.shapes)

    def write(self, name: str, start: int, block: NDArray[Any]) -> None:
        """Keep the rows of an array from `start` on.

        Rows come in order: the next one is rows_done(name).
        """
        array = check(self.kind, {name: block}, complete=False)[name]
        stop = start + len(array)
        shape = self.shapes[name]
        assert array.shape[1:] == shape[1:], (
            f"block of {name} has shape {array.shape}, the array has {shape}"
        )
        assert start in (begin for _, begin in self._blocks(name)), (
            f"{name}: row {start} does not follow a block"
        )
        assert start < stop <= shape[0], f"{name}: rows {start} to {stop} do not fit {shape[0]}"
        watch.check()
        for old in self.partial.glob(f"{name}-{start:09d}-*.npy"):
            old.unlink()
        final = self._block_path(name, start, stop)
        temporary = final.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, array)
        os.replace(temporary, final)

    def close(self) -> None:
        """Write the final file from fixed arrays and blocks, and remove the partial folder."""
        for name, shape in self.shapes.items():
            assert self.rows_done(name) == shape[0], (
                f"{name} has {self.rows_done(name)} of {shape[0]} rows"
            )
        with replacing(self.path) as (temporary,), h5py.File(temporary, "w") as file:
            _put_header(file, self.kind, self.attrs)
            _put_arrays(file, self.kind, self.fixed)
            _put_arrays(
                file,
                self.kind,
                {name: Rows(shape, self._load(name)) for name, shape in self.shapes.items()},
            )
        shutil.rmtree(self.partial)

    def _blocks(self, name: str) -> list[tuple[int, int]]:
        """(start, stop) of the unbroken chain of finished blocks, after a first entry (0, 0)."""
        stops = {}
        for path in self.partial.glob(f"{name}-*-*.npy"):
            start, stop = path.stem.split("-")[1:]
            stops[int(start)] = int(stop)
        chain = [(0, 0)]
        while chain[-1][1] in stops:
            chain.append((chain[-1][1], stops[chain[-1][1]]))
        return chain

    def _load(self, name: str) -> Iterator[NDArray[Any]]:
        yield from (
            np.load(self._block_path(name, start, stop)) for start, stop in self._blocks(name)[1:]
        )

    def _block_path(self, name: str, start: int, stop: int) -> Path:
        return self.partial / f"{name}-{start:09d}-{stop:09d}.npy"

    def _identity(self) -> str:
        digests = {name: hashlib.sha256(_bytes(a)).hexdigest() for name, a in self.fixed.items()}
        shapes = {name: list(shape) for name, shape in self.shapes.items()}
        return json.dumps([self.kind.name, digests, shapes, dict(self.attrs)], sort_keys=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if kind is None:
            self.close()


def is_whole_array(path: Path) -> bool:
    """Whether a .npy file is there to its last byte; one that lost power may lack some."""
    try:
        np.load(path, mmap_mode="r")
    except (ValueError, EOFError, FileNotFoundError):
        return False
    return True


def _bytes(array: NDArray[Any]) -> bytes:
    """What tells one array from another of its shape."""
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def _put_header(file: h5py.File, kind: Kind, attrs: Attrs) -> None:
    file.attrs["kind"] = kind.name
    for key in sorted(attrs):
        file.attrs[key] = attrs[key]


def _describe(dataset: h5py.Dataset, kind: Kind, name: str) -> h5py.Dataset:
    dataset.attrs["axes"] = axes(name)
    dataset.attrs["unit"] = field(kind, name).unit
    return dataset


def _put_arrays(node: h5py.Group, kind: Kind, arrays: Mapping[str, NDArray[Any] | Rows]) -> None:
    """Write checked arrays in the order of their names.

    Text gets a fixed length, which keeps it out of HDF5's heap.
    """
    for name in sorted(arrays):
        array = arrays[name]
        if isinstance(array, Rows):
            dataset = _describe(
                node.create_dataset(name, array.shape, field(kind, name).dtype), kind, name
            )
            for place, block in checked_blocks(kind, name, array):
                dataset[place] = block
            continue
        if array.dtype == object:
            array = np.array([item.encode() for item in array.flat], dtype=bytes).reshape(
                array.shape
            )
            dtype = h5py.string_dtype("utf-8", max(array.dtype.itemsize, 1))
            array = array.astype(dtype)
        _describe(node.create_dataset(name, data=array), kind, name)


def _get_array(dataset: h5py.Dataset) -> NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype) is None:
        return np.asarray(dataset[()])
    text = np.empty(dataset.shape, dtype=object)
    text[...] = [item.decode() for item in dataset[()]]
    return text


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[h5py.File]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("kind", "unknown")
            if found != kind.name:
                raise ValueError(f"{path} is a file of kind {found!r}, not {kind.name!r}")
            yield file
    except HDF5_ERRORS as error:
        raise describe_failure(path, error, "HDF5", "delete it and run its stage again") from error


def _child(node: h5py.Group, name: str, path: Path, kind: type) -> Any:
    if name not in node or not isinstance(node[name], kind):
        allowed = sorted(key for key in node if isinstance(node[key], kind))
        raise ValueError(f"{path} has no {name!r}; it has {', '.join(allowed) or 'nothing'}")
    return node[name]
