"""The table of weights and the table of tokens: numbers of their files, and what is said where
there is no file.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.decoders.brainmclip.decoder import Config
from fmri2clip.stages.count_parameters.brainmclip import Sizes, count
from fmri2clip.stages.count_parameters.settings import nsd_config
from fmri2clip.stages.report import parameters
from pipeline import count_parameters

PRESET = Path(__file__).parents[3] / "presets" / "nsd.yaml"


@pytest.fixture
def weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Any, root: Path
) -> dict[str, Any]:
    """What the stage writes."""
    folder = tmp_path / "stage"
    shutil.copytree(root / "presets", folder / "presets")
    monkeypatch.chdir(folder)
    count_parameters.count_parameters(project.params)
    return json.loads((folder / "data/parameters.json").read_text())


def test_table_is_that_of_the_modules(weights: dict[str, Any], project: Any) -> None:
    table = parameters.make_table(weights)
    expected = count(nsd_config(project.params, "brainmclip", Config, PRESET), Sizes())
    assert table.rows[0].cells[2] == "-"  # heads that predict components
    cells = dict(zip(table.columns, table.rows[0].cells, strict=True))
    assert cells["deployed"] == f"{expected['deployed'] / 1e6:.1f}" and cells["trained"] == "154.5"
    assert cells["fMRI decoders"] == f"{(expected['trained'] - expected['deployed']) / 1e6:.1f}"
    low_rank = dict(zip(table.columns, table.rows[1].cells, strict=True))
    assert (low_rank["hidden"], low_rank["rank"]) == ("2048", "192")
    assert low_rank["trained"] == "379.0"
    against = [cells[name].text() for name in table.columns[5:7]]
    assert against == [
        f"{100 - expected['deployed'] / total:.1f}" for total in (12_000_000, 22_272_948.28)
    ]
    assert "MindEye1" in table.columns[5] and "MindEye2" in table.columns[6]
    assert "1.20 B" in table.label and "2,227 M" in table.label
    assert sum(row.cells[2] == "full" for row in table.rows) == 4
    assert table.rows[-1].cells[0] == "paper (abstract): 71.7 % fewer" and set(
        table.rows[-1].cells[1:]
    ) == {"-"}


def test_rows_that_reach_the_claim_are_counted(weights: dict[str, Any]) -> None:
    said = parameters.describe_reduction(weights)
    assert "'default, components' deploys 95.4 million weights, 92.1 % fewer than MindEye1" in said
    assert "'full-rank heads'" not in said and "(4 of 7 rows)" in said
    weights["rows"][0]["reduction_mindeye1_vae"] = 0.7
    assert "(3 of 7 rows)" in parameters.describe_reduction(weights)


def test_weights_stand_in_both_reports_or_are_missing(
    fresh: Any, weights: dict[str, Any], summary: str
) -> None:
    assert "run the `count_parameters` stage" in re.sub(r"[\s>]+", " ", summary)
    fresh.write_json("data/parameters.json", weights)
    for text in fresh.write():
        plain = re.sub(r"\s+", " ", text)
        assert "15,724 voxels" in plain and "our choice of heads" in plain and "1,017.0" in plain
        assert "count_parameters" not in text


def test_tokens_are_shown_for_the_runs_that_have_them(fresh: Any, summary: str) -> None:
    assert "Detail and semantic tokens" not in summary
    path = fresh.root / "data/scores/brainclip.json"
    tree = json.loads(path.read_text())
    score = {"top1": 0.1234, "top1_ci95_low": 0.1, "top1_ci95_high": 0.15}
    tree["retrieval_detail"] = {"image_given_brain": score}
    tree["retrieval_tokens"] = {"fused": {"image_given_brain": {**score, "top1": 0.3}}}
    tree["readout_detail"] = {"size": 0.5}
    tree["readout"] = {"colour": -0.016, "colour_ci95_low": -0.03, "colour_ci95_high": 0.01}
    tree["reference"]["noise_free"]["retrieval_detail"] = {"image_given_brain": {"top1": 0.75}}
    path.write_text(json.dumps(tree))
    page, brief = fresh.write()
    minus, space = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
    cells = read_cells(brief, "Detail and semantic tokens")
    names = [f"{name} tokens, image given brain top-1" for name in ("fused", "detail")]
    assert cells[0] == ["row", *names]
    assert ["`brainclip`", f"30.0 [10.0,{space}15.0]", f"12.3 [10.0,{space}15.0]"] in cells
    assert ["`reference.noise_free, brainclip`", "-", "75.0"] in cells
    assert not [row for row in cells if "ridge" in row[0]]
    assert cells[-1] == ["chance level", "5.0", "5.0"]
    look = read_cells(brief, "Read-out of the picture's look")
    assert look[0] == ["row", "colour", "size, from detail tokens"]
    assert look[-1] == ["`brainclip`", f"{minus}1.6 [{minus}3.0,{space}1.0]", "50.0"]
    assert "Detail and semantic tokens" in page


def read_cells(brief: str, title: str) -> list[list[str]]:
    lines = brief[brief.index(f"**{title}") :].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
