"""Apply a file of presets/ to params.yaml: `python -m pipeline.preset smoke`.

A preset holds the keys that differ; `runs` and `subjects` replace the whole table. One that names every section, as
presets/default.yaml does, replaces the file. Comments of params.yaml stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.params import Params, load
from fmri2clip.strict import check_known

WHOLE = ("runs", "subjects")  # tables: what a preset does not list must not stay


def apply_preset(name: str, params_path: Path = Path("params.yaml"), folder: Path = Path("presets")) -> None:
    """Patch params_path; it is left as it was if the result would not load. Raises ValueError that names the key."""
    check_known(name, sorted(path.stem for path in folder.glob("*.yaml")), str(folder), "preset")
    source = folder / f"{name}.yaml"
    text = source.read_text(encoding="utf-8")
    yaml = YAML()
    yaml.width = 4096
    patch = yaml.load(text)
    if set(patch) != {f.name for f in dataclasses.fields(Params)}:
        content = yaml.load(params_path.read_text(encoding="utf-8"))
        merge(content, patch, where=str(source))
        text = dump(yaml, content)
    temporary = params_path.with_name(f".{params_path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    try:
        load(temporary)
    except ValueError as error:
        temporary.unlink()
        raise ValueError(str(error).replace(str(temporary), str(source))) from None
    os.replace(temporary, params_path)


def merge(content: MutableMapping[str, Any], patch: MutableMapping[str, Any], where: str, prefix: str = "") -> None:
    """Put the values of `patch` into `content`; a key that is not there already is an error, outside of tables."""
    for key, value in patch.items():
        check_known(key, content, where, f"{prefix}{key}", "a key of params.yaml")
        if isinstance(value, MutableMapping) and f"{prefix}{key}" not in WHOLE:
            merge(content[key], value, where, f"{prefix}{key}.")
        else:
            content[key] = value


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
