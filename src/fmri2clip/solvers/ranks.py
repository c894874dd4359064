"""What ranking by similarity needs: centred unit vectors, and the credit that ties share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def share_credit(greater: Floats, tied: Floats, k: int) -> Floats:
    """Expected top-k success: greater other items are more similar than the right one, tied ones
    exactly as similar.
    """
    return np.clip((k - greater) / (tied + 1.0), 0.0, 1.0)


def centre(embedding_ID: Floats, mean_D: Floats) -> Floats:
    """(x - mean) / |x - mean| per row, in float64; a row equal to the mean stays zero, hence ties
    with everything.
    """
    centred_ID = np.asarray(embedding_ID, dtype=np.float64) - np.asarray(mean_D, dtype=np.float64)
    if not np.isfinite(centred_ID).all():
        rows = np.flatnonzero(~np.isfinite(centred_ID).all(axis=1))
        raise ValueError(
            f"{rows.size} embeddings are not finite (first row {rows[0]}); look at the model or "
            "the cache"
        )
    norm_I1 = np.linalg.norm(centred_ID, axis=1, keepdims=True)
    return np.divide(centred_ID, norm_I1, out=np.zeros_like(centred_ID), where=norm_I1 > 1e-12)
