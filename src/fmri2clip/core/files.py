"""Files that appear complete, and their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fmri2clip.core import watch


@contextmanager
def replacing(*paths: Path) -> Iterator[list[Path]]:
    """Yield a temporary path per final path; all are renamed on success, none on failure.

    Raises ValueError if what the running stage reads has changed since it began (watch.py).
    """
    temporaries = [path.with_name(f".{path.name}.tmp") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporaries
        watch.check()
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


# What readers of HDF5 say of bytes that are wrong, or of numbers in them that nothing can have.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, MemoryError)


class NotOpened(ValueError):
    """Of a file that could not be opened or read to its end: nothing is known of its content."""


def describe_failure(path: Path, error: BaseException, kind: str, remedy: str) -> ValueError:
    """What to raise where a reader of `kind` has failed with `error`.

    NotOpened where the system says why (permission, lock, disk): such a file may be sound. Else the
    content was read and is wrong, and `remedy` says what to do.
    """
    if isinstance(error, MemoryError):
        return NotOpened(f"{path} needs more memory than there is ({error}); leave it as it is")
    if not isinstance(error, OSError) or not error.errno:
        return ValueError(f"{path} cannot be read as {kind} ({error}); {remedy}")
    do = "try again, and check the disk if it fails again"
    if error.errno in (errno.EACCES, errno.EPERM):
        do = "let its owner give you permission to read it (`ls -l` names the owner)"
    elif error.errno in (errno.EAGAIN, errno.EDEADLK):
        do = "another process has locked it: wait until that is done (`fuser` names it)"
    return NotOpened(
        f"{path} cannot be opened ({os.strerror(error.errno)}), so nothing is known of its "
        f"content; leave it as it is: {do}"
    )


def check_inside(root: Path, folders: Iterable[Path]) -> None:
    """Raise ValueError if a link leads from `root`, or from a folder below it, to somebody else's.

    Folders below those that are named count, too: a write to a file in one goes through its link. A
    relative root belongs to the project, which is the working directory.
    """
    project = root.resolve() if root.is_absolute() else Path().resolve()
    for folder in folders:
        for path in (folder, *_list_links(folder)):
            if not path.resolve().is_relative_to(project):
                raise ValueError(
                    f"{path} lies outside of the project, in {path.resolve()}, and nothing is "
                    "written or moved there; see docs/real_nsd.md for shared and scratch disks"
                )


def _list_links(folder: Path) -> Iterator[Path]:
    """Links to folders below a folder, at any depth."""
    for place, names, _ in os.walk(folder):
        paths = (Path(place) / name for name in names)
        yield from (path for path in paths if path.is_symlink())


def free_name(path: Path) -> Path:
    """The path, or the first of path.1, path.2 ... that nothing has."""
    taken = [path, *(path.with_name(f"{path.name}.{k}") for k in range(1, 1000))]
    return next(one for one in taken if not one.exists())


def make_folders(folders: Iterable[Path]) -> None:
    """Make the folders that are not there: outputs of a stage that has nothing to do."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(path: Path, seconds: float, otherwise: str) -> Iterator[None]:
    """Hold the lock of the file `path`, which appears, as the only process.

    Raises ValueError with the text `otherwise` if another one holds it for longer than `seconds`.
    The system takes the lock from a process that dies, not from one that is stopped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise ValueError(otherwise) from None
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Write numbers as JSON; the file appears when it is complete."""
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def sha256_file(path: Path) -> str:
    """sha256 of a file's content. Raises ValueError if it does not exist."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
