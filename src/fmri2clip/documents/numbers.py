"""Numbers of reports/: found by file and keys, and printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMATS = {  # name -> factor, digits after the point, sign always shown
    "percent": (100.0, 1, False),
    "points": (100.0, 1, True),
    "plain": (1.0, 2, False),
    "signed": (1.0, 2, True),
    "count": (1.0, 0, False),
    "thousands": (1e-3, 0, False),
    "millions": (1e-6, 0, False),
}


@dataclass(frozen=True)
class Number:
    """A number of a report with its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    def format(self, how: str) -> str:
        """The number in print; `how` is a format, digits and `interval`, the last two optional.

        Raises ValueError for another word.
        """
        name, *options = how.split()
        unknown = [word for word in options if not word.isdigit() and word != "interval"]
        if name not in FORMATS or unknown:
            raise ValueError(
                f"format {how!r} is unknown; give one of {', '.join(FORMATS)}, then digits, then "
                "interval"
            )
        factor, digits, signed = FORMATS[name]
        digits = next((int(word) for word in options if word.isdigit()), digits)
        text = _print(factor * self.value, digits, signed)
        if "interval" not in options or self.low is None or self.high is None:
            return text
        low = _print(factor * self.low, digits)
        high = _print(factor * self.high, digits)
        return f"{text} [{low}, {high}]"


def _print(value: float, digits: int, signed: bool = False) -> str:
    """Fixed digits with commas between thousands; what rounds to 0 has no minus of its own."""
    value = round(value, digits) + 0.0
    return f"{value:{'+' if signed else ''},.{digits}f}"


@dataclass
class Evidence:
    """The files below one root that numbers are taken from; each is read once."""

    root: Path
    _read: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Content of a file. Raises ValueError if it does not exist."""
        path = self.root / name
        if not path.is_file():
            raise ValueError(f"{name} does not exist; run the stage that writes it (dvc repro)")
        return path.read_text(encoding="utf-8")

    def tree(self, name: str) -> Any:
        """Content of a JSON file."""
        if name not in self._read:
            self._read[name] = json.loads(self.text(name))
        return self._read[name]

    def number(self, name: str, *steps: str) -> Number | None:
        """The number at the end of these steps, or None where the file has none."""
        node = find(self.tree(name), *steps)
        if isinstance(node, Mapping) and "value" in node:
            return Number(node["value"], node.get("low"), node.get("high"))
        if isinstance(node, bool) or not isinstance(node, (int, float)):
            return None
        *way, last = steps
        low = find(self.tree(name), *way, f"{last}_ci95_low")
        high = find(self.tree(name), *way, f"{last}_ci95_high")
        return Number(node, low, high)


def find(node: Any, *steps: str) -> Any:
    """What lies at the end of the steps from here, or None."""
    for step in steps:
        node = _follow(node, step)
    return node


def _follow(node: Any, step: str) -> Any:
    if isinstance(node, list):
        if step.isdigit():
            return node[int(step)] if int(step) < len(node) else None
        named = [entry for entry in node if step in (entry.get("title"), entry.get("name"))]
        return named[0] if named else None
    if not isinstance(node, Mapping):
        return None
    if step in node:
        return node[step]
    # Keys hold dots themselves; the longest that fits is taken: "null.prior" of "null.prior.auc".
    for place in reversed([i for i, letter in enumerate(step) if letter == "."]):
        if step[:place] in node:
            return _follow(node[step[:place]], step[place + 1 :])
    return None
