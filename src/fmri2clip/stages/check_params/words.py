"""Needs in words: sizes, numbers, durations, and the rows of a table that they make."""

from __future__ import annotations

from collections.abc import Sequence

from fmri2clip.stages.check_params.case import Need
from fmri2clip.stages.check_params.machine import GB

MOST_LABEL = 26  # characters


def group(needs: Sequence[Need]) -> list[tuple[str, list[Need]]]:
    """(label, needs): items of one stage that print alike share a row."""
    rows: dict[tuple[str, ...], list[Need]] = {}
    for need in needs:
        rows.setdefault((need.stage, *list_cells(need)), []).append(need)
    labelled = []
    for same in rows.values():
        items = [need.item for need in same if need.item]
        n_all = sum(need.stage == same[0].stage for need in needs)
        label = same[0].name
        if len(items) == n_all > 1:
            label = f"{same[0].stage} ({n_all})"
        elif len(items) > 1:
            label = f"{label} +{len(items) - 1}"
        labelled.append((shorten(label), same))
    return labelled


def shorten(label: str) -> str:
    """A label that fits its column."""
    return label if len(label) <= MOST_LABEL else f"{label[: MOST_LABEL - 2]}.."


def list_cells(need: Need) -> tuple[str, ...]:
    """The cells of a row behind its label: download, disk, memory, pages, GPU, weights, time."""
    weights = "?" if need.weights is None else count(need.weights)
    sizes = (need.download, need.disk, need.ram, need.pages, need.gpu)
    return (*map(gb, sizes), weights, duration(need.seconds))


def gb(n_bytes: float) -> str:
    """Bytes in MB or GB: 0 as '-'."""
    if not n_bytes:
        return "-"
    if n_bytes < 0.9995 * GB:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / GB:.1f} GB" if n_bytes < 999.5 * GB else f"{n_bytes / GB:.0f} GB"


def count(n: int) -> str:
    """A number in thousands or millions: 0 as '-'."""
    if not n:
        return "-"
    if n < 999_500:
        return f"{n / 1e3:.0f} k"
    return f"{n / 1e6:.1f} M" if n < 99.95e6 else f"{n / 1e6:.0f} M"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, two digits or more."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.0f} h"
