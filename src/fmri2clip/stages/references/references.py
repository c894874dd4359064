"""Rows to read beside a decoder's scores: nulls, baselines without training, and ceilings.

All for one CLIP model:

null.prior                 the mean training embedding for every image; class frequencies of the
                           training images
null.all_negative          no category in any image: what Hamming loss must be read against, as
                           images have few
baseline.nearest_brain     embedding of the training image with the most similar pattern
                           (correlation of repeat means)
baseline.nearest_oracle    embedding of the training image nearest to the true one: how far
                           semantic overlap alone gets
reference.target           the true image embedding (not for image retrieval, where it is right by
                           definition)
reference.repeats          pattern of repetition 1 among the means of the later ones; not a bound
reference.ideal_observer   noisy repeat mean among noise-free patterns by Gaussian likelihood, if
                           noise-free exist; full noise covariance, shrunk
reference.ideal_observer_diagonal
                           the same with noise variances only

Letters: N trials, I test images, J training images, V voxels, D embedding width, C categories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import TEST_NAMES, read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import pack_scores, write_predictions
from fmri2clip.artefacts.trials import average_repeats, find_voxels, read_trials
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Evaluation
from fmri2clip.core.rows import find_rows
from fmri2clip.metrics.decoding.classification import dominant_category
from fmri2clip.metrics.decoding.retrieval import make_galleries, score_retrieval, similarity
from fmri2clip.metrics.decoding.scoring import Prediction, Truth, merge, score, score_categories
from fmri2clip.metrics.decoding.truth import average_captions, make_truth
from fmri2clip.metrics.statistics import Scores
from fmri2clip.metrics.summary import summarise
from fmri2clip.solvers.observer import Noise, compare_likelihoods, estimate_noise
from fmri2clip.solvers.ranks import centre

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the training images of one subject offer.

    embedding_JD, text_JD (mean of captions; None without any): unit norm.
    """

    mean_JV: Array  # mean of the repeats
    embedding_JD: Array
    text_JD: Array | None
    label_JC: Array
    category_J: Array  # dominant category, -1 = none
    noise: Noise | None  # of single trials; None where no noise-free patterns exist


@dataclass(frozen=True, kw_only=True)
class Case:
    """One subject: training images, test trials and what the test images show."""

    training: Training
    test: Mapping[str, Array]  # of kind 'betas', columns of the voxel group
    mean_IV: Array
    truth: Truth
    evaluation: Evaluation


def score_references(
    clip_name: str,
    subjects: Sequence[str],
    paths: Paths,
    evaluation: Evaluation,
    voxels: str = "all",
) -> dict[str, Any]:
    """Score every row for every subject.

    Writes the metrics (row -> metric tree), which it returns, and predictions with the groups
    <row>.<subject>. voxels: ROI group whose patterns the brain-based rows use. Raises ValueError if
    files do not belong together.
    """
    test_path = paths.clip_shared(clip_name)
    clip_test = read_cache(test_path, TEST_NAMES)
    clips = {s: read_cache(paths.clip_train(clip_name, s), TEST_NAMES) for s in subjects}
    files = {paths.clip_train(clip_name, s): clip for s, clip in clips.items()}
    for path, clip in {**files, test_path: clip_test}.items():
        if clip.attrs.get("clip", clip_name) != clip_name:
            raise ValueError(
                f"{path} caches clip {clip.attrs['clip']!r}, not {clip_name!r}; run cache_clip "
                "again"
            )
    rows: dict[str, dict[str, Scores]] = {}
    for subject in subjects:
        columns_V = find_voxels(paths.voxels(subject), voxels)
        train = read_trials(paths.train_betas(subject), columns_V)
        test = read_trials(paths.test_betas(subject), columns_V)
        case = make_case(train, test, clips[subject], clip_test, evaluation)
        # Measured data have no noise-free patterns, so the ideal observer has nothing to know.
        for name, score_row in ROWS.items():
            if name.startswith("reference.ideal_observer") and "noise_free_IV" not in test:
                continue
            scores = score_row(case)
            # Without captions and labels, a row may have nothing to be scored on.
            if scores.per_image or scores.class_scores:
                rows.setdefault(name, {})[subject] = scores
    tree = {
        name: summarise(run, evaluation.n_bootstrap, evaluation.seed) for name, run in rows.items()
    }
    packed = {
        f"{name}.{s}": pack_scores(scores)
        for name, run in rows.items()
        for s, scores in run.items()
    }
    write_predictions(paths.reference_scores(clip_name), packed, {"clip": clip_name})
    write_json(paths.reference_metrics(clip_name), tree)
    return tree


def make_case(
    train: Mapping[str, Array],
    test: Mapping[str, Array],
    clip_train: Mapping[str, Array],
    clip_test: Mapping[str, Array],
    evaluation: Evaluation,
) -> Case:
    """Join the trials of one subject with the CLIP caches."""
    mean_JV, nsd_id_J = average_repeats(train["betas_NV"], train["nsd_id_N"])
    mean_IV, nsd_id_I = average_repeats(test["betas_NV"], test["nsd_id_N"])
    row_J = find_rows(clip_train["nsd_id_I"], nsd_id_J, "the CLIP cache of the training images")
    embedding_JD = clip_train["image_embedding_ID"][row_J].astype(np.float64)
    label_JC = clip_train["labels_IC"][row_J]
    training = Training(
        mean_JV=mean_JV,
        embedding_JD=embedding_JD,
        text_JD=(
            average_captions(clip_train, row_J)[0] if len(clip_train["caption_image_K"]) else None
        ),
        label_JC=label_JC,
        category_J=dominant_category(
            label_JC,
            clip_train["area_IC"][row_J],
            clip_train["n_objects_I"][row_J],
            evaluation.dominant_area,
        ),
        noise=_estimate_noise(train, mean_JV) if "noise_free_IV" in test else None,
    )
    # Targets are centred by the means over the training images, as the targets of a decoder are, so
    # that the rows and its scores are of the same truth.
    mean_D = embedding_JD.mean(axis=0)
    mean_text_D = mean_D if training.text_JD is None else training.text_JD.mean(axis=0)
    truth = make_truth(clip_test, nsd_id_I, mean_D, mean_text_D, evaluation)
    return Case(training=training, test=test, mean_IV=mean_IV, truth=truth, evaluation=evaluation)


def _estimate_noise(train: Mapping[str, Array], mean_JV: Array) -> Noise:
    image_N = np.unique(train["nsd_id_N"], return_inverse=True)[1]
    return estimate_noise(train["betas_NV"], mean_JV[image_N], len(mean_JV))


def score_prior(case: Case) -> Scores:
    """Retrieval with a constant prediction; categories by their training frequency."""
    n_images = len(case.truth.nsd_id_I)
    n_training = len(case.training.label_JC)
    # The mean embedding is zero once it is centred: it ties with everything, and ties share their
    # credit, so this is the expected success of a guess.
    zero_ID = np.zeros_like(case.truth.image_ID)
    # Half a count each way keeps the log odds of a category that never occurs finite.
    frequency_C = (case.training.label_JC.sum(axis=0) + 0.5) / (n_training + 1.0)
    logits_C = np.log(frequency_C / (1.0 - frequency_C))
    scores = score(
        Prediction(image_ID=zero_ID, text_ID=zero_ID, logits_IC=np.tile(logits_C, (n_images, 1))),
        case.truth,
    )
    if not case.truth.present_C.any():
        return scores
    known_J = case.training.category_J[case.training.category_J >= 0]
    count_C = np.bincount(known_J, minlength=len(frequency_C)).astype(np.float64)
    guess = score_categories(
        np.tile(count_C, (n_images, 1)), case.truth, "zero_shot", case.truth.present_C
    )
    return merge([scores, guess])


def score_all_negative(case: Case) -> Scores:
    """Probability below 0.5 for every category of every image."""
    return score(Prediction(logits_IC=np.full(case.truth.label_IC.shape, -1.0)), case.truth)


def score_nearest_brain(case: Case) -> Scores:
    """Copy the embeddings of the training image whose repeat-mean pattern correlates best."""
    training = case.training
    return score_copies(
        case, find_nearest(standardise(case.mean_IV), standardise(training.mean_JV))
    )


def score_nearest_oracle(case: Case) -> Scores:
    """Copy the embeddings of the training image that is nearest to the true one in CLIP."""
    embedding_JD = case.training.embedding_JD
    candidate_JD = centre(embedding_JD, embedding_JD.mean(axis=0))
    return score_copies(case, find_nearest(case.truth.image_ID, candidate_JD))


def standardise(pattern_IV: Array) -> Array:
    """Rows with mean 0 and norm 1 over the voxels, so that products are correlations; float32."""
    centred_IV = pattern_IV - pattern_IV.mean(axis=1, keepdims=True)
    return centred_IV / np.maximum(np.linalg.norm(centred_IV, axis=1, keepdims=True), 1e-12)


def find_nearest(query_IX: Array, gallery_JX: Array) -> Array:
    """Row of the gallery with the largest product with each query; of equal ones the first."""
    return np.argmax(query_IX @ gallery_JX.T, axis=1)


def score_copies(case: Case, row_I: Array) -> Scores:
    """Score the embeddings of training images as if they had been decoded."""
    training = case.training
    image_ID = centre(training.embedding_JD[row_I], training.embedding_JD.mean(axis=0))
    if training.text_JD is None:
        return score(Prediction(image_ID=image_ID), case.truth)
    text_ID = centre(training.text_JD[row_I], training.text_JD.mean(axis=0))
    return score(Prediction(image_ID=image_ID, text_ID=text_ID, own_text=True), case.truth)


def score_target(case: Case) -> Scores:
    """The true image embedding, searched among texts and prompts."""
    # Not among images: the true embedding finds itself.
    image_ID = case.truth.image_ID
    return score(Prediction(image_ID=image_ID, text_ID=image_ID, search_images=False), case.truth)


def score_repeats(case: Case) -> Scores:
    """Pattern of repetition 1 among the means of the later ones, over images with both."""
    first_N = case.test["repetition_N"] == 1
    betas_NV = case.test["betas_NV"]
    nsd_id_N = case.test["nsd_id_N"]
    query_IV, query_ids = average_repeats(betas_NV[first_N], nsd_id_N[first_N])
    gallery_IV, gallery_ids = average_repeats(betas_NV[~first_N], nsd_id_N[~first_N])
    # Where sessions are missing, an image may lack its first repetition, or all later ones.
    ids = np.intersect1d(query_ids, gallery_ids)
    query_IV = query_IV[np.isin(query_ids, ids)]
    gallery_IV = gallery_IV[np.isin(gallery_ids, ids)]
    pattern_II = similarity(standardise(query_IV), standardise(gallery_IV)).astype(np.float64)
    return score_patterns(case, pattern_II, ids, both=True)


def score_patterns(case: Case, similarity_II: Array, ids: Array, both: bool) -> Scores:
    """Retrieval of patterns for the images `ids`; images outside are not scored, and none where
    those inside do not fill a gallery.
    """
    inside_I = np.isin(case.truth.nsd_id_I, ids)
    galleries = case.truth.galleries
    # The galleries of a decoder hold images that have no pattern here: they are drawn anew.
    if not inside_I.all():
        e = case.evaluation
        if inside_I.sum() < e.n_way or inside_I.sum() <= e.n_hard:
            return Scores(nsd_id_I=case.truth.nsd_id_I)
        galleries = make_galleries(
            case.truth.image_ID[inside_I], e.n_way, e.n_draws, e.n_hard, e.seed
        )
    found = score_retrieval(similarity_II, galleries, "image_given_brain")
    if both:
        found |= score_retrieval(similarity_II.T, galleries, "brain_given_image")
    per_image = {
        metric: (_spread(score_I, inside_I, np.nan), _spread(weight_I, inside_I, 0.0))
        for metric, (score_I, weight_I) in found.items()
    }
    return Scores(nsd_id_I=case.truth.nsd_id_I, per_image=per_image)


def _spread(value: Array, inside_I: Array, fill: float) -> Array:
    full_I = np.full(len(inside_I), fill)
    full_I[inside_I] = value
    return full_I


def score_ideal_observer(case: Case, full: bool = True) -> Scores:
    """Noisy repeat means as queries, noise-free patterns as gallery; full: noise covariance."""
    # Of the test trials only the queries are used; their noise is taken to be that of training.
    row_I = find_rows(
        case.test["noise_free_nsd_id_I"],
        case.truth.nsd_id_I,
        "the noise-free patterns of the test images",
    )
    assert case.training.noise is not None, "the observer needs the noise of training trials"
    log_likelihood_II = compare_likelihoods(
        case.mean_IV, case.test["noise_free_IV"][row_I], case.training.noise, full
    )
    # One direction only: a likelihood is known up to a constant of each query, so those of two
    # queries for one image cannot be compared.
    return score_patterns(case, log_likelihood_II, case.truth.nsd_id_I, both=False)


ROWS: dict[str, Callable[[Case], Scores]] = {
    "null.prior": score_prior,
    "null.all_negative": score_all_negative,
    "baseline.nearest_brain": score_nearest_brain,
    "baseline.nearest_oracle": score_nearest_oracle,
    "reference.target": score_target,
    "reference.repeats": score_repeats,
    "reference.ideal_observer": score_ideal_observer,
    "reference.ideal_observer_diagonal": lambda case: score_ideal_observer(case, full=False),
}
