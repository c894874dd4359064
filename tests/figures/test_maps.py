"""Maps of voxels as volumes, read by nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fmri2clip.figures.maps import write_maps

IJK = np.array([[0, 1, 2], [3, 0, 0], [1, 4, 1]], dtype=np.int16)
VALUE = np.array([0.5, -0.25, 2.0], dtype=np.float32)


def write_like(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    affine = np.array([[-1.8, 0, 0, 70], [0, 1.8, 0.1, -90], [0, 0, 1.8, -60], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), affine), path)
    return affine


def test_numbers_stand_at_their_voxels(tmp_path: Path) -> None:
    affine = write_like(tmp_path / "mask.nii.gz", (4, 5, 3))
    maps = {"a": (IJK, VALUE), "b": (IJK[:1], VALUE[:1])}
    paths = write_maps(tmp_path / "out", tmp_path / "mask.nii.gz", maps)
    assert [path.name for path in paths] == ["a.nii.gz", "b.nii.gz"]
    image = nib.load(paths[0])
    volume = image.get_fdata()
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert volume.shape == (4, 5, 3) and np.isfinite(volume).sum() == 3
    for (x, y, z), value in zip(IJK.tolist(), VALUE.tolist(), strict=True):
        assert volume[x, y, z] == value
    again = write_maps(tmp_path / "again", tmp_path / "mask.nii.gz", maps)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 4, 3), r"grid \(4, 4, 3\), voxels up to \(4, 5, 3\)"), ((4, 5, 3, 2), "has 4 axes")],
)
def test_another_grid_is_refused_and_nothing_written(
    tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    write_like(tmp_path / "mask.nii.gz", shape)
    with pytest.raises(ValueError, match=message):
        write_maps(tmp_path / "out", tmp_path / "mask.nii.gz", {"a": (IJK, VALUE)})
    (tmp_path / "text.nii.gz").write_text("no volume")
    with pytest.raises(ValueError, match=r"text\.nii\.gz"):
        write_maps(tmp_path / "out", tmp_path / "text.nii.gz", {"a": (IJK, VALUE)})
    assert not (tmp_path / "out").exists()
