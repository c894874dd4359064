"""Memory that a finished training leaves behind."""

from __future__ import annotations

import gc

import torch


def release() -> None:
    """Give back what only circles of references keep, and the GPU's memory behind it.

    Optimiser and schedule refer to each other, so all that they hold outlives its last user.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
