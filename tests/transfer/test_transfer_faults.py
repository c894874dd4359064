"""transfer.py when servers fail and disks are full: survived, or a clear error after which nothing
is lost.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.transfer import transfer
from fmri2clip.transfer.remotes import RemoteFile
from fmri2clip.transfer.transfer import Item, check_space, sha256_file
from tests.transfer.fetching import (
    ONE,
    PART,
    assert_arrived,
    fetch_from,
    list_items,
    put_one,
    recorded,
)
from tests.transfer.s3_service import Service

Serve = Callable[..., Service]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.001)


@pytest.fixture
def one(serve_s3: Serve) -> Service:
    """A bucket with one file of eleven parts."""
    service = serve_s3()
    put_one(service)
    return service


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here ({error}); it takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_errors_on_the_way_are_survived(one: Service, tmp_path: Path) -> None:
    one.put("y", np.random.default_rng(7).bytes(5 * PART))
    one.fail_next(3)
    one.reset_next(3, after=1000)
    one.truncate_next(3, after=20_000)
    one.fail_next(1, status=429)
    one.fail_next(1, status=500)
    fetch_from(one, tmp_path / "to", retries=8)
    assert all(fault.n == 0 for fault in one.faults)
    assert_arrived(one, tmp_path / "to")


def test_dropped_part_goes_on_at_its_byte(one: Service, tmp_path: Path) -> None:
    one.truncate_next(15, after=10_000)
    fetch_from(one, tmp_path, retries=1)  # attempts with progress do not count
    assert one.bytes_sent() == ONE
    assert_arrived(one, tmp_path)


def test_giving_up_keeps_what_is_finished(one: Service, tmp_path: Path) -> None:
    one.truncate_next(1, after=PART)  # one part arrives
    one.fail_next(1000)
    with pytest.raises(
        ValueError,
        match=r"^x: gave up at byte 65536 after 3 attempts .*SlowDown.*run the stage again",
    ):
        fetch_from(one, tmp_path / "to", connections=1)
    assert len(one.requests) == 1 + 3 and not (tmp_path / "to/x").exists()
    one.faults.clear()
    fetch_from(one, tmp_path / "to")
    assert one.bytes_sent() == ONE
    assert_arrived(one, tmp_path / "to")


def test_missing_key_stops_the_others_at_once(
    one: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "GRACE", 0.3)
    one.stall_next(1, after=100, key="x")
    gone = Item(file=RemoteFile(key="gone", size=5, etag=""), path=tmp_path / "to/gone")
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"gone: the server answers 404 \(NoSuchKey\)"):
        fetch_from(one, tmp_path / "to", [*list_items(one, tmp_path / "to"), gone], connections=2)
    assert time.monotonic() - start < 3
    safe, n_before = recorded(one, tmp_path / "to"), one.bytes_sent()
    fetch_from(one, tmp_path / "to")
    assert len(safe) == 10 and one.bytes_sent() - n_before <= PART
    assert_arrived(one, tmp_path / "to")  # and nothing of the missing file lies there


def test_md5_that_differs_from_the_etag(
    one: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one.corrupt_next(1)
    fetch_from(one, tmp_path / "to")
    assert "x starts anew: MD5 is" in capsys.readouterr().err
    assert one.bytes_sent() == 2 * ONE
    assert_arrived(one, tmp_path / "to")


def test_md5_that_never_fits_is_an_error(one: Service, tmp_path: Path) -> None:
    one.corrupt_next(100)
    with pytest.raises(
        ValueError,
        match=r"^x: MD5 is \w+, the server says \w+, and it was fetched anew once already",
    ):
        fetch_from(one, tmp_path)
    assert not list(tmp_path.iterdir())


def test_space_is_checked_before_the_first_byte(one: Service, small_disk: Path) -> None:
    check_space(small_disk / "not/yet", 1_000_000)
    with pytest.raises(
        ValueError,
        match=r"disk/to: 2\.00MB are still to come, but the disk of .*disk has 1\.05MB free",
    ):
        check_space(small_disk / "to", 2_000_000)
    (small_disk / "filler").write_bytes(bytes(800_000))
    with pytest.raises(ValueError, match=r"655kB are still to come, .* free at least 4\d\dkB"):
        fetch_from(one, small_disk / "to")
    assert not one.requests and not (small_disk / "to").exists()


def settled(service: Service) -> int:
    """Bytes sent once the service has finished the answers that nobody waits for any more."""
    before = -1
    while (now := service.bytes_sent()) != before:
        before = now
        time.sleep(0.2)
    return now


def test_disk_that_fills_up_in_the_middle(
    one: Service, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = transfer.check_each_disk

    def check_then_fill(folders: Iterator[tuple[Path, int]]) -> None:
        check(folders)
        (small_disk / "filler").write_bytes(bytes(600_000))

    monkeypatch.setattr(transfer, "check_each_disk", check_then_fill)
    said = (
        r"disk/to: no space left on the disk of .* are still to come and .* free; "
        r".*run the stage again"
    )
    with pytest.raises(ValueError, match=said):
        fetch_from(one, small_disk / "to")
    n_safe, n_before = len(recorded(one, small_disk / "to")), settled(one)
    assert n_safe >= 3 and not (small_disk / "to/x").exists()
    (small_disk / "filler").unlink()
    monkeypatch.setattr(transfer, "check_each_disk", check)
    fetch_from(one, small_disk / "to")
    assert one.bytes_sent() - n_before == ONE - n_safe * PART
    assert_arrived(one, small_disk / "to")


def test_only_what_is_missing_needs_space(one: Service, small_disk: Path) -> None:
    one.truncate_next(8, after=PART)
    one.fail_next(1000)
    with pytest.raises(ValueError, match="gave up"):
        fetch_from(one, small_disk / "to", connections=1, retries=0)
    one.faults.clear()
    (small_disk / "filler").write_bytes(
        bytes(300_000)
    )  # room for the three parts that are missing, not for eleven
    fetch_from(one, small_disk / "to")
    assert_arrived(one, small_disk / "to")


def test_folder_that_cannot_be_made(one: Service, tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"a file where a folder should be")
    with pytest.raises(
        ValueError, match=r"to/.*: Not a directory; check the disk.*run the stage again"
    ):
        fetch_from(one, tmp_path / "to")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
