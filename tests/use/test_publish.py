from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

import fmri2clip
from fmri2clip.artefacts.card import write_card
from fmri2clip.artefacts.card_text import Score
from fmri2clip.artefacts.paths import Paths
from fmri2clip.use.publish import publish
from tests.model_folder import write_ridge, write_shared

SCORE = Score(metric="classification.map", label="mAP", value=0.25, low=0.2, high=0.3, null=0.1)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Runs demo, of subj01, and many, one decoder for subj01 and subj02, with cards."""
    write_ridge(tmp_path / "models/demo/subj01")
    write_shared(tmp_path / "models/many")
    for run, subject in (("demo", "subj01"), ("many", "subj01"), ("many", "subj02")):
        write_card(tmp_path / "models" / run, subject)
    return Paths(tmp_path)


def test_the_folder_decodes_and_holds_nothing_else(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "models/many/subj01/notes.pkl").write_bytes(b"")
    (tmp_path / "models/many/judge").mkdir()
    lines = publish("many", paths, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        "shared",
        "subj01",
        "subj02",
    }
    assert not list((tmp_path / "out").rglob("*.pkl"))
    betas_IV = np.random.default_rng(0).standard_normal((3, 30))
    one, two = (fmri2clip.load(at / "subj02") for at in (tmp_path / "out", paths.model("many")))
    assert np.array_equal(one.decode(betas_IV).probabilities, two.decode(betas_IV).probabilities)
    assert lines[0].endswith("holds 2 models of many; nothing was uploaded")
    assert lines[1].startswith("without test scores: subj01, subj02")
    assert "hf upload OWNER/NAME" in lines[-1]


def test_the_cards_with_scores_travel(paths: Paths, tmp_path: Path) -> None:
    write_card(paths.model("demo"), "subj01", paths.card("demo", "subj01"), [SCORE])
    lines = publish("demo", paths, tmp_path / "out")
    assert not any("without test scores" in line for line in lines)
    own = ModelCard.load(tmp_path / "out/subj01/README.md")
    whole = ModelCard.load(tmp_path / "out/README.md")
    assert "| mAP | 25.0 |" in own.text
    assert "| [subj01](subj01/README.md) | mAP 25.0 [20.0, 30.0], no brain 10.0 |" in whole.text
    assert [r.metric_value for r in whole.data.eval_results] == [0.25]
    assert whole.data.license == "mit" and "fmri2clip" not in whole.data.to_dict()
    assert fmri2clip.load(tmp_path / "out/subj01").card.scores


def test_what_cannot_be_published_is_said_and_nothing_written(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose from the runs that are trained: demo, many"):
        publish("dmeo", paths, tmp_path / "out")
    (tmp_path / "models/demo/subj01/README.md").unlink()
    with pytest.raises(ValueError, match="subj01 has no card of its weights; train it again"):
        publish("demo", paths, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.tmp").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="out exists already"):
        publish("many", paths, tmp_path / "out")
