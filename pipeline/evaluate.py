"""Stage evaluate: scores of one run on the sealed test images, with what it predicts for each."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.evaluate.cards import write_cards
from fmri2clip.stages.evaluate.evaluation import evaluate_run
from fmri2clip.tracking import record


def evaluate(params: Params, run: str) -> None:
    """Write data/scores/<run>.json, data/predictions/<run>.h5 and the run's model cards; add the
    scores to MLflow.
    """
    stage.check_named(run, params.runs, "runs")
    paths = Paths()
    metrics = evaluate_run(run, params, paths)
    write_cards(run, params, paths, metrics)
    record.log_scores(params, run, paths)


if __name__ == "__main__":
    stage.run(evaluate)
