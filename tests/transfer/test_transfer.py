"""transfer.py against a local S3 service: what arrives equals the source, also after kills and
changes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.transfer import parts, transfer
from fmri2clip.transfer.remotes import Changed, Transient
from fmri2clip.transfer.transfer import Item
from tests.transfer.fetching import (
    ONE,
    PART,
    Memory,
    assert_arrived,
    fetch_from,
    list_items,
    put_one,
    recorded,
    sources,
    wait_for,
)
from tests.transfer.s3_service import Service

SIZES = [0, 1, 17, PART - 1, PART, PART + 1, 2 * PART, 200_003, 5, 700_001, 1000, 1_500_000]
Serve = Callable[..., Service]

CHILD = """
import sys
from pathlib import Path
from fmri2clip.transfer import transfer
from fmri2clip.transfer.remotes import S3Remote
endpoint, bucket, folder, part_bytes = sys.argv[1:]
done = Path(folder + ".done")
ready = dict(line.split() for line in done.read_text().splitlines()) if done.exists() else {}
for key in ready:
    transfer.discard(Path(folder, key))
remote = S3Remote(bucket, endpoint, "us-east-2", 3)
files = [f for f in remote.list_files("") if f.key not in ready]
items = [transfer.Item(file=f, path=Path(folder, f.key)) for f in files]
def on_done(item, sha256):
    with done.open("a") as file:
        file.write(f"{item.file.key} {sha256}\\n")
sizes = dict(connections=3, part_bytes=int(part_bytes), retries=2)
transfer.fetch(remote, items, **sizes, label="test", on_done=on_done)
"""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.001)


@pytest.fixture
def dozen(serve_s3: Serve, tmp_path: Path) -> Service:
    """A bucket with a dozen files of mixed size in several folders."""
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        path = tmp_path / "source" / f"nsddata/d{i % 3}/file{i:02d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))
    return serve_s3(tmp_path / "source")


@pytest.fixture
def one(serve_s3: Serve) -> Service:
    """A bucket with one file of eleven parts."""
    service = serve_s3()
    put_one(service)
    return service


def _start(service: Service, folder: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        CHILD,
        service.endpoint,
        service.bucket,
        str(folder),
        str(PART),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(transfer.__file__).parents[2])}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def _leave_unfinished(service: Service, folder: Path) -> None:
    """Fetch two or three parts of x, then give up."""
    service.truncate_next(2, after=PART)
    service.fail_next(1000)
    with pytest.raises(ValueError, match="gave up"):
        fetch_from(service, folder, connections=1, retries=0)
    service.faults.clear()
    assert recorded(service, folder) == {("x", 0), ("x", PART)}


def test_complete_download(dozen: Service, tmp_path: Path) -> None:
    done: dict[Path, str] = {}
    checksums = fetch_from(
        dozen, tmp_path / "to", on_done=lambda item, sha256: done.update({item.path: sha256})
    )
    assert checksums == done == sources(dozen, tmp_path / "to")
    assert_arrived(dozen, tmp_path / "to")
    assert dozen.bytes_sent() == sum(SIZES)
    assert max(request.sent for request in dozen.requests) == PART


def test_one_file_comes_over_all_connections(tmp_path: Path) -> None:
    barrier = threading.Barrier(3, timeout=5)  # breaks unless three threads read at once
    Memory(6 * PART, barrier.wait).fetch(tmp_path / "x", connections=3)


@pytest.mark.parametrize("seed", [0])
def test_killed_at_random_moments(dozen: Service, tmp_path: Path, seed: int) -> None:
    dozen.rate = 1_000_000
    folder, n_kills = tmp_path / "to", 3
    for share in sorted(np.random.default_rng(seed).uniform(0.05, 0.9, n_kills)):
        safe, n_before = recorded(dozen, folder), len(dozen.requests)
        child, n_bytes = _start(dozen, folder), int(share * sum(SIZES))
        wait_for(
            lambda child=child, n=n_bytes: dozen.bytes_sent() >= n or child.poll() is not None,
            seconds=30,
        )
        child.kill()
        assert child.wait() == -9, "it ended before it could be killed"
        assert (
            not {
                (request.key, request.start // PART * PART) for request in dozen.requests[n_before:]
            }
            & safe
        )
    safe, n_before = recorded(dozen, folder), len(dozen.requests)
    assert _start(dozen, folder).wait() == 0
    assert (
        safe and not {(request.key, request.start) for request in dozen.requests[n_before:]} & safe
    )
    assert dozen.bytes_sent() <= sum(SIZES) + n_kills * 3 * PART
    lines = Path(f"{folder}.done").read_text().splitlines()
    assert {folder / key: sha256 for key, sha256 in map(str.split, lines)} == sources(dozen, folder)
    assert_arrived(dozen, folder)


def test_interrupt_keeps_finished_parts(
    one: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "GRACE", 0.3)
    one.put("a", b"small")
    one.stall_next(2, after=100, key="x")
    log = parts.log_path(tmp_path / "to/x")

    def interrupt(item: Item, sha256: str) -> None:
        wait_for(
            lambda: log.exists() and log.read_text().count("\n") == 10
        )  # 9 of 11 parts; two hang
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch_from(one, tmp_path / "to", connections=3, on_done=interrupt)
    assert time.monotonic() - start < 5
    n_before, done = one.bytes_sent("x"), []
    fetch_from(one, tmp_path / "to", on_done=lambda item, sha256: done.append(item.path))
    assert one.bytes_sent("x") - n_before <= 2 * PART
    assert (
        one.bytes_sent("a") == 5 and tmp_path / "to/a" in done
    )  # finished before, but nobody had been told
    assert_arrived(one, tmp_path / "to")


@pytest.mark.parametrize(("damage", "n_bytes"), [(False, 0), (True, ONE)])
def test_finished_file_that_nobody_was_told_of(
    one: Service, tmp_path: Path, damage: bool, n_bytes: int
) -> None:
    def fail(item: Item, sha256: str) -> None:
        raise ValueError("no pencil")

    with pytest.raises(ValueError, match="no pencil"):
        fetch_from(one, tmp_path, on_done=fail)
    if damage:
        (tmp_path / "x").write_bytes(bytes(ONE))
    n_before = one.bytes_sent()
    assert fetch_from(one, tmp_path) == sources(one, tmp_path)
    assert one.bytes_sent() - n_before == n_bytes
    assert_arrived(one, tmp_path)


def test_object_changed_between_two_calls(
    one: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _leave_unfinished(one, tmp_path / "to")
    put_one(one, seed=2)
    fetch_from(one, tmp_path / "to")
    assert (
        "to/x starts anew: the file at the source or the size of parts is another one"
        in capsys.readouterr().err
    )
    assert_arrived(one, tmp_path / "to")


def test_other_part_size_starts_anew(one: Service, tmp_path: Path) -> None:
    _leave_unfinished(one, tmp_path / "to")
    fetch_from(one, tmp_path / "to", part_bytes=PART // 2)
    assert_arrived(one, tmp_path / "to")


def test_object_changed_since_it_was_listed(
    one: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = list_items(one, tmp_path / "to")
    put_one(one, seed=2, size=4 * PART + 1)
    told: list[Item] = []
    fetch_from(one, tmp_path / "to", items, on_done=lambda item, sha256: told.append(item))
    assert told == list_items(one, tmp_path / "to") != items
    assert capsys.readouterr().err.count("x starts anew") == 1
    assert_arrived(one, tmp_path / "to")


def test_object_changed_in_the_middle(one: Service, tmp_path: Path) -> None:
    one.rate = 2_000_000

    def change() -> None:
        wait_for(lambda: one.bytes_sent() > 3 * PART)
        put_one(one, seed=3)

    changer = threading.Thread(target=change)
    changer.start()
    fetch_from(one, tmp_path / "to")
    changer.join()
    assert_arrived(one, tmp_path / "to")


def test_object_that_always_changes_is_an_error(tmp_path: Path) -> None:
    def change() -> None:
        raise Changed("ETag is 'b' now")

    with pytest.raises(
        ValueError,
        match=r"^x: ETag is 'b' now, and it was fetched anew once already; .*at the source",
    ):
        Memory(9, change).fetch(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_server_is_given_the_time_it_asks_for(tmp_path: Path) -> None:
    answers: list[Exception] = [Transient("busy", pause=0.3)]

    def busy_once() -> None:
        if answers:
            raise answers.pop()

    start = time.monotonic()
    Memory(9, busy_once).fetch(tmp_path / "x")
    assert time.monotonic() - start >= 0.3


def test_old_file_is_replaced_and_never_edited(one: Service, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "cache").write_bytes(b"old")
    (tmp_path / "to/x").hardlink_to(tmp_path / "cache")
    fetch_from(one, tmp_path / "to")
    assert (tmp_path / "cache").read_bytes() == b"old"
    assert_arrived(one, tmp_path / "to")


def test_nothing_to_fetch(one: Service, tmp_path: Path) -> None:
    assert fetch_from(one, tmp_path, []) == {} and not one.requests
