"""Results of the hierarchy analysis as numbers and a figure, and the band of blocks they suggest.

Contrasts, each 0 if the groups do not differ and positive if the high group prefers later blocks:

late_difference    RSA(high, last block) - RSA(low, last block); an equally better fit to all
                   blocks raises it too
late_preference    late_difference less the same difference at the first block
peak_gap           block of highest RSA of the high group minus that of the low group

Letters: L blocks, R resamples of the images (row 0 is the sample), N shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.clip.blocks import SUMMARIES
from fmri2clip.core.params import Hierarchy as HierarchyConfig
from fmri2clip.figures import plots
from fmri2clip.metrics.statistics import estimate
from fmri2clip.stages.hierarchy.inputs import GROUPS
from fmri2clip.stages.hierarchy.voxel_shuffle import p_value

Array = NDArray[Any]
DECIMALS = 4  # of every number


@dataclass(frozen=True, kw_only=True)
class Result:
    """One subject: RSA (R, L) and CKA (L) by summary and group, contrasts (R) and shuffles (N).

    block_cka: between blocks, (L, L) by summary.
    """

    counts: Mapping[str, int]
    reliability: Mapping[str, float]
    rsa: Mapping[str, Mapping[str, Array]]
    cka: Mapping[str, Mapping[str, Array]]
    block_cka: Mapping[str, Array]
    observed: Mapping[str, float]
    shuffled: Mapping[str, Mapping[str, Array]]  # clusters and voxels -> contrast


def late_contrasts(low_xL: Array, high_xL: Array) -> dict[str, Array]:
    """The contrasts of the head of this file; x: any leading axes."""
    difference_xL = high_xL - low_xL
    return {
        "late_difference": difference_xL[..., -1],
        "late_preference": difference_xL[..., -1] - difference_xL[..., 0],
        "peak_gap": (high_xL.argmax(axis=-1) - low_xL.argmax(axis=-1)).astype(np.float64),
    }


def describe(results: Mapping[str, Result], config: HierarchyConfig) -> dict[str, Any]:
    """Numbers of every subject under `subjects`, their means under `mean`, and the rule's band.

    Means average each bootstrap sample and each shuffle over subjects, whose images and voxels
    differ.
    """
    parts = list(results.values())
    # Subject by subject before any interval is taken, so the mean has intervals and p-values of its
    # own.
    mean = Result(
        counts={"n_subjects": len(parts)},
        reliability={g: float(np.mean([part.reliability[g] for part in parts])) for g in GROUPS},
        rsa={
            s: {g: np.mean([part.rsa[s][g] for part in parts], axis=0) for g in GROUPS}
            for s in SUMMARIES
        },
        cka={
            s: {g: np.mean([part.cka[s][g] for part in parts], axis=0) for g in GROUPS}
            for s in SUMMARIES
        },
        block_cka={s: np.mean([part.block_cka[s] for part in parts], axis=0) for s in SUMMARIES},
        observed={
            c: float(np.mean([part.observed[c] for part in parts])) for c in parts[0].observed
        },
        shuffled={
            kind: {
                c: np.mean([part.shuffled[kind][c] for part in parts], axis=0) for c in by_contrast
            }
            for kind, by_contrast in parts[0].shuffled.items()
        },
    )
    first, last = choose_band(
        mean.rsa[config.tokens]["all"][0], mean.block_cka[config.tokens], config
    )
    return {
        "mean": describe_result(mean, config.tokens),
        "subjects": {
            subject: describe_result(result, config.tokens) for subject, result in results.items()
        },
        "band": {"first": first, "last": last},
    }


def describe_result(result: Result, tokens: str) -> dict[str, Any]:
    """One branch of the JSON tree: rounded numbers, blocks counted from 1.

    x_ci95_low and x_ci95_high stand beside x.
    """
    rsa = result.rsa[tokens]
    contrasts: dict[str, Any] = {}
    for name, value_R in late_contrasts(rsa["low"], rsa["high"]).items():
        contrasts |= with_interval(name, value_R)
    return {
        **result.counts,
        "reliability": {
            group: round(value, DECIMALS) for group, value in result.reliability.items()
        },
        "rsa": {
            s: {g: _by_block(value_RL) for g, value_RL in by.items()}
            for s, by in result.rsa.items()
        },
        "cka": {
            s: {g: _by_block(value_L[None]) for g, value_L in by.items()}
            for s, by in result.cka.items()
        },
        "block_cka": {
            s: {f"block{a + 1}": _by_block(row_L[None]) for a, row_L in enumerate(cka_LL)}
            for s, cka_LL in result.block_cka.items()
        },
        "contrasts": contrasts,
        "shuffled": {
            name: {"observed": round(observed, DECIMALS)}
            | {
                f"{kind}_{key}": round(float(value), DECIMALS)
                for kind, by in result.shuffled.items()
                for key, value in _summary(observed, by[name]).items()
            }
            for name, observed in result.observed.items()
        },
    }


def _summary(observed: float, shuffled_N: Array) -> dict[str, float]:
    return {"p": p_value(observed, shuffled_N), "mean": shuffled_N.mean(), "sd": shuffled_N.std()}


def _by_block(value_RL: Array) -> dict[str, float]:
    """block<l> -> its value, with an interval where there are resamples."""
    tree: dict[str, float] = {}
    for block, value_R in enumerate(value_RL.T, start=1):
        tree |= with_interval(f"block{block}", value_R)
    return tree


def with_interval(name: str, value_R: Array) -> dict[str, float]:
    """The value of row 0 under its name, and the 2.5 and 97.5 % points of other rows, if any."""
    if len(value_R) == 1:
        return {name: round(float(value_R[0]), DECIMALS)}
    found = estimate(float(value_R[0]), value_R[1:])
    numbers = {name: found.value, f"{name}_ci95_low": found.low, f"{name}_ci95_high": found.high}
    return {key: round(value, DECIMALS) for key, value in numbers.items()}


def choose_band(rsa_L: Array, cka_LL: Array, config: HierarchyConfig) -> tuple[int, int]:
    """First and last block, counted from 1, of the band that the detail tokens may average.

    The rule is ours. The last block is left out, as it is the semantic target. A band is a run of
    blocks whose RSA with all visual areas is at least band_share of the best block's (where that is
    negative, it is the best block's alone) and any two of which have a CKA of at least band_cka.
    The longest band is taken; of equally long ones that of the highest mean RSA.
    """
    n_blocks = max(1, len(rsa_L) - 1)  # the last one is left out, unless it is the only one
    best = rsa_L[:n_blocks].max()
    # A share of a negative number lies above it.
    enough_L = rsa_L >= min(best, config.band_share * best)
    bands = [
        (stop - start, float(rsa_L[start:stop].mean()), start + 1, stop)
        for start in range(n_blocks)
        for stop in range(start + 1, n_blocks + 1)
        if enough_L[start:stop].all() and cka_LL[start:stop, start:stop].min() >= config.band_cka
    ]
    _, _, first, last = max(bands)
    return first, last


def draw(results: Mapping[str, Result], tokens: str, path: Path) -> None:
    """RSA against block with its interval, one panel a subject; CKA between blocks, their mean."""
    panels = {
        subject: {g: _line(result.rsa[tokens][g]) for g in GROUPS}
        for subject, result in results.items()
    }
    cka_LL = np.mean([result.block_cka[tokens] for result in results.values()], axis=0)
    plots.draw_hierarchy(
        panels, cka_LL, path, y_label=f"RSA, noise-corrected ({tokens.replace('_', ' ')})"
    )


def _line(value_RL: Array) -> plots.Line:
    limits = [estimate(float(value_R[0]), value_R[1:]) for value_R in value_RL.T]
    x = list(range(1, value_RL.shape[1] + 1))
    return plots.Line(
        x, [e.value for e in limits], [e.low for e in limits], [e.high for e in limits]
    )
