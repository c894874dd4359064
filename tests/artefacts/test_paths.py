"""Paths and dvc.yaml say the same: every output of a stage lies where Paths puts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fmri2clip.artefacts.paths import Paths, locate

PATHS = Paths()
OUTPUTS = {
    "extract_rois": [
        PATHS.train_betas("${item}"),
        PATHS.test_betas("${item}"),
        PATHS.voxels("${item}"),
        PATHS.noise_free("${item}"),
        PATHS.roi_report("${item}"),
    ],
    "cache_stimuli": [PATHS.stimuli("train"), PATHS.stimuli("test")],
    "cache_clip": [PATHS.clip_train("${key}", "s").parent, PATHS.clip_shared("${key}")],
    "components": [PATHS.clip_basis("${key}").parent],
    "select": [PATHS.selected("${key}")],
    "train": [PATHS.model("${key}"), PATHS.curve("${key}")],
    "evaluate": [PATHS.predictions("${key}"), PATHS.metrics("${key}"), PATHS.cards("${key}")],
    "reconstruct": [PATHS.reconstructions_folder],
    "score_pictures": [PATHS.picture_scores_folder],
    "references": [PATHS.reference_scores("${key}"), PATHS.reference_metrics("${key}")],
    "inspect_tokens": [PATHS.tokens],
    "count_parameters": [PATHS.parameters],
    "hierarchy": [
        PATHS.hierarchy("${key}"),
        PATHS.hierarchy("${key}").with_suffix(".png"),
    ],
}


@pytest.fixture(scope="module")
def stages(root: Path) -> dict[str, Any]:
    return YAML(typ="safe").load((root / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_those_of_dvc_yaml(name: str, stages: dict[str, Any]) -> None:
    stage = stages[name].get("do", stages[name])
    declared = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    names = {entry if isinstance(entry, str) else next(iter(entry)) for entry in declared}
    assert names == {path.as_posix() for path in OUTPUTS[name]}


def test_every_path_lies_below_the_root() -> None:
    at = Paths(Path("/copy"))
    for found in (at.raw, at.voxels("s"), at.clip_train("c", "s"), at.model("r"), at.metrics("r")):
        assert found.is_relative_to("/copy")
    elsewhere = Paths(Path("/copy"), nsd=Path("/disk/nsd"))
    assert elsewhere.raw == Path("/disk/nsd") and elsewhere.voxels("s") == at.voxels("s")


def test_scores_of_a_study_are_located_by_run_and_reconstruction() -> None:
    content = {"runs": {"r": {"clip": "c"}}, "pictures": {"clip": ""}, "clips": {"first": {}}}
    assert locate("r", content) == (
        "data/scores/r.json",
        "data/predictions/r.h5",
        "data/clip/c/shared.h5",
    )
    assert locate("pictures/x", content)[1:] == (
        "data/picture_scores/x.h5",
        "data/clip/first/shared.h5",
    )
