"""Where things lie in charts."""

from __future__ import annotations

import numpy as np
import pytest

from fmri2clip.stages.report import charts
from fmri2clip.stages.report.catalogue import Metric, Score

PERCENT = Metric(name="m", title="m", unit="%", digits=1)


@pytest.mark.parametrize(
    "values", [[0.3, 56.2], [-0.0531, 0.0287], [7.0, 43.3, 60.0], [0.0], [-12, -3]]
)
def test_axis_has_round_ends_around_every_value(values: list[float]) -> None:
    axis = charts.make_axis(values)
    assert axis.low <= min(*values, 0) and axis.high >= max(*values, 0) and axis.low < axis.high
    steps = np.diff(axis.ticks)
    assert np.allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6
    assert (axis.at(axis.low), axis.at(axis.high)) == (0, 100)
    texts = [text for _, text in axis.labels]
    assert "0" in texts and 2 <= sum(map(bool, texts)) <= charts.MAX_TICKS + 1


def test_dots_lie_where_their_numbers_say() -> None:
    cell = PERCENT.show(Score(0.25, 0.2, 0.3))
    row = charts.Dots(label="ridge", cell=cell, marks=[charts.Mark(10.0, 0)])
    chart = charts.chart_dots("found", [row], [charts.Rule(40.0, "chance 40", "chance")])
    assert chart.axis.ticks == (0, 10, 20, 30, 40)
    assert [chart.axis.at(x) for x in (10, 25, 40)] == [25, 62.5, 100]
    assert (
        chart.alt == "found: ridge 25.0\N{NO-BREAK SPACE}[20.0,\N{NO-BREAK SPACE}30.0]; chance 40"
    )


def test_lines_go_up_where_numbers_do() -> None:
    tree = {"block1": 0.1, "block2": 0.4}
    tree |= {f"{name}_ci95_{end}": value for name, value in tree.items() for end in ("low", "high")}
    line = charts.read_blocks(tree, "early")
    chart = charts.chart_lines("RSA", [line], "block")
    assert chart.y.ticks == (0, 0.1, 0.2, 0.3, 0.4)
    assert chart.points(line.x, line.y) == "0,75 100,0"
    assert chart.band(line) == "0,75 100,0 100,0 0,75"
    assert "early from 0.1 to 0.4, at most 0.4" in chart.alt


def test_scatter_counts_in_powers_of_ten() -> None:
    points = [
        charts.Point("a", "decoder", 0, 5.0, 30.0),
        charts.Point("b", "baseline", 1, 6.5, 40.0),
    ]
    chart = charts.chart_scatter("mAP", "weights", points, "%")
    assert chart.x.ticks == (5, 6, 7)
    assert chart.x.at(6.5) == 75
    assert chart.alt == "mAP against weights: a 100,000, 30.0; b 3,162,278, 40.0"
