"""Files of a trained and evaluated run, as the stages leave them, for the tests of tracking."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import params as parameters
from fmri2clip.core.params import Params

PARAMS = Path(__file__).parents[2] / "params.yaml"
SUBJECTS = ("subj01", "subj02")


def load_params(*runs: str, **world: Any) -> Params:
    """params.yaml with these runs of brainclip only; world: what differs."""
    params = parameters.load(PARAMS)
    run = dataclasses.replace(params.runs["brainclip"], subjects=SUBJECTS)
    return dataclasses.replace(
        params,
        runs=dict.fromkeys(runs, run),
        world=dataclasses.replace(params.world, **world),
        reconstructions={},
    )


def score(value: float) -> dict[str, Any]:
    """Scores of a run or subject; the interval is no headline."""
    return {"retrieval": {"image_given_brain": {"top1": value, "top1_ci95_low": 0.1}}}


def write_run(root: Path, run: str, weights: bytes = b"w", shared: bool = False) -> Paths:
    """Models, curve and scores of a run with two subjects; shared: one model for both."""
    paths = Paths(root)
    models = {"shared": SUBJECTS} if shared else {s: (s,) for s in SUBJECTS}
    for model, subjects in models.items():
        folder = paths.model(run) / model
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(weights + model.encode())
        about = {
            "run": run,
            "decoder": "brainclip",
            "clip": "mini",
            "voxels": "all",
            "seed": 3,
            "config": {"lr": 0.001},
            "split": {"n_validation": 5},
            "digests": {s: {"betas": f"{s[-1]}" * 64, "clip": "c" * 64} for s in subjects},
            "n_voxels": 30,
            "width_D": 8,
            "n_training_images": dict.fromkeys(subjects, 90),
            "n_validation_images": dict.fromkeys(subjects, 10),
            "parameters": {"trained": 7, "deployed": 6},
        }
        (folder / "config.yaml").write_text(json.dumps(about))  # YAML, too
    curves = [f"{m},{e},{2 - e},0.{2 + e}5,0.{2 + e}\n" for m in models for e in (0, 1)]
    write(paths.curve(run), "subject,epoch,loss,val_loss,val_mean\n" + "".join(curves))
    tree = {**score(0.55), "subjects": {"subj01": score(0.5), "subj02": score(0.6)}}
    write(paths.metrics(run), json.dumps(tree))
    return paths


def write(path: Path, text: str) -> None:
    """A file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
