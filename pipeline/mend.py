"""Mend what a kill or a full disk has left of DVC's own files: `python -m pipeline.mend`.

DVC writes dvc.lock and its list of locks, .dvc/tmp/rwlock, in place: whoever dies meanwhile leaves
half a file, and no DVC reads that again. Of dvc.lock the stages that stand there whole are kept;
the others come back from DVC's cache of runs, or run again. In the list, what a dead process held
is free, also where its number is another program's by now. `make repro` and studies do so first.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError, make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML

CONFLICT = "<<<<<<<"  # of a git merge, which is the user's to solve


def mend(root: Path = Path()) -> list[str]:
    """Lines that say what was mended; none where all is well, or where a DVC is at work."""
    folder = root / ".dvc" / "tmp"
    if not folder.is_dir():
        return []
    try:
        # While these are held, no DVC writes the two files.
        with (
            make_lock(str(folder / "lock"), tmp_dir=str(folder)),
            make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)),
        ):
            aside = folder / "dvc.lock.cut"
            return [*mend_lockfile(root / "dvc.lock", aside), *mend_rwlock(folder / "rwlock")]
    except LockError:
        return []


def mend_lockfile(path: Path, aside: Path) -> list[str]:
    """Keep the whole stages of a dvc.lock that was cut off; what was found goes to `aside`."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    if CONFLICT in text or is_whole(text):
        return []
    head, *stages = re.split(r"(?m)^(?=  \S)", text)
    kept = ""
    while stages and not kept:
        stages.pop()
        candidate = head + "".join(stages)
        kept = candidate if stages and is_whole(candidate) else ""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(kept, encoding="utf-8")
    os.replace(path, aside)
    if kept:
        os.replace(temporary, path)
    else:
        temporary.unlink()
    return [
        f"{path} had been cut off while DVC wrote it: {len(stages)} stages are kept, the others "
        f"come back from DVC's cache or run again (as it was: {aside})"
    ]


def is_whole(text: str) -> bool:
    """Whether DVC takes the text as its dvc.lock, down to the end of the last line."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except Exception:  # of YAML or of DVC's schema: what counts is that DVC would not read on
        return False
    return text.endswith("\n")


def mend_rwlock(path: Path) -> list[str]:
    """Take out what no living process holds; a list that cannot be read holds nothing."""
    if not path.is_file():
        return []
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        kept = {
            "write": {name: info for name, info in lock["write"].items() if lives(info)},
            "read": {name: list(filter(lives, infos)) for name, infos in lock["read"].items()},
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        path.unlink()
        return [f"{path} had been cut off while DVC wrote it: removed"]
    if kept == lock:
        return []
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(kept), encoding="utf-8")
    os.replace(temporary, path)
    return [f"{path} named processes that are gone: taken out"]


def lives(info: dict[str, Any]) -> bool:
    """Whether the process of an entry (its number, and its arguments in one line) is there."""
    try:
        words = " ".join(psutil.Process(int(info["pid"])).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    # The program's own name may be written in another way; what follows it is the same.
    return words.endswith(str(info["cmd"]).partition(" ")[2])


if __name__ == "__main__":
    for line in mend() or ["nothing to mend"]:
        print(line)
