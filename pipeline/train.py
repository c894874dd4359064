"""Stage train: the models of one run, from training images only."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.train.run import train_run
from fmri2clip.tracking import record


def train(params: Params, run: str) -> None:
    """Write models/<run> and data/curves/<run>.csv; record the run in MLflow."""
    stage.check_named(run, params.runs, "runs")
    paths = Paths()
    train_run(run, params, paths, log=lambda times: record.log_training(params, run, times, paths))


if __name__ == "__main__":
    stage.run(train)
