"""parts.py: parts cover a file once, and a log cut at any byte never promises a part that is not
there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.transfer import parts
from fmri2clip.transfer.parts import Damaged, Unfinished
from fmri2clip.transfer.remotes import RemoteFile

CONTENT = np.random.default_rng(0).bytes(1234)
FILE = RemoteFile(key="x", size=1234, etag="e")


def _write(file: Unfinished, indexes: list[int]) -> bool:
    """Write and finish some parts; True if the last call of finish said that nothing is missing."""
    last = False
    with file.open() as fd:
        for index in indexes:
            part = file.missing[index]
            parts.write_at(fd, CONTENT[part.start : part.stop], part.start)
            last = file.finish(part, fd)
    return last


@given(size=st.integers(0, 10**6), part_bytes=st.integers(1, 10**5))
def test_parts_cover_every_byte_once(size: int, part_bytes: int) -> None:
    size = min(size, 1000 * part_bytes)
    cut = parts.cut(size, part_bytes)
    assert [part.index for part in cut] == list(range(-(-size // part_bytes)))
    borders = [0, *(part.stop for part in cut)]
    assert [part.start for part in cut] == borders[:-1] and borders[-1] == size
    assert all(part.size == part_bytes for part in cut[:-1]) and all(
        0 < part.size <= part_bytes for part in cut
    )


@settings(max_examples=25, deadline=None)  # every example syncs the disk a dozen times
@given(order=st.permutations(range(13)), data=st.data())
def test_log_cut_at_any_byte(order: list[int], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        _check_log_cut(Path(folder, "x"), order, data)


def _check_log_cut(path: Path, order: list[int], data: st.DataObject) -> None:
    n_before = data.draw(st.integers(1, 13))
    last = _write(Unfinished(FILE, path, 100), order[:n_before])
    assert last == (n_before == 13)
    log = parts.log_path(path).read_bytes()
    kept = log[: data.draw(st.integers(0, len(log)))]
    parts.log_path(path).write_bytes(kept)

    again = Unfinished(FILE, path, 100)
    n_known = max(kept.count(b"\n") - 1, 0)
    assert set(again.missing) == set(range(13)) - set(order[:n_known])
    assert again.bytes_missing == sum(part.size for part in again.missing.values())
    if again.missing:
        assert _write(again, sorted(again.missing))
    sha256 = again.complete(hashlib.md5(CONTENT).hexdigest(), lambda: None)
    assert path.read_bytes() == CONTENT and sha256 == hashlib.sha256(CONTENT).hexdigest()
    again.clean()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("garbage", [b"\0\0\0\0\n", b"99\n", b"-1\n", b"[]\n", b"7"])
def test_nonsense_in_the_log_is_no_part(tmp_path: Path, garbage: bytes) -> None:
    _write(Unfinished(FILE, tmp_path / "x", 100), [3])
    with parts.log_path(tmp_path / "x").open("ab") as file:
        file.write(garbage)
    again = Unfinished(FILE, tmp_path / "x", 100)
    assert set(again.missing) == set(range(13)) - {3}
    _write(again, [5])
    assert set(Unfinished(FILE, tmp_path / "x", 100).missing) == set(range(13)) - {3, 5}


@pytest.mark.parametrize(
    ("file", "part_bytes", "why"),
    [
        (RemoteFile(key="x", size=1235, etag="e"), 100, "another one than before"),
        (RemoteFile(key="x", size=1234, etag="f"), 100, "another one than before"),
        (RemoteFile(key="y", size=1234, etag="e"), 100, "another one than before"),
        (FILE, 101, "another one than before"),
        (RemoteFile(key="x", size=1234, etag=""), 100, "says nothing"),
    ],
)
def test_parts_of_another_file_are_removed(
    tmp_path: Path, file: RemoteFile, part_bytes: int, why: str
) -> None:
    _write(Unfinished(FILE, tmp_path / "x", 100), [0, 1])
    again = Unfinished(file, tmp_path / "x", part_bytes)
    assert why in again.note and again.bytes_missing == file.size and not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_content_that_is_gone_is_not_trusted(tmp_path: Path, damage: str) -> None:
    _write(Unfinished(FILE, tmp_path / "x", 100), [0, 5])
    content = parts.content_path(tmp_path / "x")
    content.write_bytes(content.read_bytes()[:599]) if damage == "truncate" else content.unlink()
    again = Unfinished(FILE, tmp_path / "x", 100)
    assert "is not as it was left" in again.note and again.bytes_missing == 1234


def test_wrong_size_or_md5_never_gets_the_final_name(tmp_path: Path) -> None:
    file = Unfinished(FILE, tmp_path / "x", 100)
    _write(file, list(range(13)))
    with pytest.raises(Damaged, match="MD5 is"):
        file.complete("0" * 32, lambda: None)
    parts.content_path(tmp_path / "x").write_bytes(CONTENT + b"!")
    with pytest.raises(Damaged, match="1235 bytes arrived instead of 1234"):
        file.complete("", lambda: None)
    assert not (tmp_path / "x").exists()


def test_after_drop_nothing_reaches_the_new_file(tmp_path: Path) -> None:
    old = Unfinished(FILE, tmp_path / "x", 100)
    with old.open() as fd:
        assert old.drop() and not old.drop()
        new = Unfinished(FILE, tmp_path / "x", 100, anew=True)
        _write(new, [1])
        parts.write_at(fd, b"?" * 1234, 0)
        assert not old.finish(old.missing[2], fd)
    with old.open() as fd:
        assert fd == -1
    assert parts.content_path(tmp_path / "x").read_bytes() == bytes(100) + CONTENT[100:200]
    lines = parts.log_path(tmp_path / "x").read_text().splitlines()
    assert [json.loads(line) for line in lines[1:]] == [1]
