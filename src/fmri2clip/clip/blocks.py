"""What every block of a CLIP model says of pictures, in few numbers.

A block's tokens are summarised as `patch_mean` (mean of the patch tokens), `class_token` or `grid`
(patch tokens averaged at GRID x GRID places, flattened: it keeps where things are, as the detail
tokens do). Letters: I images, T tokens, W token width, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.clip.encoder import Encoder

Array = NDArray[Any]
# Bytes of the tokens of all blocks that are in memory at a time; there is a copy of them, too.
LARGEST = 2**30
GRID = 4  # places of a side that `grid` averages patch tokens at
SUMMARIES = ("patch_mean", "class_token", "grid")


def summarise_tokens(tokens_ITW: Array) -> dict[str, Array]:
    """Summary -> (I, F) of one block's tokens: the class token, then patches of a square by row."""
    patches_ITW = tokens_ITW[:, 1:]
    side = round(patches_ITW.shape[1] ** 0.5)
    square = patches_ITW.reshape(len(patches_ITW), side, side, -1)
    edges = np.linspace(0, side, min(GRID, side) + 1).astype(int)
    places = [slice(a, b) for a, b in pairwise(edges)]
    grid = np.concatenate(
        [square[:, y, x].mean(axis=(1, 2)) for y in places for x in places], axis=1
    )
    return {"patch_mean": patches_ITW.mean(axis=1), "class_token": tokens_ITW[:, 0], "grid": grid}


def summarise_blocks(
    model: Encoder, batches: Iterable[Array], threads: int
) -> dict[str, list[Array]]:
    """Summary -> features (I, F) of every block; LARGEST bytes of tokens in memory at a time.

    batches: pictures (I, H, W, 3), a batch of the model at a time.
    """
    model.check_blocks([1])
    blocks = range(1, model.n_blocks + 1)
    parts: dict[str, list[list[Array]]] = {name: [[] for _ in blocks] for name in SUMMARIES}
    n_tokens, width = model.token_shape()
    step = max(1, LARGEST // (4 * model.n_blocks * n_tokens * width))
    parts_of_batches = (b[i : i + step] for b in batches for i in range(0, len(b), step))
    for images in parts_of_batches:
        for block, tokens_ITW in model.blocks(images, blocks, threads).items():
            for name, feature_IF in summarise_tokens(tokens_ITW).items():
                parts[name][block - 1].append(feature_IF)
    return {name: [np.concatenate(part) for part in by_block] for name, by_block in parts.items()}
