"""Which voxels each stream of a two-stream decoder reads: ROI groups, and their controls.

paper      detail groups to the detail stream, semantic groups to the semantic stream
swapped    the other way round
random     voxels of both drawn at random into sets of the same sizes, each a part of the union;
           they overlap as much
none       all voxels of the run to both
disjoint_  the same four after the groups were made disjoint (no voxel that has both memberships,
           and of the detail groups only those that are not semantic) and matched: as many voxels,
           in pairs of nearly equal ncsnr

The default detail set contains the semantic one, which has fewer and other voxels: only the
disjoint rows say that it is the place of a voxel that matters and not how many there are or how
well they respond. Axis letters: V voxels of the run, A and B voxels of one set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.strict import check_known
from fmri2clip.decoders.batches import TrainingData

Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]
NOT = "not_"  # not_low: the voxels of the run that are not in low
Routing = Literal[
    "paper",
    "swapped",
    "random",
    "none",
    "disjoint",
    "disjoint_swapped",
    "disjoint_random",
    "disjoint_none",
]
UNIONS = {"low_high": ("low", "high")}  # names for unions of groups; low+high says the same


def group_names(rois: str) -> tuple[str, ...]:
    """Names of the ROI groups whose union `rois` stands for: 'high', 'low+high', 'low_high'."""
    return UNIONS.get(rois) or tuple(rois.split("+"))


def members(groups: Mapping[str, Bools], names: tuple[str, ...], subject: str) -> Bools:
    """Members (V) of the union of the groups.

    Raises ValueError for a group that is absent or empty.
    """
    every = {**{NOT + name: ~member for name, member in groups.items()}, **groups}
    for name in names:
        if name not in every:
            raise ValueError(
                f"{subject} has no ROI group {name!r}; it has {', '.join(groups) or 'none'}: name "
                "it in rois or choose another for detail_rois and semantic_rois"
            )
        if not every[name].any():
            raise ValueError(
                f"ROI group {name!r} of {subject} has no voxel among the voxels of the run; choose "
                "other voxels for the run, or other detail_rois and semantic_rois"
            )
    return np.logical_or.reduce([every[name] for name in names])


def check_groups(names: Iterable[str], groups: Iterable[str], where: str) -> None:
    """Raise ValueError for a group that is no key of params `rois`."""
    groups = list(groups)
    for name in names:
        if name.removeprefix(NOT) not in groups:
            check_known(name, groups, where, "detail_rois or semantic_rois", "a key of rois")


class Settings(Protocol):
    """What the Config of a two-stream decoder says about its voxels."""

    @property
    def detail_rois(self) -> str:
        """ROI groups of the detail stream, joined by '+'."""
        ...

    @property
    def semantic_rois(self) -> str:
        """ROI groups of the semantic stream, joined by '+'."""
        ...

    @property
    def routing(self) -> str:
        """One of the names at the head of this file."""
        ...

    @property
    def match_caliper(self) -> float:
        """Largest difference in ncsnr between the two voxels of a matched pair."""
        ...


def check_routing(config: Settings) -> None:
    """Raise ValueError where disjoint sets cannot be: all detail groups are semantic ones."""
    detail_only = set(group_names(config.detail_rois)) - set(group_names(config.semantic_rois))
    if config.routing.startswith("disjoint") and not detail_only:
        raise ValueError(
            f"routing is {config.routing!r}, "
            "expected with a group in detail_rois that is not semantic"
        )


def route_data(config: Settings, data: TrainingData, seed: int) -> tuple[Rows, Rows]:
    """`route` of one subject's data."""
    members = {name: member.numpy() for name, member in data.groups.items()}
    ncsnr_V = None if data.ncsnr_V is None else data.ncsnr_V.cpu().numpy()
    return route(members, ncsnr_V, config, seed, data.subject)


def count_rows(rows: tuple[Rows, Rows]) -> dict[str, int]:
    """n_detail and n_semantic of the rows of both streams."""
    return {"n_detail": len(rows[0]), "n_semantic": len(rows[1])}


def route(
    groups: Mapping[str, Bools],
    ncsnr_V: NDArray[np.floating] | None,
    config: Settings,
    seed: int,
    subject: str,
) -> tuple[Rows, Rows]:
    """Rows (ascending) of the run's voxels for the detail stream and for the semantic stream.

    groups: members (V) of each ROI group; ncsnr_V: needed by the disjoint routings. Raises
    ValueError naming group and subject where a set is absent or empty.
    """
    detail = group_names(config.detail_rois)
    semantic = group_names(config.semantic_rois)
    detail_V = members(groups, detail, subject)
    semantic_V = members(groups, semantic, subject)
    # A stream of its own, so that drawing voxels shifts no other random number of the run.
    rng = np.random.default_rng([seed, 1])
    sets = np.flatnonzero(detail_V), np.flatnonzero(semantic_V)
    union = np.arange(len(detail_V))
    # Matching comes first: the other routings then deal with the matched sets as with any.
    if config.routing.startswith("disjoint"):
        own_V = members(groups, tuple(name for name in detail if name not in semantic), subject)
        sets = _match_sets(own_V, semantic_V, ncsnr_V, config, rng, subject)
        union = np.union1d(*sets)
    kind = config.routing.removeprefix("disjoint").removeprefix("_") or "paper"
    if kind == "none":
        return union, union
    if kind == "random":
        return _deal(sets, rng)
    return (sets[1], sets[0]) if kind == "swapped" else sets


def _match_sets(
    one_V: Bools,
    two_V: Bools,
    ncsnr_V: NDArray[np.floating] | None,
    config: Settings,
    rng: np.random.Generator,
    subject: str,
) -> tuple[Rows, Rows]:
    """Members of one set only, and as many of the other only, in pairs of nearly equal ncsnr."""
    assert ncsnr_V is not None, "disjoint routings match voxels by ncsnr"
    rows = np.flatnonzero(one_V & ~two_V), np.flatnonzero(two_V & ~one_V)
    pairs = match(ncsnr_V[rows[0]], ncsnr_V[rows[1]], config.match_caliper, rng)
    if not len(pairs):
        raise ValueError(
            f"{subject}: routing {config.routing!r} finds no pair of voxels with equal ncsnr among "
            f"the {len(rows[0])} and {len(rows[1])} that only detail_rois ({config.detail_rois}) "
            f"and only semantic_rois ({config.semantic_rois}) have; raise match_caliper "
            f"({config.match_caliper}) or choose other ROI groups"
        )
    return np.sort(rows[0][pairs[:, 0]]), np.sort(rows[1][pairs[:, 1]])


def _deal(sets: tuple[Rows, Rows], rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Random sets of the same sizes and the same overlap, out of the same union."""
    union = np.union1d(*sets)
    common = np.intersect1d(*sets)
    order = rng.permutation(union)
    shared = order[: len(common)]
    rest = order[len(common) :]
    # So many voxels are in both sets, then each gets its own share of the rest.
    n = len(sets[0]) - len(common)
    return np.sort(np.concatenate([shared, rest[:n]])), np.sort(np.concatenate([shared, rest[n:]]))


def match(
    value_A: NDArray[np.floating],
    value_B: NDArray[np.floating],
    caliper: float,
    rng: np.random.Generator,
) -> Rows:
    """Pairs (row of A, row of B) of nearly equal value, each row at most once, none with a value
    that is not finite.

    The members of the smaller set, in random order, each take the nearest that is left of the other
    set, if it is within the caliper: greedy nearest-neighbour matching without replacement, as
    propensity scores are matched.
    """
    # The smaller set chooses: every one of its members can then find a partner.
    if len(value_B) < len(value_A):
        return match(value_B, value_A, caliper, rng)[:, ::-1]
    order_B = [int(b) for b in np.argsort(value_B, kind="stable") if np.isfinite(value_B[b])]
    left = [float(value_B[b]) for b in order_B]
    pairs: list[tuple[int, int]] = []
    for a in rng.permutation(np.flatnonzero(np.isfinite(value_A))):
        # What is left of B stays sorted, so the nearest is one of the two neighbours.
        at = bisect_left(left, value_A[a])
        near = min(
            (i for i in (at - 1, at) if 0 <= i < len(left)),
            key=lambda i: abs(left[i] - value_A[a]),
            default=-1,
        )
        if near >= 0 and abs(left[near] - value_A[a]) <= caliper:
            pairs.append((int(a), order_B.pop(near)))
            left.pop(near)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
