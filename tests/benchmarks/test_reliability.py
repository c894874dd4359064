"""reliability.py: its scores against scikit-learn's, and its bins."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_loss

from benchmarks import reliability


def describe(told: np.ndarray, there: np.ndarray) -> dict:
    base = np.full(told.shape, there.mean())
    return reliability.describe(told, there, base)


def test_scores_are_those_of_scikit_learn_and_bins_say_what_was_there() -> None:
    """Probabilities that hold, of two subjects, 400 pictures and 5 categories; then sharpened."""
    rng = np.random.default_rng(0)
    told = rng.beta(0.5, 2, (2, 400, 5)).clip(0.001, 0.999)
    there = (rng.random(told.shape) < told).astype(float)
    found = describe(told, there)
    flat = there.ravel()
    assert found["log_loss"]["value"] == pytest.approx(sklearn_loss(flat, told.ravel()), abs=1e-5)
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(flat, told.ravel()), abs=1e-5)
    assert found["log_loss_gain"]["low"] > 0
    inside = [b["there"]["low"] <= b["told"] <= b["there"]["high"] for b in found["bins"]]
    assert sum(inside) >= len(inside) - 1
    assert sum(b["n"] for b in found["bins"]) == told.size
    for one in found["bins"]:
        member = (told >= one["from"]) & (told < one["to"])
        assert one["there"]["value"] == pytest.approx(there[member].mean(), abs=1e-4)
    odds = (told / (1 - told)) ** 3
    sharp = describe(odds / (1 + odds), there)
    assert sharp["calibration_error"] > 3 * found["calibration_error"]
    assert sharp["log_loss"]["value"] > found["log_loss"]["value"]
