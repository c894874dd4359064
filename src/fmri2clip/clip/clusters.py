"""Clusters of images in CLIP space, some of which training leaves out.

Letters: I images, D embedding width, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Clusters:
    """k-means of training images in CLIP space, and the clusters that training leaves out."""

    centroids_KD: Array
    heldout: Array  # indices into K


def assign_clusters(image_embedding_ID: Array, centroids_KD: Array) -> Array:
    """Index of the nearest centroid (Euclidean) of each image, of training and of test images."""
    x_ID = np.asarray(image_embedding_ID, dtype=np.float64)
    centroids_KD = np.asarray(centroids_KD, dtype=np.float64)
    # |c - x|^2 without |x|^2, which is the same for all centroids.
    return np.argmin((centroids_KD**2).sum(1) - 2 * x_ID @ centroids_KD.T, axis=1)
