"""A run under a preset, beside the working tree: `make try NAME=smoke`.

    python -m pipeline.trial smoke -S decoders.brainclip.alpha=1.0

is `dvc exp run --temp` with what presets/smoke.yaml changes as overrides, and yours behind them. It
runs in a copy of the project that shares the cache: params.yaml, dvc.lock, data/, models/ and
reports/ stay as they are. The result is an experiment of that name, of this commit, for `dvc exp
show`, `dvc exp diff` and `dvc exp apply`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.core.strict import check_known
from pipeline.preset import WHOLE, patch

TARGETS = ("report",)


def read_overrides(source: Path, params_path: Path = Path("params.yaml")) -> list[str]:
    """What a file of presets/ changes, in the grammar of `dvc exp run -S`.

    Raises ValueError for an empty table, which DVC writes as broken YAML behind its comments.
    """
    yaml = YAML(typ="safe")
    before = yaml.load(params_path.read_text(encoding="utf-8"))
    after = yaml.load(patch(params_path, source))
    if empty := [name for name in WHOLE if not after[name]]:
        raise ValueError(
            f"{source} leaves {empty[0]} empty, which an override cannot; use it in a clone: make "
            f"preset NAME={source.stem}"
        )
    after["templates"] = before["templates"]  # what entries inherit stands in each of them
    return list(_compare(before, after))


def _compare(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for key, value in after.items():
        name = f"{prefix}{key}"
        if value == before[key]:
            continue
        if name in WHOLE:
            # Without the first, entries that the preset does not have would stay.
            yield f"~{name}"
            yield f"+{name}={quote(value)}"
        elif isinstance(value, Mapping):
            yield from _compare(before[key], value, f"{name}.")
        else:
            yield f"{name}={quote(value)}"


def quote(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}: {quote(one)}" for key, one in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(quote, value))}]"
    if isinstance(value, str):
        # A backslash is one but for those in front of a quotation mark.
        doubled = re.sub(r"\\+(?='|$)", lambda found: 2 * found[0], value)
        return "'" + doubled.replace("'", "\\'") + "'"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.trial", description=__doc__)
    parser.add_argument("name", help="a file of presets/, without .yaml")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    known = sorted(path.stem for path in Path("presets").glob("*.yaml"))
    try:
        check_known(given.name, known, "presets", "preset")
        overrides = [*read_overrides(Path("presets", f"{given.name}.yaml")), *given.set_param]
    except ValueError as error:
        sys.exit(f"trial: {error}")
    settings = [part for override in overrides for part in ("-S", override)]
    command = ["dvc", "exp", "run", "--temp", "--force", "--name", given.name, *settings, *TARGETS]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
