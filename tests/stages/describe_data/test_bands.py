"""Figures behind the bands of the simulated world, on planted data and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, r2_score

from fmri2clip.stages.describe_data import (
    claim_bands,
    hierarchy_bands,
    noise_bands,
    regression,
)

N_IMAGES = 700


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "N_FIT", 450)
    monkeypatch.setattr(regression, "N_SCORED", 150)


def test_each_target_has_the_penalty_of_least_leave_one_out_error(
    rng: np.random.Generator,
) -> None:
    """Against a loop over images and penalties."""
    x = rng.standard_normal((40, 6))
    y = np.stack([x[:, 0] * 5, rng.standard_normal(40)], axis=1)
    other = rng.standard_normal((5, 6))
    found = regression.predict(x, y, other)
    z = (x - x.mean(0)) / x.std(0)
    z_other = (other - x.mean(0)) / x.std(0)
    for k in range(2):
        errors = []
        for penalty in regression.PENALTIES:
            left = [
                y[i, k]
                - Ridge(penalty)
                .fit(np.delete(z, i, 0), np.delete(y[:, k], i))
                .predict(z[i : i + 1])[0]
                for i in range(40)
            ]
            errors.append(np.mean(np.square(left)))
        best = Ridge(regression.PENALTIES[int(np.argmin(errors))]).fit(z, y[:, k])
        np.testing.assert_allclose(found[:, k], best.predict(z_other), atol=1e-3)


def test_rare_classes_have_no_say(rng: np.random.Generator) -> None:
    label = rng.random((200, 3)) < (0.3, 0.2, 0.01)
    score = rng.standard_normal((200, 3)) + label
    label[:, 2] = False
    label[:3, 2] = True
    expected = np.mean(
        [average_precision_score(label[:, k], score[:, k]) - label[:, k].mean() for k in (0, 1)]
    )
    assert regression.precision_above_chance(label, score)[0] == pytest.approx(expected)
    twice = np.repeat(np.arange(200), 2)
    weights = np.full((1, 200), 2.0)
    doubled = regression.precision_above_chance(label[twice], score[twice], least=10)
    np.testing.assert_allclose(regression.precision_above_chance(label, score, weights), doubled)


def planted_brain(
    rng: np.random.Generator, about_low: np.ndarray, about_high: np.ndarray
) -> hierarchy_bands.Brain:
    """60 low voxels that read one thing, 80 high voxels that read another, 20 that are neither."""
    clean = np.concatenate(
        [
            about_low @ rng.standard_normal((about_low.shape[1], 60)),
            about_high @ rng.standard_normal((about_high.shape[1], 80)),
            rng.standard_normal((N_IMAGES, 20)),
        ],
        axis=1,
    )
    kind = np.repeat((0, 1, 2), (60, 80, 20))
    return hierarchy_bands.Brain(
        mean_IV=clean + 0.5 * clean.std() * rng.standard_normal(clean.shape),
        clean_IV=clean,
        ncsnr_V=rng.uniform(0.2, 0.6, 160),
        is_low_V=kind == 0,
        is_high_V=kind == 1,
    )


def test_a_planted_hierarchy_is_found(rng: np.random.Generator) -> None:
    look = rng.standard_normal((N_IMAGES, 6))
    meaning = rng.standard_normal((N_IMAGES, 6))
    pictures = hierarchy_bands.Pictures(
        caption_ID=meaning @ rng.standard_normal((6, 12)),
        label_IC=meaning[:, :4] > 1,
        colour_IF=look @ rng.standard_normal((6, 9)),
        edges_IF=look @ rng.standard_normal((6, 5)),
        object_IF=look[:, :3],
    )
    brain = planted_brain(rng, look, meaning)
    found = hierarchy_bands.measure_hierarchy(pictures, brain, n_bootstrap=50)
    for name in ("text", "labels", "text_encoding", "labels_encoding"):
        assert found["high"][name][0] > 0.2
        assert found["low"][name][0] < 0.1 * found["high"][name][0]
    assert found["low"]["pixels"][0] > 0.5 and found["high"]["pixels"][0] < 0.05
    ratio, upper = hierarchy_bands.compare(found["low"]["text"], found["high"]["text"])
    assert ratio < upper < 0.3
    other = hierarchy_bands.measure_hierarchy(pictures, brain, n_bootstrap=50, number=1)
    assert other["high"]["text"][0] == found["high"]["text"][0]
    assert not np.array_equal(other["high"]["text"], found["high"]["text"])


def test_pairs_are_near_and_used_once(rng: np.random.Generator) -> None:
    brain = planted_brain(
        rng, rng.standard_normal((N_IMAGES, 2)), rng.standard_normal((N_IMAGES, 2))
    )
    pairs = hierarchy_bands.match_pairs(brain, rng)
    gap = np.abs(brain.ncsnr_V[pairs["low"]] - brain.ncsnr_V[pairs["high"]])
    assert gap.max() <= hierarchy_bands.CALIPER
    assert all(len(np.unique(p)) == len(p) for p in pairs.values())
    assert brain.is_low_V[pairs["low"]].all() and brain.is_high_V[pairs["high"]].all()


def test_blocks_explain_what_they_hold(rng: np.random.Generator) -> None:
    early = rng.standard_normal((N_IMAGES, 8))
    late = rng.standard_normal((N_IMAGES, 8))
    brain = planted_brain(rng, early, late)
    found = hierarchy_bands.explain_areas([early, late], {"both": early + late}, brain, 4)
    full = hierarchy_bands.explain_areas([early, late], {}, brain)
    assert full["low"]["block1"] > 0.95 > 0.1 > full["low"]["block2"]
    assert full["high"]["block2"] > 0.95 and set(found["low"]) == {"block1", "block2", "both"}
    assert found["low"]["block1"] < 0.8  # four of eight components


def test_snr_is_that_of_planted_noise(rng: np.random.Generator) -> None:
    axes, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    deviation = np.linspace(6, 0.2, 30)
    clean = rng.standard_normal((2000, 30)) * deviation @ axes.T
    image = np.repeat(np.arange(2000), 3)
    noise = rng.standard_normal((6000, 30)) * np.linspace(2, 1, 30) @ axes.T
    found = noise_bands.measure_snr(clean, clean[image] + noise, image)
    expected = 3 * deviation**2 / np.linspace(2, 1, 30) ** 2
    np.testing.assert_allclose(found, expected[:10], rtol=0.15)


def test_what_captions_say_beyond_the_picture(rng: np.random.Generator) -> None:
    seen = rng.standard_normal((N_IMAGES, 5))
    hidden = rng.standard_normal((N_IMAGES, 3))
    captions = np.concatenate([seen, hidden], axis=1) @ rng.standard_normal((8, 10))
    responses = hidden @ rng.standard_normal((3, 20))
    gain_J, spread_J = claim_bands.text_beyond_image(seen, responses, captions)
    gain, low, high = claim_bands.gained_r2(gain_J, spread_J)
    assert 0.2 < low < gain < high
    fit, scored = regression.split_rows(N_IMAGES)
    both = np.concatenate([seen, responses], axis=1)
    r2 = [
        r2_score(
            captions[scored],
            regression.predict(x[fit], captions[fit], x[scored]),
            multioutput="variance_weighted",
        )
        for x in (seen, both)
    ]
    assert gain == pytest.approx(r2[1] - r2[0], abs=0.01)
    noise = rng.standard_normal((N_IMAGES, 20))
    nothing, low, _ = claim_bands.gained_r2(*claim_bands.text_beyond_image(seen, noise, captions))
    assert nothing < 0.01 and low < 0


def test_selectivity_is_a_difference_in_deviations(rng: np.random.Generator) -> None:
    member = rng.random(4000) < 0.4
    response = rng.standard_normal((4000, 2)) * 3 + member[:, None] * (3, 0)
    np.testing.assert_allclose(claim_bands.selectivity(response, member), (1, 0), atol=0.1)


def test_cka_of_a_rotation_is_one(rng: np.random.Generator) -> None:
    x = rng.standard_normal((300, 6))
    rotation, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    assert claim_bands.linear_cka(x, 2 * x @ rotation + 1) == pytest.approx(1)
    assert claim_bands.linear_cka(x, rng.standard_normal((300, 6))) < 0.1
