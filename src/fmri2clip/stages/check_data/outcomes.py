"""What a check of an NSD tree returns, and the error it raises when something is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Status = Literal["PASS", "WARN", "SKIP", "FAIL"]


class Outcome(NamedTuple):
    """Of a check that ran to its end; detail: what was seen, or why nothing was looked at."""

    status: Status
    detail: str
    data: Mapping[str, Any] | None = None  # what the report file holds beyond the detail


class Check(NamedTuple):
    """A property of a tree with the outcome of its check; a check that raised has failed."""

    name: str
    status: Status
    detail: str
    data: Mapping[str, Any] | None = None
    is_read: bool = True  # false: a file could not be opened, so nothing is known of its content

    @property
    def passed(self) -> bool:
        """False for a failure only: a warning is for the reader, a skipped check found nothing
        wrong.
        """
        return self.status != "FAIL"


def require(condition: bool | np.bool_, problem: str) -> None:
    """Raises ValueError with the problem unless the condition holds."""
    if not condition:
        raise ValueError(problem)


def passed(detail: str, warnings: Sequence[str] = ()) -> Outcome:
    """PASS with what was seen, or WARN with the warnings before it."""
    if warnings:
        return Outcome("WARN", f"{'; '.join(warnings)} ({detail})")
    return Outcome("PASS", detail)


def skipped(why: str) -> Outcome:
    """SKIP with the reason why nothing was looked at."""
    return Outcome("SKIP", why)


def shorten(items: Sequence[object], n: int = 5) -> str:
    """'a, b, c and 7 more'."""
    shown = ", ".join(str(item) for item in items[:n])
    return f"{shown} and {len(items) - n} more" if len(items) > n else shown
