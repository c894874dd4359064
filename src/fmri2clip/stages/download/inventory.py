"""What of a list of needed files is there already, what is damaged, and what lies there that nobody
needs.

A file counts as there if its size is the source's and its SHA-256 is the one that an earlier
download recorded. A file without record, such as one copied from a colleague, is taken in if its
size fits and, where the source's ETag is an MD5 (objects that were uploaded in one piece), its MD5
too. The same holds where the source now has another ETag than was recorded; if that is no MD5, the
file is fetched again. Files that are not needed are moved aside, never deleted: a DVC output holds
exactly what its manifest names.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fmri2clip.core.files import free_name, sha256_file
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.datasets.nsd.manifest import Entry
from fmri2clip.transfer.remotes import RemoteFile

ASIDE = "aside"  # beside the tree: same disk, no output of any stage
_MD5 = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"\.(.+)\.part(\.\w+)?")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Entries of the files that are there, files to fetch, and notes for the user."""

    there: dict[str, Entry]
    missing: list[RemoteFile]
    notes: list[str]


def take_stock(
    root: Path,
    files: Sequence[RemoteFile],
    recorded: Mapping[str, Entry],
    *,
    quick: bool = False,
    threads: int = 4,
) -> Inventory:
    """Sort files into those that are there and those to fetch.

    recorded: what earlier downloads learnt, by key. quick: compare sizes only, and move nothing.
    """
    notes: list[str] = []
    if not quick:
        notes += [note for file in files if (note := _bring_back(root, file))]
    with ThreadPoolExecutor(threads) as pool:
        checked = list(
            pool.map(lambda file: _examine(root, file, recorded.get(file.key), quick), files)
        )
    there = {file.key: entry for file, (entry, _) in zip(files, checked, strict=True) if entry}
    notes += [note for _, note in checked if note]
    return Inventory(
        there=there, missing=[file for file in files if file.key not in there], notes=notes
    )


def _examine(
    root: Path, file: RemoteFile, recorded: Entry | None, quick: bool
) -> tuple[Entry | None, str]:
    path = root / file.key
    if not path.is_file():
        return None, ""
    size = path.stat().st_size
    if size != file.size:
        return None, f"{path} has {size} bytes, the source {file.size}: it is fetched again"
    if recorded and recorded.etag and recorded.etag != file.etag:
        # What was recorded is another version of the file.
        if not _MD5.fullmatch(file.etag):
            return None, (
                f"{path} was recorded with ETag {recorded.etag}, the source now has {file.etag}: "
                "it is fetched again"
            )
        recorded = None
    sha256 = recorded.sha256 if recorded else ""
    if not quick and recorded and sha256:
        if sha256_file(path) != sha256:
            return None, f"{path} is not what was downloaded (SHA-256 differs): it is fetched again"
    elif not quick:
        if _MD5.fullmatch(file.etag) and _md5(path) != file.etag:
            return None, f"{path} is not the source's file (MD5 differs): it is fetched again"
        sha256 = sha256_file(path)
    return Entry(key=file.key, bytes=size, etag=file.etag, sha256=sha256), ""


def _bring_back(root: Path, file: RemoteFile) -> str:
    """Take a needed file from those moved aside earlier."""
    aside = aside_path(root, file.key)
    path = root / file.key
    if path.exists() or not aside.is_file() or aside.stat().st_size != file.size:
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(aside, path)
    return f"{aside} is needed again and was moved back"


def move_aside(root: Path, folders: Iterable[Path], keep: Iterable[str]) -> list[str]:
    """Move every file below the folders whose key is not to be kept out of the tree; one note for
    each.

    Unfinished parts of files to keep stay where they are.
    """
    kept = {root / key for key in keep}
    notes = []
    for path in manifest.list_files(folders):
        part = _PART.fullmatch(path.name)
        if path in kept or (part and path.with_name(part[1]) in kept) or _is_journal(path):
            continue
        target = free_name(aside_path(root, path.relative_to(root).as_posix()))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        notes.append(f"{path} is not needed with these parameters: moved to {target}")
    return notes


def aside_path(root: Path, key: str) -> Path:
    """Where a file goes that is not needed any more."""
    return root.parent / ASIDE / key


def journal_path(manifest_path: Path) -> Path:
    """What an unfinished download has learnt so far; becomes the manifest."""
    return manifest_path.with_name(f".{manifest_path.name}.part")


def _is_journal(path: Path) -> bool:
    return path.name.startswith(f".{layout.MANIFEST_NAME}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
