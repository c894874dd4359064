"""worlds.py: the interval against the variance that was planted, and Holm's steps by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from fmri2clip.metrics.statistics import Run, Scores, paired_difference
from fmri2clip.metrics.worlds import across_worlds, holm

N_IMAGES = 400


def make_pair(rng: np.random.Generator, effect: float) -> tuple[Run, Run]:
    """Two runs whose difference varies over images with deviation 1 about `effect`."""
    base_I = rng.standard_normal(N_IMAGES)
    moved_I = base_I + effect + rng.standard_normal(N_IMAGES)
    ids = np.arange(N_IMAGES)
    once_I = np.ones(N_IMAGES)
    runs = [
        {"subj01": Scores(nsd_id_I=ids, per_image={"x.top1": (score_I, once_I)})}
        for score_I in (moved_I, base_I)
    ]
    return runs[0], runs[1]


def test_the_interval_holds_both_variances(rng: np.random.Generator) -> None:
    """Resampled: of W worlds, their variance over W (not W - 1), and that of their images."""
    effects = [0.1, 0.5, 0.3, 0.9, 0.2, 0.4]
    worlds = [[make_pair(rng, effect)] for effect in effects]
    found = across_worlds(worlds, "x.top1", 1000, seed=0, n_comparisons=4)
    points = [paired_difference(pairs, "x.top1").estimate.value for pairs in worlds]
    assert found.value == pytest.approx(np.mean(points))
    error = np.sqrt((np.var(points) + 1 / N_IMAGES) / len(points))
    for k in (1, 4):
        reach = scipy.stats.norm.ppf(1 - 0.05 / k / 2) * error
        low, high = found.limits[k]
        assert high - low == pytest.approx(2 * reach, rel=0.12)
    assert found.same_sign and found.p < 0.001
    single = [world.estimate.value for world in found.worlds]
    np.testing.assert_allclose(single, points)


def test_worlds_that_disagree_have_no_verdict(rng: np.random.Generator) -> None:
    worlds = [[make_pair(rng, effect)] for effect in (0.5, -0.5, 0.4, -0.4)]
    found = across_worlds(worlds, "x.top1", 500)
    low, high = found.limits[1]
    assert low < 0 < high and found.p > 0.3 and not found.same_sign


def test_a_jackknifed_metric_has_its_own_error(rng: np.random.Generator) -> None:
    """Of worlds that are all the same, what is left is the variance of their images, over W."""
    label_IC = rng.random((N_IMAGES, 4)) < 0.3
    runs = []
    for noise in (0.8, 1.6):
        score_IC = label_IC + noise * rng.standard_normal(label_IC.shape)
        scores = Scores(
            nsd_id_I=np.arange(N_IMAGES),
            class_scores={"classification": score_IC},
            label_IC=label_IC,
            class_C=np.ones(4, bool),
        )
        runs.append({"subj01": scores})
    pair = (runs[0], runs[1])
    one = paired_difference([pair], "classification.map").estimate
    found = across_worlds([[pair]] * 5, "classification.map", 2000)
    low, high = found.limits[1]
    assert found.value == pytest.approx(one.value)
    assert high - low == pytest.approx((one.high - one.low) / np.sqrt(5), rel=0.08)


def test_one_world_is_none() -> None:
    with pytest.raises(ValueError, match="1 world given"):
        across_worlds([[make_pair(np.random.default_rng(0), 0.1)]], "x.top1")


def test_holm_by_hand() -> None:
    """0.04 / 4 fails, and so does all that is larger; 0.01 and 0.012 pass at 4 and at 3."""
    assert holm({"a": 0.01, "b": 0.012, "c": 0.2}, 4) == {"a": 4, "b": 3, "c": 2}
    assert holm({"a": 0.04, "b": 0.041}, 4) == {"a": 4, "b": 4}
    assert holm({"b": 0.03, "a": 0.001}, 2) == {"a": 2, "b": 1}
