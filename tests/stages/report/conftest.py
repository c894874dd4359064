"""A small made-up project for the report: two runs, three subjects, scores from the real metric
code.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.artefacts.clip_cache import read_cache, write_cache
from fmri2clip.artefacts.model import save_subject
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.reconstructions import write_reconstructions
from fmri2clip.artefacts.scores import pack_scores, write_predictions
from fmri2clip.artefacts.stimuli import TEST
from fmri2clip.core import params as parameters
from fmri2clip.metrics.decoding.scoring import (
    Prediction,
    Truth,
    Unseen,
    merge,
    place,
    score,
    score_unseen,
)
from fmri2clip.metrics.decoding.truth import make_truth
from fmri2clip.metrics.statistics import Scores
from fmri2clip.metrics.summary import summarise
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.report.write import write_report
from tests.decoders.settings import make_config
from tests.stimuli_files import write_pictures as write_stimuli_file

ROOT = Path(__file__).parents[3]
SUBJECTS = ("subj01", "subj02", "subj05")
CATEGORIES = ("person", "dog", "boat", "train", "zebra", "cup")
NOISE = {"ridge": 1.6, "brainclip": 1.1}
WIDTH = 24


class Project:
    """Writes every file that a report reads under `root`; `write()` makes the report."""

    def __init__(
        self, root: Path, n_images: int = 40, subjects: tuple[str, ...] = SUBJECTS
    ) -> None:
        self.root, self.n_images, self.subjects = root, n_images, subjects
        shutil.copy(ROOT / "CITATION.cff", root)
        self.rng = np.random.default_rng(0)
        self.params = self.make_params()
        self.clip = self.write_clip()
        self.write_pictures()
        for name in self.params.runs:
            self.write_run(name)
        self.write_references()
        for place_, subject in enumerate(subjects):
            self.write_json(f"data/roi_counts/{subject}.json", roi_counts(place_))

    def make_params(self) -> parameters.Params:
        run = {"clip": "mini", "voxels": "all", "seed": 3}
        content = {
            "note": "A made-up project.",
            "compute": {},
            "dataset": {},
            "download": {},
            "subjects": list(self.subjects),
            "world": {},
            "rois": {"low": ["prf-visualrois"], "high": ["floc-faces"], "all": ["nsdgeneral"]},
            "norm": {},
            "labels": {},
            "clips": {"mini": {"model": "mini-clip", "pretrained": "nowhere"}},
            "split": {},
            "decoders": {
                "ridge": {},
                "brainclip": {},
                **{name: asdict(make_config(name)) for name in ("brainmclip", "clip_mused")},
            },
            "runs": {
                "ridge": {"decoder": "ridge", "subjects": list(self.subjects), **run},
                "brainclip": {
                    "decoder": "brainclip",
                    "subjects": list(self.subjects[:2]),
                    "overrides": {"alpha": 0.5},
                    "split": {"unseen_folds": 3, "unseen_fold": 1},
                    **run,
                },
            },
            "evaluation": {"n_way": 20, "n_draws": 5, "n_hard": 5, "n_bootstrap": 50},
            "hierarchy": {},
            "tracking": {},
        }
        return parameters.build(parameters.Params, content, where="test")

    def write_clip(self) -> dict[str, np.ndarray]:
        n, rng = self.n_images, self.rng
        category_I = np.arange(n) % len(CATEGORIES)
        prompt_CD = unit(rng.normal(size=(len(CATEGORIES), WIDTH)))
        labels_IC = category_I[:, None] == np.arange(len(CATEGORIES))
        arrays = {
            "nsd_id_I": np.arange(n) * 3 + 7,
            "image_embedding_ID": unit(prompt_CD[category_I] + 0.2 * rng.normal(size=(n, WIDTH))),
            "caption_K": [
                f"caption {k} of | a <{CATEGORIES[category_I[k // 2]]}> & friends"
                for k in range(2 * n)
            ],
            "caption_image_K": np.repeat(np.arange(n), 2),
            "labels_IC": labels_IC,
            "area_IC": 0.2 * labels_IC,
            "n_objects_I": np.ones(n, dtype=np.int16),
            "category_C": list(CATEGORIES),
            "present_C": np.ones(len(CATEGORIES), dtype=bool),
            "prompt_P": ["a photo of a {category}"],
            "prompt_embedding_PCD": prompt_CD[None],
        }
        noise_KD = 0.1 * rng.normal(size=(2 * n, WIDTH))
        arrays["text_embedding_KD"] = unit(
            arrays["image_embedding_ID"].repeat(2, axis=0) + noise_KD
        )
        write_cache(self.root / "data/clip/mini/shared.h5", arrays)
        return read_cache(self.root / "data/clip/mini/shared.h5")

    def write_pictures(self) -> None:
        y, x = np.mgrid[:32, :32] * 8
        images = np.zeros((self.n_images, 32, 32, 3), dtype=np.uint8)
        images[:] = np.stack([x, y, 255 - x], axis=-1)
        images[:, 8:24, 8:24] = self.rng.integers(0, 255, (self.n_images, 1, 1, 3))
        write_stimuli_file(Paths(self.root).stimuli(TEST), self.clip["nsd_id_I"], images)

    def truth(self) -> Truth:
        zero_D = np.zeros(WIDTH)
        return make_truth(self.clip, self.clip["nsd_id_I"], zero_D, zero_D, self.params.evaluation)

    def decode(self, noise: float) -> np.ndarray:
        true_ID = self.clip["image_embedding_ID"].astype(np.float64)
        return (true_ID + noise * self.rng.normal(size=true_ID.shape) / np.sqrt(WIDTH)).astype(
            np.float32
        )

    def write_run(self, name: str) -> None:
        truth, scores, groups = self.truth(), {}, {}
        left_out = (
            Unseen(candidates_C=np.arange(len(CATEGORIES)) < 2)
            if self.params.runs[name].split
            else None
        )
        for subject in self.params.runs[name].subjects:
            embedding_ID = self.decode(NOISE.get(name, 1.3))
            parts = []
            for prefix, decoded_ID in (
                ("", embedding_ID),
                ("reference.noise_free", self.decode(0.3)),
            ):
                centred_ID = centre(decoded_ID, np.zeros(WIDTH))
                prediction = Prediction(image_ID=centred_ID, text_ID=centred_ID)
                parts.append(
                    place(score(prediction, truth), prefix) if prefix else score(prediction, truth)
                )
                if left_out:
                    where = "unseen.noise_free" if prefix else "unseen"
                    parts.append(place(score_unseen(prediction, truth, left_out), where))
            constants = {"parameters.trained": 12345.0, "parameters.deployed": 1234.0}
            parts.append(Scores(nsd_id_I=self.clip["nsd_id_I"], constants=constants))
            scores[subject] = merge(parts)
            groups[subject] = {"embedding_ID": embedding_ID, **pack_scores(scores[subject])}
            means = {
                f"mean_{part}_D": np.zeros(WIDTH, dtype=np.float32)
                for part in ("image", "text", "predicted_image")
            }
            folder = self.root / "models" / name / subject
            save_subject(folder, means, {})
        write_predictions(self.root / f"data/predictions/{name}.h5", groups)
        self.write_json(f"data/scores/{name}.json", summarise(scores, 50, 0))
        curve = self.root / f"data/curves/{name}.csv"
        curve.parent.mkdir(parents=True, exist_ok=True)
        n_epochs = 1 if name == "ridge" else 9
        lines = [
            f"{subject},{epoch},{2 - 0.1 * epoch},{0.3 + 0.02 * epoch},{0.2 + 0.03 * epoch},0.3"
            for subject in groups
            for epoch in range(n_epochs)
        ]
        curve.write_text(
            "\n".join(["subject,epoch,image_loss,val_image_top1,val_text_top1,val_mean", *lines])
            + "\n"
        )

    def write_references(self) -> None:
        truth, trees, groups = self.truth(), {}, {}
        for name, noise in (
            ("null.prior", 50.0),
            ("baseline.nearest_brain", 2.2),
            ("reference.target", 0.0),
        ):
            scores = {}
            for subject in self.subjects:
                centred_ID = centre(self.decode(noise), np.zeros(WIDTH))
                searched = name != "reference.target"
                prediction = Prediction(
                    image_ID=centred_ID, text_ID=centred_ID, search_images=searched
                )
                scores[subject] = score(prediction, truth)
                groups[f"{name}.{subject}"] = pack_scores(scores[subject])
            trees[name] = summarise(scores, 50, 0)
        self.write_json("data/scores/reference_mini.json", trees)
        write_predictions(self.root / "data/predictions/reference_mini.h5", groups)

    def write_json(self, name: str, content: object) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    @property
    def paths(self) -> Paths:
        """Of the project."""
        return Paths(self.root)

    def write(self) -> tuple[str, str]:
        """Make the report; returns page and summary."""
        write_report(self.params, Paths(self.root))
        return self.read("html/index.html"), self.read("summary.md")

    def read(self, name: str) -> str:
        """A file of the report."""
        return (self.root / "reports" / name).read_text(encoding="utf-8")


@pytest.fixture
def study() -> dict[str, object]:
    """A learning curve over two variants, in the layout that the study runner writes."""
    metrics = ["retrieval.image_given_brain.top1", "zero_shot.top1", "parameters.trained"]
    variants = {
        f"n{n}": {
            "overrides": [f"split.n_images={n}"],
            "params": {"split.n_images": n},
            "x": n,
            "runs": {
                run: {
                    metrics[0]: {
                        "value": 0.1 + n / 1e4 + gain,
                        "low": 0.08 + n / 1e4,
                        "high": 0.2 + n / 1e4 + gain,
                    },
                    metrics[1]: {"value": 0.3 + gain},
                    metrics[2]: {"value": 1234567.0},
                }
                for run, gain in (("ridge", 0.0), ("brainclip", 0.05))
            },
        }
        for n in (250, 1000, 2500)
    }
    difference = {
        "value": 0.05,
        "low": 0.01,
        "high": 0.09,
        "n_positive": 2,
        "n_subjects": 2,
    }
    compared = {
        "title": "what brainclip gains",
        "a": ["n250"],
        "run_a": "brainclip",
        "b": ["n250"],
        "run_b": "ridge",
    }
    return {
        "study": "learning",
        "question": "How many images does a decoder need?",
        "budget": "Two subjects.",
        "budget_minutes": 30,
        "same_pictures": True,
        "x_label": "training images",
        "seeds": {"keys": ["runs.ridge.seed"], "values": [0, 1, 2]},
        "metrics": metrics,
        "code_sha256": "ab" * 32,
        "params": {"world.seed": 1, "evaluation.n_way": 300, "evaluation.seed": 0},
        "variants": variants,
        "comparisons": [{**compared, "metrics": {metrics[0]: {**difference, "per_subject": {}}}}],
    }


@pytest.fixture
def fresh(project: Project, tmp_path: Path) -> Project:
    """The inputs of `project` in a folder of its own, without its report."""
    return copy_inputs(project, tmp_path)


def copy_inputs(project: Project, root: Path) -> Project:
    copied = copy.copy(project)
    copied.root = root
    shutil.copy(project.root / "CITATION.cff", root)
    for name in ("data", "models"):
        shutil.copytree(project.root / name, root / name)
    return copied


PROTOCOLS = ("strict-v1", "mindeye-2023")
RECONSTRUCTIONS = {  # name -> (source, blend of the stimulus with noise)
    "ridge<i>|x": ("ridge", 0.35),
    "brainclip": ("brainclip", 0.6),
    "reference_pooled": ("target", 0.9),
    "null_permuted": ("ridge_permuted", 0.0),
    "null_mean": ("mean_image", 0.0),
}
STAND_IN = "pictures.classifier (assets/x) stands in for AlexNet alone"


def add_pictures(project: Project) -> Project:
    """Adds reconstructions of 20 images, their scores, and a run trained on permuted pairs, which
    has no files.
    """
    params = project.params
    permuted = dataclasses.replace(params.runs["ridge"], split={"permute": True}, seed=4)
    entries = {
        name: parameters.Reconstruction(generator="mini", source=s)
        for name, (s, _) in RECONSTRUCTIONS.items()
    }
    project.params = dataclasses.replace(
        params,
        runs={**params.runs, "ridge_permuted": permuted},
        generators={"mini": {"family": "tokens", "clip_model": "mini-clip"}},
        reconstructions=entries,
        pictures=parameters.Pictures(n_images=20, protocols=PROTOCOLS),
    )
    rng, nsd_id_I = np.random.default_rng(5), project.clip["nsd_id_I"][:20]
    for name, (source, blend) in RECONSTRUCTIONS.items():
        subjects = (
            project.params.runs[source].subjects
            if source in project.params.runs
            else project.subjects
        )
        write_pictures(project, name, source, subjects, nsd_id_I, rng)
        run = {subject: score_pictures(nsd_id_I, source, blend, rng) for subject in subjects}
        project.write_json(f"data/picture_scores/{name}.json", summarise(run, 50, 0))
        groups = {subject: pack_scores(scores) for subject, scores in run.items()}
        write_predictions(project.root / f"data/picture_scores/{name}.h5", groups)
    project.write_json(
        "data/picture_scores/record.json", {name: make_record(name) for name in PROTOCOLS}
    )
    return project


def write_pictures(
    project: Project,
    name: str,
    source: str,
    subjects: tuple[str, ...],
    nsd_id_I: np.ndarray,
    rng: np.random.Generator,
) -> None:
    repeated = subjects if source in project.params.runs else subjects[:1]
    rows = {"nsd_id_I": np.tile(nsd_id_I, len(repeated))}
    if source in project.params.runs:
        rows["subject_I"] = [subject for subject in repeated for _ in nsd_id_I]
    n = len(rows["nsd_id_I"])
    image_INHWC = (
        rng.integers(0, 255, (n, 1, 4, 4, 3), dtype=np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    )
    arrays = {**rows, "seed_IN": np.zeros((n, 1), dtype=np.int64), "image_INHWC": image_INHWC}
    write_reconstructions(project.root / f"data/reconstructions/{name}.h5", arrays)


def score_pictures(
    nsd_id_I: np.ndarray, source: str, blend: float, rng: np.random.Generator
) -> Scores:
    """Scores that rise with `blend`; two-way scores take few values, so they tie."""
    n, found = len(nsd_id_I), {}

    def draw(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(low + (high - low) * blend + 0.1 * rng.normal(size=n), -1, 1), np.ones(n)

    def count() -> tuple[np.ndarray, np.ndarray]:
        return np.round(
            4 * np.clip(0.5 + 0.4 * blend + 0.3 * rng.normal(size=n), 0, 1)
        ) / 4, np.ones(n)

    for protocol in PROTOCOLS:
        directions = ["image_given_reconstruction"]
        directions += ["reconstruction_given_image"] if protocol == "strict-v1" else []
        if not (protocol == "mindeye-2023" and source == "mean_image"):
            found[f"{protocol}.pixcorr"] = draw(0, 0.8)
        found[f"{protocol}.ssim"] = draw(0.2, 0.7)
        found |= {
            f"{protocol}.{m}.{d}": count()
            for m in ("alexnet2", "alexnet5", "clip")
            for d in directions
        }
        found[f"{protocol}.swav"] = draw(0.9, 0.3)
    for region in ("low", "high", "all"):
        found[f"strict-v1.brain_correlation.{region}"] = draw(0, 0.5)
    return Scores(nsd_id_I=nsd_id_I, per_image=found)


def make_record(protocol: str) -> dict[str, object]:
    facts = {
        "kind": "classifier",
        "weights": "w",
        "sha256": "0",
        "precision": "fp32",
        "verified": False,
    }
    missing = {name: dict.fromkeys(("inception", "effnet"), STAND_IN) for name in RECONSTRUCTIONS}
    if protocol == "mindeye-2023":
        missing["null_mean"]["pixcorr"] = "undefined for 20 images"
    record: dict[str, object] = {
        "protocol": protocol,
        "networks": {
            "alexnet": {**facts, "name": "small AlexNet of classifier", "stand_in": True},
            "swav": {**facts, "name": "swav_800ep_pretrain", "stand_in": False},
        },
        "stand_ins": ["alexnet"],
        "versions": {"torch": "2.0.0", "numpy": "1.9"},
        "n_images": {name: dict.fromkeys(SUBJECTS, 20) for name in RECONSTRUCTIONS},
        "missing": missing,
    }
    if protocol == "strict-v1":
        brain = {
            "layers": ["features.4", "features.11"],
            "alpha": 1.0,
            "cv_error": 0.9,
            "n_training_images": 2500,
        }
        record["brain"] = dict.fromkeys(SUBJECTS, brain)
    return record


@pytest.fixture
def pictured(fresh: Project) -> Project:
    """The project with reconstructions, before its report."""
    return add_pictures(fresh)


@pytest.fixture(scope="module")
def pictured_report(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, str, str]:
    """Such a project, its page and its summary."""
    made = add_pictures(copy_inputs(project, tmp_path_factory.mktemp("pictured")))
    return (made, *made.write())


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def roi_counts(k: int) -> dict[str, object]:
    return {
        "sessions": 12,
        "voxels": {"kept": 1700 + k, "dropped": 3, "filled": 5, "filled_sessions": 9},
        "rois": {"nsdgeneral": 1700 + k, "prf-visualrois": 700},
        "labels": {"prf-visualrois/V1v": 120, "floc-faces/mTL-faces": 0},
        "groups": {"low": 700, "high": 600, "all": 1700 + k},
        # Of high it is unknown, as where a subject saw every picture once.
        "ncsnr": {"low": {"median": 0.36, "median_train": 0.35}, "high": {}},
        "train": {"trials": 7500, "images": 2500, "shown": {"3": 2500}},
        "test": {"trials": 120, "images": 40, "shown": {"1": 0, "3": 40}},
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.write()
    return made


@pytest.fixture(scope="module")
def page(project: Project) -> str:
    return project.read("html/index.html")


@pytest.fixture(scope="module")
def summary(project: Project) -> str:
    return project.read("summary.md")
