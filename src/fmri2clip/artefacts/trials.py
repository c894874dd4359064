"""Trials and voxels of a subject: data/rois/{train,test,voxels,noise_free}/<subject>.h5.

Letters: N trials, I images (ascending NSD id), V voxels, S sessions, G ROI groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
from fmri2clip.core.schema import Field, Kind, Rows, Value
from fmri2clip.datasets.nsd.layout import REPETITIONS

Array = NDArray[Any]

BETAS = Kind(
    "betas",
    {
        "betas_NV": Field("float16", "z"),
        "nsd_id_N": Field("int64", "row of imgBrick"),
        "session_N": Field("int16", "1-based"),
        "trial_N": Field("int32", "1-based, in time order"),
        "repetition_N": Field("int8", "1-based presentation of the image"),
        "noise_free_IV": Field("float16", "z", False),
        "noise_free_nsd_id_I": Field("int64", "row of imgBrick", False),
    },
)
VOXELS = Kind(
    "voxels",
    {
        "ijk_V3": Field("int16", "zero-based X, Y, Z"),
        "roi_VG": Field("bool", "member"),
        "roi_names_G": Field("str", "name"),
        "ncsnr_V": Field("float32", "signal sd / noise sd, as shipped"),
        "ncsnr_train_V": Field("float32", "signal sd / noise sd, training trials"),
        "mean_SV": Field("float32", "percent signal change"),
        "std_SV": Field("float32", "percent signal change"),
        "invalid_SV": Field("bool", "no signal in the session"),
        "mask_row_V": Field("int64", "its row among all voxels of the masks; of a folder", False),
    },
)
NOISE_FREE = Kind(
    "noise_free",
    {
        "ijk_V3": Field("int16", "zero-based X, Y, Z"),
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "betas_IV": Field("float32", "percent signal change"),
    },
)


def read_betas(path: Path, names: Sequence[str] | None = None) -> store.Arrays:
    """Trials of one subject: all arrays, or only those named.

    Raises ValueError for a file of another kind or without them.
    """
    return store.read(path, BETAS, names)


def write_betas(
    path: Path, arrays: Mapping[str, Value | Rows], attrs: store.Attrs | None = None
) -> None:
    """Write such a file; it appears when it is complete."""
    store.write(path, BETAS, arrays, attrs)


def read_voxels(path: Path, names: Sequence[str] | None = None) -> store.Arrays:
    """Voxels of one subject: all arrays, or only those named.

    Raises ValueError for a file of another kind or without them.
    """
    return store.read(path, VOXELS, names)


def write_voxels(
    path: Path, arrays: Mapping[str, Value | Rows], attrs: store.Attrs | None = None
) -> None:
    """Write such a file; it appears when it is complete."""
    store.write(path, VOXELS, arrays, attrs)


def list_images(path: Path) -> NDArray[np.int64]:
    """Ids of the images that the trials of a file show, ascending."""
    ids: NDArray[np.int64] = np.unique(read_betas(path, ["nsd_id_N"])["nsd_id_N"])
    return ids


def read_noise_free(path: Path, names: Sequence[str] | None = None) -> store.Arrays | None:
    """Responses of the simulated cortex before noise, to all pictures of a subject; of the arrays
    all, or those named, nsd_id_I among them.

    None if there are none, that is, if the data are real.
    """
    arrays = store.read(path, NOISE_FREE, names)
    return arrays if len(arrays["nsd_id_I"]) else None


def write_noise_free(path: Path, arrays: Mapping[str, Value | Rows]) -> None:
    """Write such a file, without pictures where the data are real."""
    store.write(path, NOISE_FREE, arrays)


@dataclass(frozen=True, kw_only=True)
class TestBetas:
    """mean_IV: mean of each image's repeats, n_repeats of them in the median; first: number of
    trials -> mean of as many, the first ones (I, V), for less than all; noise_free_IV: rows of the
    same images, or None.
    """

    nsd_id_I: NDArray[np.int64]
    mean_IV: NDArray[np.float32]
    n_repeats: int
    first: Mapping[int, NDArray[np.float32]]
    noise_free_IV: NDArray[np.float32] | None


def average_repeats(
    betas_NV: Array, nsd_id_N: Array
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """mean_IV (float32), the mean over the trials of each image, and nsd_id_I, ascending."""
    # Here, so that trainings, which average nothing, run without SciPy.
    from scipy.sparse import csr_array

    nsd_id_I, n_I = np.unique(nsd_id_N, return_counts=True)
    order = np.argsort(nsd_id_N, kind="stable")
    first_I = np.concatenate([[0], np.cumsum(n_I)])
    weight_N = np.repeat(1.0 / n_I, n_I).astype(np.float32)
    # A sparse product, as reduceat is slow.
    mean_IN = csr_array((weight_N, order, first_I), shape=(len(nsd_id_I), len(nsd_id_N)))
    return mean_IN @ betas_NV.astype(np.float32, copy=False), nsd_id_I


def read_test_betas(path: Path, rows_V: Array) -> TestBetas:
    """Mean patterns of the test images in columns rows_V; noise-free ones if the file has them."""
    arrays = read_betas(path)
    betas_NV = arrays["betas_NV"][:, rows_V]
    mean_IV, nsd_id_I = average_repeats(betas_NV, arrays["nsd_id_N"])
    n_repeats = int(np.median(np.unique(arrays["nsd_id_N"], return_counts=True)[1]))
    first = {}
    # Of a subject who saw pictures once there is no mean of two trials.
    for n in range(1, min(REPETITIONS, n_repeats + 1)):
        # An image of which these sessions hold no such trial keeps the mean of those they hold.
        first[n] = mean_IV.copy()
        shown_N = arrays["repetition_N"] <= n
        some_JV, nsd_id_J = average_repeats(betas_NV[shown_N], arrays["nsd_id_N"][shown_N])
        first[n][np.searchsorted(nsd_id_I, nsd_id_J)] = some_JV
    noise_free_IV = None
    if "noise_free_IV" in arrays:
        row_I = find_rows(arrays["noise_free_nsd_id_I"], nsd_id_I, f"noise_free_IV of {path}")
        noise_free_IV = arrays["noise_free_IV"][:, rows_V][row_I].astype(np.float32)
    for name, values in (("betas", mean_IV), ("noise-free betas", noise_free_IV)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(
                f"{path}: {name} are not all finite in the voxels used; extract the ROIs again"
            )
    return TestBetas(
        nsd_id_I=nsd_id_I,
        mean_IV=mean_IV,
        n_repeats=n_repeats,
        first=first,
        noise_free_IV=noise_free_IV,
    )


def find_voxels(path: Path, group: str) -> Array:
    """Columns of a ROI group."""
    arrays = read_voxels(path, ["roi_VG", "roi_names_G"])
    names = [str(name) for name in arrays["roi_names_G"]]
    if f"group/{group}" not in names:
        known = [name.removeprefix("group/") for name in names if name.startswith("group/")]
        raise ValueError(f"{path} has no voxel group {group!r}; it has {', '.join(known)}")
    return np.flatnonzero(arrays["roi_VG"][:, names.index(f"group/{group}")])


def read_trials(path: Path, columns_V: Array) -> dict[str, Array]:
    """Arrays of kind 'betas' with only these voxels, patterns in float32."""
    arrays = dict(read_betas(path))
    for name in ("betas_NV", "noise_free_IV"):
        if name in arrays:
            arrays[name] = arrays[name][:, columns_V].astype(np.float32)
            if not np.isfinite(arrays[name]).all():
                raise ValueError(
                    f"{path}: {name} is not finite everywhere in the voxels used; extract the ROIs "
                    "again"
                )
    return arrays
