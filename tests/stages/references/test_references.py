"""References in a tiny world with known answers; the ideal observer against scipy and
scikit-learn.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.scores import read_scores
from fmri2clip.artefacts.trials import (
    average_repeats,
    find_voxels,
    read_betas,
    read_trials,
    write_betas,
)
from fmri2clip.core import store
from fmri2clip.metrics.statistics import paired_difference
from fmri2clip.solvers import observer
from fmri2clip.stages.references import references
from tests.scoring_world import EVALUATION, N_TEST, SUBJECTS, World, unit, write_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path)


def run(world: World, **changes: Any) -> dict:
    arguments = {
        "clip_name": "tiny",
        "subjects": SUBJECTS,
        "paths": world.at,
        "evaluation": EVALUATION,
    }
    return references.score_references(**(arguments | changes))


def test_rows_and_their_order_of_merit(world: World) -> None:
    tree = run(world)
    assert json.loads((world.at.reference_metrics("tiny")).read_text()) == tree
    assert list(tree) == list(references.ROWS)
    with_images = [name for name in tree if name not in ("reference.target", "null.all_negative")]
    images = {name: tree[name]["retrieval"]["image_given_brain"]["top1"] for name in with_images}
    assert images["null.prior"] == pytest.approx(1 / EVALUATION.n_way)
    assert images["null.prior"] < images["baseline.nearest_brain"] <= 1
    assert images["reference.ideal_observer"] > 0.9
    assert images["reference.ideal_observer"] > images["reference.repeats"]
    assert "image_given_brain" not in tree["reference.target"]["retrieval"]
    assert tree["reference.target"]["retrieval"]["text_given_brain"]["top1"] > 0.8
    assert set(tree["baseline.nearest_brain"]["subjects"]) == set(SUBJECTS)


def test_prior_scores_prevalence_and_class_frequency(world: World) -> None:
    row = run(world)["null.prior"]
    clip_train, clip_test = (read_cache(path) for path in (world.clip_train, world.clip_test))
    assert row["classification"]["auc"] == pytest.approx(0.5)
    present_C = clip_test["labels_IC"].any(axis=0)
    assert row["classification"]["map"] == pytest.approx(
        clip_test["labels_IC"][:, present_C].mean(), abs=1e-6
    )
    assert row["classification"]["hamming"] < 0.5

    def dominant(clip: store.Arrays) -> np.ndarray:
        share_IC = clip["area_IC"] / clip["area_IC"].sum(axis=1, keepdims=True)
        return share_IC.argmax(axis=1)[share_IC.max(axis=1) >= EVALUATION.dominant_area]

    favourite = np.bincount(dominant(clip_train)).argmax()
    assert row["zero_shot"]["top1"] == pytest.approx(
        (dominant(clip_test) == favourite).mean(), abs=1e-6
    )


def test_all_negative_errs_once_for_every_object(world: World) -> None:
    row = run(world)["null.all_negative"]
    labels_IC = read_cache(world.clip_test)["labels_IC"]
    n_I = labels_IC.sum(axis=0)
    defined_C = (n_I > 0) & (n_I < len(labels_IC))
    assert row["classification"]["hamming"] == pytest.approx(
        labels_IC[:, defined_C].mean(), abs=1e-6
    )
    assert row["classification"]["auc"] == pytest.approx(0.5)
    assert "retrieval" not in row


def test_nearest_brain_copies_the_most_correlated_training_image(world: World) -> None:
    case = load_case(world)
    row_I = references.find_nearest(
        references.standardise(case.mean_IV), references.standardise(case.training.mean_JV)
    )
    correlation_IJ = np.corrcoef(case.mean_IV, case.training.mean_JV)[:N_TEST, N_TEST:]
    np.testing.assert_array_equal(row_I, correlation_IJ.argmax(axis=1))


def load_case(world: World, subject: str = "subj01") -> references.Case:
    columns_V = find_voxels(world.paths("voxels")[subject], "all")
    train, test = (read_trials(world.paths(kind)[subject], columns_V) for kind in ("train", "test"))
    clips = (read_cache(path) for path in (world.clip_train, world.clip_test))
    return references.make_case(train, test, *clips, EVALUATION)


def test_repeats_equal_a_loop(world: World) -> None:
    case = load_case(world)
    scores = references.score_repeats(case)
    ids, test = case.truth.nsd_id_I, case.test
    own = [(test["nsd_id_N"] == i) & (test["repetition_N"] == 1) for i in ids]
    later = [(test["nsd_id_N"] == i) & (test["repetition_N"] > 1) for i in ids]
    query_IV, gallery_IV = (
        np.stack([test["betas_NV"][m].mean(axis=0) for m in masks]) for masks in (own, later)
    )
    hits_I = np.corrcoef(query_IV, gallery_IV)[:N_TEST, N_TEST:].argmax(axis=1) == np.arange(N_TEST)
    np.testing.assert_array_equal(
        scores.per_image["retrieval_all.image_given_brain.top1"][0], hits_I
    )


def test_repeats_skip_images_seen_once(world: World) -> None:
    path = world.paths("test")["subj01"]
    betas = read_betas(path)
    lonely = betas["nsd_id_N"][0]
    keep_N = (betas["nsd_id_N"] != lonely) | (betas["repetition_N"] == 1)
    write_betas(path, {n: v[keep_N] if n.endswith(("_N", "_NV")) else v for n, v in betas.items()})
    case = load_case(world)
    score_I, weight_I = references.score_repeats(case).per_image[
        "retrieval_all.image_given_brain.top1"
    ]
    np.testing.assert_array_equal(np.isnan(score_I), case.truth.nsd_id_I == lonely)
    np.testing.assert_array_equal(weight_I == 0, case.truth.nsd_id_I == lonely)


def show_once(path: Path, n_repeated: int) -> None:
    """Leave the later trials of the first n_repeated test images alone."""
    betas = read_betas(path)
    repeated = np.unique(betas["nsd_id_N"])[:n_repeated]
    keep_N = np.isin(betas["nsd_id_N"], repeated) | (betas["repetition_N"] == 1)
    write_betas(path, {n: v[keep_N] if n.endswith(("_N", "_NV")) else v for n, v in betas.items()})


@pytest.mark.parametrize("n_repeated", [0, 1, EVALUATION.n_way - 1, EVALUATION.n_way])
def test_repeats_are_left_out_where_they_fill_no_gallery(world: World, n_repeated: int) -> None:
    """Of one subject; the other has all, and both lack them in the second tree."""
    show_once(world.paths("test")["subj01"], n_repeated)
    enough = n_repeated >= EVALUATION.n_way
    tree = run(world)
    assert set(tree["reference.repeats"]["subjects"]) == set(SUBJECTS[0 if enough else 1 :])
    assert set(tree["baseline.nearest_brain"]["subjects"]) == set(SUBJECTS)
    show_once(world.paths("test")["subj02"], n_repeated)
    assert ("reference.repeats" in run(world)) == enough


def test_repeats_are_left_out_where_they_fill_no_hard_gallery(world: World) -> None:
    show_once(world.paths("test")["subj01"], 25)
    hard = replace(EVALUATION, n_hard=25)
    tree = run(world, subjects=("subj01",), evaluation=hard)
    assert "reference.repeats" not in tree
    assert "reference.repeats" in run(world, subjects=("subj01",))


def estimate_noise(residual_NV: np.ndarray) -> observer.Noise:
    """Noise of trials around known means: no degree of freedom is lost."""
    return observer.estimate_noise(residual_NV, np.zeros_like(residual_NV), 0)


@pytest.mark.parametrize("full", [True, False])
def test_likelihoods_equal_scipy_up_to_a_constant_of_the_query(full: bool) -> None:
    rng = np.random.default_rng(0)
    mixing_VV = rng.standard_normal((6, 6))
    residual_NV = rng.standard_normal((4000, 6)) @ mixing_VV
    query_IV, gallery_JV = rng.standard_normal((5, 6)), rng.standard_normal((7, 6))
    found_IJ = observer.compare_likelihoods(query_IV, gallery_JV, estimate_noise(residual_NV), full)

    sd_V = np.sqrt((residual_NV**2).mean(axis=0))
    shrunk_VV, _ = ledoit_wolf(residual_NV / sd_V, assume_centered=True)
    covariance_VV = sd_V[:, None] * shrunk_VV * sd_V if full else np.diag(sd_V**2)
    expected_IJ = np.stack(
        [multivariate_normal(mean, covariance_VV).logpdf(query_IV) for mean in gallery_JV], axis=1
    )
    difference_IJ = found_IJ - expected_IJ

    assert np.ptp(difference_IJ, axis=1).max() < 1e-4 * np.ptp(expected_IJ, axis=1).min()


@pytest.mark.parametrize(("n", "p"), [(30, 50), (200, 20), (1000, 5)])
def test_shrinkage_equals_sklearn(n: int, p: int) -> None:
    sample_NV = np.random.default_rng(1).standard_normal((n, p)) * np.linspace(0.5, 2, p)
    expected_VV, _ = ledoit_wolf(sample_NV, assume_centered=True)
    np.testing.assert_allclose(
        observer.shrink_covariance(sample_NV), expected_VV, rtol=1e-9, atol=1e-12
    )


def test_noise_is_that_of_single_trials_and_images_seen_once_do_not_count() -> None:
    rng = np.random.default_rng(2)
    image_N = np.concatenate([rng.permutation(np.repeat(np.arange(600), 3)), np.arange(600, 900)])
    true_sd_V = np.array([0.5, 1.0, 2.0, 0.0])
    betas_NV = (5 * rng.standard_normal((900, 4)) * [1, 1, 1, 0])[image_N] + rng.standard_normal(
        (2100, 4)
    ) * true_sd_V
    mean_IV, _ = average_repeats(betas_NV.astype(np.float32), image_N)
    noise = observer.estimate_noise(betas_NV.astype(np.float32), mean_IV[image_N], 900)
    np.testing.assert_allclose(noise.sd_V, true_sd_V, rtol=0.05)
    np.testing.assert_array_equal(noise.varies_V, [True, True, True, False])
    np.testing.assert_allclose(noise.lower_VV @ noise.lower_VV.T, np.eye(3), atol=0.05)
    with pytest.raises(ValueError, match="shown twice"):
        observer.estimate_noise(betas_NV[:5], betas_NV[:5], 5)


def test_full_covariance_beats_the_diagonal_under_correlated_noise() -> None:
    rng = np.random.default_rng(3)
    gallery_JV, shared_V = rng.standard_normal((60, 30)), rng.standard_normal(30)

    def noise(n: int) -> np.ndarray:
        return 4 * rng.standard_normal((n, 1)) * shared_V + rng.standard_normal((n, 30))

    query_IV, residual_NV = gallery_JV + noise(60), noise(3000)
    hits = {
        full: (
            observer.compare_likelihoods(
                query_IV, gallery_JV, estimate_noise(residual_NV), full
            ).argmax(1)
            == np.arange(60)
        ).mean()
        for full in (True, False)
    }
    assert hits[True] > hits[False] + 0.1


def test_without_noise_free_patterns_there_is_no_observer(tmp_path: Path) -> None:
    tree = run(write_world(tmp_path, noise_free=False))
    assert not any(name.startswith("reference.ideal_observer") for name in tree)
    assert "reference.repeats" in tree


def test_rows_can_be_compared_image_by_image(world: World) -> None:
    run(world)
    a, b = (
        read_scores(world.at.reference_scores("tiny"), world.clip_test, f"baseline.nearest_{x}")
        for x in ("oracle", "brain")
    )
    assert set(a) == set(SUBJECTS)
    assert paired_difference([(a, b)], "zero_shot.top1", 50).estimate.value >= 0
    with pytest.raises(ValueError, match=r"no row 'null\.nothing'"):
        read_scores(world.at.reference_scores("tiny"), world.clip_test, "null.nothing")


def test_target_scores_follow_from_the_cache(world: World) -> None:
    case = load_case(world)
    clip = read_cache(world.clip_test)
    prompt_CD = clip["prompt_embedding_PCD"][0].astype(float)
    prompt_CD = unit(prompt_CD - prompt_CD[clip["present_C"]].mean(axis=0))[clip["present_C"]]
    train = read_cache(world.clip_train)
    image_ID = unit(
        clip["image_embedding_ID"].astype(float)
        - train["image_embedding_ID"].astype(float).mean(axis=0)
    )
    hits_I = (image_ID @ prompt_CD.T).argmax(axis=1) == case.truth.category_I
    score_I = references.score_target(case).per_image["zero_shot.top1"][0]
    np.testing.assert_array_equal(
        score_I[case.truth.category_I >= 0], hits_I[case.truth.category_I >= 0]
    )


def test_errors_name_file_and_choice(world: World) -> None:
    with pytest.raises(ValueError, match="no voxel group 'V1'; it has all, part"):
        run(world, voxels="V1")
    with pytest.raises(ValueError, match=r"evaluation\.n_way"):
        run(world, evaluation=type(EVALUATION)(n_way=300))
    world.at.clip_shared("tiny").parent.rename(world.at.clip / "other")
    with pytest.raises(ValueError, match="caches clip 'tiny', not 'other'"):
        run(world, clip_name="other")
    assert not (world.at.reference_metrics("tiny")).exists()
