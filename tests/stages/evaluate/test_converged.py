"""When a training counts as converged."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fmri2clip.stages.evaluate.converged import is_converged

MODEL: dict[str, Any] = {
    "config": {"hidden": 64, "max_epochs": 40, "patience": 40},
    "n_training_images": {"subj01": 100, "subj02": 50},
}
ENTRY: dict[str, Any] = {
    "epochs": 10,
    "config": {"hidden": 64},
    "stands_for": [{"hidden": 32}],
    "needed": 4,
    "trials": [{"images": 150}, {"images": 150}],
}


def test_as_long_as_needed_is_enough() -> None:
    assert is_converged(MODEL, {"other": {**ENTRY, "needed": None}, "mine": ENTRY})
    longer = copy.deepcopy(MODEL)
    longer["config"] |= {"max_epochs": 80, "patience": 80}
    assert is_converged(longer, {"mine": ENTRY})


def test_an_entry_may_stand_for_other_settings() -> None:
    ablation = copy.deepcopy(MODEL)
    ablation["config"]["hidden"] = 32
    assert is_converged(ablation, {"mine": ENTRY})
    assert not is_converged(ablation, {"mine": {**ENTRY, "stands_for": []}})


def test_a_closed_form_needs_no_study() -> None:
    assert is_converged({"config": {"n_alphas": 3}, "n_training_images": {"s": 4}}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"needed": 8},
        {"needed": None},
        {"config": {"hidden": 65}},
        {"trials": [{"images": 150}, {"images": 149}]},
    ],
)
def test_another_entry_tells_nothing(change: dict[str, Any]) -> None:
    assert not is_converged(MODEL, {"mine": {**ENTRY, **change}})
    assert not is_converged(MODEL, {})


def test_patience_may_end_it_too_early() -> None:
    hasty = copy.deepcopy(MODEL)
    hasty["config"]["patience"] = 5
    assert not is_converged(hasty, {"mine": ENTRY})
