"""Figures of the world, each against a direct computation on data made for the purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from fmri2clip.artefacts.trials import write_betas, write_noise_free, write_voxels
from fmri2clip.stages.describe_data import describe, world


def test_image_means_equal_a_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.repeat([7, 3, 11], [3, 2, 1]))
    betas = rng.normal(size=(6, 5)).astype(np.float16)
    write_betas(
        tmp_path / "b.h5",
        {
            "betas_NV": betas,
            "nsd_id_N": ids,
            "session_N": np.ones(6, np.int16),
            "trial_N": np.arange(1, 7, dtype=np.int32),
            "repetition_N": np.ones(6, np.int8),
        },
    )
    found_ids, means = world.image_means(tmp_path / "b.h5")
    assert found_ids.tolist() == [3, 7, 11]
    for image, mean in zip(found_ids, means, strict=True):
        np.testing.assert_allclose(
            mean, betas[ids == image].astype(np.float32).mean(axis=0), rtol=1e-5
        )


def test_held_out_variance_is_that_of_least_squares_without_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 6))
    target = features @ rng.normal(size=(6, 4)) + 0.5 * rng.normal(size=(400, 4))
    n = 100
    residual = target[-n:] - LinearRegression().fit(features[:300], target[:300]).predict(
        features[-n:]
    )
    expected = np.mean(1 - (residual**2).mean(axis=0) / target[-n:].var(axis=0))
    assert world._held_out_r2(features, target) == [pytest.approx(expected, abs=0.01)]
    assert world._held_out_r2(rng.normal(size=(400, 6)), target)[0] < 0.05
    both = world._held_out_r2(features, target, target[:, :2])
    assert both == [
        *world._held_out_r2(features, target),
        *world._held_out_r2(features, target[:, :2]),
    ]


def test_grid_averages_patches_in_their_places() -> None:
    tokens = np.zeros((1, 65, 2))
    tokens[0, 1 + 8 * 2 + 6] = 4.0  # row 2, column 6 of 8 x 8
    grid = world._grid(tokens).reshape(4, 4, 2)
    assert grid[1, 3].tolist() == [1.0, 1.0] and grid.sum() == 2.0


def test_bands_are_judged_on_the_mean_over_subjects() -> None:
    subjects = {
        s: {"label_map_from_betas": v, "labels_explain_of_high": 0.6, "ideal_observer_top1": 1.0}
        for s, v in (("a", 0.1), ("b", 0.5))
    }
    asserted = world._asserted(subjects, {"block1": 0.2, "block2": 0.5, "grid": 0.9})
    assert asserted["label_map_from_betas"]["value"] == pytest.approx(0.3)
    assert {name: figure["met"] for name, figure in asserted.items()} == {
        "label_map_from_betas": 1,
        "labels_explain_of_high": 0,
        "ideal_observer_top1": 1,
        "best_clip_block_explains_of_high": 1,
    }


def test_noise_free_voxels_are_matched_by_place(tmp_path: Path) -> None:
    voxels = {
        "ijk_V3": np.array([[0, 0, 1], [0, 1, 0], [2, 0, 0]], np.int16),
        "roi_VG": np.array([[1, 0], [0, 1], [1, 1]], bool),
        "roi_names_G": ["group/high", "group/low"],
        "ncsnr_V": np.ones(3, np.float32),
        "ncsnr_train_V": np.ones(3, np.float32),
        "mean_SV": np.ones((1, 3), np.float32),
        "std_SV": np.ones((1, 3), np.float32),
        "invalid_SV": np.zeros((1, 3), bool),
    }
    write_voxels(tmp_path / "v.h5", voxels)
    ijk_V3 = np.array([[2, 0, 0], [0, 0, 1], [5, 5, 5], [0, 1, 0]], np.int16)
    arrays = {"ijk_V3": ijk_V3, "nsd_id_I": np.arange(2), "betas_IV": np.zeros((2, 4), np.float32)}
    write_noise_free(tmp_path / "n.h5", arrays)
    truth = describe.read_truth(tmp_path / "n.h5", tmp_path / "v.h5")
    assert truth is not None
    assert truth["high_V"].tolist() == [True, True, False, False]
    assert truth["low_V"].tolist() == [True, False, False, True]
    none = {name: array[:0] for name, array in arrays.items()}
    write_noise_free(tmp_path / "real.h5", none | {"betas_IV": np.zeros((0, 0), np.float32)})
    assert describe.read_truth(tmp_path / "real.h5", tmp_path / "v.h5") is None
