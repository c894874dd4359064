"""reports/ gets copies of the numbers of data/, and eight numbers a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fmri2clip.artefacts.headline import PAINTED, SCORES
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Params, load
from fmri2clip.stages.report.publish import publish

TOP1 = {"image_given_brain": {"top1": 0.51234, "top1_ci95_low": 0.4}}
SCORE = {"retrieval": TOP1, "classification": {"map": 0.25}, "parameters": {"trained": 9.0}}
PICTURES = {"pixcorr": 0.123456, "clip": {"image_given_reconstruction": 0.75}}


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    return load(root / "params.yaml")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Numbers of some stages; of a run and a picture that params.yaml has."""
    paths = Paths(tmp_path)
    files: dict[Path, Any] = {
        paths.metrics("brainclip"): SCORE,
        paths.metrics("gone"): {},
        paths.reference_metrics("mini"): {"null.prior": {}},
        paths.roi_report("subj01"): {"n_voxels": 3},
        paths.picture_metrics("brainclip"): {"strict-v1": PICTURES, "mindeye-2023": {}},
        paths.picture_metrics("record"): {},
        paths.world: {"asserted": {}},
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    paths.curve("brainclip").parent.mkdir()
    paths.curve("brainclip").write_text("subject,epoch\nsubj01,0\n")
    return paths


def test_copies_are_the_files_of_data_and_old_ones_are_gone(params: Params, paths: Paths) -> None:
    old = paths.reports / "runs/old/metrics.json"
    old.parent.mkdir(parents=True)
    old.touch()
    publish(params, paths)
    expected = {
        "runs/brainclip/metrics.json": paths.metrics("brainclip"),
        "runs/brainclip/curve.csv": paths.curve("brainclip"),
        "references/mini.json": paths.reference_metrics("mini"),
        "rois/subj01.json": paths.roi_report("subj01"),
        "pictures/brainclip.json": paths.picture_metrics("brainclip"),
        "pictures/record.json": paths.picture_metrics("record"),
        "world.json": paths.world,
    }
    found = {path.relative_to(paths.reports).as_posix() for path in paths.reports.rglob("*.*")}
    assert found == {*expected, "summary/brainclip.json"}
    for name, source in expected.items():
        assert (paths.reports / name).read_bytes() == source.read_bytes()


def test_a_summary_has_percents_of_the_run_and_of_its_pictures(
    params: Params, paths: Paths
) -> None:
    publish(params, paths)
    assert json.loads((paths.reports / "summary/brainclip.json").read_text()) == {
        "image_top1": 51.23,
        "labels_map": 25.0,
        "painted_clip": 75.0,
        "painted_pixcorr": 0.1235,
    }
    assert len(SCORES | PAINTED) == 8
