"""`python -m pipeline.sync_mlflow`: create the MLflow runs of models that DVC only restored."""

from __future__ import annotations

from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.tracking import record


def sync_mlflow(params: Params) -> None:
    """Record every model under models/ that the MLflow store lacks, from its files."""
    created = record.sync(params, Paths(), Path.cwd())
    print(f"{len(created)} MLflow runs created from files")


if __name__ == "__main__":
    stage.run(sync_mlflow)
