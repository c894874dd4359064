"""Apply a file of presets/ to params.yaml: `python -m pipeline.preset smoke`.

A preset holds the keys that differ; those of WHOLE replace the whole table, with its comments. One
that names every section, as presets/default.yaml does, replaces the file. Other comments of
params.yaml stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.params import Params, load
from fmri2clip.strict import check_known

WHOLE = (
    "subjects",
    "rois",
    "clips",
    "runs",
    "generators",
    "reconstructions",
)  # what a preset does not list must not stay


def apply_preset(
    name: str, params_path: Path = Path("params.yaml"), folder: Path = Path("presets")
) -> None:
    """Patch params_path; it is left as it was if the result would not load.

    Raises ValueError that names the key.
    """
    check_known(name, sorted(path.stem for path in folder.glob("*.yaml")), str(folder), "preset")
    source = folder / f"{name}.yaml"
    text = source.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.width = 4096
    patch = yaml.load(text)
    if set(patch) != {f.name for f in dataclasses.fields(Params)}:
        content = yaml.load(params_path.read_text(encoding="utf-8"))
        merge(content, patch, where=str(source))
        text = replace_tables(dump(yaml, content), text, [key for key in patch if key in WHOLE])
    temporary = params_path.with_name(f".{params_path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    try:
        load(temporary)
    except ValueError as error:
        temporary.unlink()
        raise ValueError(str(error).replace(str(temporary), str(source))) from None
    os.replace(temporary, params_path)


def merge(
    content: MutableMapping[str, Any], patch: MutableMapping[str, Any], where: str, prefix: str = ""
) -> None:
    """Put the values of `patch` into `content`; a key that is not there already is an error,
    outside of tables.

    Tables in WHOLE are left to `replace_tables`.
    """
    for key, value in patch.items():
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
    lines, new = text.splitlines(), source.splitlines()
    for key in keys:
        lines[find_section(lines, key)] = new[find_section(new, key)]
    return "\n".join(lines) + "\n"


def find_section(lines: Sequence[str], key: str) -> slice:
    """Lines of a top-level key, its value and the comments inside; what stands unindented after
    them is the next key's.

    Raises ValueError if no line starts with the key.
    """
    start = next((place for place, line in enumerate(lines) if line.startswith(f"{key}:")), None)
    if start is None:
        raise ValueError(
            f"no line starts with '{key}:'; write the key at the start of a line, without quotes"
        )
    stop = start + 1
    for place, line in enumerate(lines[stop:], stop):
        if line.strip() and line[0] in " \t-":
            stop = place + 1
        elif line.strip() and line[0] != "#":
            break
    return slice(start, stop)


def dump(yaml: YAML, content: Any) -> str:
    """The document as text."""
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.preset", description=__doc__)
    parser.add_argument("name", help="name of a file in presets/, without .yaml")
    try:
        apply_preset(parser.parse_args().name)
    except ValueError as error:
        sys.exit(f"preset: {error}")
