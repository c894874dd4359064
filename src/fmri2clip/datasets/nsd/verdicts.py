"""What a check of an NSD tree returns, and how it says that something is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Status = Literal["PASS", "WARN", "SKIP", "FAIL"]


class Finding(NamedTuple):
    """Outcome of a check that ran to its end; the detail says what was seen, or why nothing was
    looked at.
    """

    status: Status
    detail: str
    data: Mapping[str, Any] | None = None  # what the report file holds beyond the detail


class Check(NamedTuple):
    """Verdict on one property of a tree."""

    name: str
    status: Status
    detail: str
    data: Mapping[str, Any] | None = None

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


def passed(detail: str, warnings: Sequence[str] = ()) -> Finding:
    """PASS with what was seen, or WARN with the warnings before it."""
    return (
        Finding("WARN", f"{'; '.join(warnings)} ({detail})")
        if warnings
        else Finding("PASS", detail)
    )


def skipped(why: str) -> Finding:
    return Finding("SKIP", why)


def shorten(items: Sequence[object], n: int = 5) -> str:
    """'a, b, c and 7 more'."""
    shown = ", ".join(str(item) for item in items[:n])
    return f"{shown} and {len(items) - n} more" if len(items) > n else shown
