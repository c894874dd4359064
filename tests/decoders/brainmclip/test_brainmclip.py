from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fmri2clip.artefacts.model import load, save
from fmri2clip.decoders.batches import Batch, TrainingData
from fmri2clip.decoders.brainmclip import decoder as module
from fmri2clip.decoders.brainmclip.decoder import Decoder
from fmri2clip.decoders.parts.compared_tokens import Components, Tokens
from fmri2clip.decoders.parts.token_basis import TokenBasis
from fmri2clip.stages.train import trainer
from fmri2clip.stages.train.batches import EpochBatches
from fmri2clip.stages.train.validation import token_means
from tests.decoders.settings import make_config
from tests.tiny_subject import N_COMPONENTS, add_components

SMALL = make_config(
    "brainmclip",
    variant="tokens",
    hidden=16,
    blocks=1,
    token_rank=3,
    batch_size=16,
    max_epochs=9,
    nce_tokens=3,
)
GOLDEN = Path(__file__).parents[1] / "golden_losses.json"
STREAMS = ("detail", "semantic", "fused", "text")
# What the golden losses depend on
GOLDEN_SETTINGS: dict[str, Any] = {
    "variant": "tokens",
    "hidden": 16,
    "blocks": 1,
    "token_rank": 3,
    "dropout_in": 0.5,
    "dropout_res": 0.15,
    "text_branch": True,
    "fusion": "gated",
    "detail_rois": "low_high",
    "semantic_rois": "high",
    "routing": "paper",
    "voxel_pool": 0,
    "detail_target": "detail",
    "cross_rec": "self_cross",
    "cross_target": "decoder",
    "stop_grad": "none",
    "beta_rec": 1.0,
    "beta_cross": 0.5,
    "loss": "both",
    "alpha_fine": 1.0,
    "w_detail": 1.0,
    "w_semantic": 1.0,
    "w_fused": 1.0,
    "w_text": 0.5,
    "class_weight": 0.5,
    "class_contrast": 1.0,
    "mixco_epochs": 0.33,
    "mixco_share": 0.5,
    "mixco_beta": 0.15,
    "mixco_tau": 0.1,
    "softclip_tau_start": 0.1,
    "softclip_tau_end": 0.2,
    "nce_tokens": 3,
    "nce_tau": 0.05,
    "nce_weight": 0.1,
    "max_epochs": 5,
}


def built(data: TrainingData, **changes: Any) -> Decoder:
    return Decoder.from_data(replace(SMALL, **changes), [data], 0).eval()


def encode(decoder: Decoder, betas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return decoder.network.encode(decoder.inputs(betas))


def first_batch(data: TrainingData) -> Batch:
    return next(iter(EpochBatches(data, 16, seed=0)))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("variant", ["tokens", "pooled"])
def test_fused_tokens_equal_the_semantic_ones_bit_by_bit_while_the_gate_is_0(
    tiny: TrainingData, variant: str
) -> None:
    decoder = built(tiny, variant=variant)
    codes = encode(decoder, tiny.mean_betas_IV)
    predicted = decoder.network.predict(codes)
    assert torch.equal(predicted["fused"], predicted["semantic"])
    assert not torch.equal(predicted["detail"], predicted["semantic"])
    decoder.network.fusion.gate_W.data[2] = 0.5
    moved = decoder.network.predict(codes)["fused"] != predicted["semantic"]
    assert moved[..., 2].any() and not moved[..., [0, 1, 3]].any()


def test_streams_read_their_own_voxels_only(tiny: TrainingData) -> None:
    decoder = built(tiny)
    assert decoder.semantic_rows.tolist() == list(
        range(12, 25)
    ) and decoder.detail_rows.tolist() == list(range(25))
    code_D, code_S = encode(decoder, tiny.mean_betas_IV)
    changed = tiny.mean_betas_IV.clone()
    changed[:, [0, 27]] += 5
    moved_D, moved_S = encode(decoder, changed)
    assert torch.equal(code_S, moved_S) and not torch.equal(code_D, moved_D)
    changed[:, 0] -= 5
    assert torch.allclose(
        encode(decoder, changed)[0], code_D, atol=1e-5
    )  # voxel 27 belongs to no stream


def test_sizes_of_tokens_and_of_both_reconstructions(tiny: TrainingData) -> None:
    decoder = built(tiny)
    codes = encode(decoder, tiny.mean_betas_IV)
    shapes = dict.fromkeys(
        ("detail", "semantic", "fused", "text"), (60, 5, 8)
    )  # text: embedding and 4 tokens
    assert {name: tuple(x.shape) for name, x in decoder.network.predict(codes).items()} == shapes
    for code in codes:  # own code and crossed
        assert decoder.network.detail_decoder(code).shape == (
            60,
            25,
        ) and decoder.network.semantic_decoder(code).shape == (60, 13)
    pooled = built(tiny, voxel_pool=7, cross_target="source")
    assert (
        pooled.inputs(tiny.mean_betas_IV)[0].shape
        == pooled.inputs(tiny.mean_betas_IV)[1].shape
        == (60, 7)
    )
    assert pooled.network.detail_decoder(encode(pooled, tiny.mean_betas_IV)[1]).shape == (60, 7)
    expected = tiny.mean_betas_IV[:, 12:25][:, :2].max(1).values
    assert torch.equal(pooled.inputs(tiny.mean_betas_IV)[1][:, 0], expected)


@pytest.mark.parametrize("target", ["decoder", "source"])
def test_reconstruction_terms_are_the_squared_errors_of_the_page(
    tiny: TrainingData, target: str
) -> None:
    decoder = built(
        tiny, voxel_pool=7, cross_target=target, loss="fine", beta_rec=2.0, beta_cross=0.3
    )
    batch, network = first_batch(tiny), decoder.network
    found = decoder.loss(batch, 5.0)
    (f_D, f_S), (b_D, b_S) = decoder.inputs(batch.betas_BV), encode(decoder, batch.betas_BV)

    def mse(x: torch.Tensor, y: torch.Tensor) -> float:
        return ((x - y) ** 2).mean().item()

    cross = (f_D, f_S) if target == "decoder" else (f_S, f_D)
    expected = {
        "rec_detail_loss": 2 * mse(network.detail_decoder(b_D), f_D),
        "rec_semantic_loss": 2 * mse(network.semantic_decoder(b_S), f_S),
        "cross_detail_loss": 0.3 * mse(network.detail_decoder(b_S), cross[0]),
        "cross_semantic_loss": 0.3 * mse(network.semantic_decoder(b_D), cross[1]),
    }
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-5), name


def test_stopped_gradient_spares_the_semantic_encoder(tiny: TrainingData) -> None:
    def gradient(stop: str) -> torch.Tensor:
        decoder = built(tiny, stop_grad=stop)
        decoder.loss(first_batch(tiny), 5.0)["cross_detail_loss"].backward()
        assert decoder.network.detail_decoder[0].weight.grad.abs().sum() > 0
        grad = decoder.network.semantic_encoder[0].weight.grad
        return torch.zeros(1) if grad is None else grad

    assert gradient("none").abs().sum() > 0 and gradient("cross_to_semantic").abs().sum() == 0


def test_one_mixture_for_both_inputs_and_fine_terms_on_unmixed_images(
    tiny: TrainingData, monkeypatch
) -> None:
    """What the streams read in the first third is one convex sum of trials; later it is the trials
    themselves.
    """
    decoder, batch = built(tiny, detail_rois="low", semantic_rois="high"), first_batch(tiny)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = Decoder.inputs
    monkeypatch.setattr(
        Decoder, "inputs", lambda self, x: seen.append(original(self, x)) or seen[-1]
    )
    drawn: list[Any] = []
    draw = module.draw_mixing
    monkeypatch.setattr(module, "draw_mixing", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    aligned: list[Any] = []
    align = module.align
    monkeypatch.setattr(
        module, "align", lambda x, y, c, m, p: aligned.append((x, y, m)) or align(x, y, c, m, p)
    )
    torch.manual_seed(0)
    terms = decoder.loss(batch, 0.0)
    (mixing,), (detail_BV, semantic_BV) = drawn, seen[0]
    share_B1, rows = mixing.share_B[:, None], batch.betas_BV
    mixed = share_B1 * rows + (1 - share_B1) * rows[mixing.partner_B]
    assert torch.equal(detail_BV, mixed[:, :14]) and torch.equal(semantic_BV, mixed[:, 12:25])
    assert 0 < mixing.mixed_B.sum() < len(rows)
    x, y, passed = aligned[1]
    kept = ~mixing.mixed_B
    cosine = (normalize(x.x_BTW[kept], dim=2) * normalize(y.x_BTW[kept], dim=2)).sum(2)
    assert passed is mixing and decoder.config.nce_weight == 0.1
    assert terms["semantic_fine_loss"].item() > (1 - cosine.mean()).item()
    without = built(tiny, nce_weight=0.0, detail_rois="low")
    torch.manual_seed(0)
    assert without.loss(batch, 0.0)["semantic_fine_loss"].item() == pytest.approx(
        (1 - cosine.mean()).item(), rel=1e-5
    )
    decoder.loss(batch, 0.34 * 9)
    assert len(drawn) == 2 and aligned[-1][2] is None


def test_every_weight_reaches_its_term(tiny: TrainingData) -> None:
    batch = first_batch(tiny)
    torch.manual_seed(0)
    base = built(tiny).loss(batch, 8.0)
    assert set(base) == {f"{s}_{kind}_loss" for s in STREAMS for kind in ("global", "fine")} | {
        f"{kind}_{s}_loss" for kind in ("rec", "cross") for s in ("detail", "semantic")
    }
    for stream in STREAMS:
        torch.manual_seed(0)
        changed = built(tiny, **{f"w_{stream}": 3.0}).loss(batch, 8.0)
        factor = 3.0 / getattr(SMALL, f"w_{stream}")
        for name, value in base.items():
            expected = value * (factor if name.startswith(f"{stream}_") else 1)
            assert torch.allclose(changed[name], expected, rtol=1e-5), name
    assert "detail_fine_loss" not in built(tiny, loss="global").loss(batch, 8.0)
    assert "detail_global_loss" not in built(tiny, loss="fine").loss(batch, 8.0)
    torch.manual_seed(0)
    finer = built(tiny, alpha_fine=10.0).loss(batch, 8.0)
    assert torch.allclose(finer["text_fine_loss"], 10 * base["text_fine_loss"], rtol=1e-5)
    assert torch.allclose(finer["text_global_loss"], base["text_global_loss"])
    none = built(tiny, text_branch=False, cross_rec="none", fusion="semantic_only").loss(batch, 8.0)
    assert {name.split("_")[0] for name in none} == {"detail", "semantic"}
    assert {
        name for name in built(tiny, cross_rec="self").loss(batch, 8.0) if "cross" in name
    } == set()


def test_targets_of_the_streams(tiny: TrainingData) -> None:
    batch = first_batch(tiny)
    rows = [int(i) // 7 for i in batch.image_id_B]
    true = Decoder._true_tokens(built(tiny), batch)
    assert torch.equal(true["fused"], tiny.features["semantic_tokens_ITD"][rows])
    assert torch.equal(true["detail"], tiny.features["detail_tokens_ITD"][rows])
    assert torch.equal(true["text"][:, 0], batch.text_embedding_BD)
    assert torch.equal(true["text"][:, 1:], tiny.features["text_tokens_IUD"][rows].float())
    ablated = built(tiny, detail_target="semantic")._true_tokens(batch)
    assert torch.equal(ablated["detail"], ablated["semantic"])
    pooled = built(tiny, variant="pooled")._true_tokens(batch)
    assert torch.equal(pooled["semantic"][:, 0], batch.image_embedding_BD)
    assert torch.equal(pooled["detail"], tiny.features["detail_tokens_ITD"][rows][:, :1])
    assert pooled["text"].shape == (16, 1, 8)


def test_decoded_tokens_are_in_the_scale_of_the_cache(tiny: TrainingData) -> None:
    decoder = built(tiny)
    decoder.network.fusion.gate_W.data.fill_(0.3)
    pooled, full = (
        f(tiny.mean_betas_IV, "subj01") for f in (decoder.decode, decoder.decode_tokens)
    )
    assert pooled.tokens == {} and set(full.tokens) == set(STREAMS)
    for stream in ("fused", "semantic", "detail"):
        assert torch.allclose(full.tokens[stream][:, 0].norm(dim=1), torch.ones(60), atol=1e-5)
    assert torch.allclose(full.tokens["fused"][:, 0], pooled.embedding_ID, atol=1e-5)
    assert torch.allclose(pooled.text_embedding_ID.norm(dim=1), torch.ones(60), atol=1e-5)
    assert torch.allclose(
        full.tokens["text"][:, 0].norm(dim=1), torch.full((60,), 2 * 8**0.5), atol=1e-3
    )
    decoder.train()
    assert torch.equal(
        decoder.decode(tiny.mean_betas_IV, "subj01").embedding_ID, pooled.embedding_ID
    )
    assert decoder.training
    assert (
        built(tiny, text_branch=False).decode(tiny.mean_betas_IV, "subj01").text_embedding_ID
        is None
    )


@pytest.mark.parametrize(("fusion", "weight"), [("mix", 0.3), ("mix", 1.0), ("semantic_only", 0.0)])
def test_parameter_free_fusions(tiny: TrainingData, fusion: str, weight: float) -> None:
    tokens = (
        built(tiny, fusion=fusion, mix_weight=weight)
        .decode_tokens(tiny.mean_betas_IV, "subj01")
        .tokens
    )
    mixed = (1 - weight) * tokens["semantic"].numpy() + weight * tokens["detail"].numpy()
    expected = mixed / np.linalg.norm(mixed[:, :1], axis=2, keepdims=True)
    np.testing.assert_allclose(tokens["fused"].numpy(), expected, atol=1e-5)


def test_token_means_match_a_direct_mean(tiny: TrainingData) -> None:
    decoder, train = built(tiny), ~tiny.is_validation_I
    means, tokens = (
        token_means(decoder, tiny),
        decoder.decode_tokens(tiny.mean_betas_IV[train], "subj01").tokens,
    )
    assert set(means) == {
        f"mean_{kind}_{s}_TW" for kind in ("tokens", "predicted_tokens") for s in STREAMS
    }
    for stream in STREAMS:
        assert torch.allclose(
            means[f"mean_predicted_tokens_{stream}_TW"], tokens[stream].mean(0), atol=1e-5
        )
    expected = tiny.features["detail_tokens_ITD"][train].float().mean(0)
    assert torch.allclose(means["mean_tokens_detail_TW"], expected, atol=1e-5)


def test_raw_detail_tokens_keep_their_own_width(tiny: TrainingData) -> None:
    features = dict(tiny.features)
    features["detail_tokens_ITW"] = torch.randn(
        60, 5, 11, generator=torch.Generator().manual_seed(0)
    )
    del features["detail_tokens_ITD"]
    raw = replace(tiny, features=features)
    decoder = built(raw)
    assert decoder.decode_tokens(raw.mean_betas_IV, "subj01").tokens["detail"].shape == (60, 5, 11)
    assert torch.isfinite(sum(decoder.loss(first_batch(raw), 0.0).values()))
    assert token_means(decoder, raw)["mean_tokens_detail_TW"].shape == (5, 11)
    ablated = built(raw, detail_target="semantic")
    assert ablated.decode_tokens(raw.mean_betas_IV, "subj01").tokens["detail"].shape == (60, 5, 8)
    assert "mean_tokens_detail_TW" not in token_means(ablated, raw)
    with pytest.raises(
        ValueError, match="fusion is 'mix', but detail tokens have width 11 and semantic tokens 8"
    ):
        built(raw, fusion="mix")


BAD = [
    {"variant": "token"},
    {"routing": "shuffled"},
    {"detail_target": "text"},
    {"cross_target": "source"},
    {"routing": "disjoint", "detail_rois": "high"},
    {"mixco_epochs": 1.5},
    {"repeats_mean": 0.9},
    {"mixco_tau": 0.0},
    {"hidden": 0},
    {"w_text": -1.0},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad)))
def test_config_refuses_nonsense(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}.*expected"):
        make_config("brainmclip", **bad)


def test_an_roi_group_without_voxels_names_group_and_subject(tiny: TrainingData) -> None:
    empty = replace(
        tiny, groups=tiny.groups | {"high": torch.zeros(30, dtype=torch.bool)}, subject="subj05"
    )
    with pytest.raises(ValueError, match="ROI group 'high' of subj05 has no voxel"):
        built(empty)
    with pytest.raises(
        ValueError, match="subj01 has no ROI group 'streams'; it has low, high, all"
    ):
        built(tiny, detail_rois="streams")


def linear_brain(noise: float = 1.0) -> TrainingData:
    """550 images, of which 50 validate: early voxels are a linear map of e_D, category voxels of
    e_S, plus noise.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    n, width = 550, 16
    semantic, detail = normalize(draw(n, width), dim=1), normalize(draw(n, width), dim=1)
    voxels = torch.cat([detail @ draw(width, 120), semantic @ draw(width, 120)], 1)
    image_N, voxel = torch.arange(n).repeat(3), torch.arange(240)
    data = TrainingData(
        subject="subj01",
        betas_NV=voxels[image_N] + noise * draw(3 * n, 240),
        image_N=image_N,
        nsd_id_I=torch.arange(n),
        image_embedding_ID=semantic,
        text_embedding_KD=semantic,
        caption_image_K=torch.arange(n),
        caption_K=[str(i) for i in range(n)],
        is_validation_I=torch.arange(n) >= n - 50,
    )
    data.features |= {
        "semantic_tokens_ITD": semantic[:, None],
        "detail_tokens_ITD": detail[:, None],
    }
    data.groups |= {"low": voxel < 120, "high": voxel >= 120}
    return data


def test_linear_brain_is_decoded_and_swapped_routing_is_worse(tmp_path) -> None:
    """Chance is 2 %. Only the semantic stream must find the picture: the detail set does not hold
    its voxels.
    """
    data, scores = linear_brain(), {}
    for routing in ("paper", "swapped"):
        config = make_config(
            "brainmclip",
            variant="pooled",
            hidden=64,
            blocks=1,
            detail_rois="low",
            routing=routing,
            fusion="semantic_only",
            batch_size=100,
            max_epochs=15,
            patience=15,
            lr=3e-3,
            dropout_in=0.2,
            cross_rec="self",
        )
        decoder = Decoder.from_data(config, [data], 0)
        rows = trainer.fit(
            decoder,
            data,
            config,
            seed=0,
            device="cpu",
            resume_dir=tmp_path / routing,
            progress=None,
        )
        scores[routing] = max(row["val_image_top1"] for row in rows)
    assert scores["paper"] > 0.9 and scores["swapped"] < 0.2


def first_losses(data: TrainingData) -> list[float]:
    """The first 20 losses of a plain AdamW loop on the tiny subject, four steps an epoch."""
    config = make_config("brainmclip", **GOLDEN_SETTINGS)
    decoder = Decoder.from_data(config, [data], 0).train()
    optimizer, losses = torch.optim.AdamW(decoder.parameters(), lr=3e-3), []
    torch.manual_seed(0)
    for epoch in range(5):
        for i, batch in enumerate(EpochBatches(data, 12, seed=0, epoch=epoch)):
            loss = torch.stack(list(decoder.loss(batch, epoch + i / 4).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_first_losses_are_the_golden_ones(tiny: TrainingData) -> None:
    """After a change that is meant to alter them, write `first_losses` to golden_losses.json."""
    losses = first_losses(tiny)
    assert len(losses) == 20 and losses[-1] < losses[0]
    np.testing.assert_allclose(losses, json.loads(GOLDEN.read_text())["brainmclip"], rtol=1e-3)


def test_closed_form_counts_of_the_modules(tiny: TrainingData) -> None:
    decoder = built(tiny)
    counts = decoder.n_parameters()
    spare = sum(
        p.numel()
        for m in (decoder.network.detail_decoder, decoder.network.semantic_decoder)
        for p in m.parameters()
    )
    assert (
        counts["trained"]
        == sum(p.numel() for p in decoder.parameters())
        == counts["deployed"] + spare
    )


# Tokens as components


def test_products_of_components_are_those_of_the_tokens_read_back(tiny: TrainingData) -> None:
    """Against the class Tokens on tokens that a loop over components puts together."""
    generator = torch.Generator().manual_seed(1)
    basis = TokenBasis.of(tiny.bases["semantic"])
    drawn = [torch.randn(size, 8 + N_COMPONENTS, generator=generator) for size in (7, 5)]
    whole = []
    for x_BX in drawn:
        tokens_BTW = tiny.bases["semantic"].mean_TW.expand(len(x_BX), -1, -1).clone()
        for k, component_TW in enumerate(tiny.bases["semantic"].components_PTW.float()):
            tokens_BTW += x_BX[:, 8 + k, None, None] * component_TW
        whole.append(Tokens(torch.cat([x_BX[:, None, :8], tokens_BTW], 1)))
    one, two = (Components(basis, x_BX) for x_BX in drawn)
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(one.cosine_BB(two), whole[0].cosine_BB(whole[1]), **close)
    torch.testing.assert_close(two.own_BB, whole[1].own_BB, **close)
    some = torch.tensor([3, 0, 2])
    torch.testing.assert_close(one.pick(some).x_BTW, whole[0].x_BTW[:, some], **close)
    torch.testing.assert_close(one.first.x_BTW, whole[0].x_BTW[:, :1], **close)
    assert one.n_tokens == whole[0].n_tokens == 5


@pytest.mark.parametrize("mixed", [False, True])
def test_all_terms_of_components_are_those_of_whole_tokens(tiny: TrainingData, mixed: bool) -> None:
    """Where every token is sampled."""
    generator = torch.Generator().manual_seed(1)
    config = replace(SMALL, nce_tokens=5)
    basis = TokenBasis.of(tiny.bases["detail"])
    x, y = (torch.randn(9, 8 + N_COMPONENTS, generator=generator) for _ in "ab")
    whole = [Tokens(torch.cat([z[:, None, :8], basis.read(z[:, 8:])], 1)) for z in (x, y)]
    mixing = module.draw_mixing(9, 0.3, 0.5) if mixed else None
    torch.manual_seed(0)
    expected = module.align(*whole, config, mixing, 0.5)
    torch.manual_seed(0)
    found = module.align(Components(basis, x), Components(basis, y), config, mixing, 0.5)
    assert set(found) == set(expected) == {"global", "fine"}
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-3), name


@pytest.mark.parametrize("detail_target", ["detail", "semantic"])
def test_components_are_decoded_to_tokens(
    tiny: TrainingData, detail_target: str, tmp_path: Path
) -> None:
    """Each stream by its own basis, also from a model's folder; class tokens are the embedding."""
    decoder = built(tiny, variant="components", detail_target=detail_target)
    found = decoder.decode_tokens(tiny.mean_betas_IV, "subj01")
    assert {name: tuple(x.shape) for name, x in found.tokens.items()} == {
        **dict.fromkeys(("fused", "semantic", "detail"), (60, 5, 8)),
        "text": (60, 4, 8),
    }
    predicted = decoder.network.predict(encode(decoder, tiny.mean_betas_IV))
    basis = tiny.bases[detail_target]
    read = predicted["detail"][:, 0, 8:] @ basis.components_PTW.float().flatten(1)
    expected = torch.cat(
        [predicted["detail"][..., :8], read.unflatten(1, (4, 8)) + basis.mean_TW], 1
    )
    expected = expected / expected[:, :1].norm(dim=2, keepdim=True)
    assert torch.allclose(found.tokens["detail"], expected, atol=1e-4)
    only = decoder.decode(tiny.mean_betas_IV, "subj01")
    assert torch.allclose(only.embedding_ID, found.tokens["fused"][:, 0], atol=1e-5)
    described = {
        "run": "demo",
        "decoder": "brainmclip",
        "clip": "mini",
        "digests": {},
        "n_voxels": 30,
        "width_D": 8,
        "seed": 0,
        "config": asdict(decoder.config),
    }
    save(tmp_path / "subj01", decoder, described)
    loaded, _ = load(tmp_path / "subj01")
    again = loaded.decode_tokens(tiny.mean_betas_IV, "subj01").tokens
    assert all(torch.equal(again[name], x) for name, x in found.tokens.items())


def test_components_learn_the_streams_targets(tiny: TrainingData) -> None:
    batch = first_batch(tiny)
    rows = [int(i) // 7 for i in batch.image_id_B]
    true = built(tiny, variant="components")._true_tokens(batch)
    assert torch.equal(true["semantic"][:, 0, :8], batch.image_embedding_BD)
    assert torch.equal(true["detail"][:, 0, 8:], tiny.features["detail_components_IP"][rows])
    assert torch.equal(true["text"][:, 0, :8], batch.text_embedding_BD)
    ablated = built(tiny, variant="components", detail_target="semantic")._true_tokens(batch)
    assert torch.equal(ablated["detail"], ablated["semantic"])
    # Without a text branch nothing of captions is read: a data set may have none.
    del tiny.bases["text"]
    silent = built(tiny, variant="components", text_branch=False)
    assert not {name for name in silent.loss(batch, 8.0) if name.startswith("text")}


def test_means_of_components_are_those_of_the_tokens_they_stand_for(tiny: TrainingData) -> None:
    """With all components, those of the tokens themselves."""
    add_components(tiny, 40)
    means = token_means(built(tiny, variant="components"), tiny)
    del tiny.features["semantic_tokens_ITD"], tiny.features["detail_tokens_ITD"]
    del tiny.features["text_tokens_IUD"]
    found = token_means(built(tiny, variant="components"), tiny)
    assert set(found) == set(means)
    for name, value in means.items():
        assert torch.allclose(found[name], value, atol=5e-3), name
