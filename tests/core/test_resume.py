"""Resume folders: same key, same folder; any change of parameters, inputs or code leads
elsewhere.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fmri2clip.core import resume
from fmri2clip.core.params import Split


def test_same_parts_same_folder(tmp_path: Path) -> None:
    first = resume.resume_dir("train/a", Split(), {"x": 1, "y": [Path("p"), None]}, root=tmp_path)
    again = resume.resume_dir("train/a", Split(), {"y": (Path("p"), None), "x": 1}, root=tmp_path)
    assert first == again
    assert first.is_dir()
    assert first.parent == tmp_path / "train" / "a"


@pytest.mark.parametrize(
    "other", [dataclasses.replace(Split(), seed=1), {"seed": 0}, 0, "0", None, 0.5, ["a"]]
)
def test_other_parts_other_folder(tmp_path: Path, other: object) -> None:
    assert resume.resume_dir("s", Split(), root=tmp_path) != resume.resume_dir(
        "s", other, root=tmp_path
    )


def test_what_has_no_stable_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="object in a resume key"):
        resume.resume_dir("s", object(), root=tmp_path)


def test_remove_takes_the_stage_and_nothing_else(tmp_path: Path) -> None:
    old = resume.resume_dir("train/a", 1, root=tmp_path)
    new = resume.resume_dir("train/a", 2, root=tmp_path)
    other = resume.resume_dir("train/b", 1, root=tmp_path)
    (new / "state").write_text("x")
    resume.remove(new, root=tmp_path)
    assert not new.exists() and not old.exists()
    assert other.is_dir()
    with pytest.raises(AssertionError, match="no resume folder"):
        resume.remove(tmp_path.parent / "elsewhere", root=tmp_path)


def test_fingerprint_sees_content_and_new_files(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"1")
    before = resume.fingerprint([tmp_path])
    assert before == resume.fingerprint([tmp_path / "a.h5"])
    (tmp_path / "a.h5").write_bytes(b"22")
    changed = resume.fingerprint([tmp_path])
    (tmp_path / "b.h5").write_bytes(b"1")
    assert before != changed != resume.fingerprint([tmp_path])


def test_half_a_note_says_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made.h5"
    made.write_bytes(b"x")
    resume.record_made("stage", "key", made, root=tmp_path / "resume")
    assert resume.is_made("stage", "key", made, root=tmp_path / "resume")
    note = tmp_path / "resume" / resume.MADE / "stage.json"
    note.write_text(note.read_text()[:10])
    assert not resume.is_made("stage", "key", made, root=tmp_path / "resume")
