"""Do two groups of voxels differ? Null distributions from shuffling which voxel is in which group.

Neighbouring voxels carry the same signal and noise, so a group that is one piece of cortex differs
from any other piece by chance more than two random mixtures of voxels do: shuffling single voxels
finds a difference almost always. Here compact clusters of neighbours are shuffled, which keeps
neighbourhoods; the plain shuffle is given for comparison. The method is ours, a block permutation
in space.

Clusters must be large against the reach of the correlation: in 120 simulations of two halves of one
piece (1,600 voxels, Gaussian smoothness of 1 voxel) p was at most .05 in 7 % with clusters of 100
voxels, in 13 % with 50, in 28 % with single voxels. The spread of the shuffled statistic tells: it
grows with the clusters until they are large enough.

Letters: V voxels of both groups, I images, P pairs of images, H halves of the trials, L blocks, N
shuffles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.similarity import (
    Floats,
    Ints,
    correlate_ranks,
    cross_validated_distances,
    rank_pairs,
)
from fmri2clip.stages.hierarchy.inputs import TooFew

Bools = NDArray[np.bool_]
Contrasts = Callable[[Floats, Floats], Mapping[str, Floats]]


def cluster_voxels(ijk_V3: Ints, size: int) -> NDArray[np.int64]:
    """cluster_V: compact clusters of about `size` voxels, whose sizes differ by few.

    The voxels are halved across the longest side of their box, again and again, as in a k-d tree.
    """
    cluster_V = np.zeros(len(ijk_V3), dtype=np.int64)
    pending = [(np.arange(len(ijk_V3)), max(1, round(len(ijk_V3) / size)))]
    n_done = 0
    while pending:
        rows, n_clusters = pending.pop()
        if n_clusters == 1:
            cluster_V[rows] = n_done
            n_done += 1
            continue
        axis = int(np.argmax(np.ptp(ijk_V3[rows], axis=0)))
        rows = rows[np.argsort(ijk_V3[rows, axis], kind="stable")]
        # An odd number of clusters is cut at that share of the voxels, so all come out alike.
        left = n_clusters // 2
        cut = round(len(rows) * left / n_clusters)
        pending += [(rows[:cut], left), (rows[cut:], n_clusters - left)]
    return cluster_V


def cluster_groups(ijk_V3: Ints, is_high_V: Bools, size: int) -> NDArray[np.int64]:
    """Clusters that lie within one group each; TooFew unless both groups have at least two."""
    cluster_V = np.zeros(len(ijk_V3), dtype=np.int64)
    n_done = 0
    for group_V in (is_high_V, ~is_high_V):
        own = cluster_voxels(ijk_V3[group_V], size)
        if own.max() < 1:
            raise TooFew(
                f"block_voxels is {size}, but a group has only {group_V.sum()} voxels; choose at "
                "most half of that"
            )
        cluster_V[group_V] = n_done + own
        n_done += int(own.max()) + 1
    return cluster_V


def shuffle_groups(
    is_high_V: Bools, cluster_V: Ints, n_shuffles: int, rng: np.random.Generator
) -> Bools:
    """is_high_NV: labels dealt anew to whole clusters; each group keeps its number of them."""
    # Clusters change sides whole; sizes differ by few, so the groups keep about their sizes.
    n_clusters = int(cluster_V.max()) + 1
    is_high_K = np.zeros(n_clusters, dtype=bool)
    is_high_K[cluster_V[is_high_V]] = True
    assert not is_high_K[cluster_V[~is_high_V]].any(), "a cluster lies within one group"
    return np.stack([rng.permutation(is_high_K)[cluster_V] for _ in range(n_shuffles)])


def compare_groups(
    pattern_HIV: NDArray[np.float32], is_high_V: Bools, model_LP: Floats, contrasts: Contrasts
) -> dict[str, float]:
    """Contrasts between the corrected RSA (L) of the voxels that are not high and that are.

    model_LP: ranks of the distances in each block. contrasts: (low_L, high_L) -> name -> number.
    """
    rsa_L = []
    for member_V in (~is_high_V, is_high_V):
        a_P, b_P = cross_validated_distances(pattern_HIV[..., member_V])
        rsa_L.append(correlate_ranks(rank_pairs(a_P), rank_pairs(b_P), model_LP))
    low_L, high_L = rsa_L
    return {name: float(value) for name, value in contrasts(low_L, high_L).items()}


def shuffle_test(
    pattern_HIV: NDArray[np.float32],
    is_high_V: Bools,
    cluster_V: Ints,
    model_LP: Floats,
    contrasts: Contrasts,
    n_shuffles: int,
    rng: np.random.Generator,
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Each contrast on the voxels as they are labelled, and in every shuffle of clusters (N)."""
    observed = compare_groups(pattern_HIV, is_high_V, model_LP, contrasts)
    shuffled = [
        compare_groups(pattern_HIV, label_V, model_LP, contrasts)
        for label_V in shuffle_groups(is_high_V, cluster_V, n_shuffles, rng)
    ]
    return observed, {name: np.array([item[name] for item in shuffled]) for name in observed}


def p_value(observed: float, shuffled_N: Floats) -> float:
    """One-sided: (1 + number of shuffles that reach the observed value) / (1 + their number)."""
    # The sample counts as one of the shuffles, so p is never 0. 1e-9: equal up to rounding.
    reached = np.asarray(shuffled_N) >= observed - 1e-9
    return float((1 + reached.sum()) / (1 + len(reached)))
