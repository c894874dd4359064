"""Stage evaluate: scores of one run on the sealed test images, with what it predicts for each."""

from __future__ import annotations

from fmri2clip import tracking
from fmri2clip.evaluation import Pictures, evaluate_run
from fmri2clip.params import Params
from pipeline import _stage


def evaluate(params: Params, run: str) -> None:
    """Write reports/runs/<run>/metrics.json and data/predictions/<run>.h5; add the scores to
    the MLflow runs.
    """
    _stage.check_named(run, params.runs, "runs")
    metrics = _stage.REPORTS / "runs" / run / "metrics.json"
    subjects = params.runs[run].subjects
    evaluate_run(
        models_dir=_stage.MODELS,
        run_name=run,
        subjects=subjects,
        test_paths={subject: _stage.ROIS / "test" / f"{subject}.h5" for subject in subjects},
        voxels_paths={subject: _stage.ROIS / "voxels" / f"{subject}.h5" for subject in subjects},
        shared_path=_stage.CLIP / params.runs[run].clip / "shared.h5",
        evaluation=params.evaluation,
        metrics_path=metrics,
        predictions_path=_stage.PREDICTIONS / f"{run}.h5",
        pictures=Pictures(_stage.RAW, params.labels.min_area),
    )
    for weights in sorted((_stage.MODELS / run).glob("*/weights.safetensors")):
        tracking.log_test_metrics(weights.parent, metrics, params)


if __name__ == "__main__":
    _stage.run(evaluate)
