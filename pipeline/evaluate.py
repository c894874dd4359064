"""Stage evaluate: scores of one run on the sealed test images, with what it predicts for each."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.evaluate.evaluation import evaluate_run
from fmri2clip.tracking import record


def evaluate(params: Params, run: str) -> None:
    """Write data/scores/<run>.json and data/predictions/<run>.h5; add the scores to MLflow."""
    stage.check_named(run, params.runs, "runs")
    paths = Paths()
    evaluate_run(run, params, paths)
    record.log_scores(params, run, paths)


if __name__ == "__main__":
    stage.run(evaluate)
