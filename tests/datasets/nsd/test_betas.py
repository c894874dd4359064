"""betas.py: the three containers give the same voxels in the same order; broken files are named."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from isal import igzip

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import betas

SHAPE = (5, 7, 6)
PREP = "betas_fithrf"


def _volume() -> np.ndarray:
    """Integers (X, Y, Z, 750), both int16 limits among them."""
    volume = np.random.default_rng(0).integers(-32768, 32768, (*SHAPE, 750)).astype(np.int16)
    volume[2, 3, 3, :2] = -32768, 32767
    return volume


def _mask() -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:4, 2:6, 1:5] = np.random.default_rng(1).random((3, 4, 4)) > 0.5
    mask[2, 3, 3] = True
    return mask


def _write(
    root: Path, suffix: str, volume: np.ndarray, scale: tuple[float, float] = (0, 0), **storage: Any
) -> Path:
    """scale: scl_slope and scl_inter of a NIfTI header.

    storage: of an HDF5 data set, one voxel a chunk by default.
    """
    path = layout.betas_path(root, "subj01", PREP, 1, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".nii.gz":
        content = bytearray(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1])).to_bytes())
        content[112:120] = np.array(scale, dtype="<f4").tobytes()
        path.write_bytes(gzip.compress(bytes(content), 1))
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "betas", data=volume.T, **({"chunks": (len(volume.T), 1, 1, 1)} | storage)
            )
    return path


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
def test_every_container_gives_nifti_order(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path, suffix, _volume())
    stored = betas.read_session(betas.find_session(tmp_path, "subj01", PREP, 1), _mask())
    assert betas.find_session(tmp_path, "subj01", PREP, 1) == path
    assert stored.dtype == np.int16 and stored.flags.c_contiguous
    np.testing.assert_array_equal(stored, _volume()[_mask()].T)
    for column, (x, y, z) in enumerate(np.argwhere(_mask())):
        np.testing.assert_array_equal(stored[:, column], _volume()[x, y, z])


@pytest.mark.parametrize(
    "storage",
    [
        {"compression": "gzip", "shuffle": True},
        {"chunks": (100, 4, 3, 2)},
        {"chunks": None},
        {"fletcher32": True},
        {"chunks": (750, 4, 7, 5), "compression": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("slab_bytes", [1, 750 * 2 * 3 * 4 * 2, 2**20])
def test_other_storage_of_hdf5(
    tmp_path: Path, storage: dict[str, Any], slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(betas, "SLAB_BYTES", slab_bytes)
    path = _write(tmp_path, ".mat", _volume(), **storage)
    np.testing.assert_array_equal(betas.read_session(path, _mask()), _volume()[_mask()].T)


def test_chunks_are_joined_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(betas, "GROUP_V", 7)
    path = _write(tmp_path, ".hdf5", _volume())
    np.testing.assert_array_equal(betas.read_session(path, _mask()), _volume()[_mask()].T)


def test_voxels_that_are_not_stored_are_zero(tmp_path: Path) -> None:
    path = _write(tmp_path, ".hdf5", _volume())
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "betas", shape=(750, *SHAPE[::-1]), dtype="<i2", chunks=(750, 1, 1, 1)
        )
        data[:, 3, 3, 2] = _volume()[2, 3, 3]
    stored = betas.read_session(path, _mask())
    here = np.argwhere(_mask()).tolist().index([2, 3, 3])
    np.testing.assert_array_equal(stored[:, here], _volume()[2, 3, 3])
    assert not np.delete(stored, here, axis=1).any()


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
@pytest.mark.parametrize("n_outside", [0, 3])
def test_a_scan_is_of_all_voxels(
    tmp_path: Path, suffix: str, n_outside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits and voxels with data where the mask has none, the first and the last among them."""
    monkeypatch.setattr(betas, "SCAN_VOXELS", 2 * 5 * 7)  # slabs of two along Z
    volume = np.where(_mask()[..., None], _volume() // 2, 0).astype(np.int16)
    volume[2, 3, 3, 749] = 20_000
    for place in [(0, 0, 0, 749), (4, 6, 5, 0), (4, 0, 2, 17)][:n_outside]:
        volume[place] = -20_000
    found = betas.scan_session(_write(tmp_path, suffix, volume), _mask())
    assert found == (int(volume.min()), int(volume.max()), n_outside)
    high = betas.scan_session(_write(tmp_path, suffix, np.abs(volume)), ~_mask())
    assert high == (0, 20_000, int(_mask().sum()))


def test_a_scan_unpacks_a_nifti_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(betas, "SCAN_VOXELS", 1)
    opened = []

    def count(path: Path, mode: str) -> Any:
        opened.append(path)
        return igzip.open(path, mode)

    monkeypatch.setattr(betas, "igzip", SimpleNamespace(open=count))
    path = _write(tmp_path, ".nii.gz", _volume())
    betas.scan_session(path, _mask())
    assert opened == [path]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read .*delete it"):
        betas.scan_session(path, _mask())


@pytest.mark.parametrize("scale", [(0, 0), (1, 0), (np.nan, 0)], ids=str)
def test_unscaled_nifti(tmp_path: Path, scale: tuple[float, float]) -> None:
    path = _write(tmp_path, ".nii.gz", _volume(), scale)
    np.testing.assert_array_equal(betas.read_session(path, _mask()), _volume()[_mask()].T)


@pytest.mark.parametrize("scale", [(1 / 300, 0), (1, 5)], ids=str)
def test_scaled_nifti_is_refused(tmp_path: Path, scale: tuple[float, float]) -> None:
    path = _write(tmp_path, ".nii.gz", _volume(), scale)
    with pytest.raises(
        ValueError, match=rf"{path.name} has scl_slope {scale[0]:g} and scl_inter {scale[1]}"
    ):
        betas.read_session(path, _mask())


@pytest.mark.parametrize("change", ["flipped bit", "appended", "shortened"])
def test_damaged_gzip_content(tmp_path: Path, change: str) -> None:
    path = _write(tmp_path, ".nii.gz", _volume())
    content = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(
        gzip.compress(
            content[:-2] if change == "shortened" else content + b"x" * (change == "appended")
        )
    )
    if change == "flipped bit":
        packed[-5] ^= 1  # of the checksum
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read .*delete it"):
        betas.read_session(path, _mask())


@pytest.mark.parametrize("suffix", [".hdf5", ".nii.gz"])
def test_wrong_shapes_are_diagnosed(tmp_path: Path, suffix: str) -> None:
    own, other = layout.VOLUME_SHAPES[0], layout.VOLUME_SHAPES[2]
    mask = np.ones(own, dtype=bool)
    for shape, trials, said in [
        (own[::-1], 750, "axes look swapped"),
        (other, 750, "this is the grid of subj03"),
        (own, 749, "complete session"),
    ]:
        empty = np.broadcast_to(np.int16(0), (*shape, trials))
        path = _write_shape(tmp_path, suffix, empty)
        with pytest.raises(ValueError, match=rf"{path.name} has .* is needed.*{said}"):
            betas.read_session(path, mask)


def _write_shape(root: Path, suffix: str, empty: np.ndarray) -> Path:
    """A file that says its shape and holds no values."""
    path = layout.betas_path(root, "subj01", PREP, 1, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".nii.gz":
        header = nib.Nifti1Header()
        header.set_data_shape(empty.shape)
        header.set_data_dtype(empty.dtype)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        path.write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "betas", shape=empty.T.shape, dtype="<i2", chunks=(empty.shape[-1], 1, 1, 1)
            )
    return path


def test_percent_signal_change() -> None:
    percent = betas.to_percent(np.array([-32768, 300, 32767], dtype=np.int16))
    assert percent.dtype == np.float32
    np.testing.assert_allclose(percent, [-109.22667, 1, 109.22333], rtol=1e-6)


def test_bounding_box_is_tight() -> None:
    box = betas.bounding_box(_mask())
    assert _mask()[box].sum() == _mask().sum()
    for axis in range(3):
        moved = np.moveaxis(_mask()[box], axis, 0)
        assert moved[0].any() and moved[-1].any()


def test_missing_session_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"betas_session09\.hdf5 does not exist.*lower dataset\.sessions"
    ):
        betas.find_session(tmp_path, "subj01", PREP, 9)


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
@pytest.mark.parametrize(
    "volume",
    [_volume()[..., :749], _volume()[:, :, :5], np.moveaxis(_volume(), 0, 2)],
    ids=["trials", "z", "axes"],
)
def test_wrong_shape_names_the_file(tmp_path: Path, suffix: str, volume: np.ndarray) -> None:
    path = _write(tmp_path, suffix, volume)
    with pytest.raises(
        ValueError, match=rf"{path.name} has \(trials, X, Y, Z\) = .* \(750, 5, 7, 6\) is needed"
    ):
        betas.read_session(path, _mask())


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.95])
def test_truncated_file_gives_one_clear_error(tmp_path: Path, suffix: str, kept: float) -> None:
    path = _write(tmp_path, suffix, _volume())
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(
        ValueError, match=rf"{path.name} cannot be read .*truncated or corrupt: delete it"
    ):
        betas.read_session(path, _mask())


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".hdf5", "<f4"), (".mat", "<u2"), (".hdf5", ">i2"), (".nii.gz", "<f4"), (".nii.gz", "<u2")],
)
def test_other_numbers_are_refused(tmp_path: Path, suffix: str, dtype: str) -> None:
    path = _write(tmp_path, suffix, _volume().astype(dtype))
    with pytest.raises(ValueError, match=f"holds {np.dtype(dtype)}, not"):
        betas.read_session(path, _mask())


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, ".hdf5", _volume())
    for name in ("other", "betas/inner"):
        with h5py.File(path, "w") as file:
            file[name] = np.zeros(3)
        with pytest.raises(ValueError, match="no data set 'betas'"):
            betas.read_session(path, _mask())


@pytest.mark.parametrize("chunks", [(750, 1, 1, 1), (750, 2, 2, 2), None])
def test_what_was_never_written_reads_as_zeros(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    """A data set that was created only, and one with a single voxel in it."""
    path = tmp_path / "betas_session01.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", (750, 3, 4, 5), "i2", chunks=chunks)
    mask = np.ones((5, 4, 3), dtype=bool)
    assert not betas.read_session(path, mask).any()
    with h5py.File(path, "a") as file:
        file["betas"][:, 1, 2, 3] = 7
    expected = np.zeros((5, 4, 3))
    expected[3, 2, 1] = 7
    np.testing.assert_array_equal(betas.read_session(path, mask)[749], expected[mask])
