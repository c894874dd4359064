"""betas.py: the three containers give the same voxels in the same order; broken files are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from fmri2clip.datasets.nsd import betas, layout

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


def _write(root: Path, suffix: str, volume: np.ndarray, slope: float = 0) -> Path:
    path = layout.betas_path(root, "subj01", PREP, 1, suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".nii.gz":
        nib.save(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1])), path)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=volume.T, chunks=(len(volume.T), 1, 1, 1))
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
    with pytest.raises(ValueError, match=r"betas_session09\.hdf5 does not exist.*lower dataset\.sessions"):
        betas.find_session(tmp_path, "subj01", PREP, 9)


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
@pytest.mark.parametrize(
    "volume", [_volume()[..., :749], _volume()[:, :, :5], np.moveaxis(_volume(), 0, 2)], ids=["trials", "z", "axes"]
)
def test_wrong_shape_names_the_file(tmp_path: Path, suffix: str, volume: np.ndarray) -> None:
    path = _write(tmp_path, suffix, volume)
    with pytest.raises(ValueError, match=rf"{path.name} has \(trials, X, Y, Z\) = .* \(750, 5, 7, 6\) is needed"):
        betas.read_session(path, _mask())


@pytest.mark.parametrize("suffix", layout.BETA_SUFFIXES)
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.95])
def test_truncated_file_gives_one_clear_error(tmp_path: Path, suffix: str, kept: float) -> None:
    path = _write(tmp_path, suffix, _volume())
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read .*truncated or corrupt: delete it"):
        betas.read_session(path, _mask())


def test_other_content_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, ".hdf5", _volume().astype(np.float32))
    with pytest.raises(ValueError, match="holds float32"):
        betas.read_session(path, _mask())
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(ValueError, match="no data set 'betas'"):
        betas.read_session(path, _mask())
