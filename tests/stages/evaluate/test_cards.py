from __future__ import annotations

from pathlib import Path

import pytest

from fmri2clip.artefacts.card import read_card
from fmri2clip.core.files import write_json
from fmri2clip.stages.evaluate.cards import list_scores, write_cards
from tests.model_folder import write_ridge
from tests.scoring_world import World


def branch(value: float) -> dict:
    top1 = {"top1": value, "top1_ci95_low": value - 0.1, "top1_ci95_high": value + 0.1}
    return {"retrieval": {"image_given_brain": top1}}


METRICS = {"subjects": {"subj01": branch(0.5) | {"trials": {"1": branch(0.3)}}, "subj02": {}}}
REFERENCES = {"null.prior": {"subjects": {"subj01": branch(0.05)}}, "reference.target": {}}


def test_scores_are_the_subjects_own_beside_what_is_no_decoder() -> None:
    found = list_scores(METRICS, REFERENCES, "subj01", 20)
    values = [(s.value, round(s.low, 3), round(s.high, 3), s.null, s.target) for s in found]
    assert values == [(0.5, 0.4, 0.6, 0.05, None), (0.3, 0.2, 0.4, 0.05, None)]
    assert [s.label for s in found] == [
        "image given brain, top-1 of 20",
        "image given brain, top-1 of 20, one trial",
    ]
    assert list_scores(METRICS, REFERENCES, "subj02", 20) == []


def test_cards_lie_in_the_reports_and_no_model_changes(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings = world.settings(("demo",), ("subj01",))
    write_ridge(world.models / "demo/subj01")
    before = {path: path.read_bytes() for path in world.models.rglob("*.*")}
    with pytest.raises(ValueError, match=r"tiny\.json does not exist; run the references stage"):
        write_cards("demo", settings, world.at, METRICS)
    write_json(world.at.reference_metrics("tiny"), REFERENCES)
    old = world.at.card("demo", "subj07")
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    write_cards("demo", settings, world.at, METRICS)
    assert [path.name for path in old.parent.iterdir()] == ["subj01.md"]
    assert [s["value"] for s in read_card(world.at.card("demo", "subj01")).scores] == [0.5, 0.3]
    assert {path: path.read_bytes() for path in world.models.rglob("*.*")} == before
