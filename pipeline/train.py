"""Stage train: the models of one run, from training images only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fmri2clip import tracking
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.train.run import train_run


def train(params: Params, run: str) -> None:
    """Write models/<run> and reports/runs/<run>/curve.csv; record each model in MLflow."""
    stage.check_named(run, params.runs, "runs")

    def log(folder: Path, curve: Path, seconds: Mapping[str, float]) -> None:
        timings = {f"{name}_s": value for name, value in seconds.items()}
        tracking.log_training(folder, curve, params, timings)

    train_run(run, params, Paths(), log=log)


if __name__ == "__main__":
    stage.run(train)
