"""Apply a file of presets/ to params.yaml: `python -m pipeline.preset smoke`.

A preset holds the keys that differ; those of WHOLE replace the whole table, with its comments.
Other comments of params.yaml stay. The preset `default` has no file: it is params.yaml as last
committed. It puts every key of that back, takes out the entries that a file of presets/ brought,
and leaves alone what is neither (a decoder section or a run of your own).

Values that are not committed may be overwritten: what params.yaml was then is kept beside it, as
.params.yaml.before_preset.1, .2 and so on.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.core.params import parse
from fmri2clip.core.strict import check_known

DEFAULT = "default"
# What a preset does not list of these must not stay.
WHOLE = ("subjects", "rois", "clips", "libraries", "runs", "generators", "reconstructions")


def apply_preset(
    name: str, params_path: Path = Path("params.yaml"), folder: Path = Path("presets")
) -> None:
    """Patch params_path; it is left as it was if the result would not load.

    What is overwritten and not committed is kept by `keep_copy`. Raises ValueError that names the
    key.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    check_known(name, [DEFAULT, *known], str(folder), "preset")
    if name == DEFAULT:
        source = f"{params_path} as committed"
        text = restore(params_path, folder)
    else:
        source = str(folder / f"{name}.yaml")
        text = patch(params_path, Path(source))
    parse(text, source)
    copy = keep_copy(params_path, text)
    if copy:
        print(f"{params_path} had values that are not committed; as it was, it is kept in {copy}")
    temporary = params_path.with_name(f".{params_path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, params_path)


def keep_copy(params_path: Path, new: str) -> Path | None:
    """Copy params_path before `new` takes its place, and return the copy's path.

    None where nothing is lost: `new` or git has the same text. Copies are never overwritten; one
    that has this text already is returned.
    """
    text = params_path.read_text(encoding="utf-8")
    if text in (new, show_committed(params_path).stdout):
        return None
    start = f".{params_path.name}.before_preset"
    names = (params_path.with_name(f"{start}.{n}") for n in itertools.count(1))
    copy = next(p for p in names if not p.exists() or p.read_text(encoding="utf-8") == text)
    copy.write_text(text, encoding="utf-8")
    return copy


def patch(params_path: Path, source: Path) -> str:
    """The text of params_path with the keys of the preset `source`."""
    text = source.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.width = 4096
    changes = yaml.load(text)
    content = yaml.load(params_path.read_text(encoding="utf-8"))
    keep_anchors(content.get("templates", {}))
    merge(content, changes, where=str(source))
    return replace_tables(dump(yaml, content), text, [key for key in changes if key in WHOLE])


def keep_anchors(templates: MutableMapping[str, Any]) -> None:
    """Have each template written with its name as anchor.

    ruamel.yaml drops an anchor that no entry uses, but the tables of the next preset may need it.
    """
    for name, template in templates.items():
        template.yaml_set_anchor(name, always_dump=True)


def merge(
    content: MutableMapping[str, Any],
    changes: MutableMapping[str, Any],
    where: str,
    prefix: str = "",
) -> None:
    """Put the values of `changes` into `content`; outside of tables, a new key is an error.

    Tables in WHOLE are left to `replace_tables`.
    """
    for key, value in changes.items():
        check_known(key, content, where, f"{prefix}{key}", "a key of params.yaml")
        if f"{prefix}{key}" in WHOLE:
            continue
        if isinstance(value, MutableMapping):
            if not isinstance(content[key], MutableMapping):
                raise ValueError(
                    f"{where}: {prefix}{key} is a mapping, expected a value as in params.yaml"
                )
            merge(content[key], value, where, f"{prefix}{key}.")
        else:
            content[key] = value


def replace_tables(text: str, source: str, keys: Sequence[str]) -> str:
    """YAML text with the sections of these top-level keys taken from `source` as they stand there.

    As text, because ruamel.yaml ties comments to their neighbours: those of the old table would
    describe the new one.
    """
    lines = text.splitlines()
    new = source.splitlines()
    for key in keys:
        lines[find_block(lines, [key])] = new[find_block(new, [key])]
    return "\n".join(lines) + "\n"


def restore(params_path: Path, folder: Path) -> str:
    """The committed text of params_path, with the keys that only the file at hand has."""
    text = read_committed(params_path)
    yaml = YAML(typ="safe")
    committed = yaml.load(text)
    mine_text = params_path.read_text(encoding="utf-8")
    try:
        parse(mine_text, str(params_path))
    except ValueError as error:
        raise ValueError(
            f"{error}; mend it, or take the committed file: git checkout {params_path}"
        ) from None
    brought = entries_of_presets(folder)
    lines = text.splitlines()
    mine = mine_text.splitlines()
    for path in added_keys(yaml.load(mine_text), committed):
        if tuple(path) not in brought:
            insert(lines, path, mine[with_comments(mine, find_block(mine, path), lines)])
    return "\n".join(lines) + "\n"


def read_committed(path: Path) -> str:
    """The file at HEAD. Raises ValueError if there is none."""
    shown = show_committed(path)
    if shown.returncode:
        raise ValueError(
            f"preset {DEFAULT} is {path} at HEAD, which git cannot show "
            f"({shown.stderr.strip()}); commit the file first"
        )
    return shown.stdout


def show_committed(path: Path) -> subprocess.CompletedProcess[str]:
    """What `git show` says of the file at HEAD."""
    return subprocess.run(
        ["git", "show", f"HEAD:./{path.name}"],
        cwd=path.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def entries_of_presets(folder: Path) -> set[tuple[str, ...]]:
    """Table and name of every entry that a file of the folder puts into a table of WHOLE."""
    found: set[tuple[str, ...]] = set()
    for path in folder.glob("*.yaml"):
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        for key in WHOLE:
            if isinstance(content.get(key), Mapping):
                found |= {(key, name) for name in content[key]}
    return found


def added_keys(
    mine: Mapping[str, Any], committed: Mapping[str, Any], path: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Paths of keys in `mine` that `committed` lacks; an entry of a table of WHOLE is one value."""
    for key, value in mine.items():
        here = [*path, key]
        if key not in committed:
            yield here
        elif isinstance(value, Mapping) and isinstance(committed[key], Mapping):
            is_entry = len(here) > 1 and here[0] in WHOLE
            yield from () if is_entry else added_keys(value, committed[key], here)


def insert(lines: list[str], path: Sequence[str], block: Sequence[str]) -> None:
    """Put the lines of a key at the end of its mapping, in the column of the keys there."""
    if not (parent := path[:-1]):
        lines += ["", *block]
        return
    section = find_block(lines, parent)
    head, _, value = lines[section.start].partition(":")
    if value.split("#")[0].strip() == "{}":
        lines[section.start] = f"{head}:"
    column = len(head) - len(head.lstrip()) + 2
    shifted = textwrap.indent(textwrap.dedent("\n".join(block)), " " * column)
    lines[section.stop : section.stop] = shifted.splitlines()


def with_comments(lines: Sequence[str], block: slice, known: Sequence[str]) -> slice:
    """The block and the comments right above it, as far as they are not among the known lines."""
    start = block.start
    while start and lines[start - 1].strip().startswith("#") and lines[start - 1] not in known:
        start -= 1
    return slice(start, block.stop)


def find_block(lines: Sequence[str], path: Sequence[str]) -> slice:
    """Lines of a key, its value and the comments inside.

    What stands in the column of the key after them is the next key's. Raises ValueError if no line
    starts with a key of the path.
    """
    block = slice(0, len(lines))
    column = 0
    for depth, key in enumerate(path):
        start = next(
            (
                place
                for place in range(block.start + (depth > 0), block.stop)
                if lines[place].startswith(f"{' ' * column}{key}:")
            ),
            None,
        )
        if start is None:
            raise ValueError(
                f"no line starts with '{' ' * column}{key}:' for {'.'.join(path)}; write the key "
                "at the start of a line, without quotes, two columns right of its section"
            )
        block = slice(start, end_of_block(lines, start, column))
        column += 2
    return block


def end_of_block(lines: Sequence[str], start: int, column: int) -> int:
    """The line after the last one that belongs to the key at `start`, which stands in `column`."""
    stop = start + 1
    for place, line in enumerate(lines[stop:], stop):
        text = line.lstrip()
        own = len(line) - len(text)
        if text and (own > column or (own == column and text.startswith("-"))):
            stop = place + 1
        elif text and not text.startswith("#"):
            break
    return stop


def dump(yaml: YAML, content: Any) -> str:
    """The document as text."""
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.preset", description=__doc__)
    parser.add_argument("name", help=f"name of a file in presets/, without .yaml, or {DEFAULT}")
    try:
        apply_preset(parser.parse_args().name)
    except ValueError as error:
        sys.exit(f"preset: {error}")
