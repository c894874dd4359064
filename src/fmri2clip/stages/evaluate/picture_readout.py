"""How much of the look of the test pictures is in what a decoder gives: readouts of their maps.

readout.<map>           from what a generator would get: the fused tokens, else the semantic ones,
                        else the embedding of a decoder without tokens
readout_detail.<map>    from the detail tokens

The ridge regressions (readout.py) are fitted across test images, after all training; nothing of
them goes back to a decoder.

Letters: I test images, F features, M entries of a map, V voxels.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.statistics import Scores
from fmri2clip.stages.evaluate.picture_maps import PictureMaps
from fmri2clip.stages.evaluate.readout import score_readout

Array = NDArray[Any]
# Name of a readout -> streams of tokens, of which the first that there is is read.
STREAMS = {"readout": ("fused", "semantic"), "readout_detail": ("detail",)}


def choose_streams(offered: Container[str]) -> dict[str, str]:
    """Name of a readout -> the stream that it reads, of those that a decoder offers."""
    chosen = {}
    for name, streams in STREAMS.items():
        stream = next((stream for stream in streams if stream in offered), None)
        if stream:
            chosen[name] = stream
    return chosen


def score_picture_readout(
    known: PictureMaps, nsd_id_I: Array, embedding_ID: Array | None, tokens: Mapping[str, Array]
) -> Scores:
    """Readouts from the tokens (I, T, W) by stream, else from the embedding."""
    maps = known.select(nsd_id_I)
    features = {
        name: tokens[stream].reshape(len(nsd_id_I), -1)
        for name, stream in choose_streams(tokens).items()
    }
    # A decoder without tokens conditions a generator by its embedding: that takes their row.
    if "readout" not in features and embedding_ID is not None:
        features["readout"] = embedding_ID
    per_image: dict[str, tuple[Array, Array]] = {}
    for name, feature_IF in features.items():
        for metric, scored in score_readout(np.asarray(feature_IF), maps).items():
            per_image[metric.replace("readout", name, 1)] = scored
    return Scores(nsd_id_I=nsd_id_I, per_image=per_image)
