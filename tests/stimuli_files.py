"""Stimuli files for tests: given pictures, one caption each, no objects unless they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.artefacts.stimuli import write_stimuli


def write_pictures(
    path: Path, nsd_id_I: np.ndarray, images_IHW3: np.ndarray, **changes: Any
) -> None:
    """A file of kind 'stimuli'; changes replace arrays by name."""
    n = len(nsd_id_I)
    arrays = {
        "nsd_id_I": np.asarray(nsd_id_I, dtype=np.int64),
        "image_IHW3": images_IHW3,
        "caption_K": [f"picture {i}" for i in nsd_id_I],
        "caption_image_K": np.arange(n, dtype=np.int32),
        "labels_IC": np.zeros((n, 1), dtype=bool),
        "area_IC": np.zeros((n, 1), dtype=np.float32),
        "n_objects_I": np.zeros(n, dtype=np.int16),
        "category_C": ["dog"],
        "largest_I3": np.full((n, 3), np.nan, dtype=np.float32),
    }
    write_stimuli(path, arrays | changes)
