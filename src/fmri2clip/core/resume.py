"""Where a stage keeps its half-done work: `.resume/<stage>/<sha256 of all that decides it>/`.

DVC deletes the outputs of a stage before it runs the stage again, so resume state lives outside
them. The name of the folder is a digest of parameters, inputs and code: a stage that was killed
continues, one that was changed starts anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fmri2clip.core.files import sha256_file, write_json

RESUME_ROOT = Path(".resume")
MADE = "made"  # folder of notes on finished outputs


def resume_dir(stage: str, *key_parts: Any, root: Path = RESUME_ROOT) -> Path:
    """The folder, created if need be, of one stage and one set of parameters, inputs and code.

    stage: name, may hold slashes; key_parts: anything made of dataclasses, mappings, lists, paths,
    strings and numbers.
    """
    folder = root / stage / digest(*key_parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*key_parts: Any) -> str:
    """sha256 of parts as resume_dir takes them."""
    text = json.dumps([_plain(part) for part in key_parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def remove(folder: Path, root: Path = RESUME_ROOT) -> None:
    """Delete a resume folder after success, and others of its stage: no key leads there now."""
    assert root.resolve() in folder.resolve().parents, f"{folder} is no resume folder"
    shutil.rmtree(folder.parent)


def record_made(stage: str, key: str, path: Path, root: Path = RESUME_ROOT) -> None:
    """Note that a finished output was made from all that `key` stands for.

    Beside the output and not in it: what an output holds must not change with code that gives the
    same numbers.
    """
    note = root / MADE / f"{stage}.json"
    write_json(note, {"key": key, "sha256": sha256_file(path)})


def is_made(stage: str, key: str, path: Path, root: Path = RESUME_ROOT) -> bool:
    """Whether this very file was made from all that `key` stands for: then it can stay."""
    note = root / MADE / f"{stage}.json"
    if not note.is_file() or not path.is_file():
        return False
    try:
        said = json.loads(note.read_text())
    except ValueError:
        return False  # half a note says nothing
    return bool(said == {"key": key, "sha256": sha256_file(path)})


def fingerprint(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Path -> [bytes, mtime in ns] of every file, folders walked.

    This identifies inputs without reading gigabytes.
    """
    files = [
        f
        for path in paths
        for f in ([path] if path.is_file() else sorted(path.rglob("*")))
        if f.is_file()
    ]
    return {str(f): [f.stat().st_size, f.stat().st_mtime_ns] for f in files}


def _plain(part: Any) -> Any:
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return {
            type(part).__name__: _plain(
                {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
            )
        }
    if isinstance(part, Mapping):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    if isinstance(part, Path):
        return str(part)
    assert part is None or isinstance(part, str | int | float | bool), (
        f"a {type(part).__name__} in a resume key"
    )
    return part
