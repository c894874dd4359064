"""Do decoders of a contrast give whitened embeddings, and is that what costs them zero-shot naming?

    # needs data/ and models/ of `dvc repro`; a minute on one core; writes whitening.json
    OMP_NUM_THREADS=1 python benchmarks/whitening.py

A contrast of image embeddings v asks which v of a batch belongs to a response. What is best for it
weighs a direction by what it tells pictures apart, not by how much pictures vary along it; prompts
of categories are no pictures, so directions along which pictures vary little are noise to them.
The test: predicted embeddings of the validation images, centred, are multiplied by a power of the
covariance S of the training images' embeddings and asked again. A power of 1/2 takes out a
whitening, -1/2 puts one in, and what a decoder knows stays what it was. Zero-shot: 24 categories by
their prompts, images with a dominant category; image: top-1 among all validation images of a
subject, cosine. Intervals: 95 %, bootstrap over the images of each subject.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import read_cache  # noqa: E402
from fmri2clip.artefacts.model import decode, load_model, required  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.trials import average_repeats, read_betas  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.rows import find_rows  # noqa: E402
from fmri2clip.core.stage import set_threads  # noqa: E402
from fmri2clip.metrics.decoding.classification import (  # noqa: E402
    dominant_category,
    score_zero_shot,
)
from fmri2clip.metrics.decoding.retrieval import similarity  # noqa: E402
from fmri2clip.solvers.ranks import centre  # noqa: E402

Array = NDArray[Any]

OUTPUT = ROOT / "benchmarks" / "whitening.json"
RUNS = ("ridge", "encoding", "brainclip", "brainmclip", "aligned")
POWERS = {"whitened": -0.5, "as_it_is": 0.0, "coloured": 0.5}
SHRINKAGE = 0.05  # of the covariance towards a multiple of one
N_RESAMPLES = 2000


def main() -> None:
    params = parameters.load(ROOT / "params.yaml")
    set_threads(params.compute.threads)
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {"n_images": 0, "n_asked": 0, "runs": {}}
    for run in RUNS:
        # metric -> subject -> power -> success of each image, NaN where it is not asked.
        found: dict[str, list[dict[str, Array]]] = {"zero_shot": [], "image": []}
        for subject in params.runs[run].subjects:
            for metric, by_power in score_powers(params, run, subject).items():
                found[metric].append(by_power)
        table["runs"][run] = {metric: summarise(parts, rng) for metric, parts in found.items()}
        table["n_images"] = sum(len(part["as_it_is"]) for part in found["image"])
        asked = [np.isfinite(part["as_it_is"]) for part in found["zero_shot"]]
        table["n_asked"] = int(sum(a.sum() for a in asked))
    print(json.dumps(table, indent=1))
    write_json(OUTPUT, table)


def score_powers(params: parameters.Params, run: str, subject: str) -> dict[str, dict[str, Array]]:
    """Success of each validation image of a subject (I,), by metric and power."""
    paths = Paths(ROOT)
    model = load_model(paths.model(run), subject)
    clip = read_cache(paths.clip_train(params.runs[run].clip, subject))
    nsd_id_I = np.array(sorted(model.split["validation"]))
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache")
    image_ID = centre(clip["image_embedding_ID"][row_I], required(model, "mean_image_D"))
    prompt_CD = clip["prompt_embedding_PCD"][params.evaluation.prompt].astype(np.float64)
    prompt_CD = centre(prompt_CD, prompt_CD[clip["present_C"]].mean(axis=0))
    category_I = dominant_category(
        clip["labels_IC"][row_I],
        clip["area_IC"][row_I],
        clip["n_objects_I"][row_I],
        params.evaluation.dominant_area,
    )
    decoded_ID = decode_images(model, subject, paths.train_betas(subject), nsd_id_I)
    training_ID = np.delete(clip["image_embedding_ID"], row_I, axis=0)
    scores: dict[str, dict[str, Array]] = {"zero_shot": {}, "image": {}}
    for name, power in POWERS.items():
        colour_DD = raise_covariance(training_ID, power)
        asked_ID = centre(decoded_ID @ colour_DD, np.zeros(len(colour_DD)))
        scores["zero_shot"][name] = score_zero_shot(
            similarity(asked_ID, prompt_CD), clip["present_C"], category_I, 1
        )
        best_I = similarity(asked_ID, image_ID).argmax(axis=1)
        scores["image"][name] = (best_I == np.arange(len(best_I))).astype(float)
    return scores


def decode_images(model: Any, subject: str, path: Path, nsd_id_I: Array) -> Array:
    """Predicted image embeddings (I, D) less the mean prediction, from the mean of all trials."""
    betas = read_betas(path, ["betas_NV", "nsd_id_N"])
    shown_N = np.isin(betas["nsd_id_N"], nsd_id_I)
    chosen_NV = betas["betas_NV"][shown_N][:, required(model, "voxel_rows_V")]
    mean_IV, found_I = average_repeats(chosen_NV, betas["nsd_id_N"][shown_N])
    assert np.array_equal(found_I, nsd_id_I)
    n_repeats = int(np.median(np.unique(betas["nsd_id_N"][shown_N], return_counts=True)[1]))
    embedding_ID = decode(model, subject, mean_IV, n_repeats)["embedding_ID"]
    found_ID: Array = embedding_ID.astype(float) - required(model, "mean_predicted_image_D")
    return found_ID


def raise_covariance(embedding_ID: Array, power: float) -> Array:
    """Power of the shrunk covariance of embeddings (I, D): symmetric, (D, D)."""
    covariance_DD = np.cov(embedding_ID.T.astype(float))
    mean = np.trace(covariance_DD) / len(covariance_DD)
    covariance_DD = (1 - SHRINKAGE) * covariance_DD + SHRINKAGE * mean * np.eye(len(covariance_DD))
    value_D, vector_DD = np.linalg.eigh(covariance_DD)
    raised_DD: Array = (vector_DD * value_D**power) @ vector_DD.T
    return raised_DD


def summarise(parts: list[dict[str, Array]], rng: np.random.Generator) -> dict[str, Any]:
    """Mean over subjects of each power, and of `coloured` and `whitened` less `as_it_is`."""
    rows = [rng.integers(len(p["as_it_is"]), size=(N_RESAMPLES, len(p["as_it_is"]))) for p in parts]

    def describe(by_subject: list[Array]) -> dict[str, float]:
        value = np.mean([np.nanmean(v) for v in by_subject])
        drawn = [np.nanmean(v[r], axis=1) for v, r in zip(by_subject, rows, strict=True)]
        low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
        return {
            "value": round(float(value), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
        }

    table = {name: describe([part[name] for part in parts]) for name in POWERS}
    for name in ("coloured", "whitened"):
        table[f"{name}_gain"] = describe([part[name] - part["as_it_is"] for part in parts])
    return table


if __name__ == "__main__":
    main()
