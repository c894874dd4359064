from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from fmri2clip.decoders import TrainingData
from fmri2clip.decoders.ridge import Config, Decoder

CONFIG = Config(n_alphas=5, log10_alpha_min=-1, log10_alpha_max=3, n_folds=4)


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
        errors.append(np.mean([((model.fit(xc[a], yc[a]).predict(xc[b]) - yc[b]) ** 2).mean() for a, b in folds]))
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
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_backend_of_himalaya_is_left_as_it_was(tiny: TrainingData) -> None:
    from himalaya.backend import get_backend

    before = get_backend()
    fitted(tiny)
    assert get_backend() is before


def test_alpha_at_the_border_warns(tiny: TrainingData) -> None:
    with pytest.warns(UserWarning, match="border of its candidates"):
        fitted(tiny, Config(n_alphas=3, log10_alpha_min=5, log10_alpha_max=7))


def test_more_folds_than_images_is_refused(tiny: TrainingData) -> None:
    with pytest.raises(ValueError, match="48 training images for 100 folds"):
        fitted(tiny, Config(n_folds=100))


@pytest.mark.parametrize("bad", [{"n_alphas": 0}, {"n_folds": 1}, {"log10_alpha_min": 9.0}])
def test_config_refuses_nonsense(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is {next(iter(bad.values()))}"):
        Config(**bad)
