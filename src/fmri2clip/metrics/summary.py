"""The nested numbers of metrics.json: every score with its 95 % interval, over all subjects and for
each.

Letters: S subjects, R resamples, M metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fmri2clip.metrics.statistics import (
    Floats,
    Run,
    estimate,
    mean_defined,
    mean_subjects,
    replicate,
    union_ids,
)

DECIMALS = 6  # of every number


def summarise(run: Run, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """Nested numbers: each score with x_ci95_low and x_ci95_high, averaged over subjects (without
    those that one of them lacks), then `subjects.<subject>`.
    """
    metrics = list(dict.fromkeys(name for scores in run.values() for name in scores.metrics()))
    result = replicate(run, metrics, union_ids([run]), n_bootstrap, (seed,))
    constants = list(dict.fromkeys(name for scores in run.values() for name in scores.constants))
    tree: dict[str, Any] = {}
    means = [mean_defined(value_RS) for value_RS in result.replicate_MRS]
    point_M = [
        mean_subjects(point_S, metric)
        for metric, point_S in zip(metrics, result.point_MS, strict=True)
    ]
    _plant(tree, metrics, np.array(point_M), means)
    for name in constants:
        _set(
            tree,
            name,
            float(
                np.mean(
                    [scores.constants[name] for scores in run.values() if name in scores.constants]
                )
            ),
        )
    for s, (subject, scores) in enumerate(run.items()):
        branch: dict[str, Any] = {}
        own = [value_RS[:, s] for value_RS in result.replicate_MRS]
        _plant(branch, metrics, result.point_MS[:, s], own)
        for name, value in scores.constants.items():
            _set(branch, name, value)
        tree.setdefault("subjects", {})[subject] = branch
    return tree


def _plant(
    tree: dict[str, Any], metrics: Sequence[str], point_M: Floats, replicate_MR: Sequence[Floats]
) -> None:
    """Undefined scores (no image asked) are left out: JSON has no NaN."""
    for m, metric in enumerate(metrics):
        result = estimate(float(point_M[m]), replicate_MR[m], metric)
        if np.isfinite(result.value):
            _set(tree, metric, result.value)
            _set(tree, f"{metric}_ci95_low", result.low)
            _set(tree, f"{metric}_ci95_high", result.high)


def _set(tree: dict[str, Any], dotted: str, value: float) -> None:
    *path, leaf = dotted.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
    tree[leaf] = (
        int(value)
        if float(value).is_integer() and abs(value) > 1
        else round(float(value), DECIMALS)
    )
