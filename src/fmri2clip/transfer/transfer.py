"""Fetch files over several connections, and go on after a kill, a dropped connection or a full
disk.

Every file is cut in parts; a fixed number of threads takes the parts of all files in order, so that
one file of 40 GB comes over all connections as well. What a thread loses at a kill is its open
part, never a finished one (`parts.py`). All waiting and trying again happens here: exponential
pauses with jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"), at least as long as
the server asks, counted anew after every byte that arrives.
"""

from __future__ import annotations

import errno
import queue
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fmri2clip.transfer.disk_space import check_each_disk, check_space, disk_full
from fmri2clip.transfer.parts import Damaged, Part, Unfinished, discard, sha256_file, write_at
from fmri2clip.transfer.remotes import Changed, Remote, RemoteFile, Transient

__all__ = ["Item", "check_space", "discard", "fetch", "sha256_file"]

PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
LONGEST_PAUSE = 30.0  # seconds
LONGEST_WISH = 600.0  # seconds that a server may ask to wait
GRACE = 3.0  # seconds that threads get to stop
AGAIN = "what is finished is kept: run the stage again and it continues where it stopped"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file of the remote and where it shall lie."""

    file: RemoteFile
    path: Path  # final name


def fetch(
    remote: Remote,
    items: Sequence[Item],
    *,
    connections: int,
    part_bytes: int,
    retries: int,
    label: str,
    on_done: Callable[[Item, str], None] | None = None,
) -> dict[Path, str]:
    """Fetch every item and return the SHA-256 (hex digits) by path; what an earlier call left is
    taken up.

    Every item named is fetched, whether or not a file lies at its path; only a file that was
    finished and not yet passed to on_done is taken as it is, after a look at its SHA-256. retries:
    attempts without a byte of progress after the first. label: of the progress bar. on_done: called
    in the thread of the caller for every finished file with its SHA-256; where the file changed at
    the source meanwhile, the item says what it is now. A kill right after on_done leaves a small
    log beside the file: `discard` it for files that the caller knows to be complete. Raises
    ValueError: no space, no such file, no connection; the message says what to do.
    """
    assert connections > 0 and part_bytes > 0 and retries >= 0, (connections, part_bytes, retries)
    assert len({item.path for item in items}) == len(items), "a path occurs twice"
    transfer = _Transfer(remote, part_bytes, retries)
    for item in items:
        transfer.plan(item)
    check_each_disk((file.path.parent, file.bytes_missing) for file in transfer.files.values())
    return transfer.run(connections, label, on_done or (lambda item, sha256: None))


class _Stop(Exception):
    """Leave a thread without a word: another one failed, or the user interrupted."""


class _Transfer:
    """The queue of parts, the threads that work on it, and what they report to the thread of the
    caller.
    """

    def __init__(self, remote: Remote, part_bytes: int, retries: int) -> None:
        self.remote = remote
        self.part_bytes = part_bytes
        self.retries = retries
        self.files: dict[Path, Unfinished] = {}
        # Part None: nothing to fetch, only to complete.
        self.tasks: deque[tuple[Unfinished, Part | None]] = deque()
        # A file with its SHA-256, an error, or None: a thread ends.
        self.events: queue.Queue[tuple[Unfinished, str] | BaseException | None] = queue.Queue()
        self.stop = threading.Event()
        self.bar_lock = threading.Lock()

    def plan(self, item: Item) -> None:
        """Queue what is missing of an item, after a look at what lies on disk."""
        try:
            self.add(Unfinished(item.file, item.path, self.part_bytes))
        except OSError as error:
            raise self._disk_error(item.path, error) from error

    def add(self, file: Unfinished) -> None:
        """Queue what is missing of a file: at the end, or at the head if the file starts anew.

        A file without a missing part is queued once, to be completed.
        """
        if file.note:
            tqdm.write(f"{file.path} starts anew: {file.note}", file=sys.stderr)
        parts: list[Part | None] = [*file.missing.values()]
        tasks = [(file, part) for part in parts or [None]]
        self.files[file.path] = file
        if file.anew:
            self.tasks.extendleft(reversed(tasks))
        else:
            self.tasks.extend(tasks)

    def run(
        self, connections: int, label: str, on_done: Callable[[Item, str], None]
    ) -> dict[Path, str]:
        """Fetch all that is queued; SHA-256 by path. The first error of a thread is raised."""
        total = sum(file.file.size for file in self.files.values())
        threads = [
            threading.Thread(target=self._work, name=f"fetch-{i}", daemon=True)
            for i in range(min(connections, len(self.tasks)))
        ]
        pace = 0.2 if sys.stderr.isatty() else 30  # seconds between two looks of the bar
        there = sum(file.n_arrived for file in self.files.values())
        with tqdm(
            total=total,
            initial=there,
            desc=label,
            unit="B",
            unit_scale=True,
            mininterval=pace,
            maxinterval=pace,
        ) as self.bar:
            try:
                for thread in threads:
                    thread.start()
                return self._collect(len(threads), on_done)
            finally:
                self.stop.set()
                _join(threads)

    def _collect(self, n_running: int, on_done: Callable[[Item, str], None]) -> dict[Path, str]:
        """Take the threads' reports until all have ended; after an error, those of the next GRACE
        seconds.
        """
        checksums: dict[Path, str] = {}
        error: BaseException | None = None
        end = float("inf")
        while n_running and time.monotonic() < end:
            try:
                event = self.events.get(timeout=None if error is None else GRACE)
            except queue.Empty:
                break
            if event is None:
                n_running -= 1
            elif isinstance(event, BaseException):
                self.stop.set()
                error = error or event
                end = min(end, time.monotonic() + GRACE)
            else:
                file, sha256 = event
                on_done(Item(file=file.file, path=file.path), sha256)
                file.clean()
                checksums[file.path] = sha256
        if error is not None:
            raise error
        assert checksums.keys() == self.files.keys(), "a file was neither finished nor reported"
        return checksums

    def _work(self) -> None:
        try:
            while not self.stop.is_set() and (task := self._next()):
                self._do(*task)
        except _Stop:
            pass
        except BaseException as error:
            self.events.put(error)
        finally:
            self.events.put(None)

    def _next(self) -> tuple[Unfinished, Part | None] | None:
        try:
            return self.tasks.popleft()
        except IndexError:
            return None

    def _do(self, file: Unfinished, part: Part | None) -> None:
        try:
            self._advance(file, part)
        except OSError as error:
            raise self._disk_error(file.path, error) from error
        except ValueError:
            file.abandon()
            raise

    def _advance(self, file: Unfinished, part: Part | None) -> None:
        try:
            if part is None or self._fetch_part(file, part):
                sha256 = file.complete(self.remote.content_md5(file.file), self._watch)
                self.events.put((file, sha256))
        except (Changed, Damaged) as error:
            if file.drop():
                self._start_anew(file, error)

    def _fetch_part(self, file: Unfinished, part: Part) -> bool:
        """Fetch one part; True if it was the last one missing of its file."""
        position = part.start
        n_failures = 0
        with file.open() as fd:
            while fd >= 0 and position < part.stop:
                try:
                    blocks = self.remote.read(file.file.key, position, part.stop, file.file.etag)
                    for block in blocks:
                        self._watch()
                        if file.dropped:
                            return False
                        write_at(fd, block, position)
                        position += len(block)
                        n_failures = 0  # attempts are counted anew after any progress
                        self._count(file, len(block))
                    if position < part.stop:
                        raise Transient(f"the body ended at byte {position}, before {part.stop}")
                except Transient as error:
                    n_failures += 1
                    self._pause(file.file.key, position, n_failures, error)
            return fd >= 0 and file.finish(part, fd)

    def _pause(self, key: str, position: int, n_failures: int, error: Transient) -> None:
        """Wait before the next attempt, or raise ValueError if that was the last."""
        if n_failures > self.retries:
            raise ValueError(
                f"{key}: gave up at byte {position} after {n_failures} attempts in a row without "
                f"progress ({error}); {AGAIN}"
            ) from error
        # Half of the pause is chance, so that threads that failed together do not return together.
        longest = min(PAUSE * 2.0 ** (n_failures - 1), LONGEST_PAUSE)
        seconds = max(longest * random.uniform(0.5, 1), min(error.pause, LONGEST_WISH))
        if self.stop.wait(seconds):
            raise _Stop

    def _start_anew(self, file: Unfinished, why: Exception) -> None:
        """Put a file's parts into the queue again, once; the remote is asked what the file is
        now.
        """
        if file.anew:
            discard(file.path)
            raise ValueError(
                f"{file.file.key}: {why}, and it was fetched anew once already; the file changes "
                f"at the source or is damaged on the way or on the disk of {file.path.parent}; run "
                "the stage again later"
            ) from why
        fresh = Unfinished(self.remote.stat(file.file.key), file.path, self.part_bytes, anew=True)
        fresh.note = str(why)
        self._count(file, -file.n_arrived, fresh.file.size - file.file.size)
        self.add(fresh)

    def _watch(self) -> None:
        if self.stop.is_set():
            raise _Stop

    def _count(self, file: Unfinished, n_bytes: int, growth: int = 0) -> None:
        with self.bar_lock:
            file.n_arrived += n_bytes
            self.bar.total += growth
            self.bar.update(n_bytes)

    def _disk_error(self, path: Path, error: OSError) -> ValueError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            n_bytes = sum(each.bytes_missing for each in self.files.values())
            return disk_full(path.parent, n_bytes, AGAIN)
        return ValueError(
            f"{error.filename or path}: {error.strerror or error}; check the disk; {AGAIN}"
        )


def _join(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that started, GRACE seconds in all; one that hangs in a read is left: it
    writes no more.
    """
    end = time.monotonic() + GRACE
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, end - time.monotonic()))
