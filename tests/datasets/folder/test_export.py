"""The simulated NSD as a folder: the same ROI arrays and targets come out of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN
from fmri2clip.core.params import Clip, Dataset, Download, Labels, Norm
from fmri2clip.datasets.folder.write import export, new_folder
from fmri2clip.datasets.pictures import open_pictures
from fmri2clip.datasets.recordings import open_recordings
from fmri2clip.stages.cache_clip.cache import cache_clip
from fmri2clip.stages.cache_stimuli.cache import cache_stimuli
from fmri2clip.stages.extract_rois.extract import extract_subject
from tests import nsd_world

SUBJECTS = ("subj01", "subj05")
ROIS = {
    "low": ["prf-visualrois"],
    "high": ["floc-faces or (streams/ventral and not prf-visualrois)"],
    "all": ["nsdgeneral"],
}
SIMULATED = Dataset(preparation=nsd_world.PREPARATION)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated tree in `nsd` and its export in `own`."""
    base = tmp_path_factory.mktemp("world")
    tree = base / "nsd"
    nsd_world.write_tree(tree, SUBJECTS, "hdf5")
    recordings = {s: open_recordings(tree, s, SIMULATED, Download()) for s in SUBJECTS}
    pictures = open_pictures(tree, SIMULATED, Labels())
    export(base / "own", recordings, pictures, ROIS, name="mini", licence="mit")
    return base


def datasets(base: Path) -> dict[str, Dataset]:
    return {
        "nsd": SIMULATED,
        "own": replace(SIMULATED, source="folder", folder=str(base / "own"), preparation="none"),
    }


def differing(one: Path, other: Path) -> set[str]:
    """Arrays and attributes that two HDF5 files do not share to the byte."""
    with h5py.File(one) as a, h5py.File(other) as b:
        names = set(a) | set(b)
        found = {
            n for n in names if n not in a or n not in b or a[n][()].tobytes() != b[n][()].tobytes()
        }
        return found | ({"attrs"} if dict(a.attrs) != dict(b.attrs) else set())


def test_roi_arrays_are_equal(world: Path, tmp_path: Path) -> None:
    for name, dataset in datasets(world).items():
        for subject in SUBJECTS:
            extract_subject(
                Paths(tmp_path / name, nsd=world / "nsd"),
                subject,
                recordings=open_recordings(world / "nsd", subject, dataset, Download()),
                rois=ROIS,
                norm=Norm(),
                workers=1,
                resume_root=tmp_path / "resume",
            )
    for subject in SUBJECTS:
        one, other = (Paths(tmp_path / name) for name in ("nsd", "own"))
        assert one.train_betas(subject).read_bytes() == other.train_betas(subject).read_bytes()
        assert differing(one.voxels(subject), other.voxels(subject)) == {"attrs", "mask_row_V"}
        with h5py.File(one.voxels(subject)) as a, h5py.File(other.voxels(subject)) as b:
            assert {name: b.attrs[name] for name in a.attrs} == dict(a.attrs)
            assert b.attrs["betas_scale"] == 300
            assert json.loads(b.attrs["session_labels"]) == [
                f"{label:02d}" for label in range(1, a.attrs["sessions"] + 1)
            ]
        assert differing(one.test_betas(subject), other.test_betas(subject)) == {
            "noise_free_IV",
            "noise_free_nsd_id_I",
        }
        with h5py.File(other.noise_free(subject)) as file:
            assert not len(file["nsd_id_I"])


def test_pictures_and_what_is_known_of_them_are_equal(world: Path, tmp_path: Path) -> None:
    for name, dataset in datasets(world).items():
        paths = Paths(tmp_path / name, nsd=world / "nsd")
        cache_stimuli(paths, SUBJECTS, dataset, Labels())
    for part in (TRAIN, TEST):
        one, other = (Paths(tmp_path / name).stimuli(part) for name in ("nsd", "own"))
        assert differing(one, other) == {"largest_I3", "name_I"}


def test_targets_are_equal(world: Path, root: Path, tmp_path: Path) -> None:
    clip = Clip(
        model="fmri2clip-mini",
        config=str(root / "assets/mini/clip/fmri2clip-mini.json"),
        pretrained=str(root / "assets/mini/clip/model.safetensors"),
        tokens=True,
        detail_layers=(3,),
    )
    for name, dataset in datasets(world).items():
        cache_clip(
            Paths(tmp_path / name, nsd=world / "nsd"),
            "mini",
            clip,
            SUBJECTS[:1],
            dataset,
            Labels(),
            resume_root=tmp_path / name / "resume",
        )
    one, other = (Paths(tmp_path / name) for name in ("nsd", "own"))
    assert not differing(one.clip_train("mini", "subj01"), other.clip_train("mini", "subj01"))
    assert not differing(one.clip_shared("mini"), other.clip_shared("mini"))


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), new_folder(out):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with new_folder(out) as part:
        np.save(part / "x.npy", np.zeros(1))
    with pytest.raises(ValueError, match="exists; name a folder that does not"), new_folder(out):
        pass
