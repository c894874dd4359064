"""Studies that score reconstructions: units, intervals, titles and labels of their tables and
curves.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.stages.report import studies
from fmri2clip.stages.report.document import Figure, Score, Table

TWO_WAY, OTHER_WAY = (
    "strict-v1.clip.image_given_reconstruction",
    "strict-v1.clip.reconstruction_given_image",
)
PIXCORR, EFFNET = "strict-v1.pixcorr", "strict-v1.effnet"
METRICS = [PIXCORR, TWO_WAY, OTHER_WAY, EFFNET, "strict-v1.brain_correlation.all"]


@pytest.fixture
def picture_study(study: dict[str, Any]) -> dict[str, Any]:
    """A study of two reconstructions, all of whose numbers are the same."""
    number = {"value": 0.6543, "low": 0.6012, "high": 0.7}
    difference = {
        "value": -0.0512,
        "low": -0.08,
        "high": -0.02,
        "n_positive": 0,
        "n_subjects": 1,
    }
    runs = {name: dict.fromkeys(METRICS, number) for name in ("pictures/a", "pictures/b")}
    compared = {
        "title": "a - b",
        "a": ["w1"],
        "run_a": "pictures/a",
        "b": ["w1"],
        "run_b": "pictures/b",
    }
    return {
        **study,
        "metrics": METRICS,
        "params": {"pictures.n_images": 150, "evaluation.seed": 0},
        "variants": {"w1": {"overrides": ["world.seed=1"], "params": {}, "runs": runs}},
        "comparisons": [{**compared, "metrics": dict.fromkeys(METRICS, difference)}],
    }


def make_tables(study: dict[str, Any], folder: Path) -> list[Table]:
    return [block for block in studies.make_study("s", study, folder) if isinstance(block, Table)]


def test_cells_keep_unit_and_interval(picture_study: dict[str, Any], tmp_path: Path) -> None:
    variants, differences = make_tables(picture_study, tmp_path)
    shown = dict(zip(variants.columns, variants.rows[0].cells, strict=True))
    percent, plain = Score(65.43, 60.12, 70.0), Score(0.6543, 0.6012, 0.7, digits=3)
    expected = {
        "PixCorr": plain,
        "CLIP, two-way (%)": percent,
        "CLIP, two-way, reconstruction given image (%)": percent,
        "EffNet-B distance (lower is better)": plain,
        "brain correlation, `all`": plain,
    }
    assert list(shown)[3:] == list(expected)
    for title, score in expected.items():
        found = shown[title]
        assert isinstance(found, Score)
        assert (found.text(), found.interval()) == (score.text(), score.interval())
    compared = {
        t: c[0].text()
        for t, c in zip(differences.columns[2:], differences.rows[0].cells[2:], strict=True)
    }
    assert compared["CLIP, two-way (points)"] == "\N{MINUS SIGN}5.1"
    assert (
        compared["PixCorr"]
        == compared["EffNet-B distance (lower is better)"]
        == "\N{MINUS SIGN}0.051"
    )


def test_title_names_a_unit_of_all_columns_only(
    picture_study: dict[str, Any], tmp_path: Path
) -> None:
    assert [table.title for table in make_tables(picture_study, tmp_path)] == [
        "s: variants",
        "s: paired differences",
    ]
    shares = {**picture_study, "metrics": [TWO_WAY, "retrieval.image_given_brain.top1"]}
    variants, differences = make_tables(shares, tmp_path)
    assert (variants.title, differences.title) == (
        "s: variants (%)",
        "s: paired differences (points)",
    )
    assert variants.columns[3:] == ("CLIP, two-way", "image given brain, n-way top-1")


def test_label_names_protocol_images_and_stand_ins(
    picture_study: dict[str, Any], tmp_path: Path
) -> None:
    for table in make_tables(picture_study, tmp_path):
        assert table.label.count("strict-v1") == 1
        for words in ("by NSD id, 150.", "AlexNet and CLIP are stand-ins.", "chance 50 %"):
            assert words in table.label
    assert "lower is better, so a negative difference" in table.label
    real = {**picture_study, "params": {"dataset.source": "s3", "pictures.n_images": 0}}
    label = studies.label_study(real)
    assert "stand-ins" not in label and "all test images" in label
    assert "Protocol" not in studies.label_study({**picture_study, "metrics": ["zero_shot.top1"]})


def test_two_protocols_are_told_apart(picture_study: dict[str, Any], tmp_path: Path) -> None:
    both = {**picture_study, "metrics": [PIXCORR, "mindeye-2023.pixcorr"]}
    variants, _ = make_tables(both, tmp_path)
    assert variants.columns[3:] == ("PixCorr, strict-v1", "PixCorr, mindeye-2023")
    assert "Protocols `strict-v1` and `mindeye-2023`." in variants.label


def test_curves_name_the_unit_of_each_panel(picture_study: dict[str, Any], tmp_path: Path) -> None:
    placed = copy.deepcopy(picture_study)
    placed["variants"]["w1"]["x"] = 1
    panels = studies.collect_lines(placed)
    assert list(panels) == [
        "PixCorr",
        "CLIP, two-way (%)",
        "CLIP, two-way, reconstruction given image (%)",
    ]
    assert panels["PixCorr"]["pictures/a"].value == [0.6543]
    assert panels["CLIP, two-way (%)"]["pictures/a"].value == pytest.approx([65.43])
    assert any(isinstance(block, Figure) for block in studies.make_study("s", placed, tmp_path))
