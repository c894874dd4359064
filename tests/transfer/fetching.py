"""What the tests of the transfer share: small parts, remotes in memory, and a comparison with the
source.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.transfer import parts
from fmri2clip.transfer.remotes import RemoteFile, S3Remote
from fmri2clip.transfer.transfer import Item, fetch
from tests.transfer.s3_service import Service

PART = 64 * 1024
ONE = 10 * PART + 7  # bytes of the file of put_one: eleven parts


def put_one(service: Service, seed: int = 1, size: int = ONE) -> bytes:
    """Make or replace the object x."""
    content = np.random.default_rng(seed).bytes(size)
    service.put("x", content)
    return content


def list_items(service: Service, folder: Path) -> list[Item]:
    remote = S3Remote(service.bucket, service.endpoint, "us-east-2", 3)
    return [Item(file=file, path=folder / file.key) for file in remote.list_files("")]


def fetch_from(
    service: Service, folder: Path, items: list[Item] | None = None, **options: Any
) -> dict[Path, str]:
    """Fetch all that a service lists, or some items, with small parts."""
    remote = S3Remote(service.bucket, service.endpoint, "us-east-2", 3)
    items = list_items(service, folder) if items is None else items
    return fetch(
        remote,
        items,
        **{"connections": 3, "part_bytes": PART, "retries": 2, "label": "test"} | options,
    )


def sources(service: Service, folder: Path) -> dict[Path, str]:
    """SHA-256 of what the service holds, by the path at which it should arrive."""
    contents = {
        key: c if isinstance(c, bytes) else c.read_bytes() for key, c in service.contents.items()
    }
    return {folder / key: hashlib.sha256(content).hexdigest() for key, content in contents.items()}


def assert_arrived(service: Service, folder: Path) -> None:
    """The folder holds what the service holds and nothing else."""
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {
        path: hashlib.sha256(content).hexdigest() for path, content in found.items()
    } == sources(service, folder)


def recorded(service: Service, folder: Path) -> set[tuple[str, int]]:
    """(key, first byte) of every part that is safe on disk, by the log's lines and the final
    names.
    """
    found = set()
    for key, content in service.contents.items():
        log = parts.log_path(folder / key)
        lines = log.read_text().split("\n")[1:-1] if log.exists() else []
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        for index, start in enumerate(range(0, size, PART)):
            if (folder / key).exists() or str(index) in lines:
                found.add((key, start))
    return found


class Memory:
    """A remote with one file; `before` is called at the start of every read and may raise."""

    def __init__(self, size: int, before: Callable[[], object]) -> None:
        self.content, self.before = np.random.default_rng(0).bytes(size), before

    def read(self, key: str, start: int, stop: int, etag: str) -> Iterator[bytes]:
        self.before()
        yield self.content[start:stop]

    def stat(self, key: str) -> RemoteFile:
        return RemoteFile(key=key, size=len(self.content), etag="a")

    def content_md5(self, file: RemoteFile) -> str:
        return ""

    def fetch(self, path: Path, connections: int = 1) -> None:
        item = Item(file=self.stat("x"), path=path)
        fetch(self, [item], connections=connections, part_bytes=PART, retries=2, label="test")
        assert path.read_bytes() == self.content


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.003)
