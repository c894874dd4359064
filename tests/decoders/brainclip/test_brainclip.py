from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import normalize

from fmri2clip.artefacts.model import load, save
from fmri2clip.core.params import Compute
from fmri2clip.decoders.batches import Batch, TrainingData
from fmri2clip.decoders.brainclip import decoder as module
from fmri2clip.decoders.brainclip.decoder import Decoder, contrastive
from fmri2clip.stages.train.batches import EpochBatches, MixedBatches
from fmri2clip.stages.train.run import fit_decoder
from tests.decoders.settings import make_config

GOLDEN = Path(__file__).parents[1] / "golden_losses.json"
NETWORKS = ("linear", "mlp", "vae")
# What the golden losses depend on, beside the network
GOLDEN_SETTINGS: dict[str, Any] = {
    "hidden": 16,
    "latent": 0,
    "dropout_in": 0.5,
    "dropout_block": 0.15,
    "alpha": 0.5,
    "beta": 0.01,
    "kl_warmup": 3.0,
    "tau": 0.07,
    "tau_min": 0.01,
}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def info_nce_loop(f: np.ndarray, y: np.ndarray, tau: float, same: np.ndarray) -> float:
    """Both directions from the definition, one query at a time; masked pairs are no candidates."""
    total = 0.0
    for a, b in ((f, y), (y, f)):
        for i in range(len(a)):
            candidates = [j for j in range(len(b)) if j == i or not same[i, j]]
            scores = np.array([a[i] @ b[j] / tau for j in candidates])
            total += math.log(np.exp(scores).sum()) - a[i] @ b[i] / tau
    return total / (2 * len(f))


def batch_of(
    n: int = 6, image_ids: list[int] | None = None, text_ids: list[int] | None = None
) -> Batch:
    betas = torch.randn(n, 30, generator=torch.Generator().manual_seed(5))
    ids = [torch.tensor(ids or list(range(n))) for ids in (image_ids, text_ids)]
    return Batch("subj01", betas, unit(n, 8, seed=1), unit(n, 8, seed=2), *ids)


@pytest.mark.parametrize("pairs", [[], [(0, 1)], [(0, 1), (2, 4), (1, 3)]])
def test_contrastive_matches_the_definition(pairs: list[tuple[int, int]]) -> None:
    same = torch.eye(6, dtype=torch.bool)
    for i, j in pairs:
        same[i, j] = same[j, i] = True
    f, y = unit(6, 8, seed=3), unit(6, 8, seed=4)
    expected = info_nce_loop(f.double().numpy(), y.double().numpy(), 0.07, same.numpy())
    assert float(contrastive(f, y, 0.07, same)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_loss_is_the_convex_sum_with_its_own_masks(alpha: float) -> None:
    decoder = Decoder(
        make_config("brainclip", network="linear", alpha=alpha, tau=0.1), 30, 8, 0
    ).eval()
    batch = batch_of(image_ids=[1, 1, 2, 3, 4, 5], text_ids=[0, 1, 2, 2, 3, 4])
    same_image, same_text = np.eye(6, dtype=bool), np.eye(6, dtype=bool)
    for mask, i, j in ((same_image, 0, 1), (same_text, 0, 1), (same_text, 2, 3)):
        mask[i, j] = mask[j, i] = True
    f = decoder.decode(batch.betas_BV, "subj01").embedding_ID.double().numpy()
    image = info_nce_loop(f, batch.image_embedding_BD.double().numpy(), 0.1, same_image)
    text = info_nce_loop(f, batch.text_embedding_BD.double().numpy(), 0.1, same_text)
    terms = decoder.loss(batch, 0.0)
    assert terms["image_loss"].item() == pytest.approx(alpha * image, rel=1e-5)
    assert terms["text_loss"].item() == pytest.approx((1 - alpha) * text, rel=1e-5)


def test_kl_matches_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert module.kl_divergence(mu, logvar).item() == pytest.approx(float(expected), rel=1e-5)


def test_kl_term_rises_linearly_then_stays() -> None:
    decoder = Decoder(
        make_config("brainclip", network="vae", hidden=16, beta=0.2, kl_warmup=4), 30, 8, 0
    ).eval()
    _, mu, logvar = decoder(batch_of().betas_BV, "subj01")
    full = 0.2 * module.kl_divergence(mu, logvar).item()
    for epoch, share in ((0, 0), (1, 0.25), (4, 1), (9, 1)):
        assert decoder.loss(batch_of(), epoch)["kl_loss"].item() == pytest.approx(
            share * full, abs=1e-7
        )


def test_temperature_starts_at_tau_and_is_clamped() -> None:
    decoder = Decoder(make_config("brainclip", tau=0.07, tau_min=0.01), 30, 8, 0)
    assert decoder.temperature.item() == pytest.approx(0.07)
    decoder.log_tau.data.fill_(-20.0)
    assert decoder.temperature.item() == pytest.approx(0.01)
    # A step may lead back above the floor.
    decoder.temperature.backward()
    assert decoder.log_tau.grad is not None
    assert decoder.log_tau.grad.item() == pytest.approx(math.exp(-20))


@pytest.mark.parametrize("network", NETWORKS)
def test_output_is_one_unit_vector_for_image_and_text_without_noise(network: str) -> None:
    decoder = Decoder(make_config("brainclip", network=network, hidden=16), 30, 8, 0).train()
    decoded = decoder.decode(batch_of().betas_BV, "subj01")
    assert decoded.text_embedding_ID is decoded.embedding_ID and decoder.training
    assert torch.allclose(decoded.embedding_ID.norm(dim=1), torch.ones(6), atol=1e-6)
    assert torch.equal(
        decoded.embedding_ID, decoder.decode(batch_of().betas_BV, "subj01").embedding_ID
    )


def test_vae_draws_noise_in_training_only_and_may_have_a_narrow_code() -> None:
    decoder = Decoder(
        make_config("brainclip", network="vae", hidden=16, latent=3, dropout_in=0, dropout_block=0),
        30,
        8,
        0,
    ).train()
    one, two = decoder(batch_of().betas_BV, "subj01")[0], decoder(batch_of().betas_BV, "subj01")[0]
    assert not torch.equal(one, two) and one.shape == (6, 8)


@pytest.mark.parametrize("network", NETWORKS)
def test_seed_decides_the_weights_and_leaves_the_global_generator_alone(network: str) -> None:
    torch.manual_seed(1)
    states = [
        Decoder(make_config("brainclip", network=network, hidden=16), 30, 8, seed).state_dict()
        for seed in (0, 0, 1)
    ]
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(states[0]["mu.weight"], states[1]["mu.weight"])
    assert not torch.equal(states[0]["mu.weight"], states[2]["mu.weight"])


def test_n_parameters_of_the_linear_and_the_vae_network() -> None:
    assert Decoder(make_config("brainclip", network="linear"), 30, 8, 0).n_parameters() == {
        "trained": 31 * 8 + 1,
        "deployed": 31 * 8,
    }
    vae = Decoder(make_config("brainclip", network="vae", hidden=16), 30, 8, 0).n_parameters()
    assert vae["trained"] - vae["deployed"] == 17 * 8 + 1


BAD = [
    {"network": "cnn"},
    {"alpha": 1.5},
    {"repeats_mean": 0.9},
    {"tau": 0.001},
    {"hidden": 0},
    {"max_epochs": 0},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad)))
def test_config_refuses_nonsense(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}.*expected"):
        make_config("brainclip", **bad)


def first_losses(network: str, data: TrainingData) -> list[float]:
    """The first 20 losses of a plain AdamW loop on the tiny subject, four steps an epoch."""
    config = make_config("brainclip", network=network, **GOLDEN_SETTINGS)
    decoder = Decoder(config, 30, 8, 0).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses: list[float] = []
    torch.manual_seed(0)
    for epoch in range(5):
        for i, batch in enumerate(EpochBatches(data, 12, seed=0, epoch=epoch)):
            loss = torch.stack(list(decoder.loss(batch, epoch + i / 4).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("network", NETWORKS)
def test_first_losses_are_the_golden_ones(network: str, tiny: TrainingData) -> None:
    """After a change that is meant to alter them, write `first_losses` of each network to
    golden_losses.json.
    """
    losses = first_losses(network, tiny)
    assert len(losses) == 20 and losses[-1] < losses[0]
    np.testing.assert_allclose(losses, json.loads(GOLDEN.read_text())[network], rtol=1e-4)


# A learned metric, and one network for all subjects


COMPONENTS: dict[str, Any] = {"components": 4, "hidden": 16, "dropout_in": 0.0, "batch_size": 24}


@pytest.fixture
def subjects(tiny: TrainingData) -> list[TrainingData]:
    """Two subjects: the second has fewer voxels and other images."""
    betas_NV = tiny.betas_NV.flip(1)[:, :26] * 1.5
    other = replace(tiny, subject="subj02", betas_NV=betas_NV, nsd_id_I=tiny.nsd_id_I + 1)
    return [tiny, other]


def built(data: list[TrainingData], **changes: Any) -> Decoder:
    return Decoder.from_data(make_config("brainclip", **COMPONENTS | changes), data, 0)


def test_a_target_map_starts_as_brainclip_and_offers_what_ranks_the_same() -> None:
    """For pictures whose mapped embeddings have one norm; the own similarity for all."""
    config = make_config("brainclip", network="linear", target_map="linear", tau=0.1)
    decoder = Decoder(config, 30, 8, 0).eval()
    plain = Decoder(make_config("brainclip", network="linear", tau=0.1), 30, 8, 0).eval()
    batch = batch_of()
    for name, value in plain.loss(batch, 0.0).items():
        assert decoder.loss(batch, 0.0)[name].item() == pytest.approx(value.item(), rel=1e-5)
    assert plain.identify(batch.betas_BV, {}) is None and not plain.has_likelihood
    assert decoder.target_map is not None
    decoder.target_map.data += 0.3 * unit(8, 8, seed=7)
    f_BD = decoder(batch.betas_BV, "subj01")[0].detach()
    mapped_BD = batch.image_embedding_BD @ decoder.target_map.T.detach()
    told = decoder.identify(batch.betas_BV, {"image_embedding_ID": batch.image_embedding_BD})
    cosine = torch.nn.functional.cosine_similarity(f_BD[:, None], mapped_BD[None], dim=2)
    torch.testing.assert_close(told, cosine / 0.1)
    offered_BD = decoder.decode(batch.betas_BV, "subj01").embedding_ID
    assert offered_BD is not None
    product_BB = offered_BD @ batch.image_embedding_BD.T
    torch.testing.assert_close(
        product_BB / product_BB[:, :1], (f_BD @ mapped_BD.T) / (f_BD @ mapped_BD.T)[:, :1]
    )
    image = info_nce_loop(
        f_BD.double().numpy(),
        normalize(mapped_BD, dim=1).double().numpy(),
        0.1,
        np.eye(6, dtype=bool),
    )
    assert decoder.loss(batch, 0.0)["image_loss"].item() == pytest.approx(0.5 * image, rel=1e-4)
    sum(decoder.loss(batch, 0.0).values()).backward()
    assert decoder.target_map.grad is not None and decoder.target_map.grad.abs().max() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_one_network_for_all_subjects(network: str, subjects: list[TrainingData]) -> None:
    """Rows of both subjects are negatives of each other; equal numbers of captions are not equal
    captions across subjects.
    """
    decoder = built(subjects, shared=True, network=network, dropout_block=0.0, alpha=0.5)
    assert decoder.per_subject is False and decoder.trains_alone(decoder.config) is False
    for phase in decoder.phases(subjects):
        batch = next(iter(MixedBatches(phase.data, 24, seed=0)))
        decoder.eval()
        terms = decoder.loss(batch, 0.0)
        f = np.concatenate(
            [
                decoder(part.betas_BV, part.subject)[0].detach().double().numpy()
                for part in batch.parts
            ]
        )
    for field, term in (("image_embedding_BD", "image_loss"), ("text_embedding_BD", "text_loss")):
        y = torch.cat([getattr(part, field) for part in batch.parts]).double().numpy()
        same = np.eye(24, dtype=bool)
        if field == "text_embedding_BD":
            for p, part in enumerate(batch.parts):
                rows = slice(12 * p, 12 * p + 12)
                same[rows, rows] = (part.text_id_B[:, None] == part.text_id_B).numpy()
        tau = float(decoder.temperature.detach())
        expected = 0.5 * info_nce_loop(f, y, tau, same)
        assert terms[term].item() == pytest.approx(expected, rel=1e-4), term
    for d in subjects:
        decoded = decoder.decode(d.mean_betas_IV, d.subject).embedding_ID
        assert decoded is not None and decoded.shape == (60, 8)


def test_components_are_left_out_in_training_and_saved(
    subjects: list[TrainingData], tmp_path: Path
) -> None:
    """What is read of validation trials is what decoding reads of them; of training trials not."""
    tiny = subjects[0]
    alone = built([tiny])
    for phase in alone.phases([tiny]):
        read_NQ = phase.data[0].betas_NV
    direct_NQ = alone.closed_forms["subj01"](tiny.betas_NV)
    held_out_N = tiny.is_validation_I[tiny.image_N]
    torch.testing.assert_close(read_NQ[held_out_N], direct_NQ[held_out_N])
    assert (read_NQ - direct_NQ)[~held_out_N].abs().max() > 0.05
    for shared, data in ((True, subjects), (False, [tiny])):
        decoder = built(data, shared=shared, max_epochs=2, patience=2)
        compute = Compute(device="cpu")
        fit_decoder(decoder, data, 0, compute, tmp_path / f"work{shared}")
        described = {
            "run": "demo",
            "decoder": "brainclip",
            "clip": "mini",
            "digests": {},
            "n_voxels": {d.subject: d.betas_NV.shape[1] for d in data} if shared else 30,
            "width_D": 8,
            "seed": 0,
            "config": asdict(decoder.config),
        }
        save(tmp_path / f"model{shared}", decoder, described)
        loaded, _ = load(tmp_path / f"model{shared}")
        for d in data:
            one, two = (
                m.decode(d.mean_betas_IV, d.subject).embedding_ID for m in (decoder, loaded)
            )
            assert one is not None and two is not None and torch.equal(one, two)
        counts = decoder.n_parameters()
        assert counts["deployed"] > counts["trained"]


def test_one_network_for_all_needs_numbers_that_all_share() -> None:
    with pytest.raises(ValueError, match="shared is true, expected with components above 0"):
        make_config("brainclip", shared=True)
