from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LinearRegression, Ridge

from fmri2clip.decoders.batches import MixedBatch, TrainingData
from fmri2clip.decoders.clip_mused import guidance
from fmri2clip.decoders.clip_mused.decoder import Decoder
from fmri2clip.decoders.clip_mused.networks import roll_out
from fmri2clip.decoders.parts.left_out_ridge import read_targets, standardise
from fmri2clip.stages.train.batches import MixedBatches
from tests.decoders.settings import make_config

AREAS = "V1, V2, floc-faces, floc-bodies, rest"
SMALL: dict[str, Any] = {
    "areas": AREAS,
    "components": 4,
    "width": 8,
    "layers": 2,
    "heads": 2,
    "hidden": 12,
}
SMALL |= {"input_map": "pca", "dropout": 0.0, "dropout_in": 0.0, "batch_size": 32}
SETTINGS = [
    {},
    {
        "input_map": "clip_aligned",
        "head_input": "both",
        "low_pool": "cls",
        "high_mode": "concat",
        "orthogonality": "L1",
    },
    {"input_map": "subject_linear", "head_input": "pooled", "high_mode": "text"},
    {"input_map": "components", "guidance": "centred", "orthogonality": "L2"},
    {"identity": "one_token"},
    {"identity": "shared_tokens"},
    {"identity": "embedding"},
    {"identity": "none", "shared": False},
    {"identity": "none", "backbone": "mlp"},
    {"identity": "embedding", "backbone": "mlp"},
]


@pytest.fixture
def subjects(tiny: TrainingData) -> list[TrainingData]:
    """Two subjects: the second has other voxels, other images and V2 as well as bodies empty."""
    other = replace(
        tiny,
        subject="subj02",
        betas_NV=tiny.betas_NV.flip(1)[:, :26] * 1.5,
        nsd_id_I=tiny.nsd_id_I + 1,
        rois={
            name: member[:26] & (name != "prf-visualrois/V2v") for name, member in tiny.rois.items()
        },
        groups={name: member[:26] for name, member in tiny.groups.items()},
    )
    return [tiny, other]


def build(data: Sequence[TrainingData], **settings: Any) -> Decoder:
    return Decoder.from_data(make_config("clip_mused", **SMALL | settings), data, 3)


def first_batch(data: Sequence[TrainingData]) -> MixedBatch:
    return next(iter(MixedBatches(data, 32, 0)))


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_trains_and_decodes(
    settings: dict[str, Any], subjects: list[TrainingData]
) -> None:
    decoder = build(subjects, **settings)
    terms = decoder.train().loss(first_batch(subjects), 0.0)
    torch.stack(list(terms.values())).sum().backward()
    n_tokens = decoder.config.n_tokens
    expected = {"label_loss"} | ({"high_loss", "low_loss"} if n_tokens else set())
    assert set(terms) == expected | ({"orthogonal_loss"} if n_tokens == 2 else set())
    # Tokens that the head does not read and everything else: no weight is idle
    # (DistributedDataParallel would stall).
    assert [name for name, value in decoder.named_parameters() if value.grad is None] == []
    for d in subjects:
        logits_IC = decoder.decode(d.mean_betas_IV, d.subject).logits_IC
        assert logits_IC is not None and logits_IC.shape == (60, 4) and logits_IC.isfinite().all()
        tokens = decoder.read_tokens(d.mean_betas_IV, d.subject)
        assert {name: tuple(x.shape) for name, x in tokens.items()} == (
            {"high": (60, 8), "low": (60, 8)} if n_tokens else {}
        )


def test_loss_terms_equal_their_definitions(subjects: list[TrainingData]) -> None:
    decoder = build(subjects, w_high=2.0, w_low=3.0, w_orthogonal=5.0).eval()
    batch = first_batch(subjects)
    terms = decoder.loss(batch, 0.0)
    logits, highs, lows, images, texts, labels, features = ([] for _ in range(7))
    for part in batch.parts:  # decoded subject by subject, joined afterwards
        logits.append(decoder.decode(part.betas_BV, part.subject).logits_IC)
        tokens = decoder.read_tokens(part.betas_BV, part.subject)
        highs.append(tokens["high"])
        lows.append(tokens["low"])
        images.append(part.image_embedding_BD)
        texts.append(part.mean_text_BD)
        labels.append(part.labels_BC)
        features.append(part.features["low_mean_IW"].float())
    high, low, label = torch.cat(highs), torch.cat(lows), torch.cat(labels)
    p = torch.cat(logits).sigmoid().clamp(1e-7, 1 - 1e-7)
    bce = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    feature_high = (torch.cat(images) + torch.cat(texts)) / 2
    feature_low = torch.cat(features).clamp(-1.5, 1.5)

    def rsa(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        cosines = [F.cosine_similarity(x[:, None], x[None], dim=2) for x in (a, b)]
        return ((cosines[0] - cosines[1]) ** 2).mean()

    assert len(high) == 32
    torch.testing.assert_close(terms["label_loss"], bce, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        terms["high_loss"], 2 * rsa(feature_high, high), rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(terms["low_loss"], 3 * rsa(feature_low, low), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        terms["orthogonal_loss"], 5 * ((high @ low.T) ** 2).mean(), rtol=1e-3, atol=1e-5
    )


def gradients(decoder: Decoder, data: list[TrainingData]) -> dict[str, float]:
    """Largest gradient of each weight at the first step, of each loss term alone."""
    return {
        name: float(value.grad.abs().max())
        for name, value in decoder.named_parameters()
        if value.grad is not None
    }


def test_tokens_learn_from_the_first_step(subjects: list[TrainingData]) -> None:
    for term in ("label_loss", "high_loss", "low_loss", "orthogonal_loss"):
        decoder = build(subjects).train()
        decoder.loss(first_batch(subjects), 0.0)[term].backward()
        found = gradients(decoder, subjects)
        assert all(found[f"identity.{d.subject}"] > 0 for d in subjects), term


def test_paper_like_tokens_start_at_zero_and_only_the_last_norm_learns(
    subjects: list[TrainingData],
) -> None:
    """As in the authors' code: no residual path and a norm that starts at 0, so guidance has no
    gradient at first.
    """
    decoder = build(subjects, block="paper_like").train()
    terms = decoder.loss(first_batch(subjects), 0.0)
    tokens = decoder.read_tokens(subjects[0].mean_betas_IV, "subj01")
    assert not tokens["high"].any() and not tokens["low"].any()
    for term in ("high_loss", "low_loss", "orthogonal_loss"):
        decoder.zero_grad()
        terms[term].backward(retain_graph=True)
        assert not any(gradients(decoder, subjects).values()), term
    decoder.zero_grad()
    terms["label_loss"].backward()
    moved = {name for name, value in gradients(decoder, subjects).items() if value > 0}
    assert moved == {"network.layers.1.norm2.weight", "network.layers.1.norm2.bias", "head.bias"}


def test_order_of_subjects_changes_nothing(subjects: list[TrainingData]) -> None:
    one, two = build(subjects), build(subjects[::-1])
    assert all(torch.equal(a, two.state_dict()[name]) for name, a in one.state_dict().items())
    losses = [
        d.train().loss(first_batch(data), 0.0)
        for d, data in ((one, subjects), (two, subjects[::-1]))
    ]
    assert losses[0] == losses[1]


def test_an_empty_roi_takes_no_part(subjects: list[TrainingData]) -> None:
    decoder, data = build(subjects, head_input="both"), subjects[1]
    attention_ITR = decoder.read_attention(data.mean_betas_IV, "subj02")
    assert attention_ITR.shape == (60, 2, 5) and decoder.roi_names[1] == "V2"
    assert not attention_ITR[:, :, [1, 3]].any() and (attention_ITR[:, :, [0, 2, 4]] > 0).all()
    before = decoder.decode(data.mean_betas_IV, "subj02").logits_IC
    decoder.roi_embedding_RE.data[[1, 3]] += 100.0
    assert torch.equal(before, decoder.decode(data.mean_betas_IV, "subj02").logits_IC)


@pytest.mark.parametrize("block", ["pre_norm", "paper_like"])
def test_attention_is_that_of_the_last_layer(block: str, subjects: list[TrainingData]) -> None:
    decoder, data = build(subjects, block=block).eval(), subjects[0]
    with torch.no_grad():
        x = decoder.embed(data.mean_betas_IV, "subj01", "subj01")
        x = decoder.network.layers[0](x, src_key_padding_mask=decoder._empty("subj01", 60))
        layer = decoder.network.layers[1]
        x = layer.norm1(x) if block == "pre_norm" else x
        weight, bias = layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
        query, key, _ = (x @ weight.T + bias).view(60, 7, 3, 2, 4).permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(2, 3) / 2).masked_fill(
            decoder._empty("subj01", 60)[:, None, None], -torch.inf
        )
        expected = scores.softmax(3).mean(1)[:, :2, 2:]
    torch.testing.assert_close(
        decoder.read_attention(data.mean_betas_IV, "subj01"), expected, rtol=1e-4, atol=1e-6
    )
    rollout = decoder.read_attention(data.mean_betas_IV, "subj01", rollout=True)
    assert rollout.shape == expected.shape and (rollout.sum(2) < 1).all()


def test_a_place_that_is_replaced_has_no_residual_path_in_the_rollout() -> None:
    """Against the product written out: two layers, one token that is replaced, two ROIs."""
    layers = torch.rand(2, 4, 3, 3).softmax(-1)
    expected = torch.eye(3).expand(4, 3, 3)
    for layer in layers:
        mixed = torch.stack([layer[:, 0], *(layer[:, i] / 2 + torch.eye(3)[i] / 2 for i in (1, 2))])
        expected = torch.einsum("ibj,bjk->bik", mixed, expected)
    torch.testing.assert_close(roll_out(list(layers), 1), expected)
    plain = torch.linalg.multi_dot([(layers[k, 0] + torch.eye(3)) / 2 for k in (1, 0)])
    torch.testing.assert_close(roll_out(list(layers), 0)[0], plain)


def test_swapped_tokens_decode_otherwise_and_own_tokens_the_same(
    subjects: list[TrainingData],
) -> None:
    decoder, betas = build(subjects), subjects[0].mean_betas_IV
    decoder.identity["subj02"].data += 1.0
    own = decoder.decode(betas, "subj01").logits_IC
    assert torch.equal(own, decoder.decode_as(betas, "subj01", "subj01").logits_IC)
    assert not torch.allclose(own, decoder.decode_as(betas, "subj01", "subj02").logits_IC)
    with pytest.raises(ValueError, match="no subject 'subj05'; choose from subj01, subj02"):
        decoder.decode_as(betas, "subj01", "subj05")


def test_counts_add_up(subjects: list[TrainingData]) -> None:
    decoder = build(subjects)
    counts, facts = decoder.n_parameters(), [decoder.facts(d.subject) for d in subjects]
    n_rows = [8 + 6 + 13 + 0 + 3, 8 + 0 + 12 + 0 + 6]
    for n, found in zip(n_rows, facts, strict=True):
        assert (
            found["parameters.input_map"] == n * 4 + 5 * 4 and found["parameters.identity"] == 2 * 8
        )
        assert found["parameters.per_subject"] == n * 4 + 5 * 4 + 2 * 8
        assert 0 < found["input_map.explained_variance"] <= 1
    shared = facts[0]["parameters.shared"]
    assert counts["deployed"] == shared + sum(found["parameters.per_subject"] for found in facts)
    assert counts["trained"] == shared + 2 * 16
    learned = build(subjects, input_map="subject_linear").n_parameters()
    assert learned["trained"] == learned["deployed"] == counts["deployed"]
    assert facts[0]["input_map.explained_variance_roi.floc-bodies"] == 0
    image, text = subjects[0].image_embedding_ID, subjects[0].mean_text_ID
    high = ((image + text) / 2)[~subjects[0].is_validation_I]
    assert facts[0]["guidance.mean_cosine_high"] == pytest.approx(
        guidance.mean_cosine(high, 1.5), abs=1e-6
    )


def test_class_frequencies_are_the_starting_point(subjects: list[TrainingData]) -> None:
    decoder = build(subjects)
    train_I = ~subjects[0].is_validation_I
    p_C = (subjects[0].labels_IC[train_I].float().sum(0) * 2 + 0.5) / (2 * train_I.sum() + 1)
    torch.testing.assert_close(decoder.head.bias.data.sigmoid(), p_C)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"input_map": "ica"},
            "input_map is 'ica', expected one of pca, clip_aligned, subject_linear",
        ),
        ({"block": "post_norm"}, "block is 'post_norm', expected one of pre_norm, paper_like"),
        ({"width": 10, "heads": 4}, "width is 10, expected a multiple of heads"),
        ({"backbone": "mlp"}, "an mlp has no tokens; expected none or embedding"),
        ({"new_subject": "subj02", "identity": "none"}, "has no weights of a subject to fit"),
        ({"new_sessions": 2}, "for all subjects set split.n_sessions"),
        ({"guidance": "mean"}, "guidance is 'mean', expected one of paper_like, centred"),
        ({"components": 0}, "components is 0, expected at least 1"),
        ({"w_low": -1.0}, "w_low is -1.0, expected at least 0"),
        ({"lr": 0.0}, "lr is 0.0, expected a number above 0"),
        ({"dropout": 1.5}, "dropout is 1.5, expected a fraction"),
        ({"areas": "V1, V1"}, "expected names of ROIs, each once"),
    ],
)
def test_wrong_settings_say_what_is_allowed(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config("clip_mused", **bad)


def test_components_are_predictions_without_the_picture(subjects: list[TrainingData]) -> None:
    """Of each ROI by its own ridge; validation trials have the map's own."""
    decoder = build(subjects, input_map="components")
    data = subjects[1]
    for phase in decoder.phases(subjects):
        (seen,) = [d for d in phase.data if d.subject == "subj02"]
    read_NRK = seen.betas_NV.unflatten(1, (5, 24))
    mean_Q, deviation_Q = standardise([read_targets(d, 4) for d in subjects])
    y_IQ = ((read_targets(data, 4) - mean_Q) / deviation_Q)[:, :8].numpy()
    rows = np.flatnonzero(~data.is_validation_I.numpy())
    x_IV = data.mean_betas_IV.numpy()[:, data.rois["floc-faces"].numpy()]
    # The image embedding has one penalty of its own: the one of least left-out error.
    left_out = {
        alpha: np.stack(
            [
                Ridge(alpha=alpha)
                .fit(x_IV[rows[rows != i]], y_IQ[rows[rows != i]])
                .predict(x_IV[i : i + 1])[0]
                for i in rows
            ]
        )
        for alpha in (10.0, 10**1.5, 100.0, 10**2.5, 1000.0)
    }
    best = min(left_out, key=lambda alpha: ((left_out[alpha] - y_IQ[rows]) ** 2).sum())
    trial = int((data.image_N == int(rows[3])).nonzero()[0])
    fit = Ridge(alpha=best).fit(x_IV[rows[rows != rows[3]]], y_IQ[rows[rows != rows[3]]])
    x_1V = data.betas_NV[trial : trial + 1, data.rois["floc-faces"]].numpy()
    for q in range(8):
        line = LinearRegression().fit(left_out[best][:, q : q + 1], y_IQ[rows, q])
        if line.coef_[0] > 0:
            expected = line.predict([[fit.predict(x_1V)[0, q]]])[0]
            assert read_NRK[trial, 2, q] == pytest.approx(expected, abs=2e-3)
    assert not read_NRK[:, 1].any(), "V2 has no voxel"
    held_out = data.is_validation_I[data.image_N]
    direct_NRK = decoder.map_of("subj02")(data.betas_NV)
    torch.testing.assert_close(read_NRK[held_out], direct_NRK[held_out])


def test_a_new_subject_leaves_the_components_of_the_others(subjects: list[TrainingData]) -> None:
    settings = {"input_map": "components", "guidance": "centred"}
    both = build(subjects, new_subject="subj02", **settings)
    alone = build(subjects[:1], **settings)
    assert torch.equal(both.map_of("subj01").weight_XK, alone.map_of("subj01").weight_XK)
    assert both.map_of("subj02").weight_XK.abs().max() > 0
    names = [[d.subject for d in phase.data] for phase in both.phases(subjects)]
    assert names == [["subj01"], ["subj02"]]


def test_a_new_subject_named_as_a_layer_is_takes_no_shared_weight(
    subjects: list[TrainingData],
) -> None:
    data = [replace(d, subject=name) for d, name in zip(subjects, "10", strict=True)]
    decoder = build(data, new_subject="0")
    free = {}
    for phase in decoder.phases(data):
        free[phase.name] = {n for n, w in decoder.named_parameters() if w.requires_grad}
    assert free["new"] == {"identity.0"}
    every = {name for name, _ in decoder.named_parameters()}
    assert free["shared"] == every - {"identity.0"}
    alike = build(subjects).n_parameters()
    assert decoder.n_parameters() == alike


def test_new_subject_must_be_one_of_several(subjects: list[TrainingData]) -> None:
    for data, name in ((subjects, "subj05"), (subjects[:1], "subj01")):
        with pytest.raises(
            ValueError,
            match=f"new_subject is '{name}', expected one of several subjects of the run",
        ):
            build(data, new_subject=name)


def test_attention_of_a_network_without_tokens_is_refused(subjects: list[TrainingData]) -> None:
    with pytest.raises(ValueError, match="identity 'none' has no tokens"):
        build(subjects, identity="none").read_attention(subjects[0].mean_betas_IV, "subj01")
