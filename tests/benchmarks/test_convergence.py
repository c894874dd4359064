from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import convergence
from fmri2clip.core import params
from fmri2clip.decoders import load_decoder


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


def test_a_training_names_the_images_of_each_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [np.arange(9) < 2, np.arange(6) < 1]  # of validation images
    subjects = [SimpleNamespace(data=SimpleNamespace(is_validation_I=mark_I)) for mark_I in marks]
    rows = [{"val_mean": 0.5, "val_loss": 2.0}]
    monkeypatch.setattr(
        convergence, "Inputs", lambda *args: SimpleNamespace(load=lambda names: subjects)
    )
    monkeypatch.setattr(convergence.training, "fit_decoder", lambda *args: rows)
    settings = params.load(convergence.ROOT / "params.yaml")
    module = SimpleNamespace(Decoder=SimpleNamespace(from_data=lambda *args: None))
    config = params.decoder_config(settings, "clip_mused", load_decoder("clip_mused").Config)
    found = convergence.try_budget(settings, "clip_mused", module, config, ["a", "b"], 0, 1)
    assert found["images"] == 12 and found["images_by_subject"] == [5, 7]
