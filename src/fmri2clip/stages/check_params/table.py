"""A plan as a table for people: rows, sums, and what to change; at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fmri2clip.stages.check_params.case import Need
from fmri2clip.stages.check_params.machine import Machine
from fmri2clip.stages.check_params.plan import Plan, find_warnings
from fmri2clip.stages.check_params.words import count, duration, gb, group, list_cells

HEAD = ("stage", "download", "disk", "memory", "pages", "GPU", "weights", "time")
WIDTHS = (28, 10, 10, 11, 10, 10, 10, 10)


def describe(plan: Plan, title: str) -> str:
    """Table, sums and warnings, at most 100 columns wide."""
    rows = [_row(plan, label, needs) for label, needs in group(plan.needs)]
    lines = [
        title,
        f"Time: of {plan.device.title} ({plan.device.source}).",
        f"To fit: {_describe_machine(plan.machine)}.",
        "",
        _join(HEAD),
        *map(_join, rows),
        _join(_sums(plan)),
        "",
        *_explain(plan),
        "",
    ]
    warnings = find_warnings(plan)
    if not warnings:
        return "\n".join([*lines, "Everything fits this machine."])
    return "\n".join([*lines, "To change (marked !):", *map(_wrap, warnings)])


def _row(plan: Plan, label: str, needs: Sequence[Need]) -> tuple[str, ...]:
    """Cells of a row, with a mark where a number is too large for the machine."""
    need = needs[0]
    cells = list(list_cells(need))
    limits = {2: (need.ram, plan.machine.memory), 4: (need.gpu, plan.machine.gpu_memory)}
    for place, (value, limit) in limits.items():
        if value > limit:
            cells[place] += "!"
    return (label, *cells)


def _sums(plan: Plan) -> tuple[str, ...]:
    """Sums of what adds up, and the largest of what does not."""
    needs = plan.needs
    disk = sum(n.disk for n in needs)
    mark = "!" if plan.disk > plan.machine.disk else ""
    return (
        "all; of memory the most",
        gb(sum(n.download for n in needs)),
        gb(disk) + mark,
        gb(max(n.ram for n in needs)),
        gb(max(n.pages for n in needs)),
        gb(max(n.gpu for n in needs)),
        count(sum(n.weights or 0 for n in needs)),
        duration(sum(n.seconds for n in needs)),
    )


def _explain(plan: Plan) -> list[str]:
    """What the columns leave open."""
    slowest = max(group(plan.needs), key=lambda row: sum(n.seconds for n in row[1]))
    seconds = sum(need.seconds for need in slowest[1])
    lines = [
        f"Disk at most: {gb(plan.disk)} ({gb(plan.scratch)} in passing; copies in DVC's cache: "
        f"{gb(plan.copied) if plan.copied else 'none, it links'}).",
        f"Longest: {slowest[0]}, {duration(seconds)}; trainings are counted to their last epoch.",
    ]
    if any(need.pages for need in plan.needs):
        lines.append("Pages: of mapped files, best kept in memory beside; else read again.")
    return lines


def _describe_machine(machine: Machine) -> str:
    gpu = f"{gb(machine.gpu_memory)} of GPU memory" if machine.gpu_memory else "no GPU"
    return f"{gb(machine.memory)} of memory, {gb(machine.disk)} of disk, {gpu}"


def _join(cells: Sequence[str]) -> str:
    """One line of the table; a mark stands behind the column, so that digits stay in line."""
    first, *others = cells
    line = first.ljust(WIDTHS[0])
    for text, width in zip(others, WIDTHS[1:], strict=True):
        line += text.rjust(width) if text.endswith("!") else f"{text} ".rjust(width)
    return line.rstrip()


def _wrap(line: str) -> str:
    return textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    ")
