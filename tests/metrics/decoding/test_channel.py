"""channel.py: planted predictions, found by hand under the same Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from fmri2clip.metrics.decoding import channel
from fmri2clip.metrics.decoding.retrieval import make_galleries
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


def score(world: dict[str, np.ndarray], decoded: dict[str, np.ndarray]) -> dict[str, float]:
    galleries = make_galleries(world["y"], 40, 5, 10, seed=0)
    found = channel.score_channel(
        world, decoded, world["y"], world["y"], np.arange(N_TEST), galleries
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
        assert found[f"channel.retrieval_all.{direction}.top1"] == pytest.approx(hits)


def test_it_finds_more_than_the_cosine(world: dict[str, np.ndarray]) -> None:
    found = score(world, {"embedding_ID": world["p"]})
    cosine = ((world["p"] @ world["y"].T).argmax(axis=1) == np.arange(N_TEST)).mean()
    assert found["channel.retrieval_all.image_given_brain.top1"] > cosine + 0.1


def test_captions_have_a_fit_of_their_own(world: dict[str, np.ndarray]) -> None:
    """With the decoder's text embedding where it has one."""
    rng = np.random.default_rng(3)
    noise = unit(rng.standard_normal((N_TEST, WIDTH)))
    world["text_embedding_RJD"] = world["embedding_RJD"]
    alone = score(world, {"embedding_ID": world["p"]})
    both = score(world, {"embedding_ID": noise, "text_embedding_ID": world["p"]})
    name = "channel.retrieval_all.text_given_brain.top1"
    assert both[name] == alone[name] > 0.3
    assert both["channel.retrieval_all.image_given_brain.top1"] < 0.15


def test_a_decoder_of_labels_has_no_channel(world: dict[str, np.ndarray]) -> None:
    assert score(world, {"logits_IC": np.zeros((N_TEST, 3))}) == {}
