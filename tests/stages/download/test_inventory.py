"""inventory.py: a file that the source has in another version than was recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.stages.download.inventory import take_stock
from fmri2clip.transfer.remotes import RemoteFile

KEY = "nsddata/information/a.txt"
MD5 = hashlib.md5(b"old").hexdigest()
OTHER = hashlib.md5(b"new").hexdigest()


@pytest.mark.parametrize(
    ("recorded", "now", "note"),
    [
        (f"{OTHER}-2", f"{OTHER}-2", ""),
        ("", f"{OTHER}-2", ""),
        (f"{OTHER}-2", MD5, ""),
        (f"{OTHER}-2", OTHER, "MD5 differs"),
        (MD5, OTHER, "MD5 differs"),
        (f"{OTHER}-2", f"{OTHER}-3", f"ETag {OTHER}-2, the source now has {OTHER}-3: it is fetch"),
        (MD5, f"{OTHER}-3", f"ETag {MD5}, the source now has {OTHER}-3: it is fetched again"),
    ],
)
def test_an_old_record_says_nothing_of_a_new_version(
    tmp_path: Path, recorded: str, now: str, note: str
) -> None:
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    sha256 = hashlib.sha256(b"old").hexdigest()
    entry = Entry(key=KEY, bytes=3, etag=recorded, sha256=sha256)
    file = RemoteFile(key=KEY, size=3, etag=now)
    stock = take_stock(tmp_path, [file], {KEY: entry})
    if note:
        assert stock.missing == [file] and not stock.there
        assert len(stock.notes) == 1 and note in stock.notes[0]
    else:
        assert stock.there == {KEY: Entry(key=KEY, bytes=3, etag=now, sha256=sha256)}
        assert not stock.missing and not stock.notes
