from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from fmri2clip.artefacts.model import load, save
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.ridge.decoder import Config, Decoder
from tests.decoders.settings import make_config
from tests.tiny_subject import N_COMPONENTS

CONFIG = make_config("ridge", n_alphas=5, log10_alpha_min=-1, log10_alpha_max=3, n_folds=4)


def fitted(data: TrainingData, config: Config = CONFIG) -> tuple[Decoder, dict[str, float]]:
    decoder = Decoder(config, 30, 8, seed=0)
    return decoder, decoder.fit(data)


def arrays(data: TrainingData, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Training images: mean betas and targets, by numpy from the trials."""
    rows = np.flatnonzero(~data.is_validation_I.numpy())
    x = np.stack([data.betas_NV[data.image_N == i].numpy().mean(0) for i in rows])
    y = data.image_embedding_ID if kind == "image" else data.mean_text_ID
    return x.astype(np.float64), y.numpy()[rows].astype(np.float64)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_weights_and_alpha_match_scikit_learn(tiny: TrainingData, kind: str) -> None:
    decoder, row = fitted(tiny)
    x, y = arrays(tiny, kind)
    xc, yc = x - x.mean(0), y - y.mean(0)
    errors = []
    for alpha in np.logspace(-1, 3, 5):
        folds = KFold(4, shuffle=True, random_state=0).split(xc)
        model = Ridge(alpha, fit_intercept=False)
        errors.append(
            np.mean(
                [((model.fit(xc[a], yc[a]).predict(xc[b]) - yc[b]) ** 2).mean() for a, b in folds]
            )
        )
    best = np.logspace(-1, 3, 5)[np.argmin(errors)]
    assert row[f"{kind}_alpha"] == pytest.approx(best, rel=1e-4)
    assert row[f"{kind}_cv_error"] == pytest.approx(min(errors), rel=1e-3)
    expected = Ridge(best).fit(x, y)
    state = decoder.state_dict()
    np.testing.assert_allclose(state[f"{kind}_weight_VD"], expected.coef_.T, atol=1e-4)
    np.testing.assert_allclose(state[f"{kind}_bias_D"], expected.intercept_, atol=1e-4)


def test_decode_is_the_linear_prediction(tiny: TrainingData) -> None:
    decoder, row = fitted(tiny)
    x, y = arrays(tiny, "text")
    found = decoder.decode(torch.from_numpy(x).float(), "subj01").text_embedding_ID
    np.testing.assert_allclose(found, Ridge(row["text_alpha"]).fit(x, y).predict(x), atol=1e-4)


def test_validation_images_take_no_part(tiny: TrainingData) -> None:
    betas_NV = tiny.betas_NV.clone()
    betas_NV[tiny.is_validation_I[tiny.image_N]] = 1e3
    (one, row_one), (two, row_two) = fitted(tiny), fitted(replace(tiny, betas_NV=betas_NV))
    assert row_one == row_two
    assert all(
        torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items()
    )


def test_alpha_at_the_border_warns(tiny: TrainingData) -> None:
    with pytest.warns(UserWarning, match="border of its candidates"):
        fitted(tiny, make_config("ridge", n_alphas=3, log10_alpha_min=5, log10_alpha_max=7))


def test_more_folds_than_images_is_refused(tiny: TrainingData) -> None:
    with pytest.raises(ValueError, match="48 training images for 100 folds"):
        fitted(tiny, make_config("ridge", n_folds=100))


@pytest.mark.parametrize("bad", [{"n_alphas": 0}, {"n_folds": 1}, {"log10_alpha_min": 9.0}])
def test_config_refuses_nonsense(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is {next(iter(bad.values()))}"):
        make_config("ridge", **bad)


@pytest.fixture
def with_tokens(tiny: TrainingData) -> tuple[Decoder, dict[str, float]]:
    """A decoder that also maps to the 5 semantic tokens, fitted."""
    decoder = Decoder.from_data(replace(CONFIG, tokens="all"), [tiny], seed=0)
    return decoder, decoder.fit(tiny)


def test_token_map_matches_scikit_learn(
    tiny: TrainingData, with_tokens: tuple[Decoder, dict[str, float]]
) -> None:
    decoder, row = with_tokens
    x, _ = arrays(tiny, "image")
    rows = np.flatnonzero(~tiny.is_validation_I.numpy())
    y = tiny.features["semantic_tokens_ITD"].numpy()[rows].astype(np.float64).reshape(len(rows), -1)
    expected = Ridge(row["token_alpha"]).fit(x, y)
    decoded = decoder.decode_tokens(torch.from_numpy(x).float(), "subj01")
    found = decoded.tokens["semantic"]
    assert list(decoded.tokens) == ["semantic"] and found.shape == (len(x), 5, 8)
    np.testing.assert_allclose(
        found.reshape(len(x), -1), expected.predict(x), atol=3e-3
    )  # targets are float16
    np.testing.assert_allclose(decoder.token_weight_VX, expected.coef_.T, atol=3e-3)
    assert float(found.std()) > 0.1


def test_scores_on_components_match_scikit_learn(tiny: TrainingData) -> None:
    """Ridge to the scores, read back as patches; the class token is the predicted embedding."""
    config = replace(CONFIG, tokens="components", block=0)
    decoder = Decoder.from_data(config, [tiny], seed=0)
    row = decoder.fit(tiny)
    x, _ = arrays(tiny, "image")
    rows = np.flatnonzero(~tiny.is_validation_I.numpy())
    y = tiny.features["semantic_components_IP"].numpy()[rows].astype(np.float64)
    scores = Ridge(row["token_alpha"]).fit(x, y).predict(x)
    components_PX = tiny.bases["semantic"].components_PTW.double().flatten(1).numpy()
    expected = scores @ components_PX + tiny.bases["semantic"].mean_TW.numpy().reshape(-1)
    decoded = decoder.decode_tokens(torch.from_numpy(x).float(), "subj01")
    found = decoded.tokens["semantic"]
    np.testing.assert_allclose(found[:, 1:].reshape(len(x), -1), expected, atol=3e-3)
    assert torch.equal(found[:, 0], decoded.embedding_ID)
    assert decoder.sizes == {"n_tokens": 5, "n_components": N_COMPONENTS}
    # The components are fixed: no weights.
    assert decoder.n_parameters()["deployed"] == 2 * 31 * 8 + 31 * N_COMPONENTS


def test_every_block_of_components_has_a_penalty_of_its_own(tiny: TrainingData) -> None:
    """Weights are those of fits to each block alone."""
    config = replace(CONFIG, tokens="components", block=2)
    decoder = Decoder.from_data(config, [tiny], seed=0)
    decoder.fit(tiny)
    scores_IP = tiny.features["semantic_components_IP"]
    for start in range(0, N_COMPONENTS, 2):
        alone_IP = torch.zeros_like(scores_IP)
        alone_IP[:, :2] = scores_IP[:, start : start + 2]
        data = replace(tiny, features={"semantic_components_IP": alone_IP})
        alone = Decoder.from_data(config, [data], seed=0)
        alone.fit(data)
        found_V2 = decoder.token_weight_VX[:, start : start + 2]
        torch.testing.assert_close(found_V2, alone.token_weight_VX[:, :2], atol=1e-5, rtol=1e-3)


def test_tokens_change_neither_of_the_other_maps(
    tiny: TrainingData, with_tokens: tuple[Decoder, dict[str, float]]
) -> None:
    decoder, row = with_tokens
    plain, plain_row = fitted(tiny)
    state = decoder.state_dict()
    assert set(state) - set(plain.state_dict()) == {"token_weight_VX", "token_bias_X"}
    assert set(row) - set(plain_row) == {"token_alpha", "token_cv_error"}
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_tokens_survive_the_model_folder(
    tiny: TrainingData, with_tokens: tuple[Decoder, dict[str, float]], tmp_path: Path
) -> None:
    decoder, _ = with_tokens
    described = {
        "run": "demo",
        "decoder": "ridge",
        "clip": "mini",
        "digests": {},
        "n_voxels": 30,
        "width_D": 8,
        "seed": 0,
        "config": asdict(decoder.config),
    }
    save(tmp_path / "subj01", decoder, described)
    loaded, _ = load(tmp_path / "subj01")
    found, expected = (d.decode_tokens(tiny.mean_betas_IV, "subj01") for d in (loaded, decoder))
    assert torch.equal(found.tokens["semantic"], expected.tokens["semantic"])
    assert torch.equal(found.embedding_ID, expected.embedding_ID)


def test_no_tokens_unless_asked(tiny: TrainingData, tmp_path: Path) -> None:
    assert Decoder.select_targets(CONFIG) == ("image_embedding_ID", "text_embedding_KD")
    assert Decoder.select_targets(replace(CONFIG, tokens="all"))[2:] == ("semantic_tokens_ITD",)
    tiny.features.clear()
    decoder = Decoder.from_data(CONFIG, [tiny], seed=0)
    decoder.fit(tiny)
    assert not decoder.decode_tokens(tiny.mean_betas_IV, "subj01").tokens
    described = {
        "run": "demo",
        "decoder": "ridge",
        "clip": "mini",
        "digests": {},
        "n_voxels": 30,
        "width_D": 8,
        "seed": 0,
        "config": asdict(CONFIG),
    }
    save(tmp_path / "subj01", decoder, described)
    with safe_open(tmp_path / "subj01" / "weights.safetensors", "pt") as file:
        assert sorted(file.keys()) == [
            "image_bias_D",
            "image_weight_VD",
            "text_bias_D",
            "text_weight_VD",
        ]
    load(tmp_path / "subj01")


@pytest.mark.parametrize(("tokens", "n"), [("none", 2 * 31 * 8), ("all", 2 * 31 * 8 + 31 * 5 * 8)])
def test_parameters_are_weights_and_offsets(tiny: TrainingData, tokens: str, n: int) -> None:
    decoder = Decoder.from_data(replace(CONFIG, tokens=tokens), [tiny], seed=0)
    assert decoder.n_parameters() == {"trained": n, "deployed": n}
