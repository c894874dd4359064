"""channel.py: planted predictions, found by hand under the same Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from fmri2clip.core.params import JUDGED, Split
from fmri2clip.metrics.decoding import channel
from fmri2clip.metrics.decoding.retrieval import fit_temperature, make_galleries
from fmri2clip.solvers import joint_gaussian

N_TEST, N_JUDGE, WIDTH = 60, 300, 8


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def planted(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and predictions with loud noise along the loudest axes of the targets."""
    y = rng.standard_normal((n, WIDTH)) * np.linspace(2, 0.7, WIDTH)
    return unit(y + rng.standard_normal((n, WIDTH)) * np.linspace(3, 0.1, WIDTH)), unit(y)


@pytest.fixture
def world(rng: np.random.Generator) -> dict[str, np.ndarray]:
    judged_p, judged_y = planted(rng, N_JUDGE)
    p, y = planted(rng, N_TEST)
    heldout = {"embedding_RJD": np.stack([judged_p] * 3), "image_JD": judged_y, "text_JD": judged_y}
    return {"p": p, "y": y, **heldout}


MEANS = dict.fromkeys(
    ("mean_predicted_image_D", "mean_image_D", "mean_predicted_text_D", "mean_text_D"),
    np.zeros(WIDTH),
)


def score(
    world: dict[str, np.ndarray], decoded: dict[str, np.ndarray], n_repeats: int = 3
) -> dict[str, float]:
    galleries = make_galleries(world["y"], 40, 5, 10, seed=0)
    found = channel.score_embeddings(
        world, {3: decoded}, world["y"], world["y"], MEANS, np.arange(N_TEST), galleries, n_repeats
    )
    per_image = found.per_image.items()
    return {name: float(np.average(score_I, weights=w_I)) for name, (score_I, w_I) in per_image}


def test_directions_are_rows_and_columns_of_one_fit(world: dict[str, np.ndarray]) -> None:
    found = score(world, {"embedding_ID": world["p"]})
    judge = joint_gaussian.fit(world["embedding_RJD"][2], world["image_JD"])
    information = judge.score(world["p"], world["y"])
    right = np.arange(N_TEST)
    for axis, direction in ((1, "image_given_brain"), (0, "brain_given_image")):
        hits = (information.argmax(axis=axis) == right).mean()
        assert found[f"judge.channel.retrieval_all.{direction}.top1"] == pytest.approx(hits)


def test_it_finds_more_than_the_cosine(world: dict[str, np.ndarray]) -> None:
    found = score(world, {"embedding_ID": world["p"]})
    cosine = ((world["p"] @ world["y"].T).argmax(axis=1) == np.arange(N_TEST)).mean()
    assert found["judge.channel.retrieval_all.image_given_brain.top1"] > cosine + 0.1


def test_captions_have_a_fit_of_their_own(world: dict[str, np.ndarray]) -> None:
    """With the decoder's text embedding where it has one."""
    rng = np.random.default_rng(3)
    noise = unit(rng.standard_normal((N_TEST, WIDTH)))
    world["text_embedding_RJD"] = world["embedding_RJD"]
    alone = score(world, {"embedding_ID": world["p"]})
    both = score(world, {"embedding_ID": noise, "text_embedding_ID": world["p"]})
    name = "judge.channel.retrieval_all.text_given_brain.top1"
    assert both[name] == alone[name] > 0.3
    assert both["judge.channel.retrieval_all.image_given_brain.top1"] < 0.15


def test_a_decoder_of_labels_has_no_judge(world: dict[str, np.ndarray]) -> None:
    assert score(world, {"logits_IC": np.zeros((N_TEST, 3))}) == {}


def test_as_many_images_as_params_ask_for_are_enough(world: dict[str, np.ndarray]) -> None:
    """And one less is not: each half is fitted as well."""

    def judge(n: int) -> dict[str, float]:
        few = {name: world[name][..., :n, :] for name in ("embedding_RJD", "image_JD", "text_JD")}
        return score(world | few, {"embedding_ID": world["p"]})

    assert Split(n_judge=JUDGED).n_judge == JUDGED
    assert "judge.channel.retrieval.image_given_brain.top1" in judge(JUDGED)
    with pytest.raises(ValueError, match="at least 10 images, got 9"):
        judge(JUDGED - 1)
    with pytest.raises(ValueError, match=f"n_judge is {JUDGED - 1}, expected 0 .* at least 20"):
        Split(n_judge=JUDGED - 1)


def test_fewer_trials_have_a_fit_of_their_own(world: dict[str, np.ndarray]) -> None:
    """Of the predictions from as many trials: here those of one trial are worth nothing."""
    world["embedding_RJD"] = world["embedding_RJD"].copy()
    world["embedding_RJD"][0] = unit(np.random.default_rng(4).standard_normal((N_JUDGE, WIDTH)))
    decoded = {"embedding_ID": world["p"]}
    found = channel.score_embeddings(
        world,
        {1: decoded, 3: decoded},
        world["y"],
        world["y"],
        MEANS,
        np.arange(N_TEST),
        make_galleries(world["y"], 40, 5, 10, seed=0),
        3,
    )
    name = "judge.channel.retrieval_all.image_given_brain.top1"
    assert found.per_image[name][0].mean() > found.per_image[f"trials.1.{name}"][0].mean() + 0.2


@pytest.mark.parametrize("n_repeats", [1, 2, 3, 35])
def test_the_mean_of_all_trials_has_the_fit_of_as_many(
    world: dict[str, np.ndarray], n_repeats: int
) -> None:
    """By hand: the joint Gaussian of predictions from one, two or three trials; more are three."""
    rng = np.random.default_rng(5)
    louder_R11 = np.array([2.0, 0.5, 0.0])[:, None, None]
    noise_RJD = rng.standard_normal((3, N_JUDGE, WIDTH))
    world["embedding_RJD"] = unit(world["embedding_RJD"] + louder_R11 * noise_RJD)
    row = {1: 0, 2: 1, 3: 2, 35: 2}[n_repeats]
    judge = joint_gaussian.fit(world["embedding_RJD"][row], world["image_JD"])
    hits = judge.score(world["p"], world["y"]).argmax(axis=1) == np.arange(N_TEST)
    way = "image_given_brain.top1"
    found = score(world, {"embedding_ID": world["p"]}, n_repeats)
    assert found[f"judge.channel.retrieval_all.{way}"] == pytest.approx(hits.mean())
    heldout = {"tokens_JX": world["image_JD"], "fused_tokens_RJX": world["embedding_RJD"]}
    galleries = make_galleries(world["y"], 40, 5, 10, seed=0)
    tokens = channel.score_token_streams(
        heldout, {"fused": world["p"]}, world["y"], np.arange(N_TEST), galleries, n_repeats
    )
    score_I, _ = tokens.per_image[f"judge.channel.retrieval_tokens_all.fused.{way}"]
    np.testing.assert_array_equal(score_I, hits)


def test_information_of_a_channel_that_is_known(rng: np.random.Generator) -> None:
    """A Gaussian channel has log2(1 + s) / 2 bits a component; what is found can be no more on
    average, and is most of it. Who knows nothing is told so by his temperature.
    """
    n, snr = 2000, 0.5

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.standard_normal((size, WIDTH))
        return y + rng.standard_normal((size, WIDTH)) / np.sqrt(snr), y

    judged_p, judged_y = draw(1000)
    p, y = draw(n)
    heldout = {"embedding_RJD": np.stack([judged_p] * 3), "image_JD": judged_y, "text_JD": judged_y}
    galleries = make_galleries(y, 40, 5, 10, seed=0)

    def bits(predicted: np.ndarray) -> float:
        found = channel.score_embeddings(
            heldout, {3: {"embedding_ID": predicted}}, y, y, MEANS, np.arange(n), galleries, 3
        )
        name = "judge.channel.retrieval_all.image_given_brain.bits"
        return float(found.per_image[name][0].mean())

    capacity = WIDTH * np.log2(1 + snr) / 2
    assert 0.9 * capacity < bits(p) < 1.02 * capacity
    heldout["embedding_RJD"] = rng.permutation(heldout["embedding_RJD"], axis=1)
    assert abs(bits(rng.permutation(p))) < 0.05


def test_each_direction_has_its_own_temperature(world: dict[str, np.ndarray]) -> None:
    """By the judge's cosines, asked as the test images are: a third of its brains resemble many
    pictures.
    """
    judged_p = world["embedding_RJD"][2].copy()
    judged_p[::3] = unit(judged_p[::3] + 3 * world["image_JD"].mean(axis=0) + 1.0)
    world["embedding_RJD"] = np.stack([judged_p] * 3)
    found = score(world, {"embedding_ID": world["p"]})
    asked_JJ = np.round(judged_p @ world["image_JD"].T, 9)
    told_II = world["p"] @ world["y"].T
    for flip, direction in ((False, "image_given_brain"), (True, "brain_given_image")):
        parts_JJ, rows_II = (x.T if flip else x for x in (asked_JJ, told_II))
        logit_II = rows_II / fit_temperature([parts_JJ])
        bits_I = np.log2(N_TEST) + np.log2(np.diag(scipy.special.softmax(logit_II, axis=1)))
        name = f"judge.cosine.retrieval_all.{direction}.bits"
        assert found[name] == pytest.approx(bits_I.mean(), abs=1e-6)
    assert fit_temperature([asked_JJ]) != pytest.approx(fit_temperature([asked_JJ.T]), rel=0.01)


def test_tokens_are_judged_as_embeddings_are(world: dict[str, np.ndarray]) -> None:
    """The same numbers under the names of a stream."""
    heldout = {"tokens_JX": world["image_JD"], "fused_tokens_RJX": world["embedding_RJD"]}
    galleries = make_galleries(world["y"], 40, 5, 10, seed=0)
    found = channel.score_token_streams(
        heldout, {"fused": world["p"]}, world["y"], np.arange(N_TEST), galleries, 3
    ).per_image
    means = MEANS | {
        "mean_predicted_image_D": world["embedding_RJD"][-1].mean(axis=0),
        "mean_image_D": world["image_JD"].mean(axis=0),
    }
    decoded = {3: {"embedding_ID": world["p"]}}
    pooled = channel.score_embeddings(
        world, decoded, world["y"], world["y"], means, np.arange(N_TEST), galleries, 3
    ).per_image
    for name, gallery, score_name in (
        ("channel", "", "top1"),
        ("channel", "_hard", "top1"),
        ("channel", "_all", "bits"),
        ("cosine", "_all", "bits"),
    ):
        way = f"image_given_brain.{score_name}"
        ours = found[f"judge.{name}.retrieval_tokens{gallery}.fused.{way}"]
        np.testing.assert_array_equal(ours[0], pooled[f"judge.{name}.retrieval{gallery}.{way}"][0])
