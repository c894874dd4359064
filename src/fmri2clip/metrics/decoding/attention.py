"""Where the tokens of a decoder look: shares of attention over ROIs, and how much of it falls on
early visual areas.

Scored is the attention of the tokens high and low over ROIs (artefacts/model.read_attention). What
a row lacks to 1 goes to the tokens themselves; shares here are of the attention that reaches ROIs,
so they sum to 1. If nothing but chance decided, early areas would get their share of the ROIs
(`early_chance`); those without voxels of the subject get nothing and do not count.

Letters: I images, V voxels, T tokens, R ROIs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd.areas import is_early
from fmri2clip.metrics.statistics import Scores

Array = NDArray[Any]


def shares(attention_ITR: Array) -> Array:
    """share_ITR: attention among the ROIs; what the tokens give each other is left out."""
    return attention_ITR / attention_ITR.sum(axis=2, keepdims=True)


def early_columns(roi_names: Sequence[str]) -> NDArray[np.bool_]:
    """early_R: ROIs that are early visual areas."""
    return np.array([is_early(name) for name in roi_names])


def early_chance(attention_ITR: Array, roi_names: Sequence[str]) -> float:
    """Share of early areas among the ROIs that get any attention."""
    there_R = attention_ITR.any(axis=(0, 1))
    return float(early_columns(roi_names)[there_R].mean())


def score_attention(
    attention_ITR: Array | None, roi_names: Sequence[str], nsd_id_I: Array
) -> Scores:
    """attention.high_early, attention.low_early and their difference, image by image.

    Empty for a decoder without two tokens, and where the ROIs are all early or all late, so that
    nothing can differ.
    """
    early_R = early_columns(roi_names)
    # With ROIs of one kind only, the share of early areas is 0 or 1 whatever the decoder does.
    is_mixed = early_R.any() and not early_R.all()
    if attention_ITR is None or attention_ITR.shape[1] != 2 or not is_mixed:
        return Scores(nsd_id_I=nsd_id_I)
    share_ITR = shares(attention_ITR)
    high_I, low_I = share_ITR[:, :, early_R].sum(axis=2).T
    values = {"high_early": high_I, "low_early": low_I, "low_minus_high": low_I - high_I}
    return Scores(
        nsd_id_I=nsd_id_I,
        per_image={
            f"attention.{name}": (value_I, np.ones(len(value_I)))
            for name, value_I in values.items()
        },
        constants={"attention.early_chance": early_chance(attention_ITR, roi_names)},
    )
