"""`python -m pipeline.sync_mlflow`: create the MLflow runs of models that DVC only restored."""

from __future__ import annotations

from pathlib import Path

from fmri2clip import tracking
from fmri2clip.core import stage
from fmri2clip.core.params import Params


def sync_mlflow(params: Params) -> None:
    """Record every model under models/ that the MLflow store lacks, from its files."""
    created = tracking.sync_from_files(Path.cwd(), params)
    print(f"{len(created)} MLflow runs created from files")


if __name__ == "__main__":
    stage.run(sync_mlflow)
