"""How good the data and the trainings are: figures of the world, validation scores by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fmri2clip.stages.report.charts import Line, LineChart, chart_lines
from fmri2clip.stages.report.inputs import Inputs

SHOWN = {"val_image_top1": "pictures found", "val_map": "mAP"}  # column -> title; the first there


def draw_curves(inputs: Inputs) -> list[LineChart]:
    """Of the runs that are trained by epochs; closed forms have no curve."""
    charts = []
    for run, table in inputs.curves.items():
        column = next((c for c in SHOWN if c in table.columns and table[c].notna().any()), None)
        if column is None or table["epoch"].nunique() < 2:
            continue
        lines = [
            Line(str(subject), rows["epoch"].tolist(), (100 * rows[column]).tolist())
            for subject, rows in table.dropna(subset=[column]).groupby("subject", sort=False)
        ]
        charts.append(chart_lines(f"{run}: {SHOWN[column]}, %", lines, "epoch"))
    return charts


def describe_world(inputs: Inputs) -> str:
    """Whether the simulated world is as it was asked to be."""
    asserted = dict(_list_bands(inputs.further.get("world", {}).get("asserted", {})))
    if not inputs.is_simulated or not asserted:
        return ""
    out = [f"{name} is {leaf['value']}" for name, leaf in asserted.items() if not leaf["met"]]
    said = f"{len(asserted) - len(out)} of {len(asserted)} figures that the world must have are met"
    return f"{said}; not: {', '.join(out)}." if out else f"{said}."


def _list_bands(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, child in tree.items():
        name = f"{path}.{key}" if path else key
        if "met" in child:
            yield name, child
        else:
            yield from _list_bands(child, name)
