"""Reads everything that a report shows.

What is read of every run, clip and subject must be there; studies, world, hierarchy, tokens and counts of weights may
not.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.figures import Curve
from fmri2clip.params import Params, Run

Tree = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is known of one run. metrics: tree of metrics.json; curves: subject -> validation scores in percent."""

    name: str
    run: Run
    metrics: Tree
    curves: Mapping[str, Curve]
    predictions: Path


@dataclass(frozen=True, kw_only=True)
class Inputs:
    params: Params
    runs: Mapping[str, RunResult]
    references: Mapping[str, Mapping[str, Tree]]  # clip -> row name -> metric tree
    rois: Mapping[str, Tree]  # subject -> counts
    world: Tree | None  # asserted figures of the simulated world
    world_pictures: Mapping[str, Path]  # those of scenes, ncsnr that exist
    studies: Mapping[str, Tree]
    hierarchy: Mapping[str, Tree]  # clip -> RSA and CKA by block, of those that were analysed
    hierarchy_pictures: Mapping[str, Path]
    weights: Tree | None  # of the network at real size
    tokens: Mapping[str, Tree]  # run -> what its subject tokens do, of those that were inspected
    predictions_dir: Path
    models_dir: Path
    clip_dir: Path
    stimuli_path: Path

    def shared_path(self, clip: str) -> Path:
        """CLIP cache of the test images."""
        return self.clip_dir / clip / "shared.h5"

    def reference_path(self, clip: str) -> Path:
        """Per-image scores of baselines and references."""
        return self.predictions_dir / f"reference_{clip}.h5"


def read_inputs(
    params: Params,
    *,
    runs_dir: Path,
    references_dir: Path,
    studies_dir: Path,
    rois_dir: Path,
    world_json: Path,
    hierarchy_dir: Path,
    parameters_json: Path,
    tokens_json: Path,
    predictions_dir: Path,
    models_dir: Path,
    clip_dir: Path,
    stimuli_path: Path,
) -> Inputs:
    """Read the files of all runs, clips and subjects that the parameters name; a missing one raises ValueError."""
    clips = sorted({run.clip for run in params.runs.values()})
    pictures = {name: world_json.with_name(f"{name}.png") for name in ("scenes", "ncsnr")}
    blocks = {clip: hierarchy_dir / f"{clip}.json" for clip in params.clips}
    return Inputs(
        params=params,
        runs={name: _read_run(name, run, runs_dir / name, predictions_dir) for name, run in params.runs.items()},
        references={clip: read_json(references_dir / f"{clip}.json") for clip in clips},
        rois={subject: read_json(rois_dir / f"{subject}.json") for subject in params.subjects},
        world=read_json(world_json) if world_json.is_file() else None,
        world_pictures={name: path for name, path in pictures.items() if path.is_file()},
        studies={path.stem: read_json(path) for path in sorted(studies_dir.glob("*.json"))},
        hierarchy={clip: read_json(path) for clip, path in blocks.items() if path.is_file()},
        hierarchy_pictures={
            clip: path.with_suffix(".png") for clip, path in blocks.items() if path.with_suffix(".png").is_file()
        },
        weights=read_json(parameters_json) if parameters_json.is_file() else None,
        tokens=_read_tokens(tokens_json, params),
        predictions_dir=predictions_dir,
        models_dir=models_dir,
        clip_dir=clip_dir,
        stimuli_path=stimuli_path,
    )


def _read_run(name: str, run: Run, folder: Path, predictions_dir: Path) -> RunResult:
    return RunResult(
        name=name,
        run=run,
        metrics=read_json(folder / "metrics.json"),
        curves=read_curves(folder / "curve.csv"),
        predictions=predictions_dir / f"{name}.h5",
    )


def _read_tokens(path: Path, params: Params) -> dict[str, Tree]:
    """Analyses of the runs of params; none where the file is missing."""
    found = read_json(path) if path.is_file() else {}
    return {name: tree for name, tree in found.items() if name in params.runs}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a missing or broken file raises ValueError that names it."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; the report needs it: run the stage that writes it (dvc repro)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run its stage again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, a JSON object is needed; run its stage again")
    return content


def read_curves(path: Path) -> dict[str, Curve]:
    """curve.csv -> subject -> Curve with every column that starts with 'val_', in percent."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; the report needs it: run the train stage (dvc repro)")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        rows = list(reader)
    if not {"subject", "epoch"} <= set(columns):
        raise ValueError(f"{path} has columns {', '.join(columns)}; subject and epoch are needed: run train again")
    scores = [column for column in columns if column.startswith("val_")]
    return {
        subject: _curve([row for row in rows if row["subject"] == subject], scores)
        for subject in dict.fromkeys(row["subject"] for row in rows)
    }


def _curve(rows: list[dict[str, str]], columns: list[str]) -> Curve:
    def numbers(column: str) -> np.ndarray:
        return np.array([float(row[column]) if row[column] else np.nan for row in rows])

    return Curve(numbers("epoch"), {column: 100 * numbers(column) for column in columns})
