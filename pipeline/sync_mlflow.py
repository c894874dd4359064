"""`python -m pipeline.sync_mlflow`: create the MLflow runs of models that DVC restored without
executing.
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip import tracking
from fmri2clip.params import Params
from pipeline import _stage


def sync_mlflow(params: Params) -> None:
    """Record every model under models/ that the MLflow store lacks, from its files."""
    created = tracking.sync_from_files(Path.cwd(), params)
    print(
        "MLflow could not be reached"
        if created is None
        else f"{len(created)} MLflow runs created from files"
    )


if __name__ == "__main__":
    _stage.run(sync_mlflow)
