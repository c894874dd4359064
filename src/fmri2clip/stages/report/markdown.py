"""Renders a Report as Markdown that reads well in a terminal and on GitHub: padded tables, linked
pictures.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Cell,
    Details,
    Figure,
    Gallery,
    Item,
    Paragraph,
    Report,
    Score,
    Table,
    Verdict,
)

WIDTH = 110
QUOTED = ("notice", "missing")  # tones of a paragraph that stands apart


def render(report: Report, folder: Path, final: Mapping[Path, Path] | None = None) -> str:
    """folder: where the Markdown file will lie; links to pictures are relative to it.

    final: present path of a picture -> path where it will lie, for those that still move.
    """
    parts = [f"# {report.title}", _wrap(report.subtitle)]
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += [_block(block, folder, final or {}) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, folder: Path, final: Mapping[Path, Path]) -> str:
    match block:
        case Table():
            return _table(block)
        case Paragraph():
            return (
                textwrap.indent(_wrap(block.text, WIDTH - 2), "> ")
                if block.tone in QUOTED
                else _wrap(block.text)
            )
        case Bullets():
            return "\n".join(_bullet(item) for item in block.items)
        case Figure():
            return _figure(block, folder, final)
        case Gallery():
            return _figure(block.figure, folder, final)
        case Details():
            return f"({block.summary}: see index.html.)"


def _figure(figure: Figure, folder: Path, final: Mapping[Path, Path]) -> str:
    link = Path(os.path.relpath(final.get(figure.path, figure.path), folder)).as_posix()
    return f"![{figure.alt}]({link})\n\n{_wrap(figure.caption)}"


def _table(table: Table) -> str:
    keep = table.brief_columns or tuple(range(len(table.columns)))
    lines = [[_escape(table.columns[i]) for i in keep]]
    for row in table.rows:
        if row.kind == "heading":
            lines.append([f"**{_cell(row.cells[0])}**", *[""] * (len(keep) - 1)])
        else:
            lines.append([_cell(row.cells[i]) for i in keep])
    widths = [max(len(line[column]) for line in lines) for column in range(len(keep))]
    left = [i < table.n_text_columns for i in keep]
    padded = [_pad(line, widths, left) for line in lines]
    rule = "| " + " | ".join(
        "-" * w if is_left else "-" * (w - 1) + ":" for w, is_left in zip(widths, left, strict=True)
    )
    body = "\n".join([padded[0], rule + " |", *padded[1:]])
    label = f"\n\n{_wrap(table.label)}" if table.label else ""
    return f"**{table.title}**\n\n{body}{label}"


def _pad(line: list[str], widths: list[int], left: list[bool]) -> str:
    cells = [
        text.ljust(width) if is_left else text.rjust(width)
        for text, width, is_left in zip(line, widths, left, strict=True)
    ]
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    items = cell if isinstance(cell, tuple) else (cell,)
    return " ".join(_item(item) for item in items)


def _item(item: Item) -> str:
    if isinstance(item, Score):
        return f"{item.text()} {item.interval()}".rstrip()
    return _escape(item.word if isinstance(item, Verdict) else item)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _wrap(text: str, width: int = WIDTH) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _bullet(text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent="* ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
