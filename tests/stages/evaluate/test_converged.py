"""When a training counts as converged."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.core import params
from fmri2clip.decoders import load_decoder
from fmri2clip.stages.evaluate.converged import STUDY, is_converged, read_study

MODEL: dict[str, Any] = {
    "decoder": "brainclip",
    "width_D": 8,
    "config": {"hidden": 64, "max_epochs": 40, "patience": 40},
    "n_training_images": {"subj01": 100, "subj02": 50},
}
ENTRY: dict[str, Any] = {
    "epochs": 10,
    "decoder": "brainclip",
    "width_D": 8,
    "config": {"hidden": 64},
    "stands_for": [{"hidden": 32}],
    "needed": 4,
    "trials": [{"images_by_subject": [50, 100]}, {"images_by_subject": [50, 100]}],
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
        {"decoder": "clip_mused"},
        {"width_D": 16},
        {"trials": [{"images_by_subject": [50, 100]}, {"images_by_subject": [50, 99]}]},
        {"trials": [{"images_by_subject": [75, 75]}]},
    ],
)
def test_another_entry_tells_nothing(change: dict[str, Any]) -> None:
    assert not is_converged(MODEL, {"mine": {**ENTRY, **change}})
    assert not is_converged(MODEL, {})


def test_patience_may_end_it_too_early() -> None:
    hasty = copy.deepcopy(MODEL)
    hasty["config"]["patience"] = 5
    assert not is_converged(hasty, {"mine": ENTRY})


@pytest.mark.parametrize("name", ["brainclip", "brainmclip", "clip_mused", "aligned"])
def test_the_default_runs_have_entries(root: Path, name: str) -> None:
    """With the images that the default world has for training, two subjects at once or each alone;
    what is tried has as many images in all as of its subjects together.
    """
    study = read_study(root / STUDY)
    for entry in study.values():
        for trial in entry["trials"]:
            assert len(trial["images_by_subject"]) == len(trial["subjects"])
            assert sum(trial["images_by_subject"]) == trial["images"]
    settings = params.load(root / "params.yaml")
    decoder = settings.runs[name].decoder
    module = load_decoder(decoder)
    config = params.decoder_config(settings, name, module.Config)
    subjects = ["subj01"] if module.Decoder.trains_alone(config) else ["subj01", "subj02"]
    described = {
        "decoder": decoder,
        "width_D": 128,
        "config": dataclasses.asdict(config),
        "n_training_images": dict.fromkeys(subjects, 2250),
    }
    assert is_converged(described, study)
    assert not is_converged(described | {"width_D": 768}, study)
