"""What MLflow is told of a run: parameters, curves, scores, data and words, all read from files."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from fmri2clip.artefacts.headline import read_headline
from fmri2clip.artefacts.model import (
    CONFIG,
    SHARED,
    list_models,
    read_description,
    weights_sha256,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.files import flatten
from fmri2clip.core.params import Params
from fmri2clip.tracking.store import DESCRIPTION

# Of params.yaml, shown beside the settings of the run.
SECTIONS = ("dataset", "world", "rois", "norm", "labels", "evaluation")
DEFAULT = "default"  # variant: params.yaml as it is, no DVC experiment
LONGEST = 6000  # characters of a parameter that MLflow takes
Point = tuple[str, float, int]  # name, value, step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained run: its files, below the root of `paths`, and what they were made with."""

    run: str
    params: Params
    paths: Paths

    @property
    def models(self) -> dict[str, Path]:
        """Folder of each model: of one a subject, or of the one that all share."""
        return {folder.name: folder for folder in list_models(self.paths.model(self.run))}

    @property
    def description(self) -> dict[str, Any]:
        """What config.yaml says; the same of all models of the run but for counts and digests."""
        return read_description(next(iter(self.models.values())))

    @property
    def subjects(self) -> list[str]:
        """Subjects that the models were trained on."""
        folders = self.models.values()
        return [s for folder in folders for s in read_description(folder)["digests"]]

    def digest(self) -> str:
        """sha256 over the weights of all models: what identifies a trained run."""
        parts = [f"{name} {weights_sha256(folder)}\n" for name, folder in self.models.items()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def find_key(trained: Trained, variant: str) -> dict[str, str]:
    """Tags by which the run is found again; variant: name of a DVC experiment, or DEFAULT."""
    return {"run": trained.run, "models_sha256": trained.digest(), "variant": variant}


def list_settings(trained: Trained) -> dict[str, str]:
    """Everything that decides the result, by dotted name, so that two variants can be compared."""
    about = trained.description
    sections = dataclasses.asdict(trained.params)
    clip = {"name": about["clip"], **sections["clips"].get(about["clip"], {})}
    own = {name: about[name] for name in ("decoder", "voxels", "seed", "config", "split")}
    context = {name: sections[name] for name in SECTIONS}
    settings = flatten({**own, "subjects": trained.subjects, "clip": clip, **context})
    return {name: str(value)[:LONGEST] for name, value in settings.items()}


def list_counts(folder: Path) -> dict[str, str]:
    """What is the model's own: voxels, images and weights."""
    about = read_description(folder)
    names = ("n_voxels", "n_training_images", "n_validation_images", "parameters")
    return {name: str(value) for name, value in flatten({n: about[n] for n in names}).items()}


def read_curve(path: Path, model: str) -> Iterator[Point]:
    """The model's rows of the curve as train/ and val/; scores in percent, losses as they are."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.pop("subject") != model:
                continue
            epoch = int(row.pop("epoch"))
            for name, cell in row.items():
                if cell:
                    kind, short = ("val", name[4:]) if name.startswith("val_") else ("train", name)
                    is_score = kind == "val" and not short.endswith("loss")
                    yield f"{kind}/{short}", (100 if is_score else 1) * float(cell), epoch


def read_last(trained: Trained) -> dict[str, float]:
    """val/mean behind the last epoch, mean over the models."""
    last = []
    for model in trained.models:
        points = read_curve(trained.paths.curve(trained.run), model)
        last += [value for name, value, _ in points if name == "val/mean"][-1:]
    return {"val/mean": round(fmean(last), 2)} if last else {}


def read_scores(trained: Trained, subject: str = "") -> dict[str, float]:
    """Headline of the run or of a subject as test/; empty before evaluate has run."""
    headline = read_headline(trained.params, trained.paths, trained.run, subject)
    return {f"test/{name}": value for name, value in headline.items()}


def list_files(trained: Trained, with_report: bool) -> dict[str, Path]:
    """Name of an artifact -> file, of those that exist.

    with_report: with the report and its grid of pictures, which may be of another state of the run.
    """
    paths, run = trained.paths, trained.run
    found = {"metrics.json": paths.metrics(run), "curve.csv": paths.curve(run)}
    found |= {f"config/{name}.yaml": folder / CONFIG for name, folder in trained.models.items()}
    if with_report:
        found["pictures.png"] = paths.reports / "figures" / "pictures.png"
        found["report/index.html"] = paths.reports / "html" / "index.html"
    return {name: path for name, path in found.items() if path.is_file()}


def list_data(trained: Trained, model: str = "") -> Iterator[dict[str, str]]:
    """Fields of an MLflow dataset for each subject of the run, or of one of its models."""
    source = trained.params.dataset.source
    folders = [trained.models[model]] if model else list(trained.models.values())
    for folder in folders:
        about = read_description(folder)
        for subject, digests in about["digests"].items():
            profile = {
                "training images": about["n_training_images"][subject],
                "validation images": about["n_validation_images"][subject],
                "sha256": digests,
            }
            yield {
                "name": f"NSD {source} {subject}",
                "digest": digests["betas"][:36],  # the longest that MLflow takes
                "source_type": "local",
                "source": json.dumps({"uri": Paths().train_betas(subject).as_posix()}),
                "profile": json.dumps(profile),
            }


def describe(trained: Trained, variant: str) -> str:
    """A sentence or two for somebody who does not know the project."""
    about, params = trained.description, trained.params
    kind = "one model for all" if SHARED in trained.models else "a model each"
    world = f", world seed {params.world.seed}" if params.dataset.source == "simulated" else ""
    source = f"{params.dataset.source} NSD"
    if params.dataset.source == "folder":
        source = f"the folder {params.dataset.folder}"
    text = (
        f"Decoder `{about['decoder']}` from fMRI to CLIP `{about['clip']}`; "
        f"{len(trained.subjects)} subjects, {kind}. Data: {source}{world}."
    )
    return f"{text} DVC experiment `{variant}`: {params.note}" if variant != DEFAULT else text


def list_tags(trained: Trained, variant: str) -> dict[str, str]:
    """Where the run comes from, in MLflow's words and in ours."""
    about = trained.description
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    commit = {"mlflow.source.git.commit": git.stdout.strip()} if git.returncode == 0 else {}
    dvc = {
        # Under `dvc exp run` the commit is the baseline.
        tag: os.environ[variable]
        for tag, variable in (("dvc.baseline", "DVC_EXP_BASELINE_REV"), ("dvc.stage", "DVC_STAGE"))
        if os.environ.get(variable)
    }
    return {
        "decoder": about["decoder"],
        "clip": about["clip"],
        "dataset": trained.params.dataset.source,
        DESCRIPTION: describe(trained, variant),
        "mlflow.source.name": f"python -m pipeline.train {trained.run}",
        "mlflow.source.type": "LOCAL",
        **commit,
        **dvc,
    }
