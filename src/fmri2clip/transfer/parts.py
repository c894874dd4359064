"""The unfinished form of one fetched file, which survives a kill or a power cut at any moment.

Beside the final name `x` lie `.x.part`, the content, and `.x.part.log`, one JSON value a line:
first what is fetched (key, size, etag, bytes of a part), then the number of every finished part,
last the SHA-256 of the whole. A part is written and synced before its line is, so that a line never
promises what the disk does not hold; a torn last line is cut off. Parts are reused only while the
first line says what the remote says now.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fmri2clip.transfer.remotes import RemoteFile

HASH_BLOCK = 1 << 20  # bytes


class Damaged(Exception):
    """What lies on disk is not the file that was fetched."""


@dataclass(frozen=True)
class Part:
    """A range of bytes of a file that is fetched in one request."""

    index: int
    start: int  # first byte
    stop: int  # byte after the last

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


def cut(size: int, part_bytes: int) -> list[Part]:
    """Parts of part_bytes, the last one shorter, that cover size bytes in order; none for an empty
    file.
    """
    assert size >= 0 and part_bytes > 0, f"{size} bytes in parts of {part_bytes}"
    return [
        Part(i, start, min(start + part_bytes, size))
        for i, start in enumerate(range(0, size, part_bytes))
    ]


def content_path(path: Path) -> Path:
    """Where the content of a file lies until it is complete."""
    return path.with_name(f".{path.name}.part")


def log_path(path: Path) -> Path:
    """Where the finished parts of a file are noted until it is complete."""
    return path.with_name(f".{path.name}.part.log")


def discard(path: Path) -> None:
    """Remove what lies beside the final name of a file: its unfinished content and the note of its
    parts.
    """
    log_path(path).unlink(missing_ok=True)
    content_path(path).unlink(missing_ok=True)


def write_at(fd: int, block: bytes, position: int) -> None:
    """Write a block whole, beginning at byte `position` of a file."""
    view = memoryview(block)  # pwrite may write less than it was given
    while view:
        n_written = os.pwrite(fd, view, position)
        view = view[n_written:]
        position += n_written


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, hex digits."""
    return digests(path, "sha256")[0]


def digests(path: Path, *names: str, watch: Callable[[], None] = lambda: None) -> list[str]:
    """Hex digests of a file by each of hashlib's names, read once; watch is called at every block
    and may raise.
    """
    hashes = [hashlib.new(name, usedforsecurity=False) for name in names]
    with path.open("rb", buffering=0) as file:
        while block := file.read(HASH_BLOCK):
            watch()
            for item in hashes:
                item.update(block)
    return [item.hexdigest() for item in hashes]


class Unfinished:
    """One file on its way: which parts are missing, and the two files beside its final name.

    Threads may work on different parts at once. After `drop`, nothing of this object reaches the
    disk any more, so that another one can start the same file anew. `note`: why what was found on
    disk could not be used, else ''.
    """

    def __init__(
        self, file: RemoteFile, path: Path, part_bytes: int, *, anew: bool = False
    ) -> None:
        self.file = file
        self.path = path
        self.content = content_path(path)
        self.log = log_path(path)
        self.anew = anew
        self.note = ""
        self.sha256 = ""
        self.lock = threading.Lock()
        self.dropped = False
        self._identity: dict[str, Any] = {**asdict(file), "part_bytes": part_bytes}
        self.missing = {part.index: part for part in cut(file.size, part_bytes)}
        self._recall()
        self.n_arrived = file.size - self.bytes_missing  # bytes, those of open parts as well

    @property
    def bytes_missing(self) -> int:
        """Bytes of the parts that have not been fetched."""
        return sum(part.size for part in list(self.missing.values()))

    @contextmanager
    def open(self) -> Iterator[int]:
        """File descriptor of the content, to be written at a part's own place; -1 after `drop`."""
        with self.lock:
            fd = -1 if self.dropped else self._open_content()
        try:
            yield fd
        finally:
            if fd >= 0:
                os.close(fd)

    def finish(self, part: Part, fd: int) -> bool:
        """Sync and note a part that is written completely; True for the one that was the last
        missing.
        """
        # Before the note, and outside the lock: other threads write while this one waits.
        os.fsync(fd)
        with self.lock:
            if self.dropped:
                return False
            self._note(part.index)
            del self.missing[part.index]
            return not self.missing

    def drop(self) -> bool:
        """Let go of the files on disk; False where another thread did so before."""
        with self.lock:
            before = self.dropped
            self.dropped = True
            return not before

    def abandon(self) -> None:
        """Leave nothing on disk if no part is finished; for a file that cannot be fetched."""
        with self.lock:
            if not self.dropped and self.bytes_missing == self.file.size:
                self.dropped = True
                discard(self.path)

    def complete(self, md5: str, watch: Callable[[], None]) -> str:
        """Check the content, give it its final name and return its SHA-256; `clean` is still to be
        called.

        md5: what the content's MD5 must be, '' if unknown. Raises Damaged.
        """
        if not self.content.exists() and not self.sha256:
            with self.open():  # an empty file has no part that would have made it
                pass
        source = self.content if self.content.exists() else self.path
        if source.stat().st_size != self.file.size:
            raise Damaged(f"{source.stat().st_size} bytes arrived instead of {self.file.size}")
        sha256, *others = digests(source, "sha256", *(["md5"] if md5 else []), watch=watch)
        if md5 and others != [md5]:
            raise Damaged(f"MD5 is {others[0]}, the server says {md5}")
        if source == self.path and sha256 != self.sha256:
            raise Damaged(f"SHA-256 of {self.path} is {sha256}, it was {self.sha256}")
        # The sum is noted first: after a kill between the two lines it is found with the content
        # still unfinished, and after one behind them with the file, which it must agree with.
        if source == self.content:
            self._note({"sha256": sha256})
            os.replace(self.content, self.path)
        return sha256

    def clean(self) -> None:
        """Remove the log once the caller has noted that the file is complete."""
        self.log.unlink(missing_ok=True)

    def _open_content(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.log.exists():
            self.content.unlink(missing_ok=True)
            self.content.touch()
            self._note(self._identity)
        return os.open(self.content, os.O_WRONLY)

    def _note(self, value: Any) -> None:
        line = json.dumps(value).encode() + b"\n"
        with self.log.open("ab", buffering=0) as file:
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.log))
                os.fsync(file.fileno())
            except OSError:
                self.dropped = True  # a line after a torn one would be read as part of it
                raise

    def _recall(self) -> None:
        """Take over the parts noted in the log, or remove both files where they are of no use."""
        values, n_bytes = _read_log(self.log)
        done = {value for value in values[1:] if isinstance(value, int) and value in self.missing}
        sums = [value.get("sha256", "") for value in values[1:] if isinstance(value, dict)]
        sha256 = sums[0] if sums else ""
        n_needed = max((self.missing[i].stop for i in done), default=0)
        self.note = self._refusal(values, n_needed, sha256)
        if self.anew or self.note or not values:
            discard(self.path)
            return
        os.truncate(self.log, n_bytes)
        self.sha256 = "" if self.content.exists() else sha256
        self.missing = {index: part for index, part in self.missing.items() if index not in done}

    def _refusal(self, values: list[Any], n_needed: int, sha256: str) -> str:
        """Why the parts that a log names cannot be used; '' if they can, or if there are none."""
        if self.anew or not values:
            return ""
        if not self.file.etag:
            return "the server says nothing by which a changed file could be told"
        if values[0] != self._identity:
            return "the file at the source or the size of parts is another one than before"
        content = self.content if self.content.exists() or not sha256 else self.path
        if not content.exists() or content.stat().st_size < n_needed:
            return f"{content} is not as it was left"
        return ""


def _read_log(path: Path) -> tuple[list[Any], int]:
    """Values of the complete lines of a log, and the bytes that these take."""
    values = []
    n_bytes = 0
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for line in lines:
        # A line without its end was torn by a kill: it and what follows do not count.
        try:
            values.append(json.loads(line if line.endswith(b"\n") else b""))
        except ValueError:
            break
        n_bytes += len(line)
    return values, n_bytes
