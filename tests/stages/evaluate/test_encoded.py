"""Responses foretold: correlation and R2 against SciPy and scikit-learn, regions by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from fmri2clip.artefacts.trials import write_betas, write_voxels
from fmri2clip.decoders import Decoder
from fmri2clip.metrics.statistics import Scores, mean_score
from fmri2clip.stages.evaluate.encoded import (
    Regions,
    has_encoding_model,
    read_regions,
    score_responses,
)

N, N_VOXELS = 25, 6


class Scaled(Decoder):
    """Expects responses that are given as a feature, times 0.8."""

    def respond(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return 0.8 * features["clean"]


def write_trials(path: Path, n_I: list[int]) -> None:
    """Trials of as many pictures, without voxels; the first has n_I[0] of them."""
    nsd_id_N = np.repeat(np.arange(len(n_I)), n_I)
    ones_N = np.ones(len(nsd_id_N), np.int32)
    numbers = {"trial_N": ones_N, "session_N": ones_N.astype(np.int16)}
    numbers |= {"repetition_N": ones_N.astype(np.int8), "nsd_id_N": nsd_id_N}
    write_betas(path, {"betas_NV": np.zeros((len(nsd_id_N), 4), np.float16), **numbers})


def value(scores: Scores, metric: str) -> float:
    return mean_score([{"subj01": scores}], metric).value


def test_scores_of_voxels_and_regions(rng: np.random.Generator) -> None:
    clean_IV = rng.standard_normal((N, N_VOXELS)) + 3
    clean_IV[:, 4] = 1.0  # nothing is predicted
    measured_IV = (clean_IV + rng.standard_normal((N, N_VOXELS))).astype(np.float32)
    measured_IV[:, 5] = 0.25  # nothing is measured
    betas: Any = SimpleNamespace(nsd_id_I=np.arange(N), mean_IV=measured_IV, n_repeats=5)
    model: Any = SimpleNamespace(decoder=Scaled())
    ceiling_V = np.array([0.5, 0.8, 0.0, 0.0, 0.81, 0.81])
    regions = Regions(
        ijk_V3=np.zeros((N_VOXELS, 3), np.int16),
        ceiling_V=ceiling_V,
        members={"low": np.arange(N_VOXELS) < 3, "rest": np.arange(N_VOXELS) >= 4},
    )
    features = {"clean": torch.from_numpy(clean_IV)}
    scores, arrays = score_responses(model, betas, features, regions)
    r_V = [pearsonr(0.8 * clean_IV[:, v], measured_IV[:, v]).statistic for v in range(4)]
    r2_V = [r2_score(measured_IV[:, v], 0.8 * clean_IV[:, v]) for v in range(5)]
    np.testing.assert_allclose(arrays["foretold_r_V"][:4], r_V, atol=1e-6)
    np.testing.assert_allclose(arrays["foretold_r2_V"][:5], r2_V, atol=1e-6)
    assert arrays["foretold_r_V"][4] == 0
    assert np.isnan([arrays["foretold_r_V"][5], arrays["foretold_r2_V"][5]]).all()
    assert value(scores, "encoding.r.low") == pytest.approx(np.mean(r_V[:3]))
    assert value(scores, "encoding.r2.low") == pytest.approx(np.mean(r2_V[:3]))
    assert value(scores, "encoding.r2.rest") == pytest.approx(r2_V[4])
    assert scores.constants["encoding.ceiling_r2.low"] == pytest.approx(1.3 / 3)
    assert scores.constants["encoding.ceiling_r.rest"] == pytest.approx(0.9)
    assert arrays["ceiling_r2_V"] is ceiling_V


def test_regions_are_groups_whole_areas_and_floc(tmp_path: Path) -> None:
    names = ["floc-faces", "floc-faces/FFA-1", "prf-visualrois", "prf-visualrois/V1d"]
    names += ["prf-visualrois/V1v", "prf-visualrois/hV4", "streams/early", "group/all"]
    roi_VG = np.zeros((4, len(names)), bool)
    roi_VG[[1, 2, 0, 3, 0, 1, 2, 3], [0, 1, 3, 4, 7, 7, 7, 7]] = True
    write_voxels(
        tmp_path / "voxels.h5",
        {
            "ijk_V3": np.arange(12, dtype=np.int16).reshape(4, 3),
            "roi_VG": roi_VG,
            "roi_names_G": names,
            "ncsnr_V": np.array([0, 1, 2, np.nan], np.float32),
            "ncsnr_train_V": np.ones(4, np.float32),
            **{f"{name}_SV": np.ones((1, 4), np.float32) for name in ("mean", "std")},
            "invalid_SV": np.zeros((1, 4), bool),
        },
    )
    write_trials(tmp_path / "test.h5", n_I=[2, 1, 3, 3])
    found = read_regions(tmp_path / "voxels.h5", tmp_path / "test.h5", np.array([0, 1, 3]))
    assert list(found.members) == ["all", "floc-faces", "V1"]
    assert found.members["V1"].tolist() == [True, False, True]
    assert found.members["floc-faces"].tolist() == [False, True, False]
    assert found.ijk_V3[2].tolist() == [9, 10, 11]
    inverse = (2 / 3 + 1 / 2 + 1) / 4  # two pictures with three trials, one with two, one with one
    np.testing.assert_allclose(found.ceiling_V, [0, 1 / (1 + inverse), 0])
    write_trials(tmp_path / "test.h5", n_I=[3, 3, 3])
    found = read_regions(tmp_path / "voxels.h5", tmp_path / "test.h5", np.array([1]))
    assert found.ceiling_V.tolist() == [1 / (1 + 1 / 3)]


def test_most_decoders_have_no_encoding_model() -> None:
    plain: Any = SimpleNamespace(decoder=Decoder())
    scaled: Any = SimpleNamespace(decoder=Scaled())
    assert has_encoding_model(scaled) and not has_encoding_model(plain)
