"""aligned: what the network reads against fits without each picture by scikit-learn, what a new
subject changes, losses from their definition.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression, Ridge

from fmri2clip.core.params import Compute
from fmri2clip.decoders.aligned.decoder import Decoder
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.parts.left_out_ridge import read_targets, standardise
from fmri2clip.stages.train.batches import MixedBatches
from fmri2clip.stages.train.run import fit_decoder
from tests.decoders.settings import make_config

ALPHA = 30.0
SMALL: dict[str, Any] = {
    "components": 4,
    "block": 2,
    "hidden": 12,
    "dropout_in": 0.0,
    "dropout_res": 0.0,
    "batch_size": 40,
    "max_epochs": 3,
    "n_alphas": 1,
    "log10_alpha_min": np.log10(ALPHA),
    "log10_alpha_max": np.log10(ALPHA),
}


@pytest.fixture
def subjects(tiny: TrainingData) -> list[TrainingData]:
    """Two subjects: the second has fewer voxels and other images."""
    betas_NV = tiny.betas_NV.flip(1)[:, :26] * 1.5
    other = replace(tiny, subject="subj02", betas_NV=betas_NV, nsd_id_I=tiny.nsd_id_I + 1)
    return [tiny, other]


def config(**changes: Any) -> Any:
    return make_config("aligned", **{**SMALL, **changes})


def train(decoder: Decoder, data: list[TrainingData], folder: Path) -> list[dict[str, float]]:
    names = "_".join(d.subject for d in data)
    return fit_decoder(decoder, data, 0, Compute(device="cpu"), folder / names)


def read_inputs(decoder: Decoder, data: list[TrainingData]) -> list[torch.Tensor]:
    """What the network is trained on, of each subject's trials."""
    for phase in decoder.phases(data):
        return [part.betas_NV for part in phase.data]
    raise AssertionError("there is one phase")


def test_the_network_reads_predictions_of_fits_without_the_picture(
    subjects: list[TrainingData],
) -> None:
    """With the slope of all of them; validation pictures have the fit to all training pictures."""
    decoder = Decoder.from_data(config(), subjects, 0)
    found = read_inputs(decoder, subjects)[1].numpy()
    data = subjects[1]
    mean_Q, deviation_Q = standardise([read_targets(d, 4) for d in subjects])
    y_IQ = ((read_targets(data, 4) - mean_Q) / deviation_Q).numpy()
    x_IV, train_I = data.mean_betas_IV.numpy(), ~data.is_validation_I.numpy()
    rows = np.flatnonzero(train_I)
    models = {i: Ridge(alpha=ALPHA).fit(x_IV[rows[rows != i]], y_IQ[rows[rows != i]]) for i in rows}
    left_out_IQ = np.stack([models[i].predict(x_IV[i : i + 1])[0] for i in rows])
    everything = Ridge(alpha=ALPHA).fit(x_IV[rows], y_IQ[rows])
    for q in (0, 9, 17, 23):
        line = LinearRegression().fit(left_out_IQ[:, q : q + 1], y_IQ[rows, q])
        if line.coef_[0] < 0:
            continue
        for n, i in enumerate(data.image_N.tolist()):
            model = models.get(i, everything)
            raw = model.predict(data.betas_NV[n : n + 1].numpy())[0, q]
            expected = line.predict([[raw]])[0]
            assert found[n, q] == pytest.approx(expected, abs=2e-3)
        explained = decoder.closed_form_of("subj02").explained_Q[q]
        score = line.score(left_out_IQ[:, q : q + 1], y_IQ[rows, q])
        assert explained == pytest.approx(score, abs=1e-3)


def test_decoding_reads_voxels_once_training_is_over(
    subjects: list[TrainingData], tmp_path: Path
) -> None:
    decoder = Decoder.from_data(config(), subjects, 0)
    train(decoder, subjects, tmp_path)
    decoded = decoder.decode(subjects[0].mean_betas_IV, "subj01")
    z_IQ = decoder.closed_form_of("subj01")(subjects[0].mean_betas_IV)
    assert decoded.embedding_ID is not None and z_IQ.shape[1] == 24
    by_hand = decoder._run(z_IQ, "subj01")["image"]
    torch.testing.assert_close(decoded.embedding_ID, F.normalize(by_hand.detach(), dim=1))


def test_losses_are_those_of_their_definition(subjects: list[TrainingData]) -> None:
    decoder = Decoder.from_data(config(w_token=0.5, w_text=2.0), subjects, 0)
    for phase in decoder.phases(subjects):
        batch = next(iter(MixedBatches(phase.data, 40, seed=0)))
        terms = decoder.loss(batch, 0.0)
        outputs = [decoder._run(part.betas_BV, part.subject) for part in batch.parts]
    found = {k: torch.cat([one[k] for one in outputs]) for k in outputs[0]}
    text_BD = torch.cat(
        [part.mean_text_BD for part in batch.parts if part.mean_text_BD is not None]
    )
    predicted_BD = F.normalize(found["text"], dim=1)
    logits_BB = predicted_BD @ text_BD.T / decoder.temperature
    right = torch.arange(len(logits_BB))
    both = F.cross_entropy(logits_BB, right) + F.cross_entropy(logits_BB.T, right)
    assert terms["text_loss"].item() == pytest.approx(both.item(), rel=1e-5), "2 x half the sum"
    true_BP = torch.cat([part.features["semantic_components_IP"] for part in batch.parts])[:, :4]
    read_BP = found["token"] * decoder.deviation_Q[16:20] + decoder.mean_Q[16:20]
    error = ((read_BP - true_BP) / decoder.deviation_Q[16:20]).square().mean()
    assert terms["token_loss"].item() == pytest.approx(0.5 * error.item(), rel=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_weights_of_subjects_and_shared_ones_are_all_that_decoding_needs(
    subjects: list[TrainingData], shared: bool
) -> None:
    decoder = Decoder.from_data(config(shared=shared), subjects if shared else subjects[:1], 0)
    facts = [decoder.facts(subject) for subject in decoder.subjects]
    n_network = sum(p.numel() for name, p in decoder.named_parameters() if name != "log_tau")
    assert facts[0]["parameters.shared"] == (n_network if shared else 0)
    own = sum(found["parameters.per_subject"] for found in facts)
    assert own + facts[0]["parameters.shared"] == decoder.n_parameters()["deployed"]


def test_a_new_subject_changes_nothing_that_is_shared(
    subjects: list[TrainingData], tmp_path: Path
) -> None:
    """And is decoded through its own closed form."""
    settings = config(new_subject="subj02")
    alone = Decoder.from_data(config(), subjects[:1], 0)
    train(alone, subjects[:1], tmp_path)
    both = Decoder.from_data(settings, subjects, 0)
    train(both, subjects, tmp_path)
    for name, value in alone.named_parameters():
        torch.testing.assert_close(both.get_parameter(name), value)
    assert both.decode(subjects[1].mean_betas_IV, "subj02").embedding_ID is not None
    assert both.closed_form_of("subj02").weight_VQ.abs().max() > 0


def test_tokens_are_read_from_components(subjects: list[TrainingData]) -> None:
    """Before any step: the closed form's own."""
    decoder = Decoder.from_data(config(), subjects, 0)
    tokens = decoder.decode_tokens(subjects[0].mean_betas_IV, "subj01").tokens["semantic"]
    z_IQ = decoder.closed_form_of("subj01")(subjects[0].mean_betas_IV)
    scores_IP = z_IQ[:, 16:20] * decoder.deviation_Q[16:20] + decoder.mean_Q[16:20]
    basis = subjects[0].bases["semantic"]
    flat_IX = scores_IP @ basis.components_PTW[:4].float().flatten(1)
    torch.testing.assert_close(tokens[:, 1:], flat_IX.unflatten(1, (4, 8)) + basis.mean_TW)


def test_it_learns(subjects: list[TrainingData], tmp_path: Path) -> None:
    settings = config(max_epochs=30, n_alphas=5, log10_alpha_min=0.0, log10_alpha_max=4.0)
    decoder = Decoder.from_data(settings, subjects, 0)
    rows = train(decoder, subjects, tmp_path)
    best = max(row["val_image_top1"] for row in rows)
    assert best > 0.4, "chance is 1 in 12"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": 7}, "components is 7, but the CLIP cache has 6"),
        ({"new_subject": "subj01"}, "expected one of several subjects"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    tiny: TrainingData, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Decoder.from_data(config(**changes), [tiny], 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log10_alpha_min": 9.0}, "log10_alpha_min is 9.0, expected at most"),
        ({"tau_min": 0.2}, "tau is 0.07, expected at least tau_min"),
        ({"repeats_mean": 0.7}, "sum to at most 1"),
        ({"dropout_in": 1.5}, "expected a fraction"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
