"""Model cards, read by the hub's own library."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from fmri2clip.artefacts import model
from fmri2clip.artefacts.card import find_card, read_card, write_card
from fmri2clip.artefacts.card_text import Score
from fmri2clip.core.files import sha256_file
from tests.model_folder import N_VOXELS, write_ridge, write_shared

TOP1 = Score(
    metric="retrieval.image_given_brain.top1",
    label="image given brain",
    value=0.5625,
    low=0.5,
    high=0.61,
    null=0.003,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """models/demo with a model of subj01."""
    write_ridge(tmp_path / "models/demo/subj01")
    return tmp_path / "models/demo"


def rewrite(folder: Path, **changes: object) -> None:
    decoder, about = model.load(folder)
    model.save(folder, decoder, about | changes)


def test_training_writes_a_card_without_scores(run: Path) -> None:
    write_card(run, "subj01")
    card = ModelCard.load(run / "subj01/README.md")
    assert card.data.license == "mit" and card.data.library_name == "fmri2clip"
    assert card.data.eval_results is None and "Scores" not in card.text
    digest = sha256_file(run / "subj01/weights.safetensors")
    assert digest in card.text and f"| {N_VOXELS} of group all" in card.text
    assert "90 images for training, 10 for validation" in card.text
    assert "**Trained on simulated data.**" in card.text and "**A null.**" not in card.text
    assert "## What it must not be used for" in card.text and "Hoerl" in card.text
    before = (run / "subj01/README.md").read_bytes()
    write_card(run, "subj01")
    assert (run / "subj01/README.md").read_bytes() == before


def test_scores_are_those_that_the_hub_reads(run: Path, tmp_path: Path) -> None:
    write_card(run, "subj01", tmp_path / "scored.md", [TOP1])
    card = ModelCard.load(tmp_path / "scored.md")
    index = [{"name": "x", "results": r["results"]} for r in read_index(tmp_path / "scored.md")]
    (result,) = model_index_to_eval_results(index)[1]
    assert (result.metric_type, result.metric_value) == (TOP1.metric, 0.5625)
    assert result.metric_args == {"ci95": [0.5, 0.61], "no_brain": 0.003}
    assert "| image given brain | 56.2 | 50.0 to 61.0 | 0.3 | - |" in card.text
    assert not (run / "subj01/README.md").exists()


def read_index(path: Path) -> list[dict]:
    card = read_card(path)
    assert card is not None
    return card.front["model-index"]


def test_the_card_with_scores_is_preferred_if_it_is_of_these_weights(run: Path) -> None:
    digest = sha256_file(run / "subj01/weights.safetensors")
    assert find_card(run / "subj01", digest) is None
    write_card(run, "subj01")
    scored = run.parents[1] / "reports/cards/demo/subj01.md"
    write_card(run, "subj01", scored, [TOP1])
    assert len(find_card(run / "subj01", digest).scores) == 1
    scored.write_text(scored.read_text().replace(digest, "0" * 64))
    assert find_card(run / "subj01", digest).scores == []
    (run / "subj01/README.md").write_text("# My model\n")
    assert find_card(run / "subj01", digest) is None


def test_terms_are_those_of_the_data(run: Path) -> None:
    rewrite(run / "subj01", dataset={"source": "s3", "preparation": "betas_assumehrf"})
    write_card(run, "subj01")
    card = ModelCard.load(run / "subj01/README.md")
    assert (card.data.license, card.data["license_name"]) == ("other", "nsd-terms")
    assert re.search("forbid to pass on the data.*ask before you pass it on", card.text)
    assert "simulated" not in card.text and "Allen" in card.text
    rewrite(run / "subj01", dataset={"source": "folder", "preparation": ""}, split={"permute": 1})
    write_card(run, "subj01")
    text = (run / "subj01/README.md").read_text()
    assert "license: other" in text and "ask whom the data came from" in text
    assert "**A null.**" in text


def test_a_model_for_all_has_a_card_for_each(tmp_path: Path) -> None:
    write_shared(tmp_path)
    write_card(tmp_path, "subj02")
    card = ModelCard.load(tmp_path / "subj02/README.md")
    assert "how likely the picture shows each category" in card.text and "subj02" in card.text
    assert sha256_file(tmp_path / "shared/weights.safetensors") in card.text
