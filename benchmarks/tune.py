"""Choose a decoder's settings on validation images: as many trials as ridge has penalty candidates, no test data.

    python benchmarks/tune.py brainmclip            # needs data/ of `dvc repro`; writes benchmarks/tune_brainmclip.json

Each trial trains two subjects of the development world. The score is the best mean of image and text top-1 on the
validation images, averaged over the last three epochs as early stopping does. `base` in the file is what params.yaml
held when the trials ran; the settings chosen from them stand in params.yaml.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip import params as parameters  # noqa: E402
from fmri2clip.training.run import train_run  # noqa: E402

SUBJECTS = ("subj01", "subj07")
WINDOW = 3  # epochs, as in training/trainer.py
TRIALS: dict[str, tuple[dict, ...]] = {
    "brainclip": (
        {},
        {"network": "linear"},
        {"network": "vae"},
        {"lr": 1e-3},
        {"lr": 1e-4},
        {"weight_decay": 0.1},
        {"weight_decay": 0.5},
        {"dropout_in": 0.8},
        {"hidden": 2048},
        {"tau": 0.2, "tau_min": 0.05},
        {"tau": 0.2, "tau_min": 0.1},
        {"network": "linear", "weight_decay": 0.5, "tau": 0.2, "tau_min": 0.05},
    ),
    "brainmclip": (
        {},
        {"lr": 1e-3},
        {"lr": 3e-4},
        {"class_contrast": 1.0},
        {"class_contrast": 0.0},
        {"mixco_tau": 0.006, "softclip_tau_start": 0.004, "softclip_tau_end": 0.0075},
        {"alpha_fine": 0.1},
        {"beta_rec": 0.1, "beta_cross": 0.05},
        {"hidden": 1024},
        {"token_rank": 64},
        {"dropout_in": 0.8},
        {"weight_decay": 0.1},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("decoder", choices=sorted(TRIALS), help="also the name of its run in params.yaml")
    decoder = parser.parse_args().decoder
    base = parameters.load(ROOT / "params.yaml")
    torch.set_num_threads(base.compute.threads)
    results = []
    for trial in TRIALS[decoder]:
        score = validate(base, decoder, trial)
        results.append({"changed": trial, "validation_score": round(score, 4)})
        print(json.dumps(results[-1]), flush=True)
    table = {"subjects": list(SUBJECTS), "base": dict(base.decoders[decoder]), "trials": results}
    (ROOT / "benchmarks" / f"tune_{decoder}.json").write_text(json.dumps(table, indent=1) + "\n")


def validate(base: parameters.Params, decoder: str, trial: dict) -> float:
    """Best smoothed validation score of one trial, averaged over subjects."""
    run = dataclasses.replace(base.runs[decoder], subjects=SUBJECTS, overrides=trial)
    changed = dataclasses.replace(base, runs={decoder: run})
    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder) / "curve.csv"
        train_run(
            decoder, changed, rois_train_dir=ROOT / "data/rois/train", voxels_dir=ROOT / "data/rois/voxels",
            clip_train_path=ROOT / f"data/clip/{run.clip}/train.h5", models_dir=Path(folder) / "models",
            curve_path=curve, resume_root=Path(folder) / "resume",
        )  # fmt: skip
        rows = list(csv.DictReader(curve.open()))
    return float(np.mean([best([float(r["val_mean"]) for r in rows if r["subject"] == s]) for s in SUBJECTS]))


def best(scores: list[float]) -> float:
    """Largest mean over WINDOW successive epochs."""
    return max(float(np.mean(scores[max(0, i - WINDOW + 1) : i + 1])) for i in range(len(scores)))


if __name__ == "__main__":
    main()
