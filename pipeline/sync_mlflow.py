"""`python -m pipeline.sync_mlflow`: record and register in MLflow what its store lacks.

python -m pipeline.sync_mlflow --show           and open their table in a browser: `make mlflow`
python -m pipeline.sync_mlflow --show 5001      on this port of the machine
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.tracking import record, registry, table


def sync_mlflow(params: Params, show: bool = False, port: str = "") -> None:
    """Record every trained run that the MLflow store lacks, and register its models, from files.

    With --show the table of runs opens, served here (at `port`) until Ctrl-C.
    """
    root = Path.cwd()
    created = record.sync(params, Paths(), root)
    versions = registry.register_models(params, Paths(), root)
    print(f"{len(created)} MLflow runs created from files, {len(versions)} models registered")
    if show:
        table.show(root, params.tracking.experiment, int(port or table.PORT))


if __name__ == "__main__":
    stage.run(sync_mlflow)
