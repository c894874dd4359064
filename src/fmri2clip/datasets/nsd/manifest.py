"""The list of files that a download stage answers for: key, bytes, and the checksums as far as they
are known.

A manifest is written by the stage that fetches or simulates the files and lies beside them; it is
an output, never an input of a download. The key of a file in NSD's bucket is its path relative to
the root of the tree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fmri2clip.core.files import replacing, sha256_file
from fmri2clip.core.strict import build
from fmri2clip.datasets.nsd import layout

TOP_FOLDERS = ("nsddata", "nsddata_betas", "nsddata_stimuli")
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file. `etag` is what the source calls this version of it, `sha256` what was computed
    here; '' if unknown.
    """

    key: str
    bytes: int
    etag: str = ""
    sha256: str = ""
    local: bool = True  # false: fetched when it is needed and not kept

    def __post_init__(self) -> None:
        check_key(self.key)
        if self.bytes < 0:
            raise ValueError(f"bytes is {self.bytes}, expected at least 0")


def check_key(key: str) -> None:
    """Raise ValueError unless the key is a path inside NSD's folders; a hostile one must not leave
    the tree.
    """
    parts = key.split("/")
    plain = all(part not in ("", ".", "..") for part in parts) and key.isprintable()
    if not plain or "\\" in key or ":" in key or len(parts) < 2 or parts[0] not in TOP_FOLDERS:
        folders = ", ".join(f"{folder}/" for folder in TOP_FOLDERS)
        raise ValueError(
            f"key {key!r} is not a plain path below {folders}; this is no manifest of NSD files"
        )


def read(path: Path) -> list[Entry]:
    """Entries of a manifest; a file that is none, or names a path outside the tree, raises
    ValueError with its path.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the download stage")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); delete it and run the download stage again"
        ) from None
    if (
        not isinstance(content, Mapping)
        or content.get("format") != FORMAT
        or not isinstance(content.get("files"), list)
    ):
        raise ValueError(
            f"{path} is no manifest of format {FORMAT}; delete it and run the download stage again"
        )
    entries = [
        build(Entry, item, str(path), f"files[{row}]") for row, item in enumerate(content["files"])
    ]
    keys = [entry.key for entry in entries]
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"{path} names {next(key for key in keys if keys.count(key) > 1)} twice; delete it and "
            "download"
        )
    return entries


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries in the order of their keys."""
    files = [dataclasses.asdict(entry) for entry in sorted(entries, key=lambda entry: entry.key)]
    with replacing(path) as (temporary,):
        temporary.write_text(
            json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n", encoding="utf-8"
        )


def local_path(root: Path, entry: Entry) -> Path:
    """Where the file of an entry lies in a tree."""
    return root / PurePosixPath(entry.key)


def list_files(folders: Iterable[Path]) -> list[Path]:
    """All files below the folders, manifests left out, sorted."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if path.name != layout.MANIFEST_NAME]


def record(path: Path, root: Path, folders: Sequence[Path], threads: int = 2) -> None:
    """Write the manifest of every file that lies below the folders, with its SHA-256."""
    with ThreadPoolExecutor(threads) as pool:
        write(path, pool.map(lambda file: describe(root, file), list_files(folders)))


def describe(root: Path, path: Path) -> Entry:
    """Entry of a file of the tree that nobody else describes."""
    return Entry(
        key=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path)
    )


def by_key(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by their key."""
    return {entry.key: entry for entry in entries}
