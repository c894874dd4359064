"""Whether a run on another machine gave the results in git: one line in place of `git diff`.

python -m pipeline.compare    dvc.lock and reports/ of the working tree beside those of HEAD

On one machine and one number of threads a run repeats byte for byte. Another CPU adds in another
order, which the sixth digit of a training's curve shows; now and then two pictures change places,
which moves a score. So a number may differ by RELATIVE of itself or by SCORE, a printed one by
DIGITS of its last place, a figure by GREY on average. What must be equal: files, keys, text, whole
numbers; in dvc.lock commands, parameters and code. Ends with exit code 1 beyond that.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fmri2clip.core.stage import ends_in_one_line

RELATIVE = 1e-4
SCORE = 0.005  # two or three of 500 test images
DIGITS = 5
GREY = 1.0  # of 255
CODE = ("pipeline/", "src/", "assets/", "benchmarks/", "presets/")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


class Difference(NamedTuple):
    """Two values at one place; share: of what is allowed, infinite for what must be equal."""

    share: float
    where: str
    before: Any
    now: Any


def compare_trees(before: Any, now: Any, where: str = "") -> Iterator[Difference]:
    """Every value of two JSON trees that is not the same."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        for key in before:
            yield from compare_trees(before[key], now[key], f"{where}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for k, (a, b) in enumerate(zip(before, now, strict=True)):
            yield from compare_trees(a, b, f"{where}[{k}]")
    elif isinstance(before, float) and isinstance(now, float):
        allowed = max(RELATIVE * abs(before), SCORE)
        yield from _compare_numbers(before, now, allowed, where)
    elif before != now or type(before) is not type(now):
        yield Difference(math.inf, where, before, now)


def _compare_numbers(before: float, now: float, allowed: float, where: str) -> Iterator[Difference]:
    if before != now:
        share = abs(now - before) / allowed
        yield Difference(share if math.isfinite(share) else math.inf, where, before, now)


def compare_json(before: bytes, now: bytes) -> Iterator[Difference]:
    """Metrics and the like."""
    return compare_trees(json.loads(before), json.loads(now))


def compare_curves(before: bytes, now: bytes) -> Iterator[Difference]:
    """CSV files, epoch by epoch: losses, and scores of the validation images."""
    tables = [list(csv.reader(io.StringIO(text.decode()))) for text in (before, now)]
    if [len(row) for row in tables[0]] != [len(row) for row in tables[1]]:
        yield Difference(math.inf, "rows or columns", len(tables[0]), len(tables[1]))
        return
    for k, rows in enumerate(zip(*tables, strict=True)):
        for name, a, b in zip(tables[0][0], *rows, strict=True):
            where = f"{name} of row {k}"
            is_score = name.startswith("val_") and name != "val_loss"
            try:
                allowed = max(RELATIVE * abs(float(a)), SCORE if is_score else RELATIVE)
                yield from _compare_numbers(float(a), float(b), allowed, where)
            except ValueError:
                if a != b:
                    yield Difference(math.inf, where, a, b)


def compare_text(before: bytes, now: bytes) -> Iterator[Difference]:
    """Pages: the same words with other numbers in them."""
    a, b = before.decode(), now.decode()
    if NUMBER.split(a) != NUMBER.split(b):
        yield Difference(math.inf, "text", "", "")
        return
    for old, new in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True):
        places = len(old.partition(".")[2])
        allowed = max(RELATIVE * abs(float(old)), DIGITS * 10.0**-places) if places else RELATIVE
        yield from _compare_numbers(float(old), float(new), allowed, "number")


def compare_figures(before: bytes, now: bytes) -> Iterator[Difference]:
    """PNG files, pixel by pixel."""
    import numpy as np
    from PIL import Image

    a, b = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), float) for one in (before, now))
    if a.shape != b.shape:
        yield Difference(math.inf, "size", a.shape, b.shape)
    elif grey := float(np.abs(a - b).mean()):
        yield Difference(grey / GREY, "mean difference in grey", 0, round(grey, 3))


def compare_locks(before: bytes, now: bytes) -> Iterator[Difference]:
    """dvc.lock: digests of data may differ, nothing else."""
    from ruamel.yaml import YAML

    trees = [YAML(typ="safe").load(text.decode())["stages"] for text in (before, now)]
    return compare_trees(*({name: _settle(s) for name, s in tree.items()} for tree in trees))


def _settle(stage: dict[str, Any]) -> dict[str, Any]:
    """What of a stage's entry no machine decides."""
    files = {}
    for kind in ("deps", "outs"):
        for one in stage.get(kind, ()):
            is_code = one["path"].startswith(CODE) and kind == "deps"
            files[f"{kind} {one['path']}"] = one.get("md5") if is_code else one.get("nfiles")
    return {"cmd": stage["cmd"], "params": json.dumps(stage.get("params", {})), **files}


KINDS: dict[str, Callable[[bytes, bytes], Iterator[Difference]]] = {
    ".json": compare_json,
    ".csv": compare_curves,
    ".md": compare_text,
    ".png": compare_figures,
    ".lock": compare_locks,
}


def compare(root: Path) -> tuple[str, bool]:
    """One line on all that changed since HEAD, and whether it lies within the tolerance.

    Raises ValueError where there is nothing to compare with.
    """
    listed = _git(root, "diff", "--name-only", "--no-renames", "HEAD", "--", "dvc.lock", "reports")
    names = listed.decode().splitlines()
    if not names:
        return "dvc.lock and reports/ are those of HEAD, byte for byte", True
    found: list[Difference] = []
    for name in names:
        path = root / name
        if not path.is_file() or not _git(root, "ls-tree", "HEAD", name):
            found.append(Difference(math.inf, name, "there", "gone"))
            continue
        kind = KINDS.get(path.suffix, _compare_bytes)
        for one in kind(_git(root, "show", f"HEAD:{name}"), path.read_bytes()):
            found.append(one._replace(where=f"{name}: {one.where}"))
    worst = max(found, default=Difference(0, "", "", ""))
    said = f"{len(names)} files differ from HEAD"
    if not found:
        return f"{said}, in digests of data alone", True
    at = f"{worst.where} ({worst.before} is {worst.now} now)"
    if worst.share <= 1:
        return f"{said}, all within the tolerance; at most {worst.share:.0%} of it, {at}", True
    beyond = sum(one.share > 1 for one in found)
    return f"{said}; {beyond} values are beyond the tolerance, the worst {at}", False


def _compare_bytes(before: bytes, now: bytes) -> Iterator[Difference]:
    yield Difference(math.inf, "content", "", "")


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"git {arguments[0]} failed: {done.stderr.decode().strip()}")
    return done.stdout


def main() -> None:
    """Command line."""
    with ends_in_one_line("compare"):
        line, within = compare(Path())
    print(line)
    sys.exit(not within)


if __name__ == "__main__":
    main()
