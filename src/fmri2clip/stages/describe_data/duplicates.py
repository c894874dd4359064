"""Test images that look like training images.

Letters: I images, F features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, iterate_images
from fmri2clip.artefacts.trials import list_images

DUPLICATE_CORRELATION = 0.95
THUMBNAIL = 16  # pixels of a side


def count_near_duplicates(subject: str, paths: Paths) -> dict[str, float]:
    """Test images that correlate above DUPLICATE_CORRELATION with a training image (thumbnails)."""
    train = _thumbnails(paths.stimuli(TRAIN), list_images(paths.train_betas(subject)))
    test = _thumbnails(paths.stimuli(TEST), list_images(paths.test_betas(subject)))
    nearest = (test @ train.T).max(axis=1)
    return {
        "n_test_images": len(test),
        "n_near_duplicates": int((nearest > DUPLICATE_CORRELATION).sum()),
        "median_nearest_correlation": round(float(np.median(nearest)), 4),
    }


def _thumbnails(stimuli_path: Path, nsd_id_I: NDArray[np.int64]) -> NDArray[np.floating]:
    """Small pictures as centred unit vectors (I, F)."""
    small = []
    for block in iterate_images(stimuli_path, nsd_id_I, 200):
        images = block.astype(np.float32)
        step = images.shape[1] // THUMBNAIL
        images = images[:, : step * THUMBNAIL, : step * THUMBNAIL]
        small.append(
            images.reshape(len(images), THUMBNAIL, step, THUMBNAIL, step, 3).mean(axis=(2, 4))
        )
    flat = np.concatenate(small).reshape(len(nsd_id_I), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    unit: NDArray[np.floating] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return unit
