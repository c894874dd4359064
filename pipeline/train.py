"""Stage train: the models of one run, from training images only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fmri2clip import tracking
from fmri2clip.params import Params
from fmri2clip.training.run import train_run
from pipeline import _stage


def train(params: Params, run: str) -> None:
    """Write models/<run> and reports/runs/<run>/curve.csv; record each model in MLflow."""
    _stage.check_named(run, params.runs, "runs")

    def log(folder: Path, curve: Path, seconds: Mapping[str, float]) -> None:
        tracking.log_training(
            folder, curve, params, {f"{name}_s": value for name, value in seconds.items()}
        )

    train_run(
        run,
        params,
        rois_train_dir=_stage.ROIS / "train",
        voxels_dir=_stage.ROIS / "voxels",
        clip_train_path=_stage.CLIP / params.runs[run].clip / "train.h5",
        models_dir=_stage.MODELS,
        curve_path=_stage.REPORTS / "runs" / run / "curve.csv",
        log=log,
    )


if __name__ == "__main__":
    _stage.run(train)
