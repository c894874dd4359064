"""mindeye: sizes against those of the published network, losses against whole tokens, learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fmri2clip.core.params import Compute
from fmri2clip.decoders.batches import Batch, TrainingData
from fmri2clip.decoders.mindeye.decoder import Decoder
from fmri2clip.decoders.parts.layers import make_projector, make_trunk
from fmri2clip.stages.train.batches import EpochBatches
from fmri2clip.stages.train.run import fit_decoder
from fmri2clip.stages.train.validation import token_means
from tests.decoders.settings import make_config
from tests.tiny_subject import N_COMPONENTS, add_components

SMALL: dict[str, Any] = {
    "hidden": 24,
    "blocks": 1,
    "projector": 12,
    "batch_size": 16,
    "max_epochs": 10,
    "patience": 10,
    "mixco_epochs": 0.3,
    "mixco_tau": 0.05,
    "softclip_tau_start": 0.05,
    "softclip_tau_end": 0.1,
}


def built(data: TrainingData, **changes: Any) -> Decoder:
    return Decoder.from_data(make_config("mindeye", **SMALL | changes), [data], 0)


def first_batch(data: TrainingData) -> Batch:
    return next(iter(EpochBatches(data, 16, seed=0)))


def test_the_published_network_has_the_published_number_of_weights() -> None:
    """940,225,280 of the backbone of subject 1 and 7,354,624 of the projector, which sees a token
    at a time there.
    """
    with torch.device("meta"):
        trunk = make_trunk(15_724, 4096, 4, 0.5, 0.15)
        head = torch.nn.Linear(4096, 257 * 768)
        projector = make_projector(768, 2048)
    backbone = sum(p.numel() for part in (trunk, head) for p in part.parameters())
    assert backbone == 940_225_280
    assert sum(p.numel() for p in projector.parameters()) == 7_354_624


def test_terms_are_those_of_whole_tokens(tiny: TrainingData) -> None:
    """SoftCLIP of flat tokens, and their squared error, from the tokens that are decoded."""
    decoder = built(tiny, w_regression=30.0, mixco_epochs=0.0).eval()
    batch = first_batch(tiny)
    terms = decoder.loss(batch, 0.0)
    tokens = decoder.decode_tokens(batch.betas_BV, "subj01").tokens
    scores_BP = batch.features["semantic_components_IP"].float()
    true_BTD = decoder.basis.read_all(torch.cat([batch.image_embedding_BD, scores_BP], 1))
    flat_BX, true_BX = (
        normalize(x.double().flatten(1), dim=1).numpy() for x in (tokens["projected"], true_BTD)
    )
    logits, teacher = flat_BX @ true_BX.T / 0.05, true_BX @ true_BX.T / 0.05
    teacher = np.exp(teacher) / np.exp(teacher).sum(1, keepdims=True)
    expected = 0.0
    for table in (logits, logits.T):
        expected -= (teacher * (table - np.log(np.exp(table).sum(1, keepdims=True)))).sum(1).mean()
    assert terms["contrast_loss"].item() == pytest.approx(expected / 2, rel=1e-3)
    error = (tokens["semantic"] - true_BTD).square().sum((1, 2)).mean() / 5
    assert terms["regression_loss"].item() == pytest.approx(30 * error.item(), rel=1e-2)


def test_mixing_comes_first_and_every_weight_learns(tiny: TrainingData) -> None:
    """Mixed rows show in both terms: without dropout only mixing can change them."""
    decoder = built(tiny, dropout_in=0.0, dropout_res=0.0)
    batch = first_batch(tiny)
    early, late = ([decoder.loss(batch, epoch) for _ in range(2)] for epoch in (2.9, 3.0))
    for name in ("contrast_loss", "regression_loss"):
        assert early[0][name] != early[1][name] and late[0][name] == late[1][name]
    torch.stack(list(early[0].values())).sum().backward()
    assert all(bool(p.grad.any()) for p in decoder.parameters() if p.grad is not None)
    assert not [name for name, p in decoder.named_parameters() if p.grad is None]


def test_the_generator_reads_the_backbone_and_retrieval_the_projector(tiny: TrainingData) -> None:
    decoder = built(tiny).eval()
    decoded = decoder.decode_tokens(tiny.mean_betas_IV, "subj01")
    regressed_IX, projected_IX = decoder(tiny.mean_betas_IV)
    basis = tiny.bases["semantic"]
    for stream, x_IX in (("semantic", regressed_IX), ("projected", projected_IX)):
        flat = x_IX[:, 8:] @ basis.components_PTW.float().flatten(1)
        expected = torch.cat([x_IX[:, None, :8], flat.unflatten(1, (4, 8)) + basis.mean_TW], 1)
        torch.testing.assert_close(decoded.tokens[stream], expected)
    assert projected_IX.shape == (60, 8 + N_COMPONENTS)
    torch.testing.assert_close(decoded.embedding_ID, normalize(projected_IX[:, :8], dim=1))
    means = token_means(decoder, tiny)
    assert torch.equal(means["mean_tokens_projected_TW"], means["mean_tokens_semantic_TW"])


def test_it_learns(tiny: TrainingData, tmp_path: Path) -> None:
    """Tokens that say what the embedding says."""
    image_I1D = tiny.image_embedding_ID[:, None]
    tiny.features["semantic_tokens_ITD"] = image_I1D.expand(-1, 5, -1).half()
    add_components(tiny)
    decoder = built(tiny, max_epochs=40, patience=40, lr=3e-3, w_regression=1.0)
    rows = fit_decoder(decoder, [tiny], 0, Compute(device="cpu"), tmp_path)
    assert max(row["val_image_top1"] for row in rows) > 0.4, "chance is 1 in 12"
    assert rows[-1]["regression_loss"] < rows[0]["regression_loss"]


BAD: list[dict[str, Any]] = [
    {"hidden": 0},
    {"w_regression": -1.0},
    {"mixco_tau": 0.0},
    {"dropout_in": 1.5},
    {"repeats_mean": 0.9},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad)))
def test_config_refuses_nonsense(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}.*expected"):
        make_config("mindeye", **bad)


def test_components_of_tokens_are_no_weights(tiny: TrainingData) -> None:
    """Trunk, heads and projector; not what reads the components back."""
    decoder = built(tiny)
    weights = sum(p.numel() for p in decoder.parameters())
    assert decoder.n_parameters() == {"trained": weights, "deployed": weights}
    assert weights < sum(value.numel() for value in decoder.state_dict().values())
