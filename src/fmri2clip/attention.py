"""Where the tokens of a decoder look: shares of attention over ROIs, and how much of it falls on
early visual areas.

A decoder with tokens offers `roi_names` and `read_attention(betas, subject)`: (I, T, R), tokens
high and low. What a row lacks to 1 goes to the tokens themselves; shares here are of the attention
that reaches ROIs, so they sum to 1. If nothing but chance decided, early areas would get their
share of the ROIs (`early_chance`).

Letters: I images, V voxels, T tokens, R ROIs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.metrics.statistics import Scores
from fmri2clip.rois import is_early

Array = NDArray[Any]


def read_shares(decoder: Any, betas_IV: Array, subject: str, rollout: bool = False) -> Array | None:
    """share_ITR, float64; None for a decoder without tokens.

    rollout: through all layers instead of the last.
    """
    if not getattr(decoder, "n_tokens", 0):
        return None
    betas = torch.from_numpy(np.ascontiguousarray(betas_IV))
    attention_ITR: Array = decoder.read_attention(betas, subject, rollout).double().numpy()
    return attention_ITR / attention_ITR.sum(axis=2, keepdims=True)


def early_columns(roi_names: Sequence[str]) -> NDArray[np.bool_]:
    """early_R: ROIs that are early visual areas."""
    return np.array([is_early(name) for name in roi_names])


def score_attention(decoder: Any, betas_IV: Array, subject: str, nsd_id_I: Array) -> Scores:
    """attention.high_early, attention.low_early and their difference low_minus_high, image by
    image.

    Empty for a decoder without two tokens, and where the ROIs are all early or all late, so that
    nothing can differ.
    """
    share_ITR = read_shares(decoder, betas_IV, subject)
    early_R = early_columns(decoder.roi_names) if share_ITR is not None else np.zeros(0, dtype=bool)
    if share_ITR is None or share_ITR.shape[1] != 2 or early_R.all() or not early_R.any():
        return Scores(nsd_id_I=nsd_id_I)
    high_I, low_I = share_ITR[:, :, early_R].sum(axis=2).T
    values = {"high_early": high_I, "low_early": low_I, "low_minus_high": low_I - high_I}
    return Scores(
        nsd_id_I=nsd_id_I,
        per_image={
            f"attention.{name}": (value_I, np.ones(len(value_I)))
            for name, value_I in values.items()
        },
        constants={"attention.early_chance": float(early_R.mean())},
    )
