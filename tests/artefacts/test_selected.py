from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.selected import (
    check_selected,
    digest_files,
    find_files,
    read_selected,
    write_selected,
)

SUBJECTS = ("subj01", "subj02")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    for subject in SUBJECTS:
        for kind, path in find_files("mini", subject, paths).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{kind} of {subject}")
    return paths


def test_digests_are_those_of_the_files_a_run_reads(paths: Paths) -> None:
    write_selected(paths.selected("ridge"), digest_files("mini", SUBJECTS, paths, threads=2))
    found = read_selected(paths.selected("ridge"))
    assert found == {
        subject: {
            kind: hashlib.sha256(f"{kind} of {subject}".encode()).hexdigest()
            for kind in ("betas", "clip", "voxels")
        }
        for subject in SUBJECTS
    }
    assert check_selected(paths.selected("ridge"), "mini", SUBJECTS, paths) == found


def test_a_library_is_part_of_what_a_run_reads(paths: Paths) -> None:
    part = paths.library("training", "subj02")
    part.parent.mkdir(parents=True)
    part.write_text("pictures")
    libraries = {"subj01": [part]}
    found = digest_files("mini", SUBJECTS, paths, libraries=libraries)
    assert found["subj01"]["library_subj02"] == hashlib.sha256(b"pictures").hexdigest()
    assert "library_subj02" not in found["subj02"]
    path = paths.selected("encoding")
    write_selected(path, found)
    part.write_text("others")
    with pytest.raises(ValueError, match=r"training/subj02\.h5 is not the file"):
        check_selected(path, "mini", SUBJECTS, paths, libraries=libraries)


def test_another_file_is_refused_and_named(paths: Paths) -> None:
    write_selected(paths.selected("ridge"), digest_files("mini", ["subj01"], paths))
    with pytest.raises(ValueError, match=r"train/subj02\.h5 is not the file that .*ridge\.json"):
        check_selected(paths.selected("ridge"), "mini", SUBJECTS, paths)
    paths.clip_train("mini", "subj01").write_text("another")
    with pytest.raises(ValueError, match=r"clip/mini/train/subj01\.h5 is not the file"):
        check_selected(paths.selected("ridge"), "mini", ["subj01"], paths)


def test_without_the_list_the_stage_is_named(paths: Paths) -> None:
    with pytest.raises(ValueError, match=r"ridge\.json does not exist; run the stage"):
        check_selected(paths.selected("ridge"), "mini", SUBJECTS, paths)
