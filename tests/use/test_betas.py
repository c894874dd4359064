from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import fmri2clip
from fmri2clip.artefacts.trials import write_betas
from fmri2clip.datasets.nsd.layout import VOLUME_SHAPES
from fmri2clip.use.betas import add_pictures, read_trials
from fmri2clip.use.model import Model
from tests.model_folder import GRID, N_VOXELS, make_inputs, write_ridge

IJK = make_inputs()["ijk_V3"]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    write_ridge(tmp_path / "subj01")
    return fmri2clip.load(tmp_path / "subj01")


def write_ours(path: Path, betas_NV: np.ndarray, subject: str) -> None:
    numbers = np.arange(len(betas_NV))
    arrays = {"nsd_id_N": numbers // 2, "session_N": numbers // 4 + 1, "trial_N": numbers + 1}
    arrays |= {"repetition_N": numbers % 2 + 1, "betas_NV": betas_NV}
    write_betas(path, arrays, {"subject": subject})


def test_volumes_give_the_voxels_of_the_model(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    volumes_XYZN = rng.integers(-3000, 3000, (*GRID, 7), dtype=np.int16)
    expected = np.array([[volumes_XYZN[x, y, z, n] for x, y, z in IJK] for n in range(7)])
    nib.save(nib.Nifti1Image(volumes_XYZN, np.eye(4)), tmp_path / "a.nii.gz")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("betas", data=volumes_XYZN.T, chunks=(7, 1, 1, 1))
    for name in ("a.nii.gz", "a.hdf5"):
        trials = read_trials(tmp_path / name, model)
        assert np.array_equal(trials.betas_NV, expected) and trials.betas_NV.dtype == np.int16
        assert trials.session_N is None
    (tmp_path / "a.hdf5").rename(tmp_path / "betas_session02.hdf5")
    assert set(read_trials(tmp_path / "betas_session02.hdf5", model).session_N) == {2}


def test_arrays_and_tables_are_taken_as_they_are(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    betas_NV = rng.standard_normal((4, N_VOXELS))
    np.save(tmp_path / "a.npy", betas_NV)
    table = pd.DataFrame(betas_NV, columns=[f"v{v}" for v in range(N_VOXELS)])
    table.insert(3, "picture", ["b", "a", "b", "a"])
    table["session"] = [1, 1, 2, 2]
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "a.parquet")
    assert np.array_equal(read_trials(tmp_path / "a.npy", model).betas_NV, betas_NV)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["betas"] = betas_NV
        file["picture"] = ["b", "a", "b", "a"]
        file["session"] = [1, 1, 2, 2]
    for suffix in ("csv", "tsv", "parquet", "hdf5"):
        trials = read_trials(tmp_path / f"a.{suffix}", model)
        assert np.allclose(trials.betas_NV, betas_NV)
        assert list(trials.picture_N) == ["b", "a", "b", "a"]
        assert trials.session_N.astype(str).tolist() == ["1", "1", "2", "2"]


def with_inputs(model: Model, **more: np.ndarray) -> Model:
    """The model as one that was trained on a folder."""
    content = replace(model.content, inputs={**model.content.inputs, **more})
    return replace(model, content=content)


def test_volumes_that_lie_elsewhere_are_refused(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    """Voxels are taken by their numbers, which mean other places there."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    own = with_inputs(model, grid_3=np.array(GRID), affine_44=affine)
    volumes_XYZN = rng.standard_normal((*GRID, 3))
    turned = affine @ np.array([[-1, 0, 0, GRID[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    larger = np.pad(volumes_XYZN, [(0, 1), (0, 0), (0, 0), (0, 0)])
    for name, volumes, place in (
        ("same.nii.gz", volumes_XYZN, affine),
        ("turned.nii.gz", volumes_XYZN[::-1], turned),
        ("larger.nii.gz", larger, affine),
    ):
        nib.save(nib.Nifti1Image(volumes, place), tmp_path / name)
    assert len(read_trials(tmp_path / "same.nii.gz", own).betas_NV) == 3
    with pytest.raises(
        ValueError, match=r"turned.nii.gz has the affine .* voxels may lie elsewhere"
    ):
        read_trials(tmp_path / "turned.nii.gz", own)
    with pytest.raises(ValueError, match=r"larger.nii.gz has volumes of .* trained on volumes of"):
        read_trials(tmp_path / "larger.nii.gz", own)


def test_files_of_all_voxels_of_a_folder_give_those_of_the_model(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    row_V = np.delete(np.arange(N_VOXELS + 2), [0, 7])
    own = with_inputs(model, mask_row_V=row_V, n_mask_rows_1=np.array([N_VOXELS + 2]))
    betas_NR = rng.standard_normal((4, N_VOXELS + 2))
    np.save(tmp_path / "all.npy", betas_NR)
    np.save(tmp_path / "own.npy", betas_NR[:, row_V])
    for name in ("all.npy", "own.npy"):
        assert np.array_equal(read_trials(tmp_path / name, own).betas_NV, betas_NR[:, row_V])
    with pytest.raises(ValueError, match=r"all.npy has 22 voxels, the model reads 20"):
        read_trials(tmp_path / "all.npy", model)


def test_labels_of_sessions_are_kept_as_they_are_written(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    table = pd.DataFrame(rng.standard_normal((2, N_VOXELS)))
    table["session"] = ["01", "pre"]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_trials(tmp_path / "a.csv", model).session_N.tolist() == ["01", "pre"]


def test_our_own_files_are_z_scores_of_all_rois(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    betas_NV = rng.standard_normal((8, N_VOXELS + 5)).astype(np.float16)
    write_ours(tmp_path / "a.h5", betas_NV, "subj01")
    trials = read_trials(tmp_path / "a.h5", model)
    assert np.array_equal(trials.betas_NV, betas_NV[:, 1 : N_VOXELS + 1]) and trials.is_z
    assert list(trials.picture_N) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_table_says_what_volumes_and_arrays_show(
    tmp_path: Path, model: Model, rng: np.random.Generator
) -> None:
    nib.save(nib.Nifti1Image(rng.random((*GRID, 3)), np.eye(4)), tmp_path / "a.nii.gz")
    np.save(tmp_path / "a.npy", rng.random((3, N_VOXELS)))
    table = tmp_path / "shown.tsv"
    for name in ("a.nii.gz", "a.npy"):
        trials = read_trials(tmp_path / name, model)
        table.write_text("session\tpicture\trun\n2\tNA\t1\n1\t07\t1\n2\tNA\t2\n")
        found = add_pictures(trials, table)
        assert found.betas_NV is trials.betas_NV
        assert found.picture_N.tolist() == ["NA", "07", "NA"]
        assert found.session_N.tolist() == ["2", "1", "2"]
        table.write_text("picture\nb\na\nb\n")
        assert add_pictures(trials, table).session_N is None
    (tmp_path / "a.nii.gz").rename(tmp_path / "betas_session02.nii.gz")
    trials = read_trials(tmp_path / "betas_session02.nii.gz", model)
    assert add_pictures(trials, table).session_N.tolist() == [2, 2, 2]
    for text, message in (
        ("picture\nb\na\n", r"shown.tsv: 'picture' has the shape \(2,\) for 3 trials; give one"),
        ("image\nb\na\nb\n", "shown.tsv has no column 'picture'; it has image"),
        ("picture\tsession\nb\t2\n\t2\nb\t2\n", "shown.tsv: 'picture' has empty entries"),
        ("picture\tsession\nb\t2\na\t1\nb\t2\n", "say different things under 'session'; leave"),
        ("picture\trun\nb\ta\nb\ta\tb\n", "is no tab-separated table .* in line 3, saw 3\\); mend"),
        ("", r"shown.tsv is no tab-separated table \(No columns"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            add_pictures(trials, table)
        assert "\n" not in str(caught.value)
    table.write_bytes(b"picture\n\xff\n")
    with pytest.raises(ValueError, match=r"shown.tsv is no tab-separated table"):
        add_pictures(trials, table)
    with pytest.raises(
        ValueError, match=r"absent.tsv is no file; name a table with a row for each"
    ):
        add_pictures(trials, tmp_path / "absent.tsv")


def test_files_that_do_not_fit_are_refused(tmp_path: Path, model: Model) -> None:
    ones_NV = np.ones((2, N_VOXELS))
    np.save(tmp_path / "narrow.npy", ones_NV[:, 1:])
    np.save(tmp_path / "flat.npy", ones_NV[0])
    np.save(tmp_path / "turned.npy", ones_NV.T)
    np.save(tmp_path / "empty.npy", ones_NV[:0])
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "text.nii.gz").write_text("no NIfTI")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "words.csv").write_text("a,b\n1,x\n")
    (tmp_path / "trials.csv").write_text("0.5,-1.25\n1,2\n")
    (tmp_path / "holes.csv").write_text("a,picture\n1,x\n1,\n")
    for name, entries in (("short.h5", {"picture": [1]}), ("times.h5", {"session": [0.5, 1]})):
        with h5py.File(tmp_path / name, "w") as file:
            file["betas"] = ones_NV
            file.update(entries)
    with h5py.File(tmp_path / "anna.h5", "w") as file:
        file["betas"] = ones_NV
        file.attrs["subject"] = "anna"
    (tmp_path / "a.mat").touch()
    write_ours(tmp_path / "other.h5", np.ones((2, N_VOXELS + 5)), "subj02")
    write_ours(tmp_path / "narrow.h5", np.ones((2, N_VOXELS)), "subj01")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file.create_dataset("betas", (2, *VOLUME_SHAPES[4][::-1]), np.int16, chunks=(2, 1, 1, 1))
    nsd = "ppdata/subj03/func1pt8mm/betas/betas_session01.nii.gz"
    (tmp_path / nsd).parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.zeros((*GRID, 2)), np.eye(4)), tmp_path / nsd)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), tmp_path / "small.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(GRID), np.eye(4)), tmp_path / "one.nii.gz")
    for name, message in (
        ("absent.npy", "is no file; name one of betas"),
        ("turned.npy", "turned.npy has 20 rows, as many as the model reads voxels; turn it round"),
        ("a.mat", "a.mat is no file of betas; .h5, .hdf5"),
        ("narrow.npy", "narrow.npy has 19 voxels, the model reads 20"),
        ("flat.npy", r"flat.npy is float64 of shape \(20,\)"),
        ("empty.npy", "empty.npy has no trial"),
        ("text.npy", "text.npy cannot be read as an array"),
        ("text.h5", "text.h5 cannot be read as HDF5"),
        ("text.nii.gz", "text.nii.gz cannot be read as NIfTI"),
        ("ragged.csv", r"ragged.csv cannot be read as a table \(.* saw 3\)"),
        ("words.csv", "words.csv: column 'b' holds no numbers"),
        (
            "trials.csv",
            r"trials.csv begins with numbers \(0.5, -1.25, ...\); put|trials.csv begins",
        ),
        ("holes.csv", "holes.csv: 'picture' has empty entries; give one for each trial"),
        ("short.h5", r"short.h5: 'picture' has the shape \(1,\) for 2 trials"),
        ("times.h5", "times.h5: 'session' holds no whole numbers"),
        ("anna.h5", "anna.h5 holds betas of anna, the model was trained on subj01"),
        ("other.h5", "other.h5 holds betas of subj02, the model was trained on subj01"),
        ("narrow.h5", "narrow.h5 has 20 voxels, the model reads number 21 too"),
        ("other.hdf5", "other.hdf5 holds betas of subj05, the model was trained on subj01"),
        (nsd, "session01.nii.gz holds betas of subj03, the model was trained on subj01"),
        ("small.nii.gz", r"small.nii.gz has volumes of \(3, 3, 3\), voxels up to"),
        ("one.nii.gz", "one.nii.gz has 3 axes, betas have 4"),
    ):
        with pytest.raises(ValueError, match=message):
            read_trials(tmp_path / name, model)
