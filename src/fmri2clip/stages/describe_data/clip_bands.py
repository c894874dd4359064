"""What the blocks of a CLIP explain of early and of category voxels.

Definitions: docs/preregistered.md. Letters: I images, T tokens, W token width, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache, read_target
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TRAIN, iterate_images
from fmri2clip.clip.encoder import Encoder
from fmri2clip.core.rows import find_rows
from fmri2clip.stages.describe_data.claim_bands import linear_cka
from fmri2clip.stages.describe_data.hierarchy_bands import Brain, explain_areas
from fmri2clip.stages.describe_data.regression import Floats

BLOCK = 250  # pictures in a forward pass
GRID = 4  # patch tokens are averaged to GRID x GRID places
STREAMS = {"semantic": "semantic_tokens_ITD", "detail": "detail_tokens_ITD|detail_tokens_ITW"}


def look_with_clip(
    encoder: Encoder, paths: Paths, subject: str, clip_name: str, nsd_id_I: NDArray[np.int64]
) -> tuple[list[Floats], dict[str, Floats]]:
    """Features (I, F) of every block, and of the token targets that the cache has, by name
    (semantic, detail): class token and GRID x GRID means of patch tokens.
    """
    numbers = range(1, encoder.n_blocks + 1)
    seen: dict[int, list[Floats]] = {b: [] for b in numbers}
    for images_IHWC in iterate_images(paths.stimuli(TRAIN), nsd_id_I, BLOCK):
        for b, tokens_ITW in encoder.blocks(images_IHWC, numbers).items():
            seen[b].append(pool_tokens(tokens_ITW))
    path = paths.clip_train(clip_name, subject)
    row_I = find_rows(read_cache(path, ["nsd_id_I"])["nsd_id_I"], nsd_id_I, str(path))
    targets = {}
    if encoder.clip.tokens:
        for stream, name in STREAMS.items():
            tokens_ITW = read_target(path, name)[1][row_I]
            targets[stream] = pool_tokens(np.asarray(tokens_ITW, np.float32))
    return [np.concatenate(seen[b]) for b in numbers], targets


def pool_tokens(tokens_ITW: Floats) -> Floats:
    """Class token, and means over GRID x GRID places of the patch tokens, (I, F)."""
    patches_ITW = tokens_ITW[:, 1:]
    side = round(patches_ITW.shape[1] ** 0.5)
    edges = np.linspace(0, side, GRID + 1).astype(int)
    square = patches_ITW.reshape(len(patches_ITW), side, side, -1)
    rows = np.add.reduceat(square, edges[:-1], axis=1)
    cells = np.add.reduceat(rows, edges[:-1], axis=2)
    n_RC = np.outer(np.diff(edges), np.diff(edges))
    means = cells / n_RC[None, :, :, None]
    pooled: Floats = np.concatenate(
        [tokens_ITW[:, 0], means.reshape(len(means), -1)], axis=1, dtype=np.float32
    )
    return pooled


def compare_blocks(
    blocks: Sequence[Floats], targets: Mapping[str, Floats], brain: Brain
) -> dict[str, float]:
    """Figures of bands.py, and under `explained.` the R2 of areas from each block and target."""
    found = explain_areas(blocks, targets, brain)
    n = len(blocks)
    low = [found["low"][f"block{k}"] for k in range(1, n + 1)]
    high = [found["high"][f"block{k}"] for k in range(1, n + 1)]
    figures = {
        "blocks.low_first_minus_last": max(low[: max(1, round(n / 3))]) - low[-1],
        "blocks.high_last_minus_first": high[-1] - high[0],
        "blocks.cka_first_last": linear_cka(blocks[0], blocks[-1]),
    }
    if {"semantic", "detail"} <= set(targets):
        for area, first, second in (("low", "detail", "semantic"), ("high", "semantic", "detail")):
            difference = found[area][first] - found[area][second]
            figures[f"blocks.{area}_{first}_minus_{second}"] = difference
    for area, explained in found.items():
        figures |= {f"explained.{area}.{name}": value for name, value in explained.items()}
    return figures
