"""encoding: likelihood and posterior against dense Gaussians of NumPy and SciPy, the library by
hand.
"""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from fmri2clip.decoders.batches import Pictures, TrainingData
from fmri2clip.decoders.encoding.decoder import MAP_ALPHAS, SLOPES, Decoder
from fmri2clip.decoders.encoding.features import read_features
from fmri2clip.decoders.encoding.library import EPSILONS, TEMPERATURES
from fmri2clip.decoders.encoding.noise import contrast_trials
from tests.decoders.settings import make_config
from tests.tiny_subject import make_tiny

SMALL: dict[str, Any] = {"components": 4, "max_rank": 8, "n_alphas": 7}


def fit(data: TrainingData, **changes: Any) -> Decoder:
    config = make_config("encoding", **{**SMALL, **changes})
    if config.library == "none":
        data = replace(data, library=None)
    decoder = Decoder.from_data(config, [data], 0)
    decoder.fit(data)
    return decoder


@pytest.fixture
def fitted(tiny: TrainingData) -> Decoder:
    return fit(tiny)


def named(data: TrainingData) -> dict[str, torch.Tensor]:
    return {"image_embedding_ID": data.image_embedding_ID, **data.features}


def dense(decoder: Decoder, n_repeats: int) -> np.ndarray:
    noise = decoder.noise(n_repeats)
    factor_VR = noise.factor_VR.double().numpy()
    return np.asarray(np.diag(noise.diagonal_V.double()) + factor_VR @ factor_VR.T)


def test_noise_of_n_trials_is_model_error_and_an_nth_of_trial_noise(fitted: Decoder) -> None:
    one, two, four = (dense(fitted, n) for n in (1, 2, 4))
    np.testing.assert_allclose(one - two, 2 * (two - four), atol=1e-5)
    assert (np.linalg.eigvalsh(2 * two - one) > -1e-5).all(), "model error has no negative variance"


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_pictures_are_ranked_by_the_density_of_the_response(
    fitted: Decoder, tiny: TrainingData, n_repeats: int
) -> None:
    betas_IV = tiny.mean_betas_IV[:5]
    found = fitted.identify(betas_IV, named(tiny), n_repeats).double().numpy()
    feature_JF = read_features(named(tiny), 4, 4)
    response_JV = (feature_JF @ fitted.weight_FV + fitted.mean_V).numpy()
    for i, betas_V in enumerate(betas_IV.numpy()):
        density_J = [
            scipy.stats.multivariate_normal(mean_V, dense(fitted, n_repeats)).logpdf(betas_V)
            for mean_V in response_JV
        ]
        np.testing.assert_allclose(np.diff(found[i]), np.diff(density_J), atol=2e-3)


def test_the_embedding_is_the_posterior_mean(tiny: TrainingData) -> None:
    """By conditioning of the joint Gaussian of features and responses."""
    decoder = fit(tiny, library="none")
    betas_IV = tiny.mean_betas_IV[:6]
    found = decoder.decode(betas_IV, "subj01", 3)
    weight_FV = decoder.weight_FV.double().numpy()
    prior_FF = decoder.prior_FF.double().numpy()
    cover_VV = weight_FV.T @ prior_FF @ weight_FV + dense(decoder, 3)
    mean_V = (decoder.mean_V + decoder.prior_mean_F @ decoder.weight_FV).double().numpy()
    gain_FV = prior_FF @ weight_FV @ np.linalg.inv(cover_VV)
    expected = decoder.prior_mean_F.numpy() + (betas_IV.numpy() - mean_V) @ gain_FV.T
    assert found.embedding_ID is not None
    np.testing.assert_allclose(found.embedding_ID, expected[:, :8], atol=1e-4)
    tokens = decoder.decode_tokens(betas_IV, "subj01", 3).tokens["semantic"]
    basis = tiny.bases["semantic"]
    flat_IX = 2 * expected[:, 8:12] @ basis.components_PTW[:4].float().flatten(1).numpy()
    by_hand = flat_IX.reshape(6, 4, 8) + basis.mean_TW.numpy()
    np.testing.assert_allclose(tokens[:, 1:], by_hand, atol=1e-3)


def test_voxels_have_penalties_of_their_own_and_weights_of_ridge(
    fitted: Decoder, tiny: TrainingData
) -> None:
    train_I = ~tiny.is_validation_I
    x_IF = read_features(named(tiny), 4, 4)[train_I]
    y_IV = tiny.mean_betas_IV[train_I]
    for v in (0, 11, 29):
        model = Ridge(alpha=float(fitted.alpha_V[v])).fit(x_IF, y_IV[:, v])
        np.testing.assert_allclose(fitted.weight_FV[:, v], model.coef_, atol=1e-3)
    assert len(fitted.alpha_V.unique()) > 1


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_nothing_is_explained_of_a_voxel_that_never_changes(
    fitted: Decoder, tiny: TrainingData, value: float
) -> None:
    betas_NV = tiny.betas_NV.clone()
    betas_NV[:, 5] = value
    found = fit(replace(tiny, betas_NV=betas_NV))
    assert found.explained_V[5] == 0
    assert found.facts("subj01")["encoding.explained"] == pytest.approx(
        float(found.explained_V.sum()) / 30
    )
    other_V = torch.arange(30) != 5
    torch.testing.assert_close(found.explained_V[other_V], fitted.explained_V[other_V])


def test_contrasts_of_trials_are_independent_with_the_variance_of_a_trial(
    tiny: TrainingData, rng: np.random.Generator
) -> None:
    noise_NV = torch.from_numpy(rng.standard_normal((180, 400))).float()
    noisy = replace(tiny, betas_NV=noise_NV + 5 * noise_NV[:60].repeat(3, 1).flip(1))
    found = contrast_trials(noisy).numpy()
    n_train = int((~tiny.is_validation_I).sum())
    assert found.shape == (2 * n_train, 400)
    assert found.var() == pytest.approx(1, abs=0.02), "what trials of a picture share is gone"
    first, second = found[:n_train], found[n_train:]
    assert abs((first * second).mean()) < 0.02
    x = noisy.betas_NV[noisy.image_N == 0].numpy()
    row = int((~tiny.is_validation_I[:1]).sum()) - 1
    if row == 0:
        np.testing.assert_allclose(found[0], (x[0] - x[1]) / np.sqrt(2), rtol=1e-4)
        np.testing.assert_allclose(
            found[n_train], (x[0] + x[1] - 2 * x[2]) / np.sqrt(6), rtol=1e-4, atol=1e-4
        )


def test_pictures_with_fewer_trials_count_as_they_are(tiny: TrainingData) -> None:
    few = replace(tiny, betas_NV=tiny.betas_NV[:150], image_N=tiny.image_N[:150])
    n_two = int((~tiny.is_validation_I[30:]).sum())
    n_three = int((~tiny.is_validation_I[:30]).sum())
    assert len(contrast_trials(few)) == 2 * n_three + n_two


@pytest.mark.parametrize("n_repeated", [0, 3, 19, 20])
def test_too_few_repeats_are_refused(tiny: TrainingData, n_repeated: int) -> None:
    """All trials are of one picture each, but for the second ones of some training pictures."""
    training = torch.nonzero(~tiny.is_validation_I)[:n_repeated, 0]
    rows = torch.cat([torch.arange(60), 60 + training])
    few = replace(tiny, betas_NV=tiny.betas_NV[rows], image_N=tiny.image_N[rows])
    if n_repeated < 20:
        said = f"pictures of subj01 have {n_repeated} repeats in all, expected at least 20"
        with pytest.raises(ValueError, match=said):
            fit(few)
    else:
        assert torch.isfinite(fit(few).diagonal_2V).all()


def test_the_library_is_the_training_pictures_without_their_own_responses(
    fitted: Decoder, tiny: TrainingData
) -> None:
    """By a fit without one of them, with the penalty of all."""
    assert fitted.library is not None
    rows = torch.nonzero(~tiny.is_validation_I)[:, 0]
    x_IF = read_features(named(tiny), 4, 4)[rows].numpy()
    y_IV = tiny.mean_betas_IV[rows].numpy()
    rest = np.arange(len(rows)) != 3
    for v in (2, 17):
        model = Ridge(alpha=float(fitted.alpha_V[v])).fit(x_IF[rest], y_IV[rest, v])
        expected = model.predict(x_IF[3:4])[0]
        assert fitted.library.response_JV[rows[3], v] == pytest.approx(expected, abs=5e-3)
    assert torch.equal(fitted.library.label_JC.bool(), tiny.labels_IC)
    weight_IJ = fitted.library.posterior(
        tiny.mean_betas_IV[:4], fitted.library.gallery(fitted.noise(3))
    )
    assert (weight_IJ[:, tiny.is_validation_I] == 0).all()
    torch.testing.assert_close(weight_IJ.sum(1), torch.ones(4))
    recalled = fitted.recall(tiny.mean_betas_IV[:4], 3)
    assert recalled is not None and torch.equal(recalled[1], tiny.nsd_id_I)
    assert torch.equal(recalled[0], weight_IJ)


def tell(decoder: Decoder, feature_IF: np.ndarray, slope: float) -> np.ndarray:
    """By the definition."""
    x_IC = feature_IF @ decoder.label_FC.numpy() + decoder.label_C.numpy()
    base_C = decoder.base_C.numpy()
    above_IC = (x_IC - base_C) / np.sqrt(base_C * (1 - base_C))
    return np.asarray(scipy.special.expit(scipy.special.logit(base_C) + slope * above_IC))


def mean_loss(label_IC: np.ndarray, p_IC: np.ndarray) -> float:
    """By scikit-learn, over categories."""
    columns = [log_loss(label_IC[:, c], p_IC[:, c], labels=[0, 1]) for c in range(len(p_IC[0]))]
    return float(np.mean(columns))


def test_what_is_chosen_for_categories_has_the_least_log_loss(
    fitted: Decoder, tiny: TrainingData
) -> None:
    library, rows = fitted.library, tiny.is_validation_I
    assert library is not None and tiny.labels_IC is not None
    betas_IV = tiny.mean_betas_IV[rows]
    log_IJ = library.log_likelihood(betas_IV, library.gallery(fitted.noise(3)))
    label_IC = tiny.labels_IC[rows].numpy()
    feature_IF = fitted._posterior(betas_IV, fitted._turn(3)).numpy()

    def mix(slope: float, temperature: float, eps: float) -> np.ndarray:
        seen_IC = (log_IJ / temperature).softmax(1).numpy() @ library.label_JC.float().numpy()
        return np.asarray((1 - eps) * seen_IC + eps * tell(fitted, feature_IF, slope))

    found = (float(fitted.slope), float(library.temperature), float(library.eps))
    others = itertools.product(SLOPES, TEMPERATURES, EPSILONS)
    least = min(mean_loss(label_IC, mix(*other)) for other in others)
    assert mean_loss(label_IC, mix(*found)) == pytest.approx(least, rel=1e-3)
    p_IC = torch.sigmoid(fitted.decode(betas_IV, "subj01", 3).logits_IC)
    np.testing.assert_allclose(p_IC, mix(*found), atol=1e-4)


def test_without_a_library_categories_are_what_features_tell(tiny: TrainingData) -> None:
    decoder = fit(tiny, library="none")
    rows = tiny.is_validation_I
    assert tiny.labels_IC is not None
    betas_IV = tiny.mean_betas_IV[rows]
    feature_IF = decoder._posterior(betas_IV, decoder._turn(3)).numpy()
    losses = [mean_loss(tiny.labels_IC[rows].numpy(), tell(decoder, feature_IF, s)) for s in SLOPES]
    assert decoder.slope == SLOPES[int(np.argmin(losses))]
    p_IC = torch.sigmoid(decoder.decode(betas_IV, "subj01", 3).logits_IC)
    np.testing.assert_allclose(p_IC, tell(decoder, feature_IF, float(decoder.slope)), atol=1e-5)
    x_IF = read_features(named(tiny), 4, 4)[~rows]
    label_I = tiny.labels_IC[~rows, 1].float()
    slopes = [Ridge(alpha=a).fit(x_IF, label_I).coef_ for a in MAP_ALPHAS]
    assert any(
        np.allclose(decoder.label_FC[:, 1], coefficient, atol=1e-3) for coefficient in slopes
    )


def add_others(data: TrainingData) -> TrainingData:
    """With 20 pictures of others in the library, half of them without labels, three without
    caption.
    """
    others = make_tiny(seed=5).library
    assert data.library is not None and others is not None
    more = {f.name: getattr(others, f.name) for f in fields(others) if f.name != "features"}
    more["nsd_id_J"] = -1 - torch.arange(60)
    more["is_labelled_J"] = torch.arange(60) % 2 == 0
    more["mean_text_JD"] = more["mean_text_JD"] * (torch.arange(60) > 2)[:, None]
    joined = {n: torch.cat([getattr(data.library, n), v[:20]]) for n, v in more.items()}
    features = {
        name: torch.cat([value, others.features[name][:20]])
        for name, value in data.library.features.items()
    }
    return replace(data, library=Pictures(**joined, features=features))


def is_ridge(x_IF: torch.Tensor, y_I: torch.Tensor, weight_F: torch.Tensor) -> bool:
    """Whether these are weights of scikit-learn's ridge with one of the penalties."""
    fits = [Ridge(alpha=alpha).fit(x_IF, y_I).coef_ for alpha in MAP_ALPHAS]
    return any(np.allclose(weight_F, found_F, atol=1e-3) for found_F in fits)


def test_pictures_of_others_are_weighed_and_taught_from(tiny: TrainingData) -> None:
    data = add_others(tiny)
    decoder = fit(data, library="all")
    library, pictures = decoder.library, data.library
    assert library is not None and pictures is not None and tiny.labels_IC is not None
    features = {"image_embedding_ID": pictures.image_embedding_JD, **pictures.features}
    feature_JF = read_features(features, 4, 4)
    expected_JV = (feature_JF @ decoder.weight_FV + decoder.mean_V)[60:]
    torch.testing.assert_close(library.response_JV[60:].float(), expected_JV, atol=2e-3, rtol=1e-2)
    assert library.open_J[60:].all() and (library.open_J[:60] == ~tiny.is_validation_I).all()
    # The prior is that of all, but for the subject's validation pictures.
    known_JF = feature_JF[library.open_J].numpy()
    np.testing.assert_allclose(decoder.prior_mean_F, known_JF.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(decoder.prior_FF, np.cov(known_JF.T), atol=1e-4)
    # A picture without labels adds its weight to what features tell.
    weight_IJ = torch.zeros(2, 80)
    weight_IJ[0, 60] = weight_IJ[1, 61] = 1.0
    told_IC = torch.rand(2, 4)
    eps = float(library.eps)
    seen_C = (1 - eps) * pictures.labels_JC[60].float() + eps * told_IC[0]
    p_IC = library.probabilities(weight_IJ, told_IC)
    torch.testing.assert_close(p_IC, torch.stack([seen_C, told_IC[1]]))
    labelled_J = library.open_J & library.is_labelled_J
    label_J = pictures.labels_JC[labelled_J, 1].float()
    assert is_ridge(feature_JF[labelled_J], label_J, decoder.label_FC[:, 1])
    captioned_J = library.open_J & (library.text_JD.abs().sum(1) > 0)
    assert int(captioned_J.sum()) == 48 + 17
    text_J = pictures.mean_text_JD[captioned_J, 2]
    assert is_ridge(feature_JF[captioned_J], text_J, decoder.text_FD[:, 2])


def test_moving_it_forgets_what_was_derived(fitted: Decoder, tiny: TrainingData) -> None:
    before = fitted.decode(tiny.mean_betas_IV, "subj01", 3).embedding_ID
    fitted.double().float()
    assert fitted._turned is None
    after = fitted.decode(tiny.mean_betas_IV, "subj01", 3).embedding_ID
    assert before is not None and after is not None
    torch.testing.assert_close(after, before)


def test_what_the_data_lack_is_named(tiny: TrainingData) -> None:
    with pytest.raises(ValueError, match="components is 9, but the CLIP cache has 6"):
        fit(tiny, components=9)
    with pytest.raises(ValueError, match="have no category labels"):
        fit(replace(tiny, labels_IC=None))
    with pytest.raises(ValueError, match="expected at most log10_alpha_max"):
        make_config("encoding", log10_alpha_min=5.0)
    bare = replace(tiny, library=None)
    with pytest.raises(ValueError, match="library is all, but the data of subj01 have no library"):
        Decoder.expected_sizes(make_config("encoding", library="all", components=4), [bare])
