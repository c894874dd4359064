"""How much of the look of the test pictures is in what a decoder gives: readouts of picture maps
(metrics/readout.py).

readout.<map>           from what a generator would get: the fused tokens, or the embedding of a decoder without tokens
readout_detail.<map>    from the detail tokens
The ridge regressions are fitted across test images, after all training; nothing of them goes back to a decoder.

Letters: I test images, F features, M entries of a map, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.readout import score_readout
from fmri2clip.metrics.scoring import find_rows
from fmri2clip.metrics.statistics import Scores
from fmri2clip.picture_maps import load_maps

Array = NDArray[Any]
STREAMS = {"fused": "readout", "detail": "readout_detail"}


@dataclass(frozen=True, kw_only=True)
class Look:
    """Maps of the test pictures by name, (I, M)."""

    nsd_id_I: Array
    maps: Mapping[str, Array]

    def select(self, nsd_id_I: Array) -> dict[str, Array]:
        """The maps of some pictures."""
        rows_I = find_rows(self.nsd_id_I, nsd_id_I, "the maps of the test pictures")
        return {name: map_IM[rows_I] for name, map_IM in self.maps.items()}


def read_look(root: Path, nsd_id_I: Array, min_area: float) -> Look:
    """Maps of the pictures with these ids in an NSD tree."""
    return Look(nsd_id_I=nsd_id_I, maps=load_maps(root, nsd_id_I, min_area=min_area))


def score_look(
    look: Look, nsd_id_I: Array, embedding_ID: Array | None, tokens: Mapping[str, Array]
) -> Scores:
    """Readouts from the tokens (I, T, W) by stream, else from the embedding."""
    maps = look.select(nsd_id_I)
    features = {name: tokens[name].reshape(len(nsd_id_I), -1) for name in STREAMS if name in tokens}
    if "fused" not in features and embedding_ID is not None:
        features["fused"] = embedding_ID
    per_image: dict[str, tuple[Array, Array]] = {}
    for name, feature_IF in features.items():
        for metric, scored in score_readout(np.asarray(feature_IF), maps).items():
            per_image[metric.replace("readout", STREAMS[name], 1)] = scored
    return Scores(nsd_id_I=nsd_id_I, per_image=per_image)
