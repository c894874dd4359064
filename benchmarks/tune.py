"""Choose a run's settings on validation images: as many trials as ridge has penalty candidates, no
test data.

    # needs data/ of `dvc repro`; writes benchmarks/tune_brainmclip.json
    python benchmarks/tune.py brainmclip

Each trial trains --subjects of the development world (two for a decoder of single subjects, all for
those of category labels, which share a model). The score is the best val_mean of the curve (image
and text top-1, or mAP where labels are decoded), averaged over three successive epochs as early
stopping does. `base` in the file is what params.yaml held when the trials ran, `overrides` what the
run changed in it; the settings chosen from them stand in params.yaml.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core import strict  # noqa: E402
from fmri2clip.stages.select.select import select  # noqa: E402
from fmri2clip.stages.train.run import train_run  # noqa: E402
from fmri2clip.studies import plan  # noqa: E402

WINDOW = 3  # epochs, as in training/trainer.py
AUTHORS_WEIGHTS = {"w_high": 1e-3, "w_low": 1e-1}  # of the guidance, on HCP
# With runs that params.yaml lacks -> a variant; that of rivals is what comes out of this.
STUDIES = {"mused_maps": "clip_aligned", "rivals": ""}
MLP_TRIALS: tuple[dict, ...] = (
    {},
    {"dropout_in": 0.1, "dropout": 0.1},
    {"dropout_in": 0.5, "dropout": 0.5},
    {"dropout_in": 0.5},
    {"hidden": 512},
    {"hidden": 512, "dropout_in": 0.5, "dropout": 0.5},
    {"lr": 4e-3},
    {"lr": 1e-3},
    {"layers": 2},
    {"batch_size": 256},
    {"weight_decay": 0.5},
    {"dropout_in": 0.5, "dropout": 0.5, "max_epochs": 40},
)
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
    "clip_mused": (
        {**AUTHORS_WEIGHTS, "input_map": "pca", "components": 32, "max_epochs": 6},
        {**AUTHORS_WEIGHTS, "input_map": "pca", "components": 32, "max_epochs": 12},
        {**AUTHORS_WEIGHTS, "components": 32, "max_epochs": 12},
        {**AUTHORS_WEIGHTS, "input_map": "pca"},
        AUTHORS_WEIGHTS,
        {},
        {**AUTHORS_WEIGHTS, "lr": 4e-3, "dropout_in": 0.2, "dropout": 0.2},
        {"lr": 4e-3, "dropout_in": 0.2, "dropout": 0.2},
        {"dropout_in": 0.3, "dropout": 0.3},
        {"layers": 1, "dropout_in": 0.3, "dropout": 0.3},
        {"head_input": "both"},
        {"w_high": 3.0, "w_low": 0.3},
    ),
    "aligned": (
        {},
        {"lr": 3e-3},
        {"lr": 3e-4},
        {"hidden": 1024},
        {"hidden": 256},
        {"blocks": 2},
        {"dropout_in": 0.3, "dropout_res": 0.3},
        {"dropout_in": 0.7},
        {"components": 96},
        {"weight_decay": 0.1},
        {"batch_size": 128},
        {"max_epochs": 40},
    ),
    "brainmclip_plus": (
        {},
        {"lr": 3e-3},
        {"lr": 3e-4},
        {"class_contrast": 1.0},
        {"class_contrast": 0.0},
        {"w_image_text": 0.0},
        {"w_image_text": 1.0},
        {"w_regression": 0.3},
        {"mixco_tau": 0.1, "softclip_tau_start": 0.1, "softclip_tau_end": 0.15},
        {"hidden": 1024},
        {"dropout_in": 0.7},
        {"max_epochs": 60},
    ),
    "mindeye": (
        {},
        {"lr": 3e-4},
        {"lr": 2e-3},
        {"w_regression": 3.0},
        {"w_regression": 0.3},
        {"mixco_tau": 0.006, "softclip_tau_start": 0.004, "softclip_tau_end": 0.0075},
        {"mixco_tau": 0.1, "softclip_tau_start": 0.1, "softclip_tau_end": 0.15},
        {"hidden": 512, "blocks": 2},
        {"hidden": 2048},
        {"dropout_in": 0.8},
        {"weight_decay": 0.1},
        {"max_epochs": 160},
        # The best of these has the highest temperatures that were tried, so further ones.
        {"mixco_tau": 0.2, "softclip_tau_start": 0.2, "softclip_tau_end": 0.3},
        {"mixco_tau": 0.1, "softclip_tau_start": 0.1, "softclip_tau_end": 0.15, "lr": 2.0e-3},
        {"mixco_tau": 0.1, "softclip_tau_start": 0.1, "softclip_tau_end": 0.15, "max_epochs": 160},
    ),
    "subject_embedding": (
        {},
        {"lr": 4e-3, "dropout_in": 0.2, "dropout": 0.2},
        {"lr": 1e-3},
        {"dropout_in": 0.3, "dropout": 0.3},
        {"dropout_in": 0.3},
        {"layers": 1},
        {"layers": 1, "dropout_in": 0.3, "dropout": 0.3},
        {"batch_size": 256, "lr": 4e-3},
        {"weight_decay": 0.5},
        {"feedforward": 4},
        {"heads": 8},
        {"max_epochs": 12},
    ),
    "mlp_shared": MLP_TRIALS,
    "mlp_single": MLP_TRIALS,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "run", choices=sorted(TRIALS), help="a run of params.yaml, or of a study in STUDIES"
    )
    parser.add_argument("--subjects", default="subj01,subj07", help="separated by commas")
    parser.add_argument("--threads", type=int, help="CPU threads; compute.threads by default")
    arguments = parser.parse_args()
    base, subjects = load_params(arguments.run), tuple(arguments.subjects.split(","))
    if arguments.threads:
        base = dataclasses.replace(
            base, compute=dataclasses.replace(base.compute, threads=arguments.threads)
        )
    run = base.runs[arguments.run]
    results = []
    for trial in TRIALS[arguments.run]:
        score = validate(base, arguments.run, subjects, trial)
        results.append({"changed": trial, "validation_score": round(score, 4)})
        print(json.dumps(results[-1]), flush=True)
    table = {
        "subjects": list(subjects),
        "base": dict(base.decoders[run.decoder]),
        "overrides": dict(run.overrides),
    }
    path = ROOT / "benchmarks" / f"tune_{arguments.run}.json"
    path.write_text(json.dumps(table | {"trials": results}, indent=1) + "\n")


def load_params(run: str) -> parameters.Params:
    """The default parameters; those of a variant of STUDIES, if they lack the run."""
    base = parameters.load(ROOT / "params.yaml")
    for study, variant in STUDIES.items():
        if run in base.runs:
            break
        loaded = plan.load(ROOT / "studies" / f"{study}.yaml")
        if not variant:
            loaded = dataclasses.replace(loaded, variants=dict.fromkeys(loaded.variants, ()))
        planned = plan.plan(loaded, ROOT / "params.yaml").items()
        content = next(
            c for experiment, c in planned if experiment.variant == variant or not variant
        )
        base = strict.build(parameters.Params, content, "params.yaml")
    return base


def validate(base: parameters.Params, name: str, subjects: tuple[str, ...], trial: dict) -> float:
    """Best smoothed validation score of one trial, averaged over the models of the run."""
    run = dataclasses.replace(
        base.runs[name], subjects=subjects, overrides={**base.runs[name].overrides, **trial}
    )
    changed = dataclasses.replace(base, runs={name: run})
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        for part in ("rois", "clip"):
            link = paths.root / "data" / part
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(ROOT / "data" / part)
        select(name, run.clip, subjects, paths, changed.compute.threads)
        train_run(name, changed, paths, resume_root=Path(folder) / "resume")
        rows = list(csv.DictReader(paths.curve(name).open()))
    models = sorted({row["subject"] for row in rows})
    return float(
        np.mean([best([float(r["val_mean"]) for r in rows if r["subject"] == m]) for m in models])
    )


def best(scores: list[float]) -> float:
    """Largest mean over WINDOW successive epochs."""
    return max(float(np.mean(scores[max(0, i - WINDOW + 1) : i + 1])) for i in range(len(scores)))


if __name__ == "__main__":
    main()
