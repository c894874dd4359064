"""fmri2clip: decoders from fMRI responses (Natural Scenes Dataset) to CLIP embeddings.

    model = fmri2clip.load("models/ridge/subj01")
    decoding = model.decode(betas_IV, n_repeats=3)

Names are loaded when they are asked for, so that importing the package loads neither NumPy nor
PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmri2clip.use.model import Decoding, Model, load

__all__ = ["Decoding", "Model", "load"]


def __getattr__(name: str) -> Any:
    """A public name, by PEP 562."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # By name: an import here would make every stage depend on all of it.
    return getattr(importlib.import_module("fmri2clip.use.model"), name)
