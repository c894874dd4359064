"""What MLflow loads and serves of a registered model: a subject's decoder as a function.

MLflow runs this file from the model's own folder, beside a copy of the code that decodes, so it
needs no other part of the project.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

# The type of the betas is left out below, which MLflow would take for a schema of its own.
warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method")
FIELDS = ("embedding", "text_embedding", "probabilities")  # of use.model.Decoding


class ServedDecoder(PythonModel):
    """z-scored betas (rows, voxels) in, arrays of Decoding (rows, ...) out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model folder among the artifacts."""
        from fmri2clip.use.model import load

        self.model = load(Path(context.artifacts["run"]) / context.model_config["subject"])

    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input, params: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Decode; params: n_repeats, how many trials each row is the mean of.

        Raises ValueError for what are no z-scores of the model's voxels.
        """
        n_repeats = int((params or {}).get("n_repeats", 1))
        decoded = self.model.decode(np.asarray(model_input), n_repeats)
        found = {name: getattr(decoded, name) for name in FIELDS}
        return {name: array for name, array in found.items() if array is not None}


set_model(ServedDecoder())
