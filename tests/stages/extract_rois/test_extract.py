"""extract.py on a tree of two sessions: z-scores, split, dead voxels, ncsnr, noise-free responses,
all or none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.stats

from fmri2clip.artefacts.trials import read_betas, read_voxels
from fmri2clip.datasets.nsd import layout
from tests.stages.extract_rois.extract_world import (
    FLAT,
    HALF,
    N_SHARED,
    PREP,
    SHAPE,
    Tree,
    list_outputs,
    run,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("nsd"))


@pytest.fixture(scope="module")
def done(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tree, tmp_path_factory.mktemp("rois"))


@pytest.mark.parametrize("stats", ["train_only", "all_trials"])
def test_z_scores_and_split(tree: Tree, tmp_path: Path, stats: str) -> None:
    run(tree, tmp_path, stats)
    z = tree.z_scores(stats)
    for part, chosen in (("train", ~tree.shared), ("test", tree.shared)):
        read = read_betas(tmp_path / part / "s.h5")
        np.testing.assert_allclose(read["betas_NV"], z[chosen], atol=2e-3, rtol=2e-3)
        assert read["nsd_id_N"].tolist() == tree.nsd_id[chosen].tolist()
        assert read["trial_N"].tolist() == (np.flatnonzero(chosen) + 1).tolist()
        assert read["session_N"].tolist() == (np.flatnonzero(chosen) // 750 + 1).tolist()
        assert np.bincount(read["repetition_N"]).tolist() == [0] + 3 * [chosen.sum() // 3]
        assert read.attrs == {
            "kind": "betas",
            "subject": "subj01",
            "preparation": PREP,
            "sessions": 2,
            "norm_stats": stats,
        }


def test_test_betas_do_not_touch_training(tree: Tree, done: Path, tmp_path: Path) -> None:
    other = Tree(tmp_path / "nsd")
    for session in (1, 2):
        with h5py.File(layout.betas_path(other.root, "subj01", PREP, session), "r+") as file:
            values = file["betas"][()]
            values[other.shared[(session - 1) * 750 : session * 750]] = 12345
            file["betas"][...] = values
    run(other, tmp_path)
    for name in ("train/s.h5", "voxels/s.h5"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()
    assert (tmp_path / "test/s.h5").read_bytes() != (done / "test/s.h5").read_bytes()


def test_voxel_file(tree: Tree, done: Path) -> None:
    read = read_voxels(done / "voxels" / "s.h5")
    where = np.argwhere(tree.kept())
    assert read["ijk_V3"].tolist() == where.tolist()
    np.testing.assert_array_equal(read["ncsnr_V"], tree.ncsnr[tree.kept()].astype(np.float32))
    names = read["roi_names_G"].tolist()
    assert {"nsdgeneral", "prf-visualrois", "prf-visualrois/V1v", "group/low", "group/all"} <= set(
        names
    )
    np.testing.assert_array_equal(
        read["roi_VG"][:, names.index("group/low")], tree.prf[tree.kept()] > 0
    )
    half, flat = (where.tolist().index(list(voxel)) for voxel in (HALF, FLAT))
    assert np.argwhere(read["invalid_SV"]).tolist() == sorted([[0, half], [1, flat]])
    train = tree.percent[750:][~tree.shared[750:]][(slice(None), *where.T)]
    np.testing.assert_allclose(read["mean_SV"][1], train.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(read["std_SV"][1], train.std(axis=0, ddof=1), rtol=1e-5)
    assert not read_betas(done / "train/s.h5")["betas_NV"][:, half][
        : np.sum(~tree.shared[:750])
    ].any()


def test_ncsnr_from_training_trials(tree: Tree, done: Path) -> None:
    z, session = tree.z_scores(), np.arange(1500) // 750
    dead = {tuple(v): s for v, s in ((HALF, 0), (FLAT, 1))}
    got = read_voxels(done / "voxels" / "s.h5")["ncsnr_train_V"]
    for column, voxel in enumerate(np.argwhere(tree.kept())):
        variances = []
        for image in set(tree.nsd_id[~tree.shared].tolist()):
            trials = np.flatnonzero(tree.nsd_id == image)
            if dead.get(tuple(voxel.tolist())) not in session[trials].tolist():
                variances.append(z[trials, column].var(ddof=1))
        noise = np.mean(variances)
        assert got[column] == pytest.approx(np.sqrt(max(0, 1 - noise)) / np.sqrt(noise), abs=3e-3)
    assert np.median(got) == pytest.approx(1, abs=0.1), "signal and noise have equal variance"


def test_report_holds_numbers(tree: Tree, done: Path) -> None:
    report = json.loads((done / "s.json").read_text())
    assert report["sessions"] == 2
    assert report["voxels"] == {
        "kept": int(tree.mask.sum()) - 1,
        "dropped": 1,
        "filled": 2,
        "filled_sessions": 2,
    }
    assert report["groups"]["low"] == int(np.sum(tree.kept() & (tree.prf > 0)))
    assert report["labels"]["prf-visualrois/hV4"] == int(np.sum(tree.kept() & (tree.prf == 7)))
    assert report["train"] == {"trials": 1320, "images": 440, "shown": {"1": 0, "2": 0, "3": 440}}
    assert report["test"] == {"trials": 180, "images": 60, "shown": {"1": 0, "2": 0, "3": 60}}
    voxels = read_voxels(done / "voxels" / "s.h5")
    both = np.isfinite(voxels["ncsnr_V"]) & np.isfinite(voxels["ncsnr_train_V"])
    r = scipy.stats.pearsonr(voxels["ncsnr_V"][both], voxels["ncsnr_train_V"][both]).statistic
    assert report["ncsnr_agreement"] == pytest.approx(r, abs=6e-5)
    assert report["ncsnr"]["all"]["median"] == pytest.approx(
        np.nanmedian(tree.ncsnr[tree.kept()]), abs=1e-5
    )


def test_outputs_repeat_bytewise(tree: Tree, done: Path, tmp_path: Path) -> None:
    run(tree, tmp_path)
    for path in list_outputs(done).values():
        again = tmp_path / path.relative_to(done)
        assert (
            hashlib.sha256(again.read_bytes()).digest()
            == hashlib.sha256(path.read_bytes()).digest()
        )
    assert not list(tmp_path.rglob(".*"))


def test_noise_free_responses(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "nsd")
    tree.write_noise_free()
    run(tree, tmp_path)
    read = read_betas(tmp_path / "test" / "s.h5")
    voxels = read_voxels(tmp_path / "voxels" / "s.h5")
    assert read["noise_free_nsd_id_I"].tolist() == sorted(tree.subjectim[0, :N_SHARED] - 1)
    columns = {nsd_id: j for j, nsd_id in enumerate(tree.subjectim[0] - 1, start=1)}
    clean = tree.signal[[columns[i] for i in read["noise_free_nsd_id_I"]]][
        (slice(None), *voxels["ijk_V3"].T)
    ]
    valid = np.where(voxels["invalid_SV"], np.nan, 1)
    mean, std = (np.nanmean(voxels[name] * valid, axis=0) for name in ("mean_SV", "std_SV"))
    np.testing.assert_allclose(read["noise_free_IV"], (clean - mean) / std, atol=2e-3, rtol=2e-3)
    assert "noise_free_IV" not in read_betas(tmp_path / "train" / "s.h5")


def _break(tree: Tree, fault: str) -> str:
    """Damage the tree; returns what the message must name."""
    path = layout.betas_path(tree.root, "subj01", PREP, 2)
    if fault == "missing session":
        path.unlink()
    elif fault == "truncated session":
        path.write_bytes(path.read_bytes()[:-5000])
    elif fault == "missing ROI":
        path = layout.roi_path(tree.root, "subj01", "prf-visualrois")
        path.unlink()
    elif fault == "missing ncsnr":
        path = layout.ncsnr_path(tree.root, "subj01", PREP)
        path.unlink()
    elif fault == "wrong shape":
        with h5py.File(path, "w") as file:
            file["betas"] = np.zeros((750, *SHAPE), dtype=np.int16)
    elif fault == "ncsnr of another subject":
        path = layout.ncsnr_path(tree.root, "subj01", PREP)
        nib.save(nib.Nifti1Image(np.zeros((9, 9, 9)), np.eye(4)), path)
    elif fault == "ncsnr of NaN":
        path = layout.ncsnr_path(tree.root, "subj01", PREP)
        nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan), np.eye(4)), path)
    elif fault == "no signal":
        path = path.parent
        for session in (1, 2):
            with h5py.File(layout.betas_path(tree.root, "subj01", PREP, session), "r+") as file:
                file["betas"][...] = 0
    return path.name


@pytest.mark.parametrize(
    "fault",
    [
        "missing session",
        "truncated session",
        "missing ROI",
        "missing ncsnr",
        "wrong shape",
        "ncsnr of another subject",
        "ncsnr of NaN",
        "no signal",
    ],
)
def test_faults_name_the_file_and_leave_nothing(tmp_path: Path, fault: str) -> None:
    tree = Tree(tmp_path / "nsd")
    named = _break(tree, fault)
    with pytest.raises(ValueError, match=named):
        run(tree, tmp_path / "rois")
    assert not (tmp_path / "rois").exists()


def test_first_session_only(tree: Tree, tmp_path: Path) -> None:
    run(tree, tmp_path, sessions=1)
    read = read_voxels(tmp_path / "voxels" / "s.h5")
    assert read["mean_SV"].shape == (1, int(tree.mask.sum()) - 2), (
        "a voxel without signal in all sessions used is dropped"
    )
    with pytest.raises(ValueError, match="subj01 allows released, old37 or a number from 1 to 2"):
        run(tree, tmp_path, sessions=3)
