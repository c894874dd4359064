"""brainmclip_plus: where heads start against fits by scikit-learn, what each switch changes, losses
from their definition.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from fmri2clip.artefacts.model import load, save
from fmri2clip.core.params import Compute
from fmri2clip.decoders.batches import Batch, TrainingData
from fmri2clip.decoders.brainmclip_plus.decoder import Decoder
from fmri2clip.decoders.parts.routing import check_groups, route_data
from fmri2clip.stages.train.batches import EpochBatches
from fmri2clip.stages.train.run import fit_decoder
from tests.decoders.settings import make_config

SMALL: dict[str, Any] = {
    "hidden": 16,
    "blocks": 1,
    "dropout_in": 0.0,
    "dropout_res": 0.0,
    "batch_size": 24,
    "max_epochs": 9,
    "patience": 9,
    "nce_tokens": 5,
    "detail_rois": "low_high",
    "semantic_rois": "high",
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"start": "none", "routing": "swapped"},
    {"fusion": "network", "detail_target": "semantic"},
    {"fusion": "semantic_only", "text_branch": False},
    {"projector": False, "cross_rec": "none", "w_image_text": 0.0},
    {"detail_rois": "all", "semantic_rois": "not_low", "cross_rec": "self"},
]


def built(data: TrainingData, **changes: Any) -> Decoder:
    return Decoder.from_data(make_config("brainmclip_plus", **SMALL | changes), [data], 0)


def training_batch(decoder: Decoder, data: TrainingData, size: int = 24) -> Batch:
    """A first step, as training draws it."""
    for phase in decoder.phases([data]):
        return next(iter(EpochBatches(phase.data[0], size, seed=0)))
    raise AssertionError("there is one phase")


def read_numbers(decoder: Decoder, batch: Batch, epoch: float) -> dict[str, torch.Tensor]:
    """The loss of a batch of numbers, outside of a phase."""
    decoder._reads_numbers = decoder.closed_forms is not None
    terms = decoder.loss(batch, epoch)
    decoder._reads_numbers = False
    return terms


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_trains_decodes_and_loads(
    settings: dict[str, Any], tiny: TrainingData, tmp_path: Path
) -> None:
    decoder = built(tiny, **settings)
    batch = training_batch(decoder, tiny)
    terms = read_numbers(decoder.train(), batch, 5.0)
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, value in decoder.named_parameters() if value.grad is None] == []
    decoded = decoder.decode_tokens(tiny.mean_betas_IV, "subj01")
    text = settings.get("text_branch", True)
    expected = dict.fromkeys(("detail", "semantic", "fused", "projected"), (60, 5, 8))
    expected |= {"text": (60, 4, 8)} if text else {}
    assert {name: tuple(x.shape) for name, x in decoded.tokens.items()} == expected
    assert (decoded.text_embedding_ID is not None) is text
    described = {
        "run": "demo",
        "decoder": "brainmclip_plus",
        "clip": "mini",
        "digests": {},
        "n_voxels": 30,
        "width_D": 8,
        "seed": 0,
        "config": asdict(decoder.config),
    }
    save(tmp_path / "subj01", decoder, described)
    again = load(tmp_path / "subj01")[0].decode_tokens(tiny.mean_betas_IV, "subj01").tokens
    assert all(torch.equal(again[name], x) for name, x in decoded.tokens.items())


def test_heads_start_as_the_ridge_of_their_stream(tiny: TrainingData) -> None:
    """Semantic scores, before any step: scikit-learn's ridge from the semantic voxels, with the
    slope of its left-out predictions. No other stream's voxel has a say.
    """
    decoder = built(tiny).eval()
    assert decoder.closed_forms is not None
    rows = np.flatnonzero(~tiny.is_validation_I.numpy())
    x_IV = tiny.mean_betas_IV.numpy()[:, tiny.groups["high"].numpy()]
    true_IP = tiny.features["semantic_components_IP"].numpy()
    y_IP = (true_IP - true_IP[rows].mean(0)) / true_IP[rows].std(0, ddof=1)
    found_IX = decoder._run(decoder._read(tiny.mean_betas_IV)).y["semantic"].detach().numpy()
    errors = {}
    for alpha in 10.0 ** np.arange(1, 7.5, 0.5):
        fits = [Ridge(alpha=alpha).fit(x_IV[rows[rows != i]], y_IP[rows[rows != i]]) for i in rows]
        left_IP = np.stack(
            [fit.predict(x_IV[i : i + 1])[0] for fit, i in zip(fits, rows, strict=True)]
        )
        errors[alpha] = (((left_IP - y_IP[rows]) ** 2).sum(), left_IP)
    alpha = min(errors, key=lambda a: errors[a][0])
    left_IP = errors[alpha][1]
    everything_IP = Ridge(alpha=alpha).fit(x_IV[rows], y_IP[rows]).predict(x_IV)
    for k in range(6):
        slope = np.polyfit(left_IP[:, k], y_IP[rows, k], 1)[0]
        expected = max(slope, 0) * (everything_IP[:, k] - left_IP[:, k].mean())
        np.testing.assert_allclose(found_IX[:, 8 + k], expected, atol=2e-3)
    changed = tiny.mean_betas_IV.clone()
    changed[:, ~tiny.groups["high"]] += 9.0
    again = decoder._run(decoder._read(changed)).y["semantic"].detach().numpy()
    np.testing.assert_array_equal(again, found_IX)


def test_training_reads_left_out_numbers_of_mixtures_too(tiny: TrainingData) -> None:
    """Of a validation trial, the numbers are those that decoding reads; of a training trial not."""
    decoder = built(tiny)
    for phase in decoder.phases([tiny]):
        seen_NX = phase.data[0].betas_NV
    direct_NX = decoder._read(tiny.betas_NV)
    held_out_N = tiny.is_validation_I[tiny.image_N]
    torch.testing.assert_close(seen_NX[held_out_N], direct_NX[held_out_N])
    assert (seen_NX - direct_NX)[~held_out_N].abs().max() > 0.05
    torch.testing.assert_close(seen_NX[:, -30:], tiny.betas_NV)


def test_projected_numbers_start_as_the_regressed_and_leave_them_alone(tiny: TrainingData) -> None:
    decoder = built(tiny, cross_rec="none", w_regression=0.0)
    batch = training_batch(decoder, tiny)
    tokens = decoder.decode_tokens(tiny.mean_betas_IV, "subj01").tokens
    torch.testing.assert_close(tokens["projected"], tokens["fused"])
    torch.stack(list(read_numbers(decoder, batch, 5.0).values())).sum().backward()
    heads = [p.grad for p in decoder.network.heads.parameters()]
    assert all(grad is None or not grad.any() for grad in heads)
    assert decoder.network.projectors["fused"].linear.weight.grad.abs().max() > 0
    one = built(tiny, cross_rec="none", w_regression=0.0, projector=False)
    torch.stack(list(read_numbers(one, batch, 5.0).values())).sum().backward()
    assert one.network.heads["fused"].weight.grad.abs().max() > 0


def test_terms_are_those_of_their_definition(tiny: TrainingData) -> None:
    decoder = built(
        tiny, w_regression=2.0, w_image_text=3.0, beta_rec=0.5, beta_cross=0.25, nce_tau=0.1
    ).eval()
    batch = training_batch(decoder, tiny)
    terms = read_numbers(decoder, batch, 5.0)
    run = decoder._run(batch.betas_BV)
    rows = [int(i) // 7 for i in batch.image_id_B]
    true_BX = torch.cat(
        [
            tiny.features["detail_class_IW"][rows].float(),
            tiny.features["detail_components_IP"][rows],
        ],
        1,
    )
    read_BX = run.y["detail"] * decoder.get_buffer("deviation_detail_X")
    read_BX = read_BX + decoder.get_buffer("mean_detail_X")
    error = ((read_BX - true_BX) / decoder.get_buffer("deviation_detail_X")).square().mean()
    assert terms["detail_regression_loss"].item() == pytest.approx(2 * error.item(), rel=1e-4)
    image_BD = decoder._embed("fused", run.p["fused"])
    assert batch.mean_text_BD is not None
    logits_BB = image_BD @ batch.mean_text_BD.T / 0.1
    right = torch.arange(len(logits_BB))
    both = F.cross_entropy(logits_BB, right) + F.cross_entropy(logits_BB.T, right)
    assert terms["image_text_loss"].item() == pytest.approx(1.5 * both.item(), rel=1e-4)
    voxels_BV = batch.betas_BV[:, -30:]
    decode = decoder.network.voxel_decoders["detail"]
    for kind, code, weight in (("rec", "detail", 0.5), ("cross", "semantic", 0.25)):
        made_BV = decode(run.codes[code])
        error = (made_BV - voxels_BV[:, decoder.detail_rows]).square().mean()
        found = terms[f"{kind}_detail_loss"].item()
        assert found == pytest.approx(weight * error.item(), rel=1e-4)


def test_only_the_contrast_sees_mixed_images(tiny: TrainingData) -> None:
    decoder = built(tiny, mixco_epochs=0.5, mixco_share=1.0)
    batch = training_batch(decoder, tiny)
    terms = read_numbers(decoder, batch, 0.0)
    for name in ("fused_regression_loss", "fused_fine_loss", "image_text_loss"):
        assert terms[name].item() == pytest.approx(0.0, abs=1e-6), name
    assert terms["fused_global_loss"] > 0


def test_a_group_may_be_what_another_is_not(tiny: TrainingData) -> None:
    config = make_config("brainmclip_plus", **SMALL | {"semantic_rois": "not_low"})
    rows = route_data(config, tiny, 0)[1]
    assert rows.tolist() == list(range(14, 30))
    check_groups(config.rois(), ("low", "high", "all"), "params.yaml")
    with pytest.raises(ValueError, match="'not_lwo' is not a key of rois"):
        check_groups(("not_lwo",), ("low", "high", "all"), "params.yaml")


def test_it_learns(tiny: TrainingData, tmp_path: Path) -> None:
    decoder = built(tiny, max_epochs=12, patience=12, dropout_in=0.3)
    compute = Compute(device="cpu")
    rows = fit_decoder(decoder, [tiny], 0, compute, tmp_path)
    assert max(row["val_image_top1"] for row in rows) > 0.4, "chance is 1 in 12"
    assert rows[-1]["loss"] < rows[0]["loss"]


BAD: list[dict[str, Any]] = [
    {"start": "zero"},
    {"fusion": "gated"},
    {"w_regression": -1.0},
    {"nce_tau": 0.0},
    {"repeats_mean": 0.9},
    {"routing": "disjoint", "detail_rois": "high"},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: next(iter(bad)))
def test_config_refuses_nonsense(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}.*expected"):
        make_config("brainmclip_plus", **SMALL | bad)
