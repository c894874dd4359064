"""The simulated tree: format, faults, determinism; with a stand-in for the renderer and the
cortex.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import label as components

from fmri2clip.core.params import World
from fmri2clip.datasets.mini import write
from fmri2clip.datasets.mini.design import make_design
from fmri2clip.datasets.mini.pictures.scene import Instance, Scene
from fmri2clip.datasets.mini.sessions import NoiseCeiling
from fmri2clip.datasets.mini.volume import make_volume
from fmri2clip.datasets.mini.write import write_stimuli, write_subject
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.transfer.parts import content_path, log_path

WORLD = World(seed=5, n_sessions=2, n_shared=40, image_size=8)
SUBJECT, PREPARATION = "subj07", "betas_fithrf_GLMdenoise_RR"


def fake_render(seed, indices, image_size, captions, threads):
    return [_fake_scene(seed, i, image_size) for i in indices]


def _fake_scene(seed: int, index: int, image_size: int) -> Scene:
    image = (
        np.random.default_rng((seed, index))
        .integers(1, 255, (image_size, image_size, 3))
        .astype(np.uint8)
    )
    instance = Instance(
        category="dog",
        category_id=18,
        colour="red",
        texture="plain",
        view="",
        pose="",
        form="",
        bbox=(200.0, 100.0, 80.0, 60.0),
        segmentation=[[200.0, 100.0, 280.0, 100.0, 280.0, 160.0]],
        area=2400.0,
        centre=(0.4, 0.3),
    )
    return Scene(
        image=image,
        width=640,
        height=480,
        crop_box=(0.0, 0.0, 0.125, 0.125),
        background="field",
        instances=[] if index % 30 == 0 else [instance],
        captions=[f"a dog {k}" for k in range(5 + (index % 50 == 0))],
        n_faces=0,
        n_words=0,
    )


@dataclass
class FakeCortex:
    """Signal and noise of known strength in every voxel of the brain mask."""

    signal_IV: np.ndarray
    image_N: np.ndarray
    inside_V: np.ndarray
    noise: float = 2.0

    @property
    def noise_free_IV(self) -> np.ndarray:
        return self.signal_IV[:, self.inside_V]

    def sessions(self):
        rng = np.random.default_rng(11)
        for image_T in self.image_N.reshape(-1, 750):
            noise = rng.standard_normal((750, self.signal_IV.shape[1]), dtype=np.float32)
            yield self.signal_IV[image_T] + self.noise * noise


def fake_simulate(images_IHWC, image_index_N, volume, world, subject):
    n_voxels = int(volume.brainmask.sum())
    strength = np.linspace(0, 2, n_voxels, dtype=np.float32)
    signal = (
        np.random.default_rng(10).standard_normal((len(images_IHWC), n_voxels), dtype=np.float32)
        * strength
    )
    return FakeCortex(signal, image_index_N, volume.nsdgeneral[volume.brainmask])


def write_tree(root: Path, world: World = WORLD, container: str = "both") -> None:
    write_stimuli(root, world, [SUBJECT], render=fake_render)
    write_subject(
        root, world, SUBJECT, PREPARATION, container, render=fake_render, simulate=fake_simulate
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("nsd")
    write_tree(root)
    return root


def read_betas(root: Path, session: int) -> np.ndarray:
    with h5py.File(layout.betas_path(root, SUBJECT, PREPARATION, session)) as file:
        return file["betas"][...].transpose(3, 2, 1, 0)  # X, Y, Z, trials


def test_betas_have_the_layout_of_the_release(tree: Path) -> None:
    volume = make_volume(SUBJECT, WORLD.seed)
    with h5py.File(layout.betas_path(tree, SUBJECT, PREPARATION, 1)) as file:
        data = file["betas"]
        assert data.shape == (750, *volume.shape[::-1]) and data.dtype == np.dtype("<i2")
        assert data.chunks == (750, 1, 1, 1) and data.compression is None
    stored = read_betas(tree, 1)
    assert not stored[~volume.brainmask].any()
    assert stored.min() == -32768 and stored.max() == 32767


def test_stored_integers_are_300_times_the_response(tree: Path) -> None:
    volume = make_volume(SUBJECT, WORLD.seed)
    design = make_design(WORLD.seed, WORLD.n_sessions, WORLD.n_shared)
    ids = design.nsd_ids((SUBJECT,))
    cortex = fake_simulate(
        ids, np.searchsorted(ids, design.nsd_id_N(SUBJECT)), volume, WORLD, SUBJECT
    )
    for session, psc_TV in enumerate(cortex.sessions(), start=1):
        stored_TV = read_betas(tree, session)[volume.brainmask].T
        plain_V = stored_TV.any(axis=0) & (np.abs(stored_TV).max(axis=0) < 32000)
        assert plain_V.mean() > 0.97
        assert np.array_equal(stored_TV[:, plain_V], np.round(psc_TV * 300)[:, plain_V])


def test_nifti_holds_the_same_and_has_the_header_of_the_release(tree: Path) -> None:
    image = nib.load(layout.betas_path(tree, SUBJECT, PREPARATION, 2, ".nii.gz"))
    assert np.array_equal(image.dataobj.get_unscaled(), read_betas(tree, 2))
    header = image.header
    assert (
        header.get_data_dtype() == np.int16
        and header["xyzt_units"] == 0
        and header["pixdim"][4] == np.float32(4 / 3)
    )
    assert header["qform_code"] == 0 and header["sform_code"] == 1
    raw = nib.openers.Opener(layout.betas_path(tree, SUBJECT, PREPARATION, 2, ".nii.gz")).read(348)
    assert raw[112:120] == bytes(8)
    x, y, z = image.shape[:3]
    assert np.allclose(image.affine[:3, 3], [(1 - (n + 1) / 2) * 1.8 for n in (x, y, z)])


def test_valid_masks_mark_the_voxels_without_signal(tree: Path) -> None:
    brain = nib.load(layout.brainmask_path(tree, SUBJECT)).get_fdata() > 0
    masks = [nib.load(layout.valid_path(tree, SUBJECT, session)).get_fdata() for session in (1, 2)]
    for session, mask in enumerate(masks, start=1):
        assert (
            np.array_equal(mask > 0, read_betas(tree, session).any(axis=-1))
            and not mask[~brain].any()
        )
    valid = nib.load(layout.valid_path(tree, SUBJECT)).get_fdata()
    assert np.allclose(valid, np.mean(masks, axis=0))
    assert set(np.unique(valid[brain])) == {0.0, 0.5, 1.0}  # dead, partly missing, there


def test_ncsnr_recovers_the_planted_ratio(tree: Path) -> None:
    volume = make_volume(SUBJECT, WORLD.seed)
    ncsnr = nib.load(layout.ncsnr_path(tree, SUBJECT, PREPARATION)).get_fdata()
    assert np.isnan(ncsnr[~volume.brainmask]).all()
    planted, found = np.linspace(0, 1, volume.brainmask.sum()), ncsnr[volume.brainmask]
    usable = np.isfinite(found) & (planted > 0.4)
    assert np.median(np.abs(found - planted)[usable]) < 0.06


def test_noise_ceiling_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    image_ST = np.stack([rng.permutation(np.repeat(np.arange(5), 3)) for _ in range(2)]) + np.array(
        [[0], [5]]
    )
    betas = rng.normal(3, 2, (2, 15, 4)) + rng.normal(size=(10, 4))[image_ST]
    ceiling = NoiseCeiling(10, 4)
    z = []
    for session in range(2):
        ceiling.add(betas[session], image_ST[session])
        z.append((betas[session] - betas[session].mean(0)) / betas[session].std(0, ddof=1))
    z, image = np.concatenate(z), image_ST.ravel()
    noise = np.mean([z[image == i].var(0, ddof=1) for i in range(10)], axis=0)
    assert np.allclose(ceiling.ncsnr_V(), np.sqrt(np.maximum(0, 1 - noise) / noise), atol=1e-4)


def test_roi_volumes(tree: Path) -> None:
    for roi, labels in layout.ROI_LABELS.items():
        image = nib.load(layout.roi_path(tree, SUBJECT, roi))
        assert image.get_data_dtype() == np.float64
        merged = image.get_fdata()
        left, right = (
            nib.load(layout.roi_path(tree, SUBJECT, roi, h)).get_fdata() for h in ("lh", "rh")
        )
        assert (
            np.array_equal(merged, np.where(left == -1, right, left))
            and not ((left > -1) & (right > -1)).any()
        )
        assert set(np.unique(merged)) <= set(range(-1, len(labels) + 1))
        lines = layout.ctab_path(tree, SUBJECT, roi).read_text().splitlines()
        assert lines[0] == "0 Unknown" and [
            line.split(maxsplit=1)[1] for line in lines[1:]
        ] == list(labels)
    words = nib.load(layout.roi_path(tree, SUBJECT, "floc-words")).get_fdata()
    assert not (words == 5).any() and (words == 4).any()  # mTL-words is empty in subj07


@pytest.mark.parametrize("subject", layout.SUBJECTS)
def test_geometry_of_every_subject(subject: str) -> None:
    volume = make_volume(subject, world_seed=2)
    general = volume.nsdgeneral
    assert general.sum() == round(layout.NSDGENERAL_VOXELS[layout.subject_number(subject) - 1] / 9)
    assert not (general & ~volume.ribbon).any() and not (volume.ribbon & ~volume.brainmask).any()
    assert 0.43 < volume.brainmask.mean() < 0.47
    visual = volume.member("prf-visualrois")
    category = np.any(
        [volume.member(f"floc-{kind}") for kind in ("faces", "words", "places", "bodies")], axis=0
    )
    assert 0.22 < (visual & general).sum() / general.sum() < 0.36
    assert 0.28 < (category & general).sum() / general.sum() < 0.52 and (category & ~general).any()
    for roi in ("prf-visualrois", "floc-faces", "floc-places", "Kastner2015"):
        for name in layout.ROI_LABELS[roi]:
            for side in (volume.lh, ~volume.lh):
                assert components(volume.member(roi, name) & side, np.ones((3, 3, 3)))[1] == 1, name


def test_pictures_annotations_and_behaviour(tree: Path) -> None:
    design = make_design(WORLD.seed, WORLD.n_sessions, WORLD.n_shared)
    ids = design.nsd_ids((SUBJECT,))
    with h5py.File(layout.stimuli_path(tree)) as file:
        brick = file["imgBrick"]
        assert brick.shape == (design.n_images, 8, 8, 3) and brick.chunks == (1, 8, 8, 3)
        assert np.array_equal(np.flatnonzero(brick[...].any(axis=(1, 2, 3))), ids)
        assert np.array_equal(brick[ids[7]], _fake_scene(WORLD.seed, int(ids[7]), 8).image)
    table = pd.read_csv(layout.stim_info_path(tree), index_col=0)
    n_images = 0
    for split in layout.COCO_SPLITS:
        instances = json.loads(layout.instances_path(tree, split).read_text())
        assert len(instances["categories"]) == 80 and instances["categories"][-1]["id"] == 90
        assert {i["id"] for i in instances["images"]} == set(
            table["cocoId"][ids][table["cocoSplit"][ids] == split]
        )
        n_images += len(instances["images"])
    assert n_images == ids.size
    answers = pd.read_csv(layout.responses_path(tree, SUBJECT), sep="\t")
    assert tuple(answers.columns) == layout.RESPONSE_COLUMNS
    assert np.array_equal(answers["73KID"] - 1, design.nsd_id_N(SUBJECT))
    assert answers["ISOLD"].sum() == len(answers) - 500 and set(answers["BUTTON"].dropna()) == {
        1,
        2,
    }


def test_noise_free_file(tree: Path) -> None:
    volume = make_volume(SUBJECT, WORLD.seed)
    with h5py.File(layout.noise_free_path(tree, SUBJECT, PREPARATION)) as file:
        assert (
            np.array_equal(file["ijk"][...], np.argwhere(volume.nsdgeneral))
            and file["ijk"].dtype == np.int16
        )
        assert (
            file["betas"].shape == (500, volume.nsdgeneral.sum())
            and file["betas"].dtype == np.float32
        )
        assert (np.diff(file["nsd_id"][...]) > 0).all()


def test_same_world_same_bytes_and_leftovers_go(tree: Path, tmp_path: Path) -> None:
    longer = World(seed=5, n_sessions=3, n_shared=40, image_size=8)
    write_tree(tmp_path, longer)
    write_tree(tmp_path)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    )
    for path in files:
        assert (tree / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_a_mask_of_the_users_own_survives_another_world(tmp_path: Path) -> None:
    """`rois` names it as file:mine; NSD's own names are the simulation's to remove."""
    write_tree(tmp_path)
    mine = layout.roi_path(tmp_path, SUBJECT, "mine")
    left_over = layout.roi_path(tmp_path, SUBJECT, "HCP_MMP1")
    for path in (mine, left_over):
        path.write_bytes(b"mask")
    write_tree(tmp_path)
    assert mine.read_bytes() == b"mask" and not left_over.exists()


def test_a_failure_leaves_no_half_file(tmp_path: Path) -> None:
    def broken(*args: object, **options: object) -> list[Scene]:
        raise RuntimeError("renderer stopped")

    with pytest.raises(RuntimeError, match="renderer stopped"):
        write_stimuli(tmp_path, WORLD, [SUBJECT], render=broken)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_real_files_are_not_overwritten(tmp_path: Path) -> None:
    path = layout.betas_path(tmp_path, SUBJECT, PREPARATION, 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"real")
    with pytest.raises(ValueError, match=r"were not simulated; move .* away"):
        write_subject(
            tmp_path, WORLD, SUBJECT, PREPARATION, render=fake_render, simulate=fake_simulate
        )
    assert path.read_bytes() == b"real"
    layout.stimuli_path(tmp_path).parent.mkdir(parents=True)
    with h5py.File(layout.stimuli_path(tmp_path), "w") as file:
        file.create_dataset(
            "imgBrick", shape=(10, 425, 425, 3), dtype="u1", chunks=(1, 425, 425, 3)
        )
    with pytest.raises(ValueError, match="pictures of NSD itself"):
        write_stimuli(tmp_path, WORLD, [SUBJECT], render=fake_render)


def test_a_download_that_was_interrupted_is_not_removed(tmp_path: Path) -> None:
    """Nor what a bucket has given, where no file tells it from a simulated one."""
    for path in (
        layout.stimuli_path(tmp_path),
        layout.betas_path(tmp_path, SUBJECT, PREPARATION, 1),
    ):
        content_path(path).parent.mkdir(parents=True)
        content_path(path).write_bytes(b"half")
        log_path(path).write_text("{}")
    with pytest.raises(ValueError, match=r"nsd_stimuli.hdf5.part of a download; move .* away"):
        write_stimuli(tmp_path, WORLD, [SUBJECT], render=fake_render)

    def simulate() -> None:
        write_subject(
            tmp_path, WORLD, SUBJECT, PREPARATION, render=fake_render, simulate=fake_simulate
        )

    with pytest.raises(ValueError, match=r"session01.hdf5.part of a download"):
        simulate()
    halves = [path for path in tmp_path.rglob("*.part") if path.read_bytes() == b"half"]
    assert len(halves) == 2
    for half in halves:
        half.with_name(f"{half.name}.log").unlink()
        half.unlink()
    entry = manifest.Entry(key="nsddata_betas/ppdata/x", bytes=3, etag="ab", local=False)
    manifest.write(layout.manifest_path(tmp_path, SUBJECT), [entry])
    with pytest.raises(ValueError, match="holds files that were downloaded"):
        simulate()


def test_pictures_of_its_own_that_are_damaged_are_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are as large as the release's are not taken for our own."""
    path = layout.stimuli_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2048))
    write_stimuli(tmp_path, WORLD, [SUBJECT], render=fake_render)
    with h5py.File(path, "r") as file:
        assert file["imgBrick"].shape[1] == WORLD.image_size
    path.write_bytes(bytes(2048))
    monkeypatch.setattr(write, "RELEASE_BYTES", 2048)
    with pytest.raises(ValueError, match=r"nsd_stimuli.hdf5 cannot be read as HDF5 .*; move it"):
        write_stimuli(tmp_path, WORLD, [SUBJECT], render=fake_render)
    assert path.read_bytes() == bytes(2048)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="preparation 'b3' is not in NSD; choose from betas_assumehrf"
    ):
        write_subject(tmp_path, WORLD, SUBJECT, "b3")
    with pytest.raises(ValueError, match="container 'mat' is not known"):
        write_subject(tmp_path, WORLD, SUBJECT, PREPARATION, "mat")
    with pytest.raises(ValueError, match="subj09"):
        write_stimuli(tmp_path, WORLD, ["subj09"], render=fake_render)
