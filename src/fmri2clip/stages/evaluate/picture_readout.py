"""How much of the look of the test pictures is in what a decoder gives: readouts of their maps.

readout.<map>           from what a generator would get: the fused tokens, or the embedding of a
                        decoder without tokens
readout_detail.<map>    from the detail tokens

The ridge regressions (readout.py) are fitted across test images, after all training; nothing of
them goes back to a decoder.

Letters: I test images, F features, M entries of a map, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.statistics import Scores
from fmri2clip.stages.evaluate.picture_maps import PictureMaps
from fmri2clip.stages.evaluate.readout import score_readout

Array = NDArray[Any]
STREAMS = {"fused": "readout", "detail": "readout_detail"}


def score_picture_readout(
    known: PictureMaps, nsd_id_I: Array, embedding_ID: Array | None, tokens: Mapping[str, Array]
) -> Scores:
    """Readouts from the tokens (I, T, W) by stream, else from the embedding."""
    maps = known.select(nsd_id_I)
    features = {name: tokens[name].reshape(len(nsd_id_I), -1) for name in STREAMS if name in tokens}
    # A decoder without tokens conditions a generator by its embedding: that takes their row.
    if "fused" not in features and embedding_ID is not None:
        features["fused"] = embedding_ID
    per_image: dict[str, tuple[Array, Array]] = {}
    for name, feature_IF in features.items():
        for metric, scored in score_readout(np.asarray(feature_IF), maps).items():
            per_image[metric.replace("readout", STREAMS[name], 1)] = scored
    return Scores(nsd_id_I=nsd_id_I, per_image=per_image)
