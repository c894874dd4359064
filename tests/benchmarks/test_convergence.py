from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from benchmarks import convergence


def make_trials(scores: dict[int, list[float]], losses: dict[int, float]) -> list[dict[str, Any]]:
    """Trainings of one subject and three seeds, by multiple."""
    return [
        {"multiple": m, "seed": k, "subjects": ["s"], "score": score, "loss": losses[m]}
        for m, found in scores.items()
        for k, score in enumerate(found)
    ]


def test_gains_are_paired_and_their_upper_end_is_scipys() -> None:
    scores = {1: [0.40, 0.50, 0.45], 2: [0.42, 0.53, 0.46]}
    found = convergence.gains(make_trials(scores, {1: 2.0, 2: 1.9}))["1"]
    gained = [0.02, 0.03, 0.01]
    interval = stats.ttest_1samp(gained, 0).confidence_interval(0.90)
    assert found["score"] == pytest.approx(0.02, abs=1e-5)
    assert found["score_upper"] == pytest.approx(interval.high, abs=1e-5)
    assert found["loss_share"] == pytest.approx(0.05, abs=1e-5)


def test_a_second_look_has_half_the_level() -> None:
    """Six seeds: the interval of 95 %."""
    gained = [0.02, 0.03, 0.01, 0.00, 0.01, 0.03]
    scores = {1: [0.4] * 6, 2: [0.4 + gain for gain in gained]}
    found = convergence.gains(make_trials(scores, {1: 2.0, 2: 2.0}))["1"]
    interval = stats.ttest_1samp(gained, 0).confidence_interval(0.95)
    assert found["score_upper"] == pytest.approx(interval.high, abs=1e-5)


@pytest.mark.parametrize(
    ("second", "loss", "needed"),
    [(0.401, 2.0, 1), (0.42, 2.0, None), (0.401, 1.9, None)],
    ids=["enough", "score still rises", "loss still falls"],
)
def test_both_score_and_loss_must_have_come_to_rest(
    second: float, loss: float, needed: int | None
) -> None:
    trials = make_trials({1: [0.40] * 3, 2: [second] * 3}, {1: 2.0, 2: loss})
    assert convergence.choose(trials) == needed


def test_missing_trainings_decide_nothing() -> None:
    trials = make_trials({1: [0.4] * 3, 2: [0.4] * 2}, {1: 2.0, 2: 2.0})
    assert convergence.gains(trials) == {} and convergence.choose(trials) is None
