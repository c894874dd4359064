"""The bands that a simulated world must meet (docs/preregistered.md), and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Dotted key: smallest and largest value, None where there is no limit.
BANDS: dict[str, tuple[float | None, float | None]] = {
    "captions.from_colour": (None, 0.25),
    "labels.from_background": (None, 0.35),
    "labels.betas_above_background": (0.1, None),
    "noise.snr_leading.least": (1.0, None),
    "noise.snr_leading.most": (None, 6.0),
    "noise.costs": (0.15, None),
    "observer.top1_3": (0.95, None),
    "hierarchy.text_low_over_high": (None, 0.6),
    "hierarchy.text_low_over_high_upper": (None, 0.7),
    "hierarchy.text_high": (0.1, None),
    "hierarchy.labels_low_over_high": (None, 0.6),
    "hierarchy.labels_low_over_high_upper": (None, 0.7),
    "hierarchy.labels_high": (0.1, None),
    "hierarchy.text_encoding_low_over_high": (None, 0.6),
    "hierarchy.labels_encoding_low_over_high": (None, 0.6),
    "hierarchy.pixels_high_over_low": (None, 0.6),
    "blocks.low_first_minus_last": (0.1, None),
    "blocks.high_last_minus_first": (0.1, None),
    "blocks.low_detail_minus_semantic": (0.05, None),
    "blocks.high_semantic_minus_detail": (0.05, None),
    "blocks.cka_first_last": (None, 0.6),
    **{f"selectivity.{area}": (0.5, 1.5) for area in ("faces", "bodies", "places", "words")},
    **{
        f"selectivity.{area}_not_maximal": (0.2, None)
        for area in ("faces", "bodies", "places", "words")
    },
    "text.beyond_image_lower": (0.0, None),
    "detail.paints": (0.05, None),
    "subjects.shared": (0.4, 0.8),
}


def judge_figures(values: Mapping[str, float]) -> dict[str, Any]:
    """Figures by dotted key as a tree: value, its band's limits, and met (1 or 0) where it has one.

    Raises ValueError for a key that has no band.
    """
    unknown = sorted(set(values) - set(BANDS))
    if unknown:
        raise ValueError(f"{unknown[0]} has no band; those that have are {', '.join(BANDS)}")
    tree: dict[str, Any] = {}
    for key, value in values.items():
        low, high = BANDS[key]
        # Too few images leave some figures undefined.
        leaf: dict[str, float | int | None] = {"value": None}
        if np.isfinite(value):
            leaf["value"] = round(float(value), 4)
        if low is not None:
            leaf["low"] = low
        if high is not None:
            leaf["high"] = high
        # The unrounded value is judged; a NaN meets nothing.
        above = low is None or value >= low
        below = high is None or value <= high
        leaf["met"] = int(above and below)
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = leaf
    return tree
