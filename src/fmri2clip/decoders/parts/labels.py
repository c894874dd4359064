"""Category labels, and the bias that a head of them starts at.

Axis letters: I images, C categories.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmri2clip.decoders.batches import TrainingData


def read_labels(data: TrainingData) -> Tensor:
    """Labels (I, C) of a subject's images. Raises ValueError for data without."""
    if data.labels_IC is None:
        raise ValueError(
            f"the data of {data.subject} have no category labels; leave this run out, or add "
            "labels (docs/own_data.md)"
        )
    return data.labels_IC


def log_odds(labels_IC: Tensor) -> Tensor:
    """Log odds (C) of the categories among some images.

    Half a count more on either side keeps them finite for a category that all images show, or none
    (Haldane 1956; Anscombe 1956).
    """
    n_C = labels_IC.float().sum(0)
    return torch.log((n_C + 0.5) / (len(labels_IC) - n_C + 0.5))
