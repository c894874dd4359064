"""A folder of one's own: what comes out is what was put in, in every kind of file; what is missing
is said in words of the format.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from fmri2clip.artefacts.model import read_inputs, save_subject
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import read_betas, read_voxels
from fmri2clip.core.params import Norm
from fmri2clip.datasets.folder import volumes
from fmri2clip.datasets.folder.pictures import FolderPictures
from fmri2clip.datasets.folder.recordings import FolderRecordings
from fmri2clip.datasets.folder.tables import read_table
from fmri2clip.datasets.folder.write import write_table
from fmri2clip.datasets.pictures import read_picture
from fmri2clip.stages.check_data.check_folder import digest_folder, iterate_folder_checks
from fmri2clip.stages.extract_rois.extract import extract_subject
from fmri2clip.stages.train.data import _select_voxels
from fmri2clip.use.normalise import list_sessions, normalise
from tests.datasets.folder.own_world import (
    GROUPS,
    N_TEST,
    N_TRAIN,
    N_VOXELS,
    SESSIONS,
    SUBJECTS,
    Own,
    names,
    write_own,
)


def test_a_quotation_mark_is_a_character(tmp_path: Path) -> None:
    """A caption that begins with one does not swallow the rows behind it; what a spreadsheet has
    quoted is read as it stood there; what is written comes back.
    """
    path = tmp_path / "captions.tsv"
    captions = ['"No way out', 'a "Stop" sign', '"Stop" and "Go"', "plain", "two  words\tand a tab"]
    pictures = [f"{i}.png" for i in range(5)]
    write_table(path, {"picture": pictures, "caption": captions, "n": np.arange(5) / 3})
    found = read_table(path, ["picture", "caption"])
    assert found["caption"].tolist() == [*captions[:4], "two words and a tab"]
    assert found["picture"].tolist() == pictures
    np.testing.assert_allclose(found["n"].astype(float), np.arange(5) / 3, rtol=1e-8)
    with path.open("w", newline="") as file:
        rows = csv.writer(file, "excel-tab", quoting=csv.QUOTE_ALL)
        rows.writerows([("picture", "caption"), *zip(pictures, captions[:4], strict=False)])
    found = read_table(path, ["picture", "caption"])
    assert found["caption"].tolist() == captions[:4]


def extract(own: Own, out: Path, subject: str = "sub-01", stats: str = "train_only") -> Paths:
    paths = Paths(out)
    extract_subject(
        paths,
        subject,
        recordings=FolderRecordings.open(own.root, subject),
        rois=GROUPS,
        norm=Norm(stats=stats),  # type: ignore[arg-type]
        workers=1,
        resume_root=out / "resume",
    )
    return paths


def z_scores(own: Own, subject: str) -> np.ndarray:
    """By the definition: each session by its training trials; the third voxel is never there."""
    parts = []
    for session in SESSIONS:
        rows = own.table[(own.table.subject == subject) & (own.table.session == session)]
        used = ~rows["picture"].isin(names()[N_TRAIN:]).to_numpy()
        x = np.delete(own.betas[subject, session], 3, axis=1).astype(np.float64)
        parts.append((x - x[used].mean(axis=0)) / x[used].std(axis=0, ddof=1))
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", ["nifti", "hdf5", "npy", "rows"])
def test_betas_of_every_kind(tmp_path: Path, kind: str) -> None:
    own = write_own(tmp_path / "own", kind)
    for subject in SUBJECTS:
        paths = extract(own, tmp_path / "out", subject)
        rows = own.table[own.table.subject == subject]
        is_test = rows["picture"].isin(names()[N_TRAIN:]).to_numpy()
        for path, chosen in ((paths.train_betas, ~is_test), (paths.test_betas, is_test)):
            found = read_betas(path(subject))
            np.testing.assert_allclose(
                found["betas_NV"], z_scores(own, subject)[chosen], atol=3e-3, rtol=2e-3
            )
            shown = [names().index(name) for name in rows["picture"][chosen]]
            assert found["nsd_id_N"].tolist() == shown
            assert set(found["session_N"].tolist()) == {1, 2}
        assert sorted(read_betas(paths.test_betas(subject))["repetition_N"]) == [1] * 6 + [2] * 6


@pytest.mark.parametrize("kind", ["nifti", "npy"])
def test_rois_and_groups(tmp_path: Path, kind: str) -> None:
    own = write_own(tmp_path / "own", kind)
    voxels = read_voxels(extract(own, tmp_path / "out").voxels("sub-01"))
    columns = dict(zip(voxels["roi_names_G"].tolist(), voxels["roi_VG"].T, strict=True))
    kept = np.arange(40) != 3
    members = {name: member[kept] for name, member in own.members["sub-01"].items()}
    assert set(columns) == {*members, "group/low", "group/high", "group/all"}
    for name, member in members.items():
        assert columns[name].tolist() == member.tolist()
    high = members["IT/face"] | (members["V1"] & members["IT"])
    assert columns["group/high"].tolist() == high.tolist()
    if kind == "nifti":
        assert voxels["ijk_V3"].tolist() == own.place["sub-01"][kept].tolist()
    # Training pictures were shown once, so that their ceiling is unknown; of all trials it is not.
    assert np.isnan(voxels["ncsnr_train_V"]).all() and np.isfinite(voxels["ncsnr_V"]).all()


def test_noise_ceiling_of_the_repeated_pictures(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", "npy")
    voxels = read_voxels(extract(own, tmp_path / "out").voxels("sub-01"))
    z = []
    for session in SESSIONS:  # z-scored by all trials of the session, as NSD's own is
        x = np.delete(own.betas["sub-01", session], 3, axis=1).astype(np.float64)
        z.append((x - x.mean(axis=0)) / x.std(axis=0, ddof=1))
    rows = own.table[own.table.subject == "sub-01"]["picture"].to_numpy()
    found = [np.concatenate(z)[rows == name].var(axis=0, ddof=1) for name in names()[N_TRAIN:]]
    noise = np.mean(found, axis=0)
    expected = np.sqrt(np.maximum(0, 1 - noise) / noise)
    np.testing.assert_allclose(voxels["ncsnr_V"], expected, atol=2e-2)


def test_pictures_captions_and_labels(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    pictures = FolderPictures.open(own.root)
    seen = pictures.seen(SUBJECTS)
    assert seen["train"].tolist() == list(range(N_TRAIN))
    assert seen["shared"].tolist() == list(range(N_TRAIN, N_TRAIN + N_TEST))
    blocks = list(pictures.iterate(seen["train"], 7, start=14))
    assert [position for position, _ in blocks] == [14, 21]
    np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), own.pictures[14:N_TRAIN])
    described = pictures.annotations(np.array([5, 2]))
    assert described.caption_K[0] == "caption 0 of p05.png"
    assert described.caption_image_K.tolist() == [0, 0, 1, 1]
    assert described.category_C == ("cat", "dog")
    assert described.labels_IC.tolist() == [[False, True], [True, False]]
    assert described.area_IC.tolist() == [[0, 1], [1, 0]]
    assert described.n_objects_I.tolist() == [1, 1]


def test_pictures_in_one_file_are_the_same(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    table = own.table.assign(picture=[names().index(name) for name in own.table["picture"]])
    table.to_csv(own.root / "trials.tsv", sep="\t", index=False)
    own.describe(test=list(range(N_TRAIN, N_TRAIN + N_TEST)))
    for name in ("captions.tsv", "labels.tsv"):
        (own.root / name).unlink()
    shutil.rmtree(own.root / "pictures")
    with h5py.File(own.root / "pictures.h5", "w") as file:
        file["images"] = own.pictures
    pictures = FolderPictures.open(own.root)
    ids = np.array([7, 3, 7])
    np.testing.assert_array_equal(pictures.stock.read(ids), own.pictures[ids])
    described = pictures.annotations(ids)
    assert described.labels_IC.shape == (3, 0) and not described.caption_K


def test_accents_in_names_of_pictures_are_compared_as_text(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    one, two = (unicodedata.normalize(form, "hügel.png") for form in ("NFC", "NFD"))
    assert one != two
    for there, asked in ((one, two), (two, one)):
        (own.root / "pictures" / "p05.png").rename(own.root / "pictures" / there)
        assert FolderPictures.open(own.root).stock.find([asked], "").tolist() == [0]
        (own.root / "pictures" / there).rename(own.root / "pictures" / "p05.png")


def test_pictures_are_cropped_and_resized(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    wide = np.zeros((32, 64, 3), dtype=np.uint8)
    wide[:, 16:48] = 200
    Image.fromarray(wide).save(own.root / "pictures" / "p00.png")
    with pytest.raises(ValueError, match="square"):
        FolderPictures.open(own.root).stock.read(np.array([0]))
    own.describe(picture_size=16)
    image = FolderPictures.open(own.root).stock.read(np.array([0]))
    assert image.shape == (1, 16, 16, 3) and (image == 200).all()


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    Image.fromarray(own.pictures[0]).save(own.root / "pictures" / "p00.png", exif=exif)
    images = FolderPictures.open(own.root).stock.read(np.array([0, 1]))
    np.testing.assert_array_equal(images[0], np.rot90(own.pictures[0], -1))
    np.testing.assert_array_equal(images[1], own.pictures[1])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.full((32, 32), 700, np.uint16)), "has pixels of mode I;16"),
        (Image.fromarray(np.full((32, 32), 0.5, np.float32)), "has pixels of mode F"),
        (Image.new("RGBA", (32, 32), (9, 9, 9, 254)), "has transparent pixels; paste it onto"),
        (Image.new("LA", (32, 32), (9, 0)), "has transparent pixels; paste it onto"),
    ],
)
def test_pictures_that_would_lose_their_look_are_refused(
    tmp_path: Path, picture: Image.Image, message: str
) -> None:
    suffix = ".tif" if picture.mode == "F" else ".png"
    path = tmp_path / f"bild{suffix}"
    picture.save(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} {message}") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_an_opaque_picture_with_alpha_is_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "bild.png"
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(path)
    assert (np.asarray(read_picture(path)) == (1, 2, 3)).all()
    Image.new("P", (4, 4), 0).save(path, transparency=0)
    with pytest.raises(ValueError, match="has transparent pixels"):
        read_picture(path)
    Image.new("P", (4, 4), 0).save(path, transparency=1)
    assert np.asarray(read_picture(path)).shape == (4, 4, 3)


def run_checks(own: Own) -> dict[str, tuple[str, str]]:
    checks = iterate_folder_checks(own.root, SUBJECTS, GROUPS, Norm())
    return {check.name: (check.status, check.detail) for check in checks}


def sound(found: dict[str, tuple[str, str]]) -> bool:
    """All passes, but that sessions are as short as they are here."""
    return all(
        status == ("WARN" if name.endswith(".trials") else "PASS")
        for name, (status, _) in found.items()
    )


def test_a_sound_folder_passes(tmp_path: Path) -> None:
    found = run_checks(write_own(tmp_path / "own"))
    assert sound(found)
    assert found["sub-01.trials"][1] == (
        "fewer than 30 training trials, of which mean and spread are taken, in sessions with test "
        "trials: a (12), b (12); show more training pictures there, or leave these sessions out "
        "(2 sessions, 24 training pictures shown once, 6 test pictures shown 2 times)"
    )
    assert found["sub-02.betas"][1].startswith("2 sessions, median |beta| 0.7")


def test_notes_of_macos_and_windows_are_no_data(tmp_path: Path) -> None:
    """A companion beside each file, as macOS leaves them on other disks; a byte order mark."""
    own = write_own(tmp_path / "own")
    for path in [path for path in own.root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    own.rewrite("dataset.json", "\ufeff" + (own.root / "dataset.json").read_text())
    assert sound(run_checks(own))
    assert FolderPictures.open(own.root).stock.name(0) == "p00.png"


def test_copies_of_training_pictures_in_the_test_set_are_named(tmp_path: Path) -> None:
    """Of the same pixels, even of one colour and in other bytes, and of pixels almost the same."""
    own = write_own(tmp_path / "own")
    folder = own.root / "pictures"
    near = own.pictures[3] // 8 * 8
    Image.fromarray(near).save(folder / "p25.png")
    status, detail = run_checks(own)["duplicates"]
    assert status == "WARN" and detail.startswith("1 test and training pictures are almost the sa")
    assert "p25.png and p03.png" in detail
    Image.fromarray(near).save(folder / "p03.png", compress_level=0)
    for name in ("p07.png", "p29.png"):
        Image.new("RGB", (32, 32), (5, 5, 5)).save(folder / name)
    status, detail = run_checks(own)["duplicates"]
    assert status == "FAIL" and "\n" not in detail
    assert "2 test pictures have the pixels" in detail
    assert "p25.png is p03.png, p29.png is p07.png; give both one name" in detail


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    found = run_checks(write_own(tmp_path / "own", words=False))
    assert found["captions"][0] == found["labels"][0] == "SKIP"
    assert "captions are left out" in found["captions"][1]
    assert "categories are left out" in found["labels"][1]


def test_captions_that_many_pictures_share_are_a_warning(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    for n, status in ((29, "WARN"), (30, "PASS")):  # of 60
        rows = [f"{names()[i // 2]}\tcaption {i % n}" for i in range(60)]
        own.rewrite("captions.tsv", "\n".join(["picture\tcaption", *rows]) + "\n")
        found, detail = run_checks(own)["captions"]
        assert found == status
        assert detail.startswith("only 29 captions are distinct") == (status == "WARN")


def drop(name: str) -> Callable[[Own], None]:
    return lambda own: (own.root / name).unlink()


def edit(name: str, old: str, new: str) -> Callable[[Own], None]:
    def change(own: Own) -> None:
        text = (own.root / name).read_text()
        assert old in text
        own.rewrite(name, text.replace(old, new))

    return change


def save_betas(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Own], None]:
    def apply(own: Own) -> None:
        path = own.root / "betas" / "sub-01_a.npy"
        np.save(path, change(np.load(path)))

    return apply


def some_nan(betas: np.ndarray) -> np.ndarray:
    betas[2, 7] = np.nan
    return betas


FAULTS = {
    "dataset": [
        (drop("dataset.json"), "dataset.json does not exist"),
        (edit("dataset.json", '"licence"', '"license"'), "license is not a field"),
        (lambda own: own.describe(test=["p99.png"]), "'p99.png' is not in"),
    ],
    "trials": [
        (drop("trials.tsv"), "trials.tsv does not exist"),
        (edit("trials.tsv", "picture", "stimulus"), "has no column 'picture'"),
        (edit("trials.tsv", "sub-02", "sub-03"), "has no trial of subject 'sub-02'"),
        (edit("trials.tsv", "p03.png", "p3.png"), "picture 'p3.png' is not in"),
        (edit("trials.tsv", "\t", ","), "commas between its columns; write it with tabs"),
        (edit("trials.tsv", "sub-02\tb", "sub-02\t"), "session in line 56 is empty; fill it in"),
    ],
    "captions": [
        (
            edit("captions.tsv", "p07.png\t", "p08.png\t"),
            "no caption of 1 pictures that were shown, the first is p07.png",
        ),
        (edit("captions.tsv", "caption 1 of p01.png", " "), "caption in line 5 is empty"),
        (edit("captions.tsv", "p01.png\tcaption 1", "\tcaption 1"), "picture in line 5 is empty"),
    ],
    "labels": [
        (edit("labels.tsv", "p02.png\tcat", "p02.png\tn/a"), "label in line 4 is empty; fill it"),
    ],
    "sub-01.masks": [
        (drop("masks/sub-01.tsv"), "do not exist; write one of them"),
        (edit("masks/sub-01.tsv", "V1", "v1"), "'V1' is not in"),
        (edit("masks/sub-01.tsv", "\t1\n", "\t2\n"), "other values than 0 and 1"),
    ],
    "sub-01.betas": [
        (drop("betas/sub-01_b.npy"), "sub-01_b.npy and sub-01_b.h5"),
        (save_betas(lambda betas: betas[:-1]), r"has \(trials, voxels\) = \(17, 40\)"),
        (save_betas(lambda betas: betas[:, :-1]), r"say \(18, 40\)"),
        (save_betas(some_nan), "1 voxels are NaN or infinite in some trials, first in trial 3 of"),
        (save_betas(lambda betas: betas * 0), "has no signal in any"),
        (save_betas(lambda betas: betas[:, :, None]), "3 axes, rows have 2"),
    ],
}


@pytest.mark.parametrize(
    ("check", "place"), [(name, k) for name, faults in FAULTS.items() for k in range(len(faults))]
)
def test_faults_are_named_by_the_check_that_finds_them(
    tmp_path: Path, check: str, place: int
) -> None:
    damage, message = FAULTS[check][place]
    own = write_own(tmp_path / "own", "npy")
    damage(own)
    failed = {
        name: detail for name, (status, detail) in run_checks(own).items() if status == "FAIL"
    }
    said = " | ".join(failed.values())
    assert failed, "nothing was found"
    assert re.search(message, said), said
    assert "\n" not in said and "please report" not in said


def test_a_test_picture_that_one_subject_never_saw_is_a_warning(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", "npy")
    table = (own.root / "trials.tsv").read_text().splitlines()
    test = json.loads((own.root / "dataset.json").read_text())["test"]
    train = next(row.split("\t")[2] for row in table[1:] if row.split("\t")[2] not in test)
    gone = [row.replace(test[0], train) if row.startswith("sub-02\t") else row for row in table]
    own.rewrite("trials.tsv", "\n".join(gone) + "\n")
    found = run_checks(own)
    said = "1 test pictures of dataset.json were not shown to it"
    assert said not in found["sub-01.trials"][1] and said in found["sub-02.trials"][1]


def test_betas_whose_axes_are_not_those_of_the_masks_are_refused(tmp_path: Path) -> None:
    """Turned round by nibabel, as other software writes them: other voxels at the same mm."""
    own = write_own(tmp_path / "own")
    path = own.root / "betas" / "sub-01_b.nii.gz"
    stored = nib.load(path)
    # In memory, as the file is written over.
    image = nib.Nifti1Image(stored.get_fdata(dtype=np.float32), stored.affine)
    turned = image.as_reoriented([[0, -1], [1, 1], [2, 1]])
    assert turned.shape == image.shape
    nib.save(turned, path)
    status, detail = run_checks(own)["sub-01.betas"]
    assert status == "FAIL" and "\n" not in detail
    assert f"{path} has the affine [[-1.0, 0.0, 0.0, 4.0]" in detail
    assert "the masks [[1.0, 0.0, 0.0, 0.0]" in detail and "give it that affine if" in detail
    with pytest.raises(ValueError, match="its voxels may lie elsewhere; resample one"):
        extract(own, tmp_path / "out")
    image.affine[:3] += 1e-3  # what writing in float32 may cost
    nib.save(image, path)
    assert run_checks(own)["sub-01.betas"][0] == "PASS"


def test_masks_outside_of_what_was_measured_are_a_warning(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", "npy")
    for session in SESSIONS:
        path = own.root / "betas" / f"sub-01_{session}.npy"
        betas_TV = np.load(path)
        betas_TV[:, 4:7] = 0
        np.save(path, betas_TV)
    status, detail = run_checks(own)["sub-01.betas"]
    assert status == "WARN"
    assert detail.startswith("10% of voxel-sessions have no signal; look whether the masks lie")
    assert "8 voxel-sessions without signal" in detail


def test_an_outlier_is_named_where_it_stands(tmp_path: Path) -> None:
    """A test trial, as one of training is behind the spread itself."""
    own = write_own(tmp_path / "own", "npy")
    rows = own.table[(own.table.subject == "sub-01") & (own.table.session == "a")]
    trial = int(np.flatnonzero(rows["picture"].isin(names()[N_TRAIN:]))[1])
    for size, status in ((5, "PASS"), (100, "WARN"), (1e6, "WARN")):
        save_betas(lambda betas: _put(betas, trial, size))(own)  # noqa: B023
        found, detail = run_checks(own)["sub-01.betas"]
        assert found == status
        assert (f"in trial {trial + 1} of voxel 8; look whether" in detail) == (status == "WARN")
    with pytest.raises(ValueError, match="float16 holds up to 65504; mend that beta") as caught:
        extract(own, tmp_path / "out")
    assert f"sub-01: session 1: trial {trial + 1} of voxel 8 has the z-s" in str(caught.value)
    assert "\n" not in str(caught.value)


def _put(betas: np.ndarray, trial: int, size: float) -> np.ndarray:
    betas[trial, 7] = size
    return betas


def test_a_model_reads_the_files_of_its_own_folder(tmp_path: Path) -> None:
    """Integers of another scale than NSD's, by the statistics that its model keeps."""
    own = write_own(tmp_path / "own", "npy")
    own.describe(betas_scale=1000)
    files = []
    for session in SESSIONS:
        stored_TV = np.round(1000 * np.nan_to_num(own.betas["sub-01", session])).astype(np.int16)
        np.save(own.root / "betas" / f"sub-01_{session}.npy", stored_TV)
        files.append(np.delete(stored_TV, 3, axis=1))
    voxels = extract(own, tmp_path / "out").voxels("sub-01")
    inputs, _, _ = _select_voxels(voxels, "all", N_VOXELS - 1)
    session_N = np.repeat(SESSIONS, [len(stored_TV) for stored_TV in files])
    found_NV = normalise(np.concatenate(files), "stored", inputs, session_N)
    np.testing.assert_allclose(found_NV, z_scores(own, "sub-01"), atol=5e-3)
    with pytest.raises(
        ValueError, match=r"session 1 is not known; .* sessions a, b of its training"
    ):
        normalise(files[0], "stored", inputs, 1)
    # The files have a voxel more, which has no signal.
    assert inputs["n_mask_rows_1"] == N_VOXELS
    assert inputs["mask_row_V"].tolist() == np.delete(np.arange(N_VOXELS), 3).tolist()


def test_a_model_knows_where_the_volumes_of_its_folder_lie(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    voxels = extract(own, tmp_path / "out").voxels("sub-01")
    inputs, _, _ = _select_voxels(voxels, "all", N_VOXELS - 1)
    mask = nib.load(next((own.root / "masks/sub-01").rglob("*.nii.gz")))
    assert tuple(inputs["grid_3"]) == mask.shape
    np.testing.assert_allclose(inputs["affine_44"], mask.affine)
    # And keeps it in its folder, where `fmri2clip decode` reads it.
    save_subject(tmp_path / "model", inputs, {})
    kept = read_inputs(tmp_path / "model")
    assert set(kept) == set(inputs)
    assert all(np.array_equal(kept[name], inputs[name]) for name in kept)
    assert list_sessions(kept) == list(SESSIONS)


def test_trials_without_a_picture_are_passed_over(tmp_path: Path) -> None:
    """With their betas, whatever these are; all else stays as it was."""
    own = write_own(tmp_path / "own", "npy")
    whole = FolderRecordings.open(own.root, "sub-01")
    before_TV = whole.read(1, whole.rois(GROUPS))
    ids = whole.trials().nsd_id_N
    lines = (own.root / "trials.tsv").read_text().splitlines()
    lines[3:3] = ["sub-01\ta\tn/a", "sub-01\ta\t"]  # before the third trial
    own.rewrite("trials.tsv", "\n".join(lines) + "\n")
    save_betas(lambda betas: np.insert(betas, [2, 2], np.nan, axis=0))(own)
    found = run_checks(own)
    assert sound(found)
    assert found["trials"][1].startswith("74 trials of 2 subjects, 2 without a picture, which are")
    recordings = FolderRecordings.open(own.root, "sub-01")
    assert np.array_equal(recordings.read(1, recordings.rois(GROUPS)), before_TV)
    assert np.array_equal(recordings.trials().nsd_id_N, ids)
    assert FolderPictures.open(own.root).seen(SUBJECTS)["train"].tolist() == list(range(N_TRAIN))
    save_betas(lambda betas: _put(betas, 6, np.nan))(own)
    assert "first in trial 7 of the session" in run_checks(own)["sub-01.betas"][1]


def test_a_repetition_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """Counted anew in each session, the trials of a test picture would be the first of it twice."""
    own = write_own(tmp_path / "own", "npy")
    by_session = own.table.groupby(["subject", "session", "picture"]).cumcount() + 1
    own.table.assign(repetition=by_session).to_csv(own.root / "trials.tsv", sep="\t", index=False)
    status, detail = run_checks(own)["sub-02.trials"]
    assert status == "FAIL" and "\n" not in detail
    assert re.search(r"picture 'p2\d.png' of sub-02 has repetition 1 twice; count", detail)
    over_all = own.table.groupby(["subject", "picture"]).cumcount() + 1
    own.table.assign(repetition=over_all).to_csv(own.root / "trials.tsv", sep="\t", index=False)
    assert sound(run_checks(own))


def test_a_session_without_training_pictures_is_refused(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", "npy")
    own.describe(test=[*names()[12:], *names()[:1]])
    assert "session b of sub-01 has 0 training trials" in run_checks(own)["sub-01.trials"][1]
    with pytest.raises(ValueError, match="session 2 has 0 training trials"):
        extract(own, tmp_path / "out")
    paths = extract(own, tmp_path / "out", stats="all_trials")
    assert len(read_betas(paths.test_betas("sub-01"))["trial_N"]) == 25


@pytest.mark.parametrize(("n", "status"), [(9, "FAIL"), (10, "WARN"), (29, "WARN"), (30, "PASS")])
def test_a_session_with_test_trials_needs_training_trials(
    tmp_path: Path, n: int, status: str
) -> None:
    """n training trials beside the test trials of a session; one without these needs two."""
    own = write_own(tmp_path / "own", "npy")
    train, test = names()[:N_TRAIN], names()[N_TRAIN:]
    rows = [f"sub-01\ta\t{name}" for name in [*test, *(train * 2)[:n]]]
    rows += [f"sub-01\tb\t{name}" for name in train[:2]]
    own.rewrite("trials.tsv", "\n".join(["subject\tsession\tpicture", *rows]) + "\n")
    found, detail = run_checks(own)["sub-01.trials"]
    assert found == status and "\n" not in detail
    if status == "FAIL":
        assert "session a of sub-01 has 9 training trials" in detail
        assert "or leave the session out" in detail


def test_the_digest_follows_every_file(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own")
    before = digest_folder(own.root)
    edit("captions.tsv", "caption 0 of p07", "caption 0 of p08")(own)
    assert digest_folder(own.root) != before


def test_a_text_that_hdf5_reads_for_ever_is_refused(tmp_path: Path) -> None:
    """The library of HDF5 goes round in a heap whose first object has no size."""
    path = tmp_path / "betas.h5"
    with h5py.File(path, "w") as file:
        file["betas"] = np.zeros((3, 4), np.float32)
        file.attrs["subject"] = "subj01"
    volumes.check_ends(path)
    content = bytearray(path.read_bytes())
    size = content.index(b"GCOL") + 24  # behind the heap's header, and number and count of users
    assert content[size : size + 8] == (6).to_bytes(8, "little")
    content[size : size + 8] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read as HDF5 in 2 s, so it is damaged"):
        volumes.check_ends(path, limit_s=2)
