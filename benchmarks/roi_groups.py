"""What each area tells: ridge, fitted anew to equally many voxels of each group of areas.

    # needs data/ of `dvc repro`; about 3 minutes on one core; writes roi_groups.json
    OMP_NUM_THREADS=1 python benchmarks/roi_groups.py

For each subject, each group and 10 draws of voxels, ridge to the embeddings and to the components
of the tokens is fitted on the training images (scikit-learn's RidgeCV: a penalty for each target by
leave-one-out, quick where voxels are few) and scored on the test images, as stage evaluate does it.
Zeroing the voxels of a network that was trained on all of them is no such test. Every group has
as many voxels as the smallest of all groups and subjects, drawn without replacement. Two rows stand
beside the groups: as many voxels of nsdgeneral, and of early and category areas matched in ncsnr
one to one (differences at most 0.05), as more reliable voxels tell more whatever they are about.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeCV

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import TEST_NAMES, read_cache, read_target  # noqa: E402
from fmri2clip.artefacts.components import express_tokens, read_basis  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.trials import read_test_betas  # noqa: E402
from fmri2clip.clip.targets import TOKEN_TARGETS  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.rows import find_rows  # noqa: E402
from fmri2clip.decoders.batches import TrainingData  # noqa: E402
from fmri2clip.decoders.ridge import decoder as ridge  # noqa: E402
from fmri2clip.metrics.decoding.retrieval import similarity  # noqa: E402
from fmri2clip.metrics.decoding.scoring import (  # noqa: E402
    Prediction,
    Truth,
    merge,
    score,
    score_tokens,
)
from fmri2clip.metrics.decoding.truth import make_truth  # noqa: E402
from fmri2clip.metrics.statistics import Scores, replicate  # noqa: E402
from fmri2clip.solvers.ranks import centre  # noqa: E402
from fmri2clip.stages.train.data import Subject  # noqa: E402
from fmri2clip.stages.train.inputs import Inputs  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "roi_groups.json"
RUN = "ridge_lowrank"
SCORES = "semantic_components_IP"
ALPHAS = np.logspace(0, 6, 13)
N_DRAWS = 10
CALIPER = 0.05  # of ncsnr
EARLY = ("V1", "V2", "V3", "hV4")
CATEGORY = ("floc-faces", "floc-bodies", "floc-places", "floc-words")
METRICS = {
    "image_given_brain": "retrieval.image_given_brain.top1",
    "text_given_brain": "retrieval.text_given_brain.top1",
    "tokens": "retrieval_tokens.semantic.image_given_brain.top1",
    "zero_shot": "zero_shot.top1",
    "map": "classification.map",
}


def main() -> None:
    params = parameters.load(ROOT / "params.yaml")
    torch.set_num_threads(params.compute.threads)
    config = parameters.decoder_config(params, RUN, ridge.Config)
    split = parameters.run_split(params, RUN)
    run = params.runs[RUN]
    inputs = Inputs(run, Paths(ROOT), split, ridge.Decoder, config)
    subjects = {s: inputs.load([s])[0] for s in run.subjects}
    groups = {s: find_groups(subject.data) for s, subject in subjects.items()}
    n_voxels = min(len(one) for group in groups.values() for one in group.values())
    values: dict[str, dict[str, list[float]]] = {}
    for number, (name, subject) in enumerate(subjects.items()):
        test = make_test(params, run.clip, subject)
        matched = match_ncsnr(subject.data, groups[name])
        for draw in range(N_DRAWS):
            rng = np.random.default_rng([draw, number])
            chosen = {
                key: rng.choice(v, n_voxels, replace=False) for key, v in groups[name].items()
            }
            pair = rng.choice(len(matched), min(n_voxels, len(matched)), replace=False)
            chosen |= {"early, matched": matched[pair, 0], "category, matched": matched[pair, 1]}
            for key, columns_V in chosen.items():
                found = fit_and_score(subject.data, columns_V, test)
                for metric, value in found.items():
                    values.setdefault(key, {}).setdefault(metric, []).append(value)
    n_draws = N_DRAWS * len(subjects)
    rows = {
        key: {
            metric: {
                "value": round(float(np.mean(found)), 4),
                # The least and the greatest mean over subjects of a draw.
                "low": round(float(min(means(found, len(subjects)))), 4),
                "high": round(float(max(means(found, len(subjects)))), 4),
            }
            for metric, found in by_metric.items()
        }
        for key, by_metric in values.items()
    }
    sizes = {name: {key: len(v) for key, v in found.items()} for name, found in groups.items()}
    table: dict[str, Any] = {
        "n_voxels": n_voxels,
        "n_draws": n_draws,
        "subjects": list(subjects),
        "sizes": sizes,
        "groups": rows,
    }
    print(json.dumps(table, indent=1))
    write_json(OUTPUT, table)


def means(values: list[float], n_subjects: int) -> list[float]:
    """Mean over subjects of each draw."""
    return [float(v) for v in np.reshape(values, (n_subjects, -1)).mean(axis=0)]


def find_groups(data: TrainingData) -> dict[str, np.ndarray]:
    """Columns of the voxels of each group of areas; category areas without what is early, too."""
    rois = {name: member_V.numpy() for name, member_V in data.rois.items()}
    early_V = rois["prf-visualrois"]
    found = {
        area: np.any([m for n, m in rois.items() if n.startswith(f"prf-visualrois/{area}")], axis=0)
        for area in EARLY
    }
    found |= {area.removeprefix("floc-"): rois[area] & ~early_V for area in CATEGORY}
    category_V = np.any([rois[area] for area in CATEGORY], axis=0)
    found |= {"early": early_V & ~category_V, "category": category_V & ~early_V}
    found["nsdgeneral"] = np.ones_like(early_V)
    return {name: np.flatnonzero(member_V) for name, member_V in found.items()}


def match_ncsnr(data: TrainingData, groups: dict[str, np.ndarray]) -> np.ndarray:
    """Pairs (early, category) of columns of nearly the same ncsnr, each voxel in one pair."""
    assert data.ncsnr_V is not None
    ncsnr_V = data.ncsnr_V.numpy()
    free = list(groups["category"][np.argsort(ncsnr_V[groups["category"]])])
    pairs = []
    for voxel in np.random.default_rng(0).permutation(groups["early"]):
        distance = np.abs(ncsnr_V[free] - ncsnr_V[voxel]) if free else np.array([np.inf])
        if distance.min() <= CALIPER:
            pairs.append((voxel, free.pop(int(distance.argmin()))))
    return np.array(pairs)


@dataclasses.dataclass(frozen=True)
class Test:
    """Test patterns of a subject, what they show, and true tokens on components, centred (I, X)."""

    betas_IV: np.ndarray
    truth: Truth
    token_IX: np.ndarray


def make_test(params: parameters.Params, clip: str, subject: Subject) -> Test:
    paths = Paths(ROOT)
    name = subject.data.subject
    betas = read_test_betas(paths.test_betas(name), subject.inputs["voxel_rows_V"])
    cache = read_cache(paths.clip_shared(clip), TEST_NAMES)
    image_D = subject.data.image_embedding_ID.numpy().mean(axis=0)
    text_D = subject.data.mean_text_ID.numpy().mean(axis=0)
    truth = make_truth(cache, betas.nsd_id_I, image_D, text_D, params.evaluation)
    row_I = find_rows(cache["nsd_id_I"], betas.nsd_id_I, "the cache")
    token_ITW = read_target(paths.clip_shared(clip), TOKEN_TARGETS["semantic"])[1][row_I]
    token_IX = express_tokens(token_ITW, read_basis(paths.clip_basis(clip)), "semantic")
    return Test(betas.mean_IV, truth, centre(token_IX, _tokens(subject.data).mean(axis=0)))


def _tokens(data: TrainingData) -> np.ndarray:
    """Class token, which is the embedding, and scores of the others, of the training images."""
    parts = (data.image_embedding_ID, data.features[SCORES])
    return np.concatenate([part.numpy() for part in parts], axis=1)


def fit_and_score(data: TrainingData, columns_V: np.ndarray, test: Test) -> dict[str, float]:
    """Scores of ridge on these voxels; predictions are centred by their mean over training
    images.
    """
    train_I = ~data.is_validation_I.numpy()
    x_IV = data.mean_betas_IV.numpy()[train_I][:, columns_V]
    targets = {
        "image": data.image_embedding_ID.numpy(),
        "text": data.mean_text_ID.numpy(),
        "tokens": _tokens(data),
    }
    predicted = {}
    for name, target_ID in targets.items():
        fitted = RidgeCV(alphas=ALPHAS).fit(x_IV, target_ID[train_I])
        found_ID = fitted.predict(test.betas_IV[:, columns_V])
        predicted[name] = centre(found_ID, fitted.predict(x_IV).mean(axis=0))
    prediction = Prediction(image_ID=predicted["image"], text_ID=predicted["text"], own_text=True)
    near_II = similarity(predicted["tokens"], test.token_IX)
    tokens = score_tokens(near_II, test.truth.galleries, "semantic")
    ids = test.truth.nsd_id_I
    scores = merge([score(prediction, test.truth), Scores(nsd_id_I=ids, per_image=tokens)])
    names = list(METRICS.values())
    point_M = replicate({data.subject: scores}, names, ids, 1, (0,)).point_MS[:, 0]
    return dict(zip(METRICS, point_M.tolist(), strict=True))


if __name__ == "__main__":
    main()
