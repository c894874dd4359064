from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from fmri2clip.clip.prompts import SCALES
from fmri2clip.decoders.batches import Decoded, TrainingData
from fmri2clip.stages.train.readout import average_first, fit_readout

PROMPTS = {"present_C": np.array([True, True, True, False])}


def test_first_trials_are_averaged(tiny: TrainingData, rng: np.random.Generator) -> None:
    order = torch.from_numpy(rng.permutation(len(tiny.image_N)))[:-20]  # some have fewer trials
    tiny.image_N = tiny.image_N[order]
    tiny.betas_NV = tiny.betas_NV[order]
    for n in (1, 2, 3):
        found_JV = average_first(tiny, n)
        images = tiny.is_validation_I.nonzero()[:, 0].tolist()
        assert len(found_JV) == len(images)
        for mean_V, image in zip(found_JV, images, strict=True):
            first_NV = tiny.betas_NV[tiny.image_N == image][:n]
            torch.testing.assert_close(mean_V, first_NV.mean(0))


class Oracle:
    """Knows the picture, and is spoilt by noise that falls with the number of trials."""

    def __init__(self, data: TrainingData, rng: np.random.Generator) -> None:
        self.true_JD = data.image_embedding_ID[data.is_validation_I]
        self.rng = rng

    def decode(self, betas_JV: torch.Tensor, subject: str, n_repeats: int) -> Decoded:
        noise_JD = torch.from_numpy(self.rng.standard_normal(self.true_JD.shape)).float()
        logits_JC = torch.from_numpy(self.rng.standard_normal((len(self.true_JD), 4))).float()
        embedding_JD = 4 * self.true_JD + noise_JD / n_repeats
        return Decoded(embedding_ID=embedding_JD, logits_IC=logits_JC)


def test_embeddings_get_their_size_by_least_squares(
    tiny: TrainingData, rng: np.random.Generator
) -> None:
    oracle = Oracle(tiny, rng)
    mean_D = oracle.true_JD.mean(0)
    means = {"mean_image_D": mean_D, "mean_predicted_image_D": 4 * mean_D}
    prompts = PROMPTS | {"prompt_embedding_PCD": rng.standard_normal((1, 4, 8))}
    found = fit_readout(oracle, tiny, means, prompts)
    assert found["embedding_factor_1"] == pytest.approx(0.25, rel=0.1)
    assert found["prompt_scale_R"].shape == (3,)


def test_labels_get_the_chances_that_they_had(tiny: TrainingData, rng: np.random.Generator) -> None:
    n_images = len(tiny.nsd_id_I)
    tiny.is_validation_I = torch.arange(n_images) >= 4
    oracle = Oracle(tiny, rng)
    logit_JC = rng.standard_normal((n_images - 4, 4))
    oracle.decode = lambda *_: Decoded(logits_IC=torch.from_numpy(logit_JC))
    labels_IC = rng.random((n_images, 4)) < 0.5
    labels_IC[4:] = rng.random(logit_JC.shape) < expit(3 * logit_JC - 1)
    labels_IC[:4] = True
    labels_IC[:, 3] = False  # never seen in training
    tiny.labels_IC = torch.from_numpy(labels_IC)
    found = fit_readout(oracle, tiny, {}, PROMPTS)
    assert set(found) == {"label_scaling_R2"}
    np.testing.assert_allclose(found["label_scaling_R2"], [[3, -1]] * 3, rtol=0.6)


def test_who_says_the_same_for_all_may_be_sure_of_nothing(
    tiny: TrainingData, rng: np.random.Generator
) -> None:
    oracle = Oracle(tiny, rng)
    oracle.true_JD = torch.zeros_like(oracle.true_JD)
    means = {"mean_image_D": torch.zeros(8), "mean_predicted_image_D": torch.zeros(8)}
    prompts = PROMPTS | {"prompt_embedding_PCD": rng.standard_normal((1, 4, 8))}
    tiny.labels_IC = torch.zeros((len(tiny.nsd_id_I), 4), dtype=torch.bool)
    found = fit_readout(oracle, tiny, means, prompts)
    assert found["prompt_scale_R"].tolist() == pytest.approx([SCALES[0]] * 3)
