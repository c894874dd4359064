"""Figures of a world: bands, observers, tokens at their places, against loops and SciPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import write_noise_free
from fmri2clip.documents.numbers import Evidence
from fmri2clip.documents.writing import write_table
from fmri2clip.stages.describe_data import clip_bands, gather, noise_bands, regression
from fmri2clip.stages.describe_data.bands import BANDS, judge_figures

# Bands that the committed world does not meet; docs/preregistered.md says why.
UNMET = {"selectivity.places_not_maximal"}  # docs/preregistered.md says why


def list_leaves(tree: dict, path: str = "") -> dict[str, dict]:
    if "met" in tree:
        return {path: tree}
    found = {}
    for key, child in tree.items():
        found |= list_leaves(child, f"{path}.{key}" if path else key)
    return found


def test_the_committed_world_meets_its_bands(root: Path) -> None:
    asserted = list_leaves(json.loads((root / "reports/world.json").read_text())["asserted"])
    assert set(asserted) == set(BANDS)
    assert {key for key, leaf in asserted.items() if not leaf["met"]} == UNMET


def test_figures_are_judged_by_their_band() -> None:
    tree = judge_figures(
        {
            "hierarchy.text_high": 0.0999,
            "hierarchy.text_low_over_high": 0.6,
            "selectivity.faces": 1.6,
            "noise.costs": float("nan"),
        }
    )
    assert tree["hierarchy"]["text_high"] == {"value": 0.0999, "low": 0.1, "met": 0}
    assert tree["hierarchy"]["text_low_over_high"] == {"value": 0.6, "high": 0.6, "met": 1}
    assert tree["selectivity"]["faces"]["met"] == 0 and tree["selectivity"]["faces"]["low"] == 0.5
    assert tree["noise"]["costs"] == {"value": None, "low": 0.15, "met": 0}
    with pytest.raises(ValueError, match="luck has no band"):
        judge_figures({"observer.luck": 1.0})


def test_tokens_are_averaged_at_their_places(rng: np.random.Generator) -> None:
    tokens = rng.standard_normal((2, 65, 3)).astype(np.float32)
    found = clip_bands.pool_tokens(tokens)
    np.testing.assert_array_equal(found[:, :3], tokens[:, 0])
    grid = found[:, 3:].reshape(2, 4, 4, 3)
    square = tokens[:, 1:].reshape(2, 8, 8, 3)
    for y in range(4):
        for x in range(4):
            cell = square[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            np.testing.assert_allclose(grid[:, y, x], cell.mean(axis=(1, 2)), atol=1e-6)


def test_first_trials_are_those_of_their_image(rng: np.random.Generator) -> None:
    image_N = rng.permutation(np.repeat(np.arange(6), 3))
    betas_NV = rng.standard_normal((18, 4)).astype(np.float16)
    rows = np.array([4, 1])
    for n in (1, 2, 3):
        found = noise_bands.average_first(betas_NV, image_N, rows, n)
        expected = [
            betas_NV[np.flatnonzero(image_N == i)[:n]].astype(float).mean(axis=0) for i in rows
        ]
        np.testing.assert_allclose(found, expected, atol=1e-3)
    with pytest.raises(ValueError, match="fewer than 4 trials"):
        noise_bands.average_first(betas_NV, image_N, rows, 4)


def test_observers_rank_by_likelihood(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Top-1 of the observer against SciPy's density under the covariance that made the noise."""
    monkeypatch.setattr(regression, "N_SCORED", 60)
    n_images, n_voxels = 400, 5
    mixing_VV = rng.standard_normal((n_voxels, n_voxels))
    clean_IV = rng.standard_normal((n_images, n_voxels)).astype(np.float32)
    image_N = np.repeat(np.arange(n_images), 3)
    noise_NV = 0.5 * rng.standard_normal((3 * n_images, n_voxels)) @ mixing_VV
    betas_NV = clean_IV[image_N] + noise_NV
    tokens = np.concatenate([clean_IV, rng.standard_normal((n_images, 3))], axis=1)
    found = noise_bands.observe(clean_IV, betas_NV, image_N, clean_IV, tokens)
    _, scored = regression.split_rows(n_images)
    for n in (1, 3):
        density = multivariate_normal(cov=0.25 * mixing_VV.T @ mixing_VV / n)
        mean_JV = noise_bands.average_first(betas_NV, image_N, scored, n)
        likelihood_JJ = density.logpdf(mean_JV[:, None] - clean_IV[scored])
        expected = (likelihood_JJ.argmax(axis=1) == np.arange(60)).mean()
        assert found[f"gaussian_{n}"] == pytest.approx(expected, abs=0.06)
        # Tokens hold the patterns, so nothing is lost behind them.
        assert found[f"features_{n}"] == pytest.approx(expected, abs=0.1)
        assert found[f"gaussian_{n}_hard"] > found[f"gaussian_{n}"] - 0.05
    assert found["gaussian_1"] < found["gaussian_3"]
    assert 1 / 60 < found["gaussian_1"] < 1


def test_noise_free_responses_are_found_by_their_place(tmp_path: Path) -> None:
    ijk_V3 = np.array([[2, 0, 0], [0, 0, 1], [5, 5, 5], [0, 1, 0]], np.int16)
    arrays = {
        "ijk_V3": ijk_V3,
        "nsd_id_I": np.array([3, 8]),
        "betas_IV": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
    }
    paths = Paths(tmp_path)
    voxels = {
        "ijk_V3": np.array([[0, 1, 0], [2, 0, 0]], np.int16),
        "mean_SV": np.array([[1.0, 2.0], [3.0, 9.0]]),
        "std_SV": np.array([[2.0, 1.0], [4.0, 9.0]]),
        "invalid_SV": np.array([[False, False], [False, True]]),
    }
    path = paths.noise_free("subj01")
    path.parent.mkdir(parents=True)
    write_noise_free(path, arrays)
    found = gather.read_clean("subj01", paths, np.array([8]), voxels)
    np.testing.assert_allclose(found, [[(8 - 2) / 3, (5 - 2) / 1]])
    nobody = {name: array[:0] for name, array in arrays.items()}
    write_noise_free(path, nobody | {"betas_IV": np.zeros((0, 0), np.float32)})
    assert gather.read_clean("subj01", paths, np.array([8]), voxels) is None


def test_bands_become_a_table(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    tree = {"asserted": judge_figures({"noise.costs": 0.1496, "selectivity.faces": float("nan")})}
    (tmp_path / "reports/world.json").write_text(json.dumps(tree))
    assert write_table(["bands"], Evidence(tmp_path)).splitlines()[2:] == [
        "| `noise.costs` | 0.150 | at least 0.15 | **no** |",
        "| `selectivity.faces` | - | 0.5 to 1.5 | **no** |",
    ]
