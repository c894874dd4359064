"""The encoding model against scikit-learn, the score against SciPy, and what must be refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge

from fmri2clip.metrics.pictures import brain_correlation
from fmri2clip.metrics.pictures.brain_correlation import (
    BrainCorrelation,
    Config,
    EncodingModel,
    Measured,
)
from fmri2clip.metrics.pictures.resizing import PictureSet
from tests.metrics.pictures.conftest import make_network

N_TRAIN, N_TEST, VOXELS = 160, 20, 12
CONFIG = Config(log10_alpha_min=-4, log10_alpha_max=4, grid=2)


def make_pictures(n: int, first_id: int, seed: int) -> PictureSet:
    """Pictures of a few coarse blocks each."""
    blocks = np.random.default_rng(seed).random((n, 4, 4, 3), np.float32)
    return PictureSet(
        nsd_id_I=np.arange(first_id, first_id + n),
        images_IHWC=np.kron(blocks, np.ones((1, 12, 12, 1))),
    )


@pytest.fixture(scope="module")
def world() -> tuple[PictureSet, np.ndarray, PictureSet, np.ndarray]:
    """Training and test pictures, and voxels that are linear in the features, with noise and a
    mean.
    """
    network, (train, test) = (
        make_network(size=48),
        (make_pictures(N_TRAIN, 0, 0), make_pictures(N_TEST, 900, 1)),
    )
    rng = np.random.default_rng(2)
    feature = [brain_correlation.describe(network, CONFIG, p.images_IHWC)[0] for p in (train, test)]
    true = rng.standard_normal((feature[0].shape[1], VOXELS)) / feature[0].std(axis=0)[:, None]
    clean = [(x - feature[0].mean(axis=0)) @ true for x in feature]
    scale = clean[0].std(axis=0)
    betas = [x / scale + 0.3 * rng.standard_normal(x.shape) + 0.1 for x in clean]
    return train, betas[0].astype(np.float32), test, betas[1].astype(np.float32)


@pytest.fixture(scope="module")
def model(world: tuple[PictureSet, np.ndarray, PictureSet, np.ndarray]) -> EncodingModel:
    return brain_correlation.fit_encoding(make_network(size=48), world[0], world[1], CONFIG)


def test_model_equals_scikit_learn(model: EncodingModel, world: tuple) -> None:
    train, betas_IV, test, _ = world
    feature_IF, widths = brain_correlation.describe(model.network, CONFIG, train.images_IHWC)
    assert widths == [8 * 4, 24 * 4]
    new_IF = brain_correlation.describe(model.network, CONFIG, test.images_IHWC)[0]
    ridge = Ridge(alpha=model.alpha).fit(
        (feature_IF - feature_IF.mean(axis=0)) * model.scale_F, betas_IV
    )
    expected_IV = ridge.predict((new_IF - feature_IF.mean(axis=0)) * model.scale_F)
    np.testing.assert_allclose(model.predict(test.images_IHWC), expected_IV, atol=2e-3)


def test_true_pictures_score_above_others(model: EncodingModel, world: tuple) -> None:
    _, _, test, betas_IV = world
    measured = Measured(nsd_id_I=test.nsd_id_I, betas_IV=betas_IV)
    metric = BrainCorrelation(model=model, measured=measured)
    own_I = metric.score(test)["brain_correlation.all"]
    other_I = metric.score(replace(test, images_IHWC=np.roll(test.images_IHWC, 1, axis=0)))[
        "brain_correlation.all"
    ]
    assert own_I.mean() > 0.6 > 0.3 > other_I.mean()


def test_score_is_pearson_across_voxels_of_a_region(model: EncodingModel, world: tuple) -> None:
    _, _, test, betas_IV = world
    early_V = np.arange(VOXELS) < 5
    order = np.random.default_rng(0).permutation(N_TEST)
    measured = Measured(
        nsd_id_I=test.nsd_id_I[order],
        betas_IV=betas_IV[order],
        regions={"early": early_V, "late": ~early_V},
    )
    found = BrainCorrelation(model=model, measured=measured).score(test)
    predicted_IV = model.predict(test.images_IHWC)
    for name, member_V in (("early", early_V), ("late", ~early_V)):
        expected_I = [
            pearsonr(a[member_V], b[member_V])[0]
            for a, b in zip(betas_IV, predicted_IV, strict=True)
        ]
        np.testing.assert_allclose(found[f"brain_correlation.{name}"], expected_I, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.1, 5.0), st.floats(-2.0, 2.0))
def test_true_responses_score_one_in_any_unit(seed: int, factor: float, offset: float) -> None:
    """So the true cortex of the simulated world can stand in for the encoding model."""
    betas_IV = np.random.default_rng(seed).standard_normal((4, 6))
    found = brain_correlation.correlate_patterns(betas_IV, factor * betas_IV + offset, {})
    np.testing.assert_allclose(found["brain_correlation.all"], 1.0)


def test_layers_weigh_the_same_and_dead_features_nothing() -> None:
    rng = np.random.default_rng(0)
    feature_IF = np.concatenate(
        [5 * rng.standard_normal((50, 3)), rng.standard_normal((50, 40))], axis=1
    )
    feature_IF[:, 1] = 7.0
    scale_F = brain_correlation.scale_layers(feature_IF, [3, 40])
    z_IF = (feature_IF - feature_IF.mean(axis=0)) * scale_F
    assert scale_F[1] == 0.0
    for layer in (z_IF[:, :3], z_IF[:, 3:]):
        assert (layer**2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)


def test_maps_are_averaged_onto_the_grid(rng: np.random.Generator) -> None:
    maps_ICHW = rng.random((2, 3, 8, 8), np.float32)
    expected = maps_ICHW.reshape(2, 3, 2, 4, 2, 4).mean(axis=(3, 5))
    np.testing.assert_allclose(
        brain_correlation.pool(maps_ICHW, 2), expected.reshape(2, -1), atol=1e-6
    )
    np.testing.assert_array_equal(brain_correlation.pool(maps_ICHW, 8), maps_ICHW.reshape(2, -1))


def test_record_says_what_the_scores_rest_on(model: EncodingModel, world: tuple) -> None:
    record = BrainCorrelation(
        model=model, measured=Measured(nsd_id_I=world[2].nsd_id_I, betas_IV=world[3])
    ).record()
    assert (
        record["stand_in"]
        and record["n_training_images"] == N_TRAIN
        and record["alpha"] == model.alpha
    )
    assert record["layers"] == ["features.4", "features.11"]


def test_clip_features_and_training_images_are_refused(model: EncodingModel, world: tuple) -> None:
    train, betas_IV, _, _ = world
    with pytest.raises(ValueError, match=r"circular.*take a classifier"):
        brain_correlation.fit_encoding(make_network(kind="clip"), train, betas_IV, CONFIG)
    with pytest.raises(
        ValueError, match=r"fitted on 2 of the images to be scored \(first NSD id 158\)"
    ):
        BrainCorrelation(
            model=model,
            measured=Measured(nsd_id_I=np.array([158, 159, 200]), betas_IV=betas_IV[:3]),
        )


def test_errors_say_what_does_not_fit(model: EncodingModel, world: tuple) -> None:
    train, betas_IV, test, test_IV = world
    with pytest.raises(ValueError, match=r"finite \(I, V\) of the 160 pictures, got \(150, 12\)"):
        brain_correlation.fit_encoding(make_network(), train, betas_IV[:150], CONFIG)
    with pytest.raises(ValueError, match="region V1 has 1 voxels"):
        brain_correlation.correlate_patterns(test_IV, test_IV, {"V1": np.arange(VOXELS) == 3})
    metric = BrainCorrelation(
        model=model, measured=Measured(nsd_id_I=test.nsd_id_I[1:], betas_IV=test_IV[1:])
    )
    with pytest.raises(ValueError, match="the set of measured patterns lacks 1 of 20 images"):
        metric.score(test)
    cases = (
        ({"layers": ()}, "at least one layer"),
        ({"n_folds": 1}, "n_folds is 1"),
        ({"grid": 0}, "grid is 0"),
    )
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **wrong)
