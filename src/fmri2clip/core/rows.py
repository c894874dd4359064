"""Rows of a file by NSD id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_rows(
    have_I: NDArray[np.int64], want_I: NDArray[np.int64], source: str
) -> NDArray[np.intp]:
    """Rows of the wanted NSD ids. Raises ValueError naming the first that is not there."""
    order = np.argsort(have_I, kind="stable")
    position_I = np.minimum(np.searchsorted(have_I, want_I, sorter=order), len(have_I) - 1)
    row_I = order[position_I]
    missing = want_I[have_I[row_I] != want_I]
    if missing.size:
        raise ValueError(
            f"{source} lacks {missing.size} of {want_I.size} images (first NSD id {missing[0]}); "
            "rebuild it"
        )
    return row_I
