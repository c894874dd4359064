"""rois.py: the -1 / 0 / label rule, overlapping labels, groups, and what happens when a file is
missing.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import rois

SHAPE = (4, 5, 3)
GROUPS = {"low": ["prf-visualrois"], "high": ["floc-faces", "floc-words"], "all": ["nsdgeneral"]}


def _volumes() -> dict[str, np.ndarray]:
    """Random label volumes with -1 and 0 in all of them; label 5 of floc-faces is empty."""
    rng = np.random.default_rng(0)
    tops = {"nsdgeneral": 1, "prf-visualrois": 7, "floc-faces": 4, "floc-words": 5}
    return {roi: rng.integers(-1, top + 1, SHAPE).astype(np.float64) for roi, top in tops.items()}


def _write(root: Path, name: str, volume: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path = layout.roi_dir(root, "subj01") / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
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
    loaded = rois.load_rois(
        tmp_path, "subj01", GROUPS | {"left": ["lh.floc-faces"], "v1": ["prf-visualrois/V1v"]}
    )
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
        faces, words, prf = (
            int(volumes[roi][voxel]) for roi in ("floc-faces", "floc-words", "prf-visualrois")
        )
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
    np.testing.assert_array_equal(
        np.any([column[name] for name in labels], axis=0), column["prf-visualrois"]
    )


def test_groups_in_words_and_numbers(tmp_path: Path) -> None:
    volumes = _tree(tmp_path)
    groups = {
        "rest": ["nsdgeneral and not (floc-faces or prf-visualrois/V1v)"],
        "both": ["floc-faces and floc-words", "prf-visualrois/7 and not lh.floc-faces/FFA-1"],
        "number": ["floc-faces/2"],
        "name": ["floc-faces/FFA-1"],
    }
    loaded = rois.load_rois(tmp_path, "subj01", groups)
    inside = volumes["nsdgeneral"] == 1
    faces, words, prf, left = (
        volumes[roi][inside]
        for roi in ("floc-faces", "floc-words", "prf-visualrois", "lh.floc-faces")
    )
    column = {name: loaded.roi_VG[:, place] for place, name in enumerate(loaded.names_G)}
    np.testing.assert_array_equal(column["group/rest"], (faces <= 0) & (prf != 1))
    np.testing.assert_array_equal(
        column["group/both"], ((faces > 0) & (words > 0)) | ((prf == 7) & (left != 2))
    )
    np.testing.assert_array_equal(column["group/number"], column["group/name"])
    assert not any(name.startswith("floc-faces/2") for name in column), "a label has one column"
    assert loaded.names_G[-4:] == [f"group/{group}" for group in groups]


def test_columns_come_in_a_fixed_order(tmp_path: Path) -> None:
    """ROIs with named labels in the order of the layout, then what groups name besides, then
    groups.
    """
    _tree(tmp_path)
    _write(tmp_path, "MTL", np.full(SHAPE, 4.0))
    loaded = rois.load_rois(
        tmp_path, "subj01", {"b": ["MTL and lh.floc-faces"], "a": ["lh.floc-faces", "floc-faces"]}
    )
    volumes = [name for name in loaded.names_G if "/" not in name]
    assert volumes == [
        "nsdgeneral",
        "prf-visualrois",
        "floc-faces",
        "floc-words",
        "MTL",
        "lh.floc-faces",
    ]
    assert loaded.names_G[-2:] == ["group/b", "group/a"]


def test_volumes_with_numbers_only(tmp_path: Path) -> None:
    volumes = _tree(tmp_path)
    rng = np.random.default_rng(1)
    glasser, lateral, own = (
        rng.integers(-1, 181, SHAPE),
        rng.integers(-1, 5, SHAPE),
        rng.integers(0, 3, SHAPE),
    )
    own[own == 2] = 1003
    _write(tmp_path, "HCP_MMP1", glasser.astype(np.float64))
    _write(tmp_path, "rh.thalamus", lateral.astype(np.float64))
    _write(tmp_path, "my-roi.v2", own.astype(np.uint16))
    inside = volumes["nsdgeneral"] == 1
    area = int(glasser[inside & (glasser > 0)][0])
    groups = {
        "area": [f"HCP_MMP1/{area}"],
        "right": ["rh.thalamus/3"],
        "own": ["file:my-roi.v2/1003"],
    }
    loaded = rois.load_rois(tmp_path, "subj01", groups)
    column = {name: loaded.roi_VG[:, place] for place, name in enumerate(loaded.names_G)}
    np.testing.assert_array_equal(column["group/area"], glasser[inside] == area)
    np.testing.assert_array_equal(column["group/right"], lateral[inside] == 3)
    np.testing.assert_array_equal(column["group/own"], own[inside] == 1003)
    np.testing.assert_array_equal(column["file:my-roi.v2"], own[inside] > 0)
    assert [name for name in column if name.startswith("file:")] == [
        "file:my-roi.v2",
        "file:my-roi.v2/1",
        "file:my-roi.v2/1003",
    ]
    assert sum(name.startswith("HCP_MMP1/") for name in column) == 180
    with pytest.raises(
        ValueError,
        match=r"rois\.x: 'file:my-roi\.v2/2' is not in file:my-roi\.v2 of subj01, which has the",
    ):
        rois.load_rois(tmp_path, "subj01", {"x": ["file:my-roi.v2/2"]})
    with pytest.raises(
        ValueError, match=r"'rh\.thalamus/9' is not in .* which has the labels 1, 2, 3, 4$"
    ):
        rois.load_rois(tmp_path, "subj01", {"x": ["rh.thalamus/9"]})
    with pytest.raises(
        ValueError,
        match=r"my-roi\.v3\.nii\.gz does not exist; subj01 has .*did you mean my-roi\.v2",
    ):
        rois.load_rois(tmp_path, "subj01", {"x": ["file:my-roi.v3"]})


def test_a_mask_of_the_user_must_lie_on_the_same_grid(tmp_path: Path) -> None:
    """Other software may flip a volume: then its shape is right and every voxel wrong."""
    _tree(tmp_path)
    _write(tmp_path, "mine", np.ones(SHAPE), np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(
        ValueError, match=r"mine\.nii\.gz has another affine than nsdgeneral\.nii\.gz"
    ):
        rois.load_rois(tmp_path, "subj01", {"x": ["file:mine"]})
    _write(tmp_path, "mine", np.ones(SHAPE), np.eye(4) + 1e-6)
    assert rois.load_rois(tmp_path, "subj01", {"x": ["file:mine"]}).names_G[-1] == "group/x"
    for wrong in (
        np.full(SHAPE, 32768.0),
        np.full(SHAPE, -2.0),
        np.full(SHAPE, np.inf),
        np.ones(SHAPE, np.complex64),
    ):
        _write(tmp_path, "mine", wrong)
        with pytest.raises(
            ValueError, match=r"mine\.nii\.gz has values other than -1, 0 and the labels 1 to 32767"
        ):
            rois.load_rois(tmp_path, "subj01", {"x": ["file:mine"]})
    _write(tmp_path, "mine", np.ones((*SHAPE, 2)))
    with pytest.raises(
        ValueError, match=r"mine\.nii\.gz has shape \(4, 5, 3, 2\), expected the three axes"
    ):
        rois.load_rois(tmp_path, "subj01", {"x": ["file:mine"]})


def test_missing_file_names_it_and_what_exists(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"floc-places\.nii\.gz does not exist; subj01 has floc-faces, floc-words, lh",
    ):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-places"]})
    with pytest.raises(ValueError, match=r"rh\.streams\.nii\.gz does not exist"):
        rois.load_rois(tmp_path, "subj01", {"high": ["rh.streams"]})
    with pytest.raises(
        ValueError, match=r"nsdgeneral\.nii\.gz does not exist; subj02 has no ROI files"
    ):
        rois.load_rois(tmp_path, "subj02", GROUPS)


def test_unknown_and_empty_groups(tmp_path: Path) -> None:
    _tree(tmp_path)
    with pytest.raises(ValueError, match="ROI 'floc-cars' is not in NSD"):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-cars"]})
    with pytest.raises(ValueError, match=r"rois\.high has no voxel of subj01"):
        rois.load_rois(tmp_path, "subj01", {"high": ["floc-faces/aTL-faces"]})
    with pytest.raises(
        ValueError, match=r"rois\.none has no voxel .* \['floc-faces and not floc-faces'\]"
    ):
        rois.load_rois(
            tmp_path, "subj01", {"low": ["nsdgeneral"], "none": ["floc-faces and not floc-faces"]}
        )


@pytest.mark.parametrize("value", [-2.0, 8.0, 1.5, np.nan, np.inf, 65537.0])
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


def test_masks_as_other_software_writes_them(tmp_path: Path) -> None:
    """Labels a little off, NaN outside, a fourth axis: all are read as the tidy mask."""
    volumes = _tree(tmp_path)
    tidy = np.random.default_rng(3).integers(0, 3, SHAPE).astype(np.float64)
    tidy[volumes["nsdgeneral"] != 1] = 0
    outside = np.where(volumes["nsdgeneral"] == 1, tidy, np.nan)
    for name, volume in {
        "tidy": tidy,
        "near": tidy * np.float32(0.99999),
        "nan": outside,
        "long": tidy[..., None, None],
    }.items():
        _write(tmp_path, name, volume)
        found = rois.read_roi(tmp_path, "subj01", f"file:{name}")
        np.testing.assert_array_equal(np.maximum(found, 0), tidy)


@pytest.mark.parametrize(
    ("value", "said"), [(1.01, "1.01"), (40_000.0, "40000"), (np.inf, "inf"), (-2.0, "-2")]
)
def test_a_mask_that_holds_no_labels_says_where(tmp_path: Path, value: float, said: str) -> None:
    _tree(tmp_path)
    odd = np.zeros(SHAPE)
    odd[1, 3, 2] = value
    _write(tmp_path, "odd", odd)
    with pytest.raises(ValueError, match=rf"first is {said} at X, Y, Z = \(1, 3, 2\)"):
        rois.read_roi(tmp_path, "subj01", "file:odd")


def test_notes_of_other_programs_are_no_rois(tmp_path: Path) -> None:
    """macOS leaves ._NAME beside files on foreign disks."""
    _tree(tmp_path)
    before = rois.list_rois(tmp_path, "subj01")
    (layout.roi_dir(tmp_path, "subj01") / "._floc-faces.nii.gz").write_bytes(b"\0\5\x16\7")
    assert rois.list_rois(tmp_path, "subj01") == before
