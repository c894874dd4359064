"""Pictures of the test set that are almost the same as a training picture.

A decoder that has seen the training picture has an easy time with its twin, so the pairs are listed
for the reader; no picture is left out. Two pictures are compared as thumbnails
(metrics/pictures/thumbnails.py). Letters: I images, F values of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd.pictures import coco, stimuli
from fmri2clip.metrics.pictures.thumbnails import SIDE, THRESHOLD, make_thumbnails

MAX_LISTED = 50
BLOCK = 64  # pictures in memory: 35 MB at 425 x 425

# Ids -> blocks of pictures in their order, each with its position among them.
Iterate = Callable[[NDArray[np.int64]], Iterator[tuple[int, NDArray[np.uint8]]]]


class Pair(NamedTuple):
    """nsd ids of a shared and a training picture, and the correlation of their thumbnails."""

    shared: int
    train: int
    r: float


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What was found; lists are cut at MAX_LISTED, numbers count everything."""

    n_shared: int
    n_train: int
    n_pairs: int
    pairs: list[Pair]  # highest correlation first
    n_same_photograph: int
    same_photograph: list[tuple[int, int]]  # shared and training nsd id with one cocoId
    flat: list[int]  # pictures without any pattern, not compared; all of them

    def as_json(self) -> dict[str, Any]:
        """Ids and numbers, never pictures."""
        return {
            "n_shared": self.n_shared,
            "n_train": self.n_train,
            "thumbnail_side": SIDE,
            "threshold": THRESHOLD,
            "n_pairs": self.n_pairs,
            "pairs": [pair._asdict() for pair in self.pairs],
            "n_same_photograph": self.n_same_photograph,
            "same_photograph": [
                {"shared": shared, "train": train} for shared, train in self.same_photograph
            ],
            "n_flat": len(self.flat),
            "flat": self.flat[:MAX_LISTED],
        }


def find_duplicates(
    root: Path, shared_I: NDArray[np.int64], train_I: NDArray[np.int64]
) -> Duplicates:
    """Pairs of a shared and a training picture above THRESHOLD, and those that are one COCO
    photograph.

    shared_I, train_I: sorted nsd ids.
    """
    iterate = partial(stimuli.iterate_images, root, block_size=BLOCK)
    n_pairs, pairs, flat = find_pairs(iterate, shared_I, train_I)
    same = _same_photograph(root, shared_I, train_I)
    return Duplicates(
        n_shared=len(shared_I),
        n_train=len(train_I),
        n_pairs=n_pairs,
        pairs=pairs,
        n_same_photograph=len(same),
        same_photograph=same[:MAX_LISTED],
        flat=flat,
    )


def find_pairs(
    iterate: Iterate, shared_I: NDArray[np.int64], train_I: NDArray[np.int64]
) -> tuple[int, list[Pair], list[int]]:
    """Number of pairs above THRESHOLD, the best MAX_LISTED of them, and all pictures without any
    pattern.

    Training pictures stream past, so memory is bounded by the shared thumbnails.
    """
    shared_IF = np.zeros((len(shared_I), SIDE * SIDE * 3), dtype=np.float32)
    flat: list[int] = []
    for start, images in iterate(shared_I):
        block = shared_IF[start : start + len(images)] = make_thumbnails(images)
        flat += shared_I[start : start + len(images)][~block.any(axis=1)].tolist()
    pairs: list[Pair] = []
    n_pairs = 0
    for start, images in iterate(train_I):
        block = make_thumbnails(images)
        flat += train_I[start : start + len(images)][~block.any(axis=1)].tolist()
        r_II = shared_IF @ block.T
        found = np.argwhere(r_II > THRESHOLD)
        n_pairs += len(found)
        new = [
            Pair(int(shared_I[i]), int(train_I[start + j]), round(float(r_II[i, j]), 4))
            for i, j in found
        ]
        # Only the best are kept; equal correlations in the order of their ids, whatever the blocks.
        pairs = sorted(pairs + new, key=lambda pair: (-pair.r, pair.shared, pair.train))
        pairs = pairs[:MAX_LISTED]
    return n_pairs, pairs, sorted(flat)


def _same_photograph(
    root: Path, shared_I: NDArray[np.int64], train_I: NDArray[np.int64]
) -> list[tuple[int, int]]:
    sources = coco.load_sources(root, [*shared_I.tolist(), *train_I.tolist()])
    shared_of: dict[int, list[int]] = {}
    for nsd_id in shared_I.tolist():
        shared_of.setdefault(sources[nsd_id].coco_id, []).append(nsd_id)
    return sorted(
        (shared, train)
        for train in train_I.tolist()
        for shared in shared_of.get(sources[train].coco_id, [])
    )
