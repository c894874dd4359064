"""Every verdict holds on a simulated tree, and each kind of damage makes exactly the right one fail."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from fmri2clip.datasets.mini.scenes import Instance, Scene
from fmri2clip.datasets.mini.write import write_stimuli, write_subject
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.check import check_published_design, check_tree
from fmri2clip.datasets.nsd.check_subject import CHECKS, compute_ncsnr
from fmri2clip.params import Dataset, World

WORLD = World(seed=3, n_sessions=2, n_shared=30, image_size=8)
SUBJECT = "subj05"
DATASET = Dataset(sessions="released")


def render(seed, indices, image_size, captions, threads):
    image = np.full((image_size, image_size, 3), 9, dtype=np.uint8)
    thing = Instance(
        category="dog", category_id=18, colour="red", bbox=(200.0, 100.0, 80.0, 60.0),
        segmentation=[[200.0, 100.0, 280.0, 100.0, 280.0, 160.0]], area=2400.0, centre=(0.4, 0.3),
    )  # fmt: skip
    scene = Scene(
        image=image, width=640, height=480, crop_box=(0.0, 0.0, 0.25, 0.0), background="field", instances=[thing],
        captions=[f"caption {k}" for k in range(5)],
    )  # fmt: skip
    return [scene] * len(indices)


@dataclass
class Cortex:
    """Voxels with a signal that grows along the brain mask."""

    signal_IV: np.ndarray
    image_N: np.ndarray
    noise_free_IV: np.ndarray

    def sessions(self):
        rng = np.random.default_rng(1)
        for image_T in self.image_N.reshape(-1, 750):
            yield self.signal_IV[image_T] + rng.standard_normal((750, self.signal_IV.shape[1]), dtype=np.float32)


def simulate(images_IHWC, image_index_N, volume, world, subject):
    strength = np.linspace(0.1, 1, int(volume.brainmask.sum()), dtype=np.float32)
    rng = np.random.default_rng(2)
    signal = rng.standard_normal((len(images_IHWC), strength.size), dtype=np.float32) * rng.permutation(strength)
    return Cortex(signal, image_index_N, signal[:, volume.nsdgeneral[volume.brainmask]])


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("intact")
    write_stimuli(root, WORLD, [SUBJECT], render=render)
    write_subject(root, WORLD, SUBJECT, DATASET.preparation, "both", render=render, simulate=simulate)
    return root


@pytest.fixture
def tree(intact: Path, tmp_path: Path) -> Path:
    shutil.copytree(intact, tmp_path / "nsd")
    return tmp_path / "nsd"


def failures(root: Path, dataset: Dataset = DATASET) -> dict[str, str]:
    return {check.name: check.detail for check in check_tree(root, [SUBJECT], dataset) if not check.passed}


def test_a_simulated_tree_passes_everything(intact: Path) -> None:
    checks = check_tree(intact, [SUBJECT], DATASET)
    assert [check.name for check in checks] == [
        "design.tables", "stimuli.pictures", "stimuli.table", "coco",
        *(f"{SUBJECT}.{name}" for name in
          ("responses", "grid", "rois", "nsdgeneral", "first_session", "containers", "betas")),
    ]  # fmt: skip
    assert [check for check in checks if not check.passed] == []
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
    assert [check for check in checks if check.passed or "does not exist" not in check.detail] == []


def _edit_betas(root: Path, edit: Callable[[np.ndarray], np.ndarray], session: int = 2) -> None:
    with h5py.File(layout.betas_path(root, SUBJECT, DATASET.preparation, session), "r+") as file:
        file["betas"][...] = edit(file["betas"][...])


def _edit_nifti(path: Path, edit: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift
    values = edit(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(values, affine), path)


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
    "no captions": (lambda r: layout.captions_path(r, "train2017").unlink(), {"coco"}, "does not exist"),
    "design unreadable": (
        lambda r: layout.expdesign_path(r).write_bytes(b"MATLAB"),
        {"design.tables", "stimuli.pictures", "stimuli.table", "coco", *CHECKS}, "MATLAB 5"),
    "ROI file gone": (lambda r: layout.roi_path(r, SUBJECT, "streams").unlink(), {"rois"}, "streams.nii.gz"),
    "ROI label too large": (
        lambda r: _edit_roi(r, "floc-places", lambda v: np.where(v == 3, 4, v)), {"rois"}, "1 to 3"),
    "ROI stored as integers": (lambda r: _edit_roi(r, "streams", lambda v: v.astype(np.int16)), {"rois"}, "int16"),
    "ROI not merged": (
        lambda r: _edit_roi(r, "streams", lambda v: np.where(v == 5, 6, v)), {"rois"}, "put together"),
    "grid moved": (
        lambda r: _edit_nifti(layout.valid_path(r, SUBJECT, 1), lambda v: v, shift=1.8), {"grid"}, "affine"),
    "session gone": (
        lambda r: [layout.betas_path(r, SUBJECT, DATASET.preparation, 2, s).unlink() for s in (".hdf5", ".nii.gz")],
        {"betas"}, "download session 2"),
    "containers differ": (
        lambda r: _edit_betas(r, lambda stored: np.roll(stored, 1, axis=0)), {"containers", "betas"}, "differ"),
    "scaled twice": (_damage_scale, {"first_session", "betas"}, "saturated"),
    "signal outside the brain": (
        lambda r: _edit_betas(r, lambda stored: np.where(stored == 0, 1, stored).astype("<i2"), 1),
        {"first_session", "containers", "betas"}, "outside the brain mask"),
    "ncsnr of another subject": (
        lambda r: _edit_nifti(layout.ncsnr_path(r, SUBJECT, DATASET.preparation), lambda v: v[::-1]),
        {"betas"}, "ncsnr"),
}  # fmt: skip


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
    assert np.allclose(compute_ncsnr(z_NV, nsd_id_N), expected, atol=1e-5)
