"""Whether what a stage reads is still what it was when the stage began.

DVC reads parameters and inputs when a stage ends, and records them as what the stage was run with.
An edit in between would be recorded as used, and the run cache would keep that lie. So a stage
remembers what dvc.yaml lists for it when it begins, and `check` refuses to go on when any of it has
changed: at each epoch or block, before an output gets its name, and at the end. Half-done work is
kept, so undoing the edit and running again costs seconds.

Without `begin` (in the library, in tests) nothing is watched and `check` does nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SHORT = 60  # characters of two values that fit into a message
SMALL = 2**20  # bytes; smaller files, such as code, are compared by content
# Size, time of change and inode of a file, and the digest of a small one.
Print = tuple[int, int, int, str]


class Watch:
    """The parameters and files of one stage, as they were when this was made."""

    def __init__(self, root: Path, stage: str, arguments: Sequence[str] = ()) -> None:
        """stage: as in dvc.yaml; arguments: of its command, the key of a foreach first.

        A stage that dvc.yaml does not have reads nothing that DVC would record.
        """
        self.root = root
        self.stage = " ".join([stage, *arguments])
        content = _load(root / "dvc.yaml")
        self.params_print = _print(root / "params.yaml")
        params = _load(root / "params.yaml")
        self.deps, keys = _resolve(content.get("stages", {}).get(stage), params, arguments)
        self.prints = {path: _print(path) for path in _files(root / dep for dep in self.deps)}
        self.values = {key: _dig(params, key) for key in keys}

    def also(self, paths: Iterable[Path]) -> None:
        """Watch these files too, from now on."""
        self.prints |= {path: _print(path) for path in _files(paths)}

    def find_change(self) -> str:
        """What has changed, in words; '' for nothing."""
        # Parsing takes 20 ms, a look at the file nothing; other parameters may change.
        if not _is_same(self.root / "params.yaml", self.params_print):
            now = _load(self.root / "params.yaml")
            for key, before in self.values.items():
                if _dig(now, key) != before:
                    return f"{_name_change(key, before, _dig(now, key))} of params.yaml"
        for path, before in self.prints.items():
            if not _is_same(path, before):
                return f"{path}"
        return ""

    def check(self) -> None:
        """Raise ValueError if anything has changed."""
        if change := self.find_change():
            raise ValueError(
                f"{change} changed while {self.stage} ran, so its results belong to neither state; "
                "put it back and run again (finished work is kept), or run again to start anew"
            )


_current: list[Watch] = []  # of this process: none, or one


def begin(stage: str, arguments: Sequence[str] = (), root: Path = Path()) -> None:
    """Watch what dvc.yaml in `root` lists for the stage, until `end`."""
    end()
    if (root / "dvc.yaml").is_file():
        _current.append(Watch(root, stage, arguments))


def end() -> None:
    """Watch nothing any more."""
    _current.clear()


def also(paths: Iterable[Path]) -> None:
    """Watch files that dvc.yaml does not list for the stage, such as those that a list names."""
    for watch in _current:
        watch.also(paths)


def has_changed() -> bool:
    """Whether `check` would raise: to save what is half done first."""
    return any(watch.find_change() for watch in _current)


def check() -> None:
    """Raise ValueError if anything that the stage reads has changed since it began."""
    for watch in _current:
        watch.check()


def _load(path: Path) -> dict[str, Any]:
    """Content of a YAML file; nothing if it cannot be read, of which params.load says more."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return dict(content) if isinstance(content, Mapping) else {}


def _resolve(
    stage: Mapping[str, Any] | None, params: Mapping[str, Any], arguments: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Paths of deps and keys of parameters; '' is the key of all parameters."""
    if stage is None:
        return [], []
    key = arguments[0] if arguments else ""
    item: Any = key
    if "foreach" in stage:
        table = _dig(params, re.sub(r"[${}]", "", stage["foreach"]))
        # A key that the table lacks is the stage's to refuse, in words of its own.
        item = table.get(key) if isinstance(table, Mapping) else key
        stage = stage["do"]

    def fill(text: str) -> str:
        def value(match: re.Match[str]) -> str:
            first, *rest = match[1].split(".")
            found = {"key": key, "item": item}.get(first, params.get(first))
            return str(_dig(found, ".".join(rest)))

        return re.sub(r"\$\{([^}]+)\}", value, text)

    keys = []
    for entry in stage.get("params", ()):
        # `params.yaml:` without keys stands for all of them.
        keys += [entry] if isinstance(entry, str) else [""]
    return [fill(dep) for dep in stage.get("deps", ())], [fill(k) for k in keys]


def _dig(tree: Any, key: str) -> Any:
    """Value under a dotted key; None where there is none; the tree itself for ''."""
    for part in filter(None, key.split(".")):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _name_change(key: str, before: Any, now: Any) -> str:
    """The innermost key that differs, and its two values where they are short."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *now]:
            if before.get(name) != now.get(name):
                inner = f"{key}.{name}" if key else str(name)
                return _name_change(inner, before.get(name), now.get(name))
    return f"{key} ({before} to {now})" if len(f"{before}{now}") < SHORT else key


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (f for f in sorted(path.rglob("*")) if f.is_file() and _counts(f))
        else:
            yield path


def _counts(path: Path) -> bool:
    """Python writes its cache beside the code while a stage runs."""
    return "__pycache__" not in path.parts


def _print(path: Path) -> Print:
    try:
        found = path.stat()
        digest = ""
        if found.st_size < SMALL and path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return found.st_size, found.st_mtime_ns, found.st_ino, digest
    except OSError:
        return -1, 0, 0, ""


def _is_same(path: Path, before: Print) -> bool:
    try:
        found = path.stat()
    except OSError:
        return before[0] < 0
    if (found.st_size, found.st_mtime_ns, found.st_ino) == before[:3]:
        return True
    # A small file that was written anew with the same content is the same.
    return bool(before[3]) and _print(path)[3] == before[3]
