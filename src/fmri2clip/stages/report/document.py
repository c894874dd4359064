"""What a report is made of: sections of blocks, written once and rendered as HTML and as Markdown.

Inline text knows two marks, **bold** and `code`; everything else is escaped by the renderers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval, in the unit that is printed (percent, points, or none)."""

    value: float
    low: float = math.nan
    high: float = math.nan
    digits: int = 1
    signed: bool = False

    def text(self) -> str:
        """The number as it is printed, with a true minus sign."""
        return _number(self.value, self.digits, self.signed)

    def interval(self) -> str:
        """'[low, high]', or nothing where no interval exists (a constant, or fewer than two
        images).
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return ""
        low, high = (_number(end, self.digits, self.signed) for end in (self.low, self.high))
        return f"[{low},\N{NO-BREAK SPACE}{high}]"


def _number(value: float, digits: int, signed: bool) -> str:
    if math.isnan(value):
        return "-"
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Verdict:
    """A word of judgement; tone is 'good', 'bad' or 'open' and only chooses the look."""

    word: str
    tone: str = "open"


Item = str | Score | Verdict
Cell = Item | tuple[Item, ...]


@dataclass(frozen=True)
class Row:
    """cells: one a column. kind 'heading' is one cell over the whole width; 'result' and 'context'
    differ in weight.
    """

    cells: tuple[Cell, ...]
    kind: str = "result"


@dataclass(frozen=True, kw_only=True)
class Table:
    """label: dataset, protocol and seed of its numbers.

    brief_columns: those kept in summary.md (empty = all).
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    label: str = ""
    brief_columns: tuple[int, ...] = ()
    n_text_columns: int = 1

    def __post_init__(self) -> None:
        for row in self.rows:
            expected = 1 if row.kind == "heading" else len(self.columns)
            assert len(row.cells) == expected, (self.title, row)


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    # "" plain, "notice" set apart, "missing" an input that is not there, "label" beside numbers
    tone: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of points."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """path: a finished PNG; alt: what a reader who cannot see it needs; caption: what it shows,
    with its label.
    """

    path: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A thumbnail (PNG bytes; empty where the data set's terms forbid showing it) with its
    words.
    """

    png: bytes
    title: str
    lines: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One brain-decoded test image: the picture that was seen, what was retrieved, the captions
    that match best.
    """

    heading: str
    stimulus: Picture
    retrieved: tuple[Picture, ...]
    captions: tuple[tuple[str, bool], ...]  # (caption, it belongs to the stimulus)


@dataclass(frozen=True)
class Gallery:
    """Cases as page elements in HTML, with a note; `figure` holds the same cases as one PNG for
    Markdown.
    """

    cases: tuple[Case, ...]
    note: str
    figure: Figure


@dataclass(frozen=True)
class Details:
    """Collapsed in HTML; left out of summary.md, which says so."""

    summary: str
    blocks: tuple[Block, ...]


Block = Table | Paragraph | Bullets | Figure | Gallery | Details


@dataclass(frozen=True)
class Section:
    """A part of the report with an entry in its table of contents."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report, before it is rendered."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
