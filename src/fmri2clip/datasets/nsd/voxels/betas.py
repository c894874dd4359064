"""Single-trial betas of one session, in percent signal change, for the voxels of a mask.

NSD manual, Functional data; nsddatapaper main/export.m: the files hold int16 = percent signal
change x 300. HDF5 (also inside the older .mat) has h5py shape (750, Z, Y, X), one voxel a chunk, so
that voxels are read and one trial would touch every chunk. NIfTI has shape (X, Y, Z, 750), one
volume after the other in a gzip stream, of which one volume at a time is held. Both give the voxels
in C order over (X, Y, Z), the order of `volume[mask]`. Missing voxels are 0 in all trials; there is
no NaN. Letters: N trials, V voxels, T the 750 trials of a session.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import h5py
import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from fmri2clip.core.files import describe_failure
from fmri2clip.datasets.nsd import layout

Mask = NDArray[np.bool_]

BROKEN: tuple[type[Exception], ...] = (  # what a damaged file makes its reader raise
    OSError,
    EOFError,
    RuntimeError,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    nib.filebasedimages.ImageFileError,
)
PSC_RANGE = (0.1, 10.0)  # of a session's median |beta| in nsdgeneral, percent signal change
GROUP_V = 1024  # voxels joined at a time: bounds the copies of their chunks
SLAB_BYTES = 64 * 2**20  # of a bounding box that is read in one go
SCAN_VOXELS = 150_000  # of an HDF5 file that is read whole, in one go


def find_session(root: Path, subject: str, preparation: str, session: int) -> Path:
    """File of a session (1-based) in the first container that exists: .hdf5, .nii.gz, .mat."""
    paths = [
        layout.betas_path(root, subject, preparation, session, suffix)
        for suffix in layout.BETA_SUFFIXES
    ]
    for path in paths:
        if path.is_file():
            return path
    others = " nor ".join(path.name for path in paths[1:])
    raise ValueError(
        f"{paths[0]} does not exist, {others} either; download session {session} or lower "
        "dataset.sessions"
    )


def read_session(path: Path, mask: Mask) -> NDArray[np.int16]:
    """Stored integers (percent signal change x 300) of the voxels of a mask, shape (750, V).

    mask: boolean (X, Y, Z). ValueError names the file when it is corrupt or of another shape than
    750 trials x mask. Takes 4 x 750 x V bytes of memory beside one volume (NIfTI) or SLAB_BYTES
    (HDF5 of other chunks than the release).
    """
    assert mask.any(), "mask has no voxel"
    with _naming(path):
        return _read_nifti(path, mask) if path.name.endswith(".nii.gz") else _read_hdf5(path, mask)


def check_session(path: Path, stored_NV: NDArray[np.int16]) -> tuple[Mask, float]:
    """Voxels without signal (V), and the median |beta| of the others, in percent.

    stored_NV: of nsdgeneral. ValueError names the file where no voxel has signal, a trial is empty
    or the median lies outside of PSC_RANGE.
    """
    # One voxel after the other has data or none: of integers no variance is rounded away.
    flat_V: Mask = (stored_NV == stored_NV[0]).all(axis=0)
    if flat_V.all():
        raise ValueError(f"{path} has no signal in any of {flat_V.size} voxels")
    empty_N = ~stored_NV.any(axis=1)
    if empty_N.any():
        raise ValueError(
            f"{path}: {empty_N.sum()} trials are empty, the first is {empty_N.argmax() + 1}"
        )
    median = float(np.median(np.abs(stored_NV[:, ~flat_V]))) / layout.BETA_SCALE
    if not PSC_RANGE[0] < median < PSC_RANGE[1]:
        raise ValueError(
            f"{path}: median |beta| is {median:.4g} percent, {PSC_RANGE} expected: scaled twice or "
            "not at all?"
        )
    return flat_V, median


def scan_session(path: Path, mask: Mask) -> tuple[int, int, int]:
    """Least and greatest stored integer of all voxels, and the number of voxels outside a mask
    (X, Y, Z) that any trial has data of.

    ValueError as read_session. Every byte is read once: a NIfTI volume by volume, HDF5 in slabs.
    """
    with _naming(path):
        is_nifti = path.name.endswith(".nii.gz")
        return _scan_nifti(path, mask) if is_nifti else _scan_hdf5(path, mask)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What a damaged file makes its reader raise, as a ValueError that names it."""
    try:
        yield
    except BROKEN as error:
        raise describe_failure(
            path,
            error,
            "betas",
            "it is truncated or corrupt: delete it and run the download stage again",
        ) from error


def to_percent(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    """Percent signal change (range -109.2 to 109.2) from stored integers; cast first, int16
    division truncates.
    """
    return stored.astype(np.float32) / np.float32(layout.BETA_SCALE)


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box, one slice per axis, that holds every voxel of a mask."""
    bounds = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        bounds.append(np.flatnonzero(mask.any(axis=others)))
    return tuple(slice(int(index[0]), int(index[-1]) + 1) for index in bounds)


def _read_hdf5(path: Path, mask: Mask) -> NDArray[np.int16]:
    with h5py.File(path, "r") as file:
        dataset = file.get(layout.BETAS_DATASET)
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(
                f"{path} has no data set {layout.BETAS_DATASET!r}; it is no NSD betas file"
            )
        _check(path, dataset.shape[:1] + dataset.shape[:0:-1], dataset.dtype, mask)
        # Chunks as the release has them, unfiltered, are read as raw bytes, past HDF5's selections.
        one_voxel = dataset.chunks == (layout.TRIALS_PER_SESSION, 1, 1, 1)
        if one_voxel and dataset.id.get_create_plist().get_nfilters() == 0:
            # A voxel that is not stored, which means zeros, or damage: fails again below. HDF5 says
            # MemoryError where no voxel is stored.
            with suppress(RuntimeError, MemoryError):
                return _read_chunks(dataset, mask)
        return _read_box(dataset, mask)


def _read_chunks(dataset: h5py.Dataset, mask: Mask) -> NDArray[np.int16]:
    """Chunk by chunk in file order, past HDF5's selections: a chunk is the session of one voxel,
    stored as it is.
    """
    ijk_V3 = np.argwhere(mask)
    order_V = np.lexsort(ijk_V3.T)  # z, then y, then x
    stored_VT = np.empty((len(ijk_V3), layout.TRIALS_PER_SESSION), dtype=np.int16)
    for start in range(0, len(order_V), GROUP_V):
        group = order_V[start : start + GROUP_V]
        content = b"".join(
            dataset.id.read_direct_chunk((0, z, y, x))[1] for x, y, z in ijk_V3[group].tolist()
        )
        # Chunks are joined before they are looked at: one copy for a group, not one a voxel.
        if len(content) != stored_VT[:1].nbytes * len(group):
            raise OSError(
                f"a chunk of {dataset.name} has another size than {layout.TRIALS_PER_SESSION} "
                "trials"
            )
        stored_VT[group] = np.frombuffer(content, dtype=np.int16).reshape(len(group), -1)
    return np.ascontiguousarray(stored_VT.T)


def _read_box(dataset: h5py.Dataset, mask: Mask) -> NDArray[np.int16]:
    """The bounding box in slabs along Z, for chunks or filters that the release does not have."""
    x, y, z = bounding_box(mask)
    # The number of a voxel in the order of volume[mask], whichever order slabs bring them in.
    column_XYZ = np.cumsum(mask).reshape(mask.shape) - 1
    stored_TV = np.empty((layout.TRIALS_PER_SESSION, int(mask.sum())), dtype=np.int16)
    for part in _slabs(dataset, x, y, z):
        block = dataset[:, part, y, x]
        inside = mask[x, y, part].T
        stored_TV[:, column_XYZ[x, y, part].T[inside]] = block[:, inside]
    return stored_TV


def _slabs(dataset: h5py.Dataset, x: slice, y: slice, z: slice) -> Iterator[slice]:
    """Cuts z at borders of chunks into slabs of at most SLAB_BYTES, or of one chunk where that is
    more.
    """
    n_values = layout.TRIALS_PER_SESSION * (x.stop - x.start) * (y.stop - y.start)
    plane = n_values * dataset.dtype.itemsize
    depth = dataset.chunks[1] if dataset.chunks else 1
    step = depth * max(1, SLAB_BYTES // (plane * depth))
    for start in range(z.start - z.start % depth, z.stop, step):
        yield slice(max(start, z.start), min(start + step, z.stop))


def _scan_hdf5(path: Path, mask: Mask) -> tuple[int, int, int]:
    """In slabs along Z of at most SCAN_VOXELS voxels, so that memory stays bounded."""
    lowest = 0
    highest = 0
    outside = 0
    thickness = max(1, SCAN_VOXELS // (mask.shape[0] * mask.shape[1]))
    for z in range(0, mask.shape[2], thickness):
        slab = np.zeros_like(mask)
        slab[..., z : z + thickness] = True
        stored_TV = _read_hdf5(path, slab)
        lowest = min(lowest, int(stored_TV.min()))
        highest = max(highest, int(stored_TV.max()))
        outside += int(np.logical_or.reduce(stored_TV, axis=0)[~mask[slab]].sum())
    return lowest, highest, outside


def _scan_nifti(path: Path, mask: Mask) -> tuple[int, int, int]:
    lowest = 0
    highest = 0
    has_data_V = np.zeros(mask.size, dtype=bool)
    for volume in _iterate_volumes(path, mask):
        lowest = min(lowest, int(volume.min()))
        highest = max(highest, int(volume.max()))
        has_data_V |= volume != 0
    return lowest, highest, int((has_data_V & ~mask.ravel(order="F")).sum())


def _read_nifti(path: Path, mask: Mask) -> NDArray[np.int16]:
    # Where each voxel of the mask lies in a volume, which is stored with X fastest.
    place_V = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    stored_TV = np.empty((layout.TRIALS_PER_SESSION, len(place_V)), dtype=np.int16)
    for trial, volume in enumerate(_iterate_volumes(path, mask)):
        np.take(volume, place_V, out=stored_TV[trial], mode="clip")
    return stored_TV


def _iterate_volumes(path: Path, mask: Mask) -> Iterator[NDArray[np.int16]]:
    """The trials of a NIfTI on the grid of a mask, in one array that each overwrites, X fastest."""
    image = nib.load(path)
    data: Any = image.dataobj  # type: ignore[attr-defined]
    _check(path, data.shape[-1:] + data.shape[:-1], data.dtype, mask)
    if (data.slope, data.inter) != (1, 0):  # nibabel gives 1 for the release's 0, "not scaled"
        raise ValueError(
            f"{path} has scl_slope {data.slope:g} and scl_inter {data.inter:g}; NSD's volume betas "
            "are not scaled in their header (scl_slope 0)"
        )
    volume = np.empty(mask.size, dtype=np.int16)
    with igzip.open(path, "rb") as stream:
        stream.seek(data.offset)
        for _ in range(layout.TRIALS_PER_SESSION):
            _fill(stream, volume)
            yield volume
        if stream.read(1):  # reaching the end also verifies gzip's checksum
            raise OSError("it holds more than its header says")


def _fill(stream: Any, array: NDArray[np.int16]) -> None:
    """Read the next bytes of a stream into an array; EOFError when there are too few."""
    buffer = array.data.cast("B")
    while buffer:
        n_read = stream.readinto(buffer)
        if not n_read:
            raise EOFError("it ends before its last trial")
        buffer = buffer[n_read:]


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], mask: Mask) -> None:
    """shape: (trials, X, Y, Z) of the file."""
    expected = (layout.TRIALS_PER_SESSION, *mask.shape)
    if shape != expected:
        raise ValueError(
            f"{path} has (trials, X, Y, Z) = {shape}, but {expected} is needed: "
            f"{layout.TRIALS_PER_SESSION} trials on "
            f"the grid of the ROI masks; {_diagnose(shape, expected)}"
        )
    if dtype != np.int16:
        raise ValueError(f"{path} holds {dtype}, not the little-endian int16 of NSD's volume betas")


def _diagnose(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What is likely wrong with a file of this shape."""
    if sorted(shape) == sorted(expected):
        return (
            "its axes look swapped: HDF5 must have h5py shape (trials, Z, Y, X), NIfTI "
            "(X, Y, Z, trials)"
        )
    if shape[1:] in layout.VOLUME_SHAPES:
        owner = layout.SUBJECTS[layout.VOLUME_SHAPES.index(shape[1:])]
        if shape[1:] != expected[1:]:
            return f"this is the grid of {owner}: put the file of the right subject in its place"
    return f"is it a complete session of this subject in {layout.SPACE}?"


def read_noise_free(path: Path) -> dict[str, NDArray[Any]]:
    """ijk (V, 3), nsd_id (I,) and betas (I, V, percent signal change) of a simulated subject.

    The file has no counterpart in the release; see datasets/mini/write.py.
    """
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in ("ijk", "nsd_id", "betas")}
