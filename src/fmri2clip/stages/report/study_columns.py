"""Columns of a study's tables: titles, units and cells of metrics of decoding and of reconstructed
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from fmri2clip.metrics.pictures.protocols import PROTOCOLS
from fmri2clip.stages.report.document import Cell, Score
from fmri2clip.stages.report.inputs import Tree
from fmri2clip.stages.report.picture_tables import Column, find_column
from fmri2clip.stages.report.scores import ATTENTION, DIRECTIONS, HEADLINE, OTHER, READOUTS, TOKENS

PERCENT = (
    "retrieval",
    "zero_shot",
    "classification",
    "unseen",
    "reference",
    "readout",
    "attention",
)  # families of fractions
COUNTS = ("n_images", "n_classes", "n_undefined", "n_held_out_images")
FAMILIES = {
    "retrieval": "n-way",
    "retrieval_hard": "hard gallery",
    "retrieval_all": "whole test set",
}


def list_columns(study: Tree, unit: str) -> list[Column]:
    """A column a metric. unit: of shares, '%' or 'points'; titles name it where not all columns are
    shares.
    """
    ways = study["params"].get("evaluation.n_way", "n")
    metrics = study["metrics"]
    several = len(list_protocols(metrics)) > 1
    mixed = not all(scale(metric) == 100 for metric in metrics)
    columns = []
    for metric in metrics:
        is_percent = scale(metric) == 100
        protocol = metric.split(".")[0]
        title = title_metric(metric, ways) + (
            f", {protocol}" if several and protocol in PROTOCOLS else ""
        )
        title += f" ({unit})" if mixed and is_percent else ""
        columns.append(Column(metric=metric, title=title, is_percent=is_percent))
    return columns


def describe_unit(columns: Iterable[Column], unit: str) -> str:
    """' (unit)' for the title of a table whose columns are all shares, else nothing."""
    return f" ({unit})" if all(column.is_percent for column in columns) else ""


def list_protocols(metrics: Iterable[str]) -> list[str]:
    """Protocols of pictures among the metrics."""
    return list(
        dict.fromkeys(
            metric.split(".")[0] for metric in metrics if metric.split(".")[0] in PROTOCOLS
        )
    )


def title_metric(metric: str, ways: object = "n") -> str:
    """Column title of a dotted metric name, without its unit; names that are not known are printed
    as they are.
    """
    family, *middle, leaf = metric.split(".")
    picture = find_column(metric)
    if picture is not None:
        return picture.title.removesuffix(" (%)")
    if metric in HEADLINE and family != "retrieval":
        return HEADLINE[metric]
    if family in FAMILIES and len(middle) == 1 and middle[0] in DIRECTIONS:
        gallery = FAMILIES[family].replace("n-way", f"{ways}-way")
        return f"{DIRECTIONS[middle[0]]}, {gallery} {leaf.replace('top', 'top-')}"
    if metric in READOUTS:
        return f"read-out of {READOUTS[metric]}"
    return {**OTHER, **TOKENS, **ATTENTION}.get(metric, f"`{metric}`")


def scale(metric: str) -> int:
    """100 for a fraction that is printed in percent, 1 for any other number."""
    picture = find_column(metric)
    if picture is not None:
        return 100 if picture.is_percent else 1
    return 100 if metric.startswith(PERCENT) and metric.rsplit(".", 1)[-1] not in COUNTS else 1


def variant_cell(scores: Mapping[str, Mapping[str, float]], metric: str) -> Cell:
    """Score with its interval: shares in percent, other numbers of pictures with three digits; or a
    plain count.
    """
    if metric not in scores:
        return "-"
    value, low, high = (
        scale(metric) * scores[metric].get(key, math.nan) for key in ("value", "low", "high")
    )
    if scale(metric) == 100:
        return Score(value, low, high)
    return Score(value, low, high, digits=3) if find_column(metric) else _count(value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def difference_cell(found: Tree | None, metric: str) -> Cell:
    """A paired difference with its interval and count of subjects: shares in points, else three
    digits.
    """
    if found is None:
        return "-"
    value, low, high = (
        scale(metric) * found.get(key, math.nan) for key in ("value", "low", "high")
    )
    score = Score(value, low, high, digits=1 if scale(metric) == 100 else 3, signed=True)
    count = f"{found['n_positive']}/{found['n_subjects']}"
    return score, count
