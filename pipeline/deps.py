"""Write the code deps of dvc.yaml from what the stages import: `make deps`.

    python -m pipeline.deps            rewrite them
    python -m pipeline.deps --check    say which lines differ, and end with exit code 1

A folder stands for its files where a stage uses at least two thirds of them; a decoder's folder is
a dep of its own runs only. Deps that are no code (data, models, assets) stay as they are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fmri2clip.core.closure import PACKAGE, ROOT, decides_nothing, find_closure

SHARE = 2 / 3  # of a folder's files that a stage uses, from which on the folder stands for them
# Never folded: a training must not run again because scores are kept in another way.
APART = (
    PACKAGE,
    PACKAGE / "artefacts",
    PACKAGE / "stages",
    PACKAGE / "datasets",
    ROOT / "pipeline",
)
WHOLE = (PACKAGE / "core",)  # the ground of everything: always a folder
CODE = ("pipeline/", "src/fmri2clip/")
OWN_DECODER = "src/fmri2clip/decoders/${item.decoder}"
_DEP = re.compile(r"^(?P<indent> *)- (?P<path>\S+)$")


def list_deps(script: Path, per_run: bool) -> list[str]:
    """Code deps of the stage with this entry point, relative to the root.

    per_run: the stage runs once for each run of params.yaml, with the decoder of that run.
    """
    files = find_closure(ROOT / "pipeline" / "__init__.py", script)
    apart = APART
    extra = []
    if per_run:
        decoders = {path.parent for path in PACKAGE.glob("decoders/*/decoder.py")}
        others = {file for file in files if file.parent not in decoders}
        apart = (*APART, PACKAGE / "decoders")
        # Not of a stage that asks no decoder anything.
        extra = [OWN_DECODER] if others != files else []
        files = others
    found = sorted([*_fold(PACKAGE, files, apart), *extra])
    return sorted(_fold(ROOT / "pipeline", files, apart)) + found


def _fold(folder: Path, files: set[Path], apart: Sequence[Path]) -> Iterator[str]:
    """The files of a folder, with folders in the place of most of their files.

    apart: folders that never stand for their files.
    """
    inside = [path for path in folder.rglob("*.py") if not decides_nothing(path)]
    used = [path for path in inside if path in files]
    if not used:
        return
    if folder in WHOLE or (folder not in apart and len(used) >= SHARE * len(inside)):
        yield _name(folder)
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _fold(child, files, apart)
        elif child in files:
            yield _name(child)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rewrite(text: str) -> str:
    """dvc.yaml with the code deps that its stages have now."""
    stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
    return "\n".join(_rewrite_lines(text.split("\n"), stages))


def _rewrite_lines(lines: Iterable[str], stages: dict[str, Any]) -> Iterator[str]:
    code: list[str] = []
    in_deps = False
    for line in lines:
        if match := re.match(r"^  (\w+):$", line):
            stage = stages[match.group(1)]
            command = stage.get("do", stage)["cmd"].split()
            script = ROOT / "pipeline" / f"{command[2].removeprefix('pipeline.')}.py"
            code = list_deps(script, per_run=stage.get("foreach") == "${runs}")
        if in_deps:
            dep = _DEP.match(line)
            in_deps = dep is not None
            if dep and dep.group("path").startswith(CODE):
                continue
        yield line
        if line.strip() == "deps:":
            in_deps = True
            indent = line[: line.index("deps:")]
            yield from (f"{indent}- {path}" for path in code)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.deps", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, compare only")
    check = parser.parse_args().check
    path = ROOT / "dvc.yaml"
    text = path.read_text(encoding="utf-8")
    wanted = rewrite(text)
    if wanted == text:
        print("the code deps of dvc.yaml are those of the code")
    elif check:
        changed = set(text.split("\n")) ^ set(wanted.split("\n"))
        sys.exit(
            f"dvc.yaml: {len(changed)} code deps differ from what the code imports, such as "
            f"{min(changed).strip()}; run make deps"
        )
    else:
        path.write_text(wanted, encoding="utf-8")
        print("wrote dvc.yaml")


if __name__ == "__main__":
    main()
