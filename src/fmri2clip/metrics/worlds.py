"""Differences of two runs over several worlds: what verdicts are made of.

Worlds are resampled, then the images of each that was drawn (docs/preregistered.md); the runs of a
world share its images, so that its difference is a paired one. mAP has a jackknife for its images
(metrics/statistics.py), so there a world's images are resampled by its normal approximation.

With few worlds this interval is too narrow where worlds differ more than the images of one do, and
too wide where they differ less (benchmarks/world_coverage.py). `t_test` knows the worlds' values
alone and holds for any ratio, if these are normal.

Letters: W worlds, R resamples, K comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.statistics import (
    Difference,
    Run,
    is_jackknifed,
    jackknife_error,
    paired_difference,
    pool_differences,
)

Floats = NDArray[np.floating]
ALPHA = 0.05
N_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class WorldsDifference:
    """a - b, averaged over subjects and worlds. worlds: the difference in each; p: two-sided, of no
    difference; limits: K -> interval of coverage 1 - ALPHA / K.
    """

    value: float
    worlds: tuple[Difference, ...]
    p: float
    limits: Mapping[int, tuple[float, float]]

    @property
    def same_sign(self) -> bool:
        """Whether every world has the sign of the mean."""
        signs = {np.sign(world.estimate.value) for world in self.worlds}
        return signs == {np.sign(self.value)} and self.value != 0


def across_worlds(
    pairs_W: Sequence[Sequence[tuple[Run, Run]]],
    metric: str,
    n_bootstrap: int = 1000,
    seed: int = 0,
    n_comparisons: int = 1,
) -> WorldsDifference:
    """pairs_W: of each world, one (a, b) a training seed. n_comparisons: the largest K of limits.

    Raises ValueError for fewer than two worlds.
    """
    if len(pairs_W) < 2:
        raise ValueError(f"{len(pairs_W)} world given; what worlds differ by takes two or more")
    rng = np.random.default_rng((seed, len(pairs_W)))
    points = []
    resamples = []
    for world, pairs in enumerate(pairs_W):
        point, replicate_R = pool_differences(pairs, metric, n_bootstrap, (seed, world))
        if is_jackknifed(metric):
            replicate_R = point + jackknife_error(replicate_R) * rng.standard_normal(n_bootstrap)
        points.append(point)
        resamples.append(replicate_R)
    mean_R = resample_worlds(np.stack(resamples), rng)
    beyond = min((mean_R <= 0).sum(), (mean_R >= 0).sum())
    limits = {}
    for k in range(1, n_comparisons + 1):
        low, high = np.quantile(mean_R, [ALPHA / k / 2, 1 - ALPHA / k / 2])
        limits[k] = (float(low), float(high))
    return WorldsDifference(
        value=float(np.mean(points)),
        worlds=tuple(paired_difference(pairs, metric, n_bootstrap, seed) for pairs in pairs_W),
        p=min(1.0, 2 * float(beyond + 1) / (N_DRAWS + 1)),
        limits=limits,
    )


def resample_worlds(
    replicate_WR: Floats, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> Floats:
    """Means over worlds drawn with replacement, each at one resample of its images: (n_draws,)."""
    n_worlds, n_bootstrap = replicate_WR.shape
    drawn_RW = rng.integers(n_worlds, size=(n_draws, n_worlds))
    row_RW = rng.integers(n_bootstrap, size=drawn_RW.shape)
    mean_R: Floats = replicate_WR[drawn_RW, row_RW].mean(axis=1)
    return mean_R


def t_test(value_W: Sequence[float], n_comparisons: int) -> tuple[float, tuple[float, float]]:
    """Two-sided p of a mean of 0 over worlds, and the interval of coverage 1 - ALPHA / K."""
    from scipy.stats import ttest_1samp

    found = ttest_1samp(value_W, 0.0)
    low, high = found.confidence_interval(1 - ALPHA / n_comparisons)
    return float(found.pvalue), (float(low), float(high))


def holm(p_K: Mapping[str, float], n_comparisons: int) -> dict[str, int]:
    """By how many comparisons each p is corrected: the smallest by all of n_comparisons, the next
    by one less (Holm 1979); those that were planned and are not there count as the largest. Once
    one fails, all behind it are corrected by as many as it was.
    """
    corrected = {}
    order = sorted(p_K, key=lambda name: p_K[name])
    k = n_comparisons
    for place, name in enumerate(order):
        corrected[name] = k
        if p_K[name] * k <= ALPHA:
            k = n_comparisons - place - 1
    return corrected
