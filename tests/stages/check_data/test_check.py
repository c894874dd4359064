"""Every verdict holds on a simulated tree, and each kind of damage makes exactly the right one
fail.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import rois
from fmri2clip.stages.check_data.check import SUBJECT_CHECKS, check_tree
from fmri2clip.stages.check_data.check_design import check_published_design
from fmri2clip.stages.check_data.repeats import Repeats
from tests.stages.check_data.check_world import SUBJECT, write_tree

DATASET = Dataset(sessions="released")


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("intact")
    write_tree(root, "both")
    return root


@pytest.fixture
def tree(intact: Path, tmp_path: Path) -> Path:
    shutil.copytree(intact, tmp_path / "nsd")
    return tmp_path / "nsd"


def failures(root: Path, dataset: Dataset = DATASET) -> dict[str, str]:
    return {
        check.name: check.detail
        for check in check_tree(root, [SUBJECT], dataset)
        if not check.passed
    }


def test_a_simulated_tree_passes_everything(intact: Path) -> None:
    checks = check_tree(intact, [SUBJECT], DATASET)
    assert {check.name: check.status for check in checks} == {
        "files.stimuli": "SKIP",
        f"files.{SUBJECT}": "SKIP",  # no manifests here
        "design.tables": "PASS",
        "design.published": "SKIP",
        "stimuli.pictures": "PASS",
        "stimuli.table": "PASS",
        "stimuli.duplicates": "PASS",
        "coco": "PASS",
        **{
            f"{SUBJECT}.{name}": "PASS"
            for name in ("responses", "grid", "rois", "labels", "nsdgeneral")
        },
        f"{SUBJECT}.counts": "SKIP",
        **{f"{SUBJECT}.{name}": "PASS" for name in ("ncsnr", "volumes", "containers", "betas")},
    }
    details = {check.name: check.detail for check in checks}
    assert details["design.tables"] == "2 sessions, 500 pictures each, 30 shared"
    assert details[f"{SUBJECT}.containers"] == "2 pairs"
    assert float(details[f"{SUBJECT}.betas"].split("r = ")[1]) > 0.999


def test_fewer_sessions_than_ncsnr_was_made_from(intact: Path) -> None:
    checks = {check.name: check for check in check_tree(intact, [SUBJECT], Dataset(sessions=1))}
    betas = checks[f"{SUBJECT}.betas"]
    assert betas.passed and "not compared" in betas.detail


def test_an_empty_folder_fails_every_check(tmp_path: Path) -> None:
    checks = check_tree(tmp_path, [SUBJECT], DATASET)
    assert [check for check in checks if "does not exist" not in check.detail] == []
    assert {check.name for check in checks if check.passed} == {"files.stimuli", f"files.{SUBJECT}"}


def _edit_betas(root: Path, edit: Callable[[np.ndarray], np.ndarray], session: int = 2) -> None:
    with h5py.File(layout.betas_path(root, SUBJECT, DATASET.preparation, session), "r+") as file:
        file["betas"][...] = edit(file["betas"][...])


def _edit_nifti(path: Path, edit: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    values = edit(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(values, affine), path)


def _edit_alone(root: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Of the last session, which then lies in one container only."""
    layout.betas_path(root, SUBJECT, DATASET.preparation, 2, ".nii.gz").unlink()
    _edit_betas(root, edit)


def _read_betas(root: Path, session: int) -> np.ndarray:
    with h5py.File(layout.betas_path(root, SUBJECT, DATASET.preparation, session)) as file:
        return file["betas"][...]


def _put(array: np.ndarray, place: Any, value: int) -> np.ndarray:
    array[place] = value
    return array


def _voxel(root: Path, number: int) -> tuple[int, ...]:
    """Z, Y, X of a voxel of nsdgeneral with data in all sessions."""
    kept = rois.read_roi(root, SUBJECT, "nsdgeneral") > 0
    for session in (1, 2):
        kept &= rois.read_volume(layout.valid_path(root, SUBJECT, session)) > 0
    return tuple(np.argwhere(kept)[number].tolist()[::-1])


def _damage_scale(root: Path) -> None:
    for session in (1, 2):
        layout.betas_path(root, SUBJECT, DATASET.preparation, session, ".nii.gz").unlink()
        _edit_betas(root, lambda stored: stored // 30, session)


def _damage_responses(root: Path) -> None:
    path = layout.responses_path(root, SUBJECT)
    lines = path.read_text().splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    path.write_text("\n".join(lines))


def _damage_table(root: Path) -> None:
    path = layout.stim_info_path(root)
    path.write_text(path.read_text().replace("\n3,", "\n4,", 1))


def _edit_roi(root: Path, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    _edit_nifti(layout.roi_path(root, SUBJECT, name), edit)


DAMAGES: dict[str, tuple[Callable[[Path], object], set[str], str]] = {
    "responses out of order": (_damage_responses, {"responses"}, "73KID of 2 trials"),
    "table shifted": (_damage_table, {"stimuli.table"}, "nsdId is not 0, 1"),
    "no captions": (
        lambda r: layout.captions_path(r, "train2017").unlink(),
        {"coco"},
        "does not exist",
    ),
    "design unreadable": (
        lambda r: layout.expdesign_path(r).write_bytes(b"MATLAB"),
        {
            "design.tables",
            "design.published",
            "stimuli.pictures",
            "stimuli.table",
            "stimuli.duplicates",
            "coco",
            *SUBJECT_CHECKS,
        },
        "MATLAB 5",
    ),
    "ROI file gone": (
        lambda r: layout.roi_path(r, SUBJECT, "streams").unlink(),
        {"rois"},
        "streams.nii.gz",
    ),
    "ROI label too large": (
        lambda r: _edit_roi(r, "floc-places", lambda v: np.where(v == 3, 4, v)),
        {"rois"},
        "1 to 3",
    ),
    "ROI stored as integers": (
        lambda r: _edit_roi(r, "streams", lambda v: v.astype(np.int16)),
        {"rois"},
        "int16",
    ),
    "ROI not merged": (
        lambda r: _edit_roi(r, "streams", lambda v: np.where(v == 5, 6, v)),
        {"rois"},
        "put together",
    ),
    "grid moved": (
        lambda r: _edit_nifti(layout.valid_path(r, SUBJECT, 1), lambda v: v, shift=1.8),
        {"grid"},
        "affine",
    ),
    "session gone": (
        lambda r: [
            layout.betas_path(r, SUBJECT, DATASET.preparation, 2, s).unlink()
            for s in (".hdf5", ".nii.gz")
        ],
        {"volumes", "betas"},
        "download session 2",
    ),
    "containers differ": (
        lambda r: _edit_betas(r, lambda stored: np.roll(stored, 1, axis=0)),
        {"containers", "betas"},
        "differ",
    ),
    "scaled twice": (_damage_scale, {"volumes", "betas"}, "saturated"),
    "signal outside the brain": (
        lambda r: _edit_betas(r, lambda stored: np.where(stored == 0, 1, stored).astype("<i2"), 1),
        {"volumes", "containers", "betas"},
        "outside the brain mask",
    ),
    "signal outside the brain in the last session": (
        lambda r: _edit_alone(r, lambda stored: np.where(stored == 0, 1, stored).astype("<i2")),
        {"volumes", "betas"},
        "outside the brain mask",
    ),
    "one session scaled": (
        lambda r: _edit_alone(r, lambda stored: stored // 30),
        {"volumes", "betas"},
        "scaled twice",
    ),
    "a session twice": (
        lambda r: _edit_alone(r, lambda stored: _read_betas(r, 1)),
        {"betas"},
        "holds the same betas as",
    ),
    "a trial without data": (
        lambda r: _edit_alone(r, lambda stored: _put(stored, np.s_[749], 0)),
        {"betas"},
        "1 trials are empty, the first is 750",
    ),
    "a valid voxel without data": (
        lambda r: _edit_alone(r, lambda stored: _put(stored, (np.s_[:], *_voxel(r, 0)), 0)),
        {"betas"},
        "1 voxels that valid_session02.nii.gz calls valid have no signal",
    ),
    "data in a voxel that is not valid": (
        lambda r: _edit_nifti(
            layout.valid_path(r, SUBJECT, 2), lambda v: _put(v, _voxel(r, -1)[::-1], 0)
        ),
        {"betas"},
        "leaves out are not zero",
    ),
    "containers differ in the last voxel": (
        lambda r: _edit_betas(r, lambda stored: _put(stored, (5, *_voxel(r, -1)), 77)),
        {"containers"},
        "differ",
    ),
    "ncsnr half unknown": (
        lambda r: _edit_nifti(
            layout.ncsnr_path(r, SUBJECT, DATASET.preparation),
            lambda v: np.where(np.arange(v.size).reshape(v.shape) % 2, v, np.nan),
        ),
        {"betas", "ncsnr"},
        "holds a number for",
    ),
    "ncsnr of another subject": (
        lambda r: _edit_nifti(
            layout.ncsnr_path(r, SUBJECT, DATASET.preparation), lambda v: v[::-1]
        ),
        {"betas"},
        "ncsnr",
    ),
    "ncsnr of the last voxel": (
        lambda r: _edit_nifti(
            layout.ncsnr_path(r, SUBJECT, DATASET.preparation),
            lambda v: _put(v, _voxel(r, -1)[::-1], float(v[_voxel(r, -1)[::-1]]) + 0.05),
        ),
        {"betas"},
        "the ncsnr of 1 of",
    ),
    "ncsnr of the first voxel unknown": (
        lambda r: _edit_nifti(
            layout.ncsnr_path(r, SUBJECT, DATASET.preparation),
            lambda v: _put(v, _voxel(r, 0)[::-1], np.nan),
        ),
        {"betas"},
        "the ncsnr of 1 of",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found(tree: Path, kind: str) -> None:
    damage, expected, fragment = DAMAGES[kind]
    damage(tree)
    found = failures(tree)
    assert {name.removeprefix(f"{SUBJECT}.") for name in found} == expected
    assert any(fragment in detail for detail in found.values()), found


def test_truncated_files_are_named(tree: Path) -> None:
    path = layout.valid_path(tree, SUBJECT, 2)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:500]))
    assert str(path) in failures(tree)[f"{SUBJECT}.betas"]


def test_published_constants_refuse_another_design(intact: Path) -> None:
    with pytest.raises(ValueError, match="trial 1 does not show nsd id 46002"):
        check_published_design(intact)


def test_ncsnr_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    nsd_id_N = rng.permutation(np.r_[np.repeat(np.arange(20), 3), [30, 31, 31]])
    z_NV = rng.normal(size=(63, 3)).astype(np.float32)
    z_NV[5, 2] = np.nan
    noise = [np.nanmean([z_NV[nsd_id_N == i, v].var(ddof=1) for i in range(20)]) for v in range(3)]
    expected = [np.sqrt(max(0, 1 - n)) / np.sqrt(n) for n in noise]
    repeats = Repeats(nsd_id_N, 3)
    for session_T in np.array_split(np.arange(63), 4):  # the same picture twice in one, too
        repeats.add(session_T, z_NV[session_T])
    assert np.allclose(repeats.ncsnr(), expected, atol=2e-3)
