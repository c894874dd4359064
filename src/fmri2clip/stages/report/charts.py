"""Charts as the templates draw them: where everything lies, in percent of the axis.

Drawn as inline SVG with the page's own colours (templates/macros.html), so that they follow its
light, dark and printed theme, and stay sharp and readable at any width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fmri2clip.stages.report.catalogue import MINUS, Cell, Score

N_SHAPES = 8  # of marks, one a subject
MAX_TICKS = 5  # that are all written


@dataclass(frozen=True)
class Axis:
    """Numbers from low to high, with round ones written below."""

    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""

    def at(self, value: float) -> float:
        """Where a number lies, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Where each tick lies, and what is written there; every second one where they are many."""
        every = 1 + (len(self.ticks) > MAX_TICKS)
        # Counted from 0, which stays.
        zero = self.ticks.index(0.0) % every if 0.0 in self.ticks else 0
        shown = [i % every == zero for i in range(len(self.ticks))]
        texts = [f"{tick:g}".replace("-", MINUS) for tick in self.ticks]
        return [
            (self.at(tick), text if is_shown else "")
            for tick, text, is_shown in zip(self.ticks, texts, shown, strict=True)
        ]


@dataclass(frozen=True)
class Mark:
    """A number of one subject. shape: 0 to N_SHAPES - 1."""

    value: float
    shape: int


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A row of a chart of dots. tone: decoder, baseline, context or second."""

    label: str
    cell: Cell
    marks: Sequence[Mark] = ()
    tone: str = "decoder"


@dataclass(frozen=True)
class Rule:
    """A line across a chart, such as chance. style: chance, reference or target."""

    value: float
    label: str
    style: str


@dataclass(frozen=True, kw_only=True)
class DotChart:
    """Rows of numbers with their intervals on one axis."""

    title: str
    axis: Axis
    rows: Sequence[Dots]
    rules: Sequence[Rule] = ()
    note: str = ""

    @property
    def alt(self) -> str:
        """The chart in words."""
        said = "; ".join(f"{row.label} {row.cell}" for row in self.rows)
        lines = "".join(f"; {rule.label}" for rule in self.rules if rule.label)
        return f"{self.title}: {said}{lines}"


@dataclass(frozen=True)
class Line:
    """A series over x: y, and the limits of its interval where it has one."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Series on common axes."""

    title: str
    x: Axis
    y: Axis
    x_label: str
    lines: Sequence[Line]

    @property
    def alt(self) -> str:
        """The chart in words: where each series begins, is highest, and ends."""
        said = [
            f"{line.label} from {line.y[0]:.3g} to {line.y[-1]:.3g}, at most {max(line.y):.3g}"
            for line in self.lines
        ]
        return f"{self.title} by {self.x_label}: {'; '.join(said)}"

    def points(self, x: Sequence[float], y: Sequence[float]) -> str:
        """Corners of a polyline in a box of 100 by 100."""
        pairs = zip(x, y, strict=True)
        return " ".join(f"{self.x.at(a):g},{round(100 - self.y.at(b), 2):g}" for a, b in pairs)

    def band(self, line: Line) -> str:
        """Corners of the band between the limits."""
        return self.points([*line.x, *reversed(line.x)], [*line.low, *reversed(line.high)])


def make_axis(values: Sequence[float], unit: str = "", *, zero: bool = True) -> Axis:
    """An axis that holds all values, 0 too if asked for, from one round number to another."""
    known = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
    low = min(known)
    high = max(known)
    span = high - low or 1.0
    step = _round_step(span / 4)
    first = math.floor(round(low / step, 6))
    last = math.ceil(round(high / step, 6))
    last += first == last
    ticks = tuple(round(step * i, 10) + 0.0 for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, unit)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def chart_dots(
    title: str,
    rows: Sequence[Dots],
    rules: Sequence[Rule] = (),
    note: str = "",
    also: Sequence[Dots] = (),
) -> DotChart:
    """A chart whose axis holds every row, mark and rule; and those of another chart beside it."""
    values = [rule.value for rule in rules]
    for row in (*rows, *also):
        values += [row.cell.value, *(row.cell.limits or ()), *(m.value for m in row.marks)]
    unit = rows[0].cell.metric.points if rows[0].cell.signed else rows[0].cell.metric.unit
    axis = make_axis(values, unit)
    return DotChart(title=title, axis=axis, rows=rows, rules=rules, note=note)


def chart_lines(
    title: str, lines: Sequence[Line], x_label: str, unit: str = "", *, zero: bool = True
) -> LineChart:
    """A chart whose axes hold every series, the vertical one 0 as well if asked for."""
    xs = sorted({x for line in lines for x in line.x})
    ys = [y for line in lines for y in (*line.y, *line.low, *line.high)]
    ticks = tuple(xs) if len(xs) <= 12 else make_axis(xs).ticks
    ends = (xs[0], max(xs[-1], xs[0] + 1))
    x_axis = Axis(*ends, tuple(t for t in ticks if ends[0] <= t <= ends[1]))
    y_axis = make_axis(ys, unit, zero=zero)
    return LineChart(title=title, x=x_axis, y=y_axis, x_label=x_label, lines=lines)


def read_blocks(tree: Mapping[str, float], label: str) -> Line:
    """Series of block1, block2, ... with their intervals."""
    names = [f"block{i}" for i in range(1, len(tree) + 1) if f"block{i}" in tree]
    y, low, high = (
        [float(tree.get(f"{name}{end}", np.nan)) for name in names]
        for end in ("", "_ci95_low", "_ci95_high")
    )
    known = bool(np.isfinite([*low, *high]).all())
    x = list(range(1, len(names) + 1))
    return Line(label, x, y, low if known else (), high if known else ())


def to_score(tree: Mapping[str, float]) -> Score:
    """The number of a tree with value, low and high."""
    return Score(tree["value"], tree.get("low", math.nan), tree.get("high", math.nan))


@dataclass(frozen=True)
class Point:
    """One of a scatter chart; x is a logarithm."""

    label: str
    tone: str
    shape: int
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class ScatterChart:
    """Points on common axes, x logarithmic."""

    title: str
    x: Axis
    y: Axis
    x_label: str
    points: Sequence[Point]

    @property
    def alt(self) -> str:
        """The chart in words."""
        said = "; ".join(f"{p.label} {10**p.x:,.0f}, {p.y:.1f}" for p in self.points)
        return f"{self.title} against {self.x_label}: {said}"


def chart_scatter(title: str, x_label: str, points: Sequence[Point], unit: str) -> ScatterChart:
    """A chart whose axes hold every point."""
    low = math.floor(min(point.x for point in points))
    high = max(math.ceil(max(point.x for point in points)), low + 1)
    return ScatterChart(
        title=title,
        x=Axis(low, high, tuple(range(low, high + 1))),
        y=make_axis([point.y for point in points], unit),
        x_label=x_label,
        points=points,
    )
