"""What is said of files that cannot be read, and whose files are left alone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fmri2clip.core.files import NotOpened, check_inside, describe_failure, locked

REMEDY = "delete it"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "x"), "give you permission"),
        (BlockingIOError(errno.EAGAIN, "x"), "another process has locked it"),
        (OSError(errno.EIO, "x"), "try again, and check the disk"),
        (OSError(errno.ESTALE, "x"), "try again, and check the disk"),
        (OSError(errno.EMFILE, "x"), "Too many open files"),
    ],
)
def test_what_the_system_refuses_is_not_damaged(error: OSError, said: str) -> None:
    found = describe_failure(Path("a.h5"), error, "HDF5", REMEDY)
    assert isinstance(found, NotOpened)
    assert said in str(found) and REMEDY not in str(found) and "leave it as it is" in str(found)


@pytest.mark.parametrize("error", [OSError("file signature not found"), EOFError("ends early")])
def test_what_was_read_and_is_wrong_is(error: Exception) -> None:
    found = describe_failure(Path("a.h5"), error, "HDF5", REMEDY)
    assert not isinstance(found, NotOpened) and str(found).endswith(f"({error}); {REMEDY}")


@pytest.mark.parametrize("place", ["data", "data/raw/nsd", "data/raw/nsd/nsddata", ""])
def test_a_link_out_of_the_project_is_seen(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever on the way it is; a link from one place of the project to another is fine."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    root = Path("data/raw/nsd")
    folder = root / "nsddata/ppdata"
    if place:
        shared = tmp_path / "shared"
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shared.mkdir()
        Path(place).symlink_to(shared)
        with pytest.raises(ValueError, match=r"nsddata/ppdata lies outside of the project, in /.*"):
            check_inside(root, [folder])
        Path(place).unlink()
        # And below the folders that are named, where a write to a file would go through it.
        inner = folder / "subj01/func1pt8mm"
        inner.parent.mkdir(parents=True)
        inner.symlink_to(shared)
        with pytest.raises(ValueError, match="subj01/func1pt8mm lies outside of the project"):
            check_inside(root, [folder])
        inner.unlink()
    (project / "big").mkdir()
    Path("data").mkdir(exist_ok=True)
    Path("data/inner").symlink_to(project / "big")
    check_inside(root, [folder, Path("data/inner")])


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lock"
    with (
        locked(path, 0, "busy"),
        pytest.raises(ValueError, match="busy"),
        locked(path, 0.1, "busy"),
    ):
        raise AssertionError("two hold it")
    with locked(path, 0, "busy"):
        assert path.is_file()
