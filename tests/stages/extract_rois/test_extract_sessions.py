"""Reading a subject's sessions: resumed after a failure, in parallel, from either container, as
many as there are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io

from fmri2clip.artefacts.trials import read_betas, read_voxels
from fmri2clip.core.params import Dataset, Norm
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.recordings import NsdRecordings
from fmri2clip.stages.extract_rois import blocks, extract, ncsnr
from tests import nsd_world
from tests.stages.extract_rois.extract_world import PREP, Outputs, Source, Tree, list_outputs, run


def _digests(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in list_outputs(folder).items()
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("nsd"))


@pytest.fixture(scope="module")
def expected(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _digests(run(tree, tmp_path_factory.mktemp("rois")))


def _fail(tree: Tree, folder: Path, failing: int, **changes: Any) -> Source:
    source = Source(tree.root, failing=(failing,))
    with pytest.raises(ValueError, match=f"^session {failing} fails$"):
        run(tree, folder, source=source, resume_root=folder / "resume", **changes)
    assert not any(path.exists() for path in list_outputs(folder).values()) and not source.closed
    return source


def test_finished_sessions_are_not_read_again(
    tree: Tree, expected: dict[str, str], tmp_path: Path
) -> None:
    assert _fail(tree, tmp_path, 2).opened == [1, 2]
    second = Source(tree.root)
    run(tree, tmp_path, source=second, resume_root=tmp_path / "resume")
    assert second.opened == [2] and second.closed == 1
    assert _digests(tmp_path) == expected
    assert not list((tmp_path / "resume" / "extract_rois").iterdir())


def test_a_kill_while_writing_a_block_loses_that_session_only(
    tree: Tree, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_in_session_2(temporary: Path, final: Path) -> None:
        if final.name == "session02.npy":
            raise KeyboardInterrupt
        shutil.move(temporary, final)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(blocks.os, "replace", kill_in_session_2)
        run(tree, tmp_path, resume_root=tmp_path / "resume")
    second = Source(tree.root)
    run(tree, tmp_path, source=second, resume_root=tmp_path / "resume")
    assert second.opened == [2] and _digests(tmp_path) == expected


@pytest.mark.parametrize("change", ["statistics", "file", "mask"])
def test_a_changed_input_starts_anew(tmp_path: Path, change: str) -> None:
    tree = Tree(tmp_path / "nsd")
    _fail(tree, tmp_path, 2)
    if change == "file":
        path = layout.betas_path(tree.root, "subj01", PREP, 1)
        os.utime(path, ns=(1, 1))
    if change == "mask":
        path = layout.roi_path(tree.root, "subj01", "nsdgeneral")
        tree.mask[tuple(np.argwhere(tree.mask)[0])] = False
        tree.save(path, tree.mask)
    second = Source(tree.root)
    stats = "all_trials" if change == "statistics" else "train_only"
    run(tree, tmp_path, stats, source=second, resume_root=tmp_path / "resume")
    assert second.opened == [1, 2]
    assert not list((tmp_path / "resume" / "extract_rois").iterdir()), (
        "nothing leads to the old folder any more"
    )


def test_blocks_that_other_code_read_are_not_taken_up(
    tree: Tree, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(tree, tmp_path, 2)
    read = Path.read_bytes

    def edited(path: Path) -> bytes:
        return read(path) + (b"# edited" if path.match("nsd/voxels/betas.py") else b"")

    monkeypatch.setattr(Path, "read_bytes", edited)
    second = Source(tree.root)
    run(tree, tmp_path, source=second, resume_root=tmp_path / "resume")
    monkeypatch.undo()
    assert second.opened == [1, 2] and _digests(tmp_path) == expected


@pytest.mark.parametrize("workers", [2, 5])
def test_parallel_reading_changes_nothing(
    tree: Tree, expected: dict[str, str], tmp_path: Path, workers: int
) -> None:
    source = Source(tree.root)
    run(tree, tmp_path, source=source, workers=workers)
    assert sorted(source.opened) == [1, 2] and _digests(tmp_path) == expected


def test_an_error_of_a_parallel_reader_arrives_unchanged(tree: Tree, tmp_path: Path) -> None:
    _fail(tree, tmp_path, 1, workers=2)
    with pytest.raises(ValueError, match=r"^session 2 fails$"):
        run(
            tree,
            tmp_path,
            source=Source(tree.root, failing=(2,)),
            workers=2,
            resume_root=tmp_path / "resume",
        )


class Stream(Source):
    """Sessions that are there one at a time."""

    def __init__(self, root: Path, scratch: Path) -> None:
        super().__init__(root, local=False)
        self.scratch = scratch

    @contextmanager
    def open(self, session: int) -> Iterator[Path]:
        assert threading.current_thread() is threading.main_thread() and not any(
            self.scratch.iterdir()
        )
        path = self.scratch / self.find(session).name
        shutil.copy(self.find(session), path)
        with super().open(session):
            yield path
        path.unlink()


def test_a_stream_gives_the_same_bytes(
    tree: Tree, expected: dict[str, str], tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = Stream(tree.root, scratch)
    run(tree, tmp_path, source=source, workers=4)
    assert source.opened == [1, 2] and _digests(tmp_path) == expected


def test_a_streamed_session_with_empty_trials_is_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "nsd")
    with h5py.File(layout.betas_path(tree.root, "subj01", PREP, 2), "r+") as file:
        file["betas"][7:9] = 0
    with pytest.raises(ValueError, match=r"betas_session02.* 2 trials are empty, .* is 8$"):
        run(tree, tmp_path, source=Source(tree.root, local=False), resume_root=tmp_path / "resume")
    assert not any(path.exists() for path in list_outputs(tmp_path).values())


def test_the_size_of_pieces_does_not_matter(
    tree: Tree, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "BAND_V", 5)
    monkeypatch.setattr(ncsnr, "CHUNK_V", 4)
    monkeypatch.setattr("fmri2clip.stages.extract_rois.zscore.CHUNK_V", 4)
    assert _digests(run(tree, tmp_path)) == expected


def test_containers_give_the_same_bytes(tmp_path: Path) -> None:
    nsd_world.write_tree(tmp_path / "both", container="both")
    for container, suffix in (("hdf5", ".nii.gz"), ("nifti", ".hdf5")):
        shutil.copytree(tmp_path / "both", tmp_path / container)
        for session in (1, 2):
            layout.betas_path(
                tmp_path / container, nsd_world.SUBJECT, PREP, session, suffix
            ).unlink()
    digests = []
    for container in ("both", "hdf5", "nifti"):
        root = tmp_path / container
        source = Source(root, nsd_world.SUBJECT)
        extract.extract_subject(
            Outputs(nsd=root, folder=root / "rois"),
            nsd_world.SUBJECT,
            recordings=NsdRecordings(root, nsd_world.SUBJECT, Dataset(preparation=PREP), source),
            rois={"low": ["prf-visualrois"]},
            norm=Norm(),
            workers=2,
            resume_root=root / "resume",
        )
        assert source.find(1).name.endswith(".nii.gz" if container == "nifti" else ".hdf5")
        digests.append(_digests(root / "rois"))
    assert digests[0] == digests[1] == digests[2]
    voxels = read_voxels(root / "rois" / "voxels" / "s.h5")
    assert voxels["invalid_SV"].any() and not voxels["invalid_SV"].all(axis=0).any()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subjects 3, 4, 6 and 8 with the files of their 32, 30, 32 and 30 sessions, and the design of
    40.
    """
    root, shape, rng = tmp_path_factory.mktemp("released"), (2, 3, 2), np.random.default_rng(0)
    layout.experiments_dir(root).mkdir(parents=True)
    columns = np.arange(1, 10_001, dtype=np.int32)
    ordering = rng.permutation(np.repeat(columns, 3))[None].astype(np.uint16)
    tables = {
        "masterordering": ordering,
        "sharedix": columns[None, :1000],
        "subjectim": np.tile(columns, (8, 1)),
    }
    scipy.io.savemat(layout.expdesign_path(root), tables)
    for subject, n_sessions in {"subj03": 32, "subj04": 30, "subj06": 32, "subj08": 30}.items():
        for path in (
            layout.roi_path(root, subject, "nsdgeneral"),
            layout.ncsnr_path(root, subject, PREP),
        ):
            path.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(np.ones(shape), np.eye(4)), path)
        first = layout.betas_path(root, subject, PREP, 1)
        with h5py.File(first, "w") as file:
            file["betas"] = rng.integers(-900, 900, (750, *shape[::-1])).astype(np.int16)
        for session in range(2, n_sessions + 1):
            os.link(first, layout.betas_path(root, subject, PREP, session))
    return root


@pytest.mark.parametrize(
    ("subject", "sessions", "n_sessions"),
    [
        ("subj03", "released", 32),
        ("subj04", "released", 30),
        ("subj06", "released", 32),
        ("subj08", "released", 30),
        ("subj03", "old37", 29),
        ("subj04", "old37", 27),
        ("subj06", "old37", 29),
        ("subj08", 5, 5),
    ],
)
def test_subjects_with_missing_sessions(
    released: Path, tmp_path: Path, subject: str, sessions: Any, n_sessions: int
) -> None:
    source = Source(released, subject)
    dataset = Dataset(preparation=PREP, sessions=sessions)
    extract.extract_subject(
        Outputs(nsd=released, folder=tmp_path),
        subject,
        recordings=NsdRecordings(released, subject, dataset, source),
        rois={"all": ["nsdgeneral"]},
        norm=Norm(),
        workers=2,
        resume_root=tmp_path / "resume",
    )
    assert sorted(source.opened) == list(range(1, n_sessions + 1))
    train, test = (read_betas(tmp_path / part / "s.h5") for part in ("train", "test"))
    assert sorted([*train["trial_N"], *test["trial_N"]]) == list(range(1, 750 * n_sessions + 1))
    assert train["nsd_id_N"].min() >= 1000 > test["nsd_id_N"].max()
    assert train.attrs["sessions"] == n_sessions


def test_more_sessions_than_the_subject_has(released: Path, tmp_path: Path) -> None:
    dataset = Dataset(preparation=PREP, sessions=31)
    source = Source(released, "subj04")
    with pytest.raises(ValueError, match="subj04 allows released, old37 or a number from 1 to 30"):
        extract.extract_subject(
            Outputs(nsd=released, folder=tmp_path),
            "subj04",
            recordings=NsdRecordings(released, "subj04", dataset, source),
            rois={"all": ["nsdgeneral"]},
            norm=Norm(),
            workers=1,
            resume_root=tmp_path,
        )
