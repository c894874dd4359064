"""rois.py: the -1 / 0 / label rule, overlapping labels, groups, and what happens when a file is missing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fmri2clip.datasets.nsd import layout, rois

SHAPE = (4, 5, 3)
GROUPS = {"low": ["prf-visualrois"], "high": ["floc-faces", "floc-words"], "all": ["nsdgeneral"]}


def _volumes() -> dict[str, np.ndarray]:
    """Random label volumes with -1 and 0 in all of them; label 5 of floc-faces is empty."""
    rng = np.random.default_rng(0)
    tops = {"nsdgeneral": 1, "prf-visualrois": 7, "floc-faces": 4, "floc-words": 5}
    return {roi: rng.integers(-1, top + 1, SHAPE).astype(np.float64) for roi, top in tops.items()}


def _write(root: Path, name: str, volume: np.ndarray) -> Path:
    path = layout.roi_dir(root, "subj01") / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return path


def _tree(root: Path) -> dict[str, np.ndarray]:
    volumes = _volumes()
    for roi, volume in volumes.items():
        _write(root, roi, volume)
    left = np.where(np.arange(SHAPE[0])[:, None, None] < 2, volumes["floc-faces"], -1)
    _write(root, "lh.floc-faces", left)
    return volumes | {"lh.floc-faces": left}


def test_columns_follow_the_definition(tmp_path: Path) -> None:
    volumes = _tree(tmp_path)
    loaded = rois.load_rois(tmp_path, "subj01", GROUPS | {"left": ["lh.floc-faces"], "v1": ["prf-visualrois/V1v"]})
    column = {name: loaded.roi_VG[:, place] for place, name in enumerate(loaded.names_G)}
    assert len(column) == len(loaded.names_G)
    voxels = [
        (x, y, z)
        for x in range(SHAPE[0])
        for y in range(SHAPE[1])
        for z in range(SHAPE[2])
        if volumes["nsdgeneral"][x, y, z] == 1
    ]
    assert loaded.ijk_V3.tolist() == [list(voxel) for voxel in voxels]
    for row, voxel in enumerate(voxels):
        faces, words, prf = (int(volumes[roi][voxel]) for roi in ("floc-faces", "floc-words", "prf-visualrois"))
        assert column["floc-faces"][row] == (faces > 0)
        assert column["floc-faces/FFA-1"][row] == (faces == 2)
        assert column["prf-visualrois/hV4"][row] == (prf == 7)
        assert column["group/low"][row] == (prf > 0)
        assert column["group/high"][row] == (faces > 0 or words > 0)
        assert column["group/left"][row] == (voxel[0] < 2 and faces > 0)
        assert column["group/v1"][row] == (prf == 1)
    assert column["group/all"].all()
    assert not column["floc-faces/aTL-faces"].any()
    assert (column["floc-faces"] & column["floc-words"]).any(), "labels may overlap"
    labels = [name for name in column if name.startswith("prf-visualrois/")]
    np.testing.assert_array_equal(np.any([column[name] for name in labels], axis=0), column["prf-visualrois"])


def test_missing_file_names_it_and_what_exists(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(ValueError, match=r"floc-places\.nii\.gz does not exist; subj01 has floc-faces, floc-words, lh"):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-places"]})
    with pytest.raises(ValueError, match=r"rh\.streams\.nii\.gz does not exist"):
        rois.load_rois(tmp_path, "subj01", {"high": ["rh.streams"]})
    with pytest.raises(ValueError, match=r"nsdgeneral\.nii\.gz does not exist; subj02 has no ROI files"):
        rois.load_rois(tmp_path, "subj02", GROUPS)


def test_unknown_and_empty_groups(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(ValueError, match="ROI 'floc-cars' is not in NSD"):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-cars"]})
    with pytest.raises(ValueError, match=r"rois\.high has no voxel of subj01"):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-faces/aTL-faces"]})


@pytest.mark.parametrize("value", [-2.0, 8.0, 1.5, np.nan])
def test_values_outside_the_rule(tmp_path: Path, value: float) -> None:
    volume = _volumes()["prf-visualrois"]
    volume[0, 0, 0] = value
    _tree(tmp_path)
    _write(tmp_path, "prf-visualrois", volume)
    with pytest.raises(ValueError, match=r"prf-visualrois\.nii\.gz has values other than -1, 0"):
        rois.load_rois(tmp_path, "subj01", GROUPS)


def test_other_grid_or_broken_file(tmp_path: Path) -> None:
    _tree(tmp_path)
    path = _write(tmp_path, "floc-words", np.ones((4, 5, 4)))
    with pytest.raises(ValueError, match=r"floc-words\.nii\.gz has shape \(4, 5, 4\)"):
        rois.load_rois(tmp_path, "subj01", GROUPS)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"floc-words\.nii\.gz cannot be read as NIfTI"):
        rois.load_rois(tmp_path, "subj01", GROUPS)
    _write(tmp_path, "nsdgeneral", np.zeros(SHAPE))
    with pytest.raises(ValueError, match="has no voxel above 0"):
        rois.load_rois(tmp_path, "subj01", GROUPS)
