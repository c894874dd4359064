"""Stage evaluate: scores of one run on the sealed test images, with what it predicts for each."""

from __future__ import annotations

from fmri2clip import tracking
from fmri2clip.artefacts.model import list_models
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.evaluate.evaluation import evaluate_run


def evaluate(params: Params, run: str) -> None:
    """Write reports/runs/<run>/metrics.json and data/predictions/<run>.h5; add scores to MLflow."""
    stage.check_named(run, params.runs, "runs")
    paths = Paths()
    evaluate_run(run, params, paths)
    for folder in list_models(paths.model(run)):
        tracking.log_test_metrics(folder, paths.metrics(run), params)


if __name__ == "__main__":
    stage.run(evaluate)
