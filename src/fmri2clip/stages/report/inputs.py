"""Reads everything that a report shows.

What is read of every run, clip, subject and reconstruction must be there; studies, world,
hierarchy, tokens, counts of weights and numbers of the stimuli may not. Runs trained on permuted
pairs are nulls: only what is said about pictures shows what became of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import MEAN_IMAGE, TARGET, Params, Reconstruction, Run, run_split
from fmri2clip.figures.plots import Curve

Tree = Mapping[str, Any]
STIMULUS = "stimulus"  # row of the pictures that were seen


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is known of one run.

    metrics: tree of metrics.json; curves: subject -> validation scores in percent.
    """

    name: str
    run: Run
    metrics: Tree
    curves: Mapping[str, Curve]
    predictions: Path


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """What is known of one reconstruction.

    kind: null, decoder or reference; tree: its numbers by protocol.
    """

    name: str
    entry: Reconstruction
    kind: str
    tree: Tree
    pictures: Path  # of kind 'reconstructions'
    scores: Path  # of single images, of kind 'predictions'


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that was read, and what it was read by."""

    params: Params
    runs: Mapping[str, RunResult]  # decoders, no nulls
    references: Mapping[str, Mapping[str, Tree]]  # clip -> row name -> metric tree
    rois: Mapping[str, Tree]  # subject -> counts
    world: Tree | None  # asserted figures of the simulated world
    world_pictures: Mapping[str, Path]  # those of scenes, areas, ncsnr that exist
    studies: Mapping[str, Tree]
    hierarchy: Mapping[str, Tree]  # clip -> RSA and CKA by block, of those that were analysed
    hierarchy_pictures: Mapping[str, Path]
    weights: Tree | None  # of the network at real size
    tokens: Mapping[str, Tree]  # run -> what its subject tokens do, of those that were inspected
    pictures: Mapping[str, PictureResult]  # by reconstruction, in the order of params
    stimulus: Tree | None  # numbers of the stimuli themselves in place of reconstructions
    picture_record: Tree  # protocol -> networks, versions, what is missing; {} if none was made
    paths: Paths


def read_inputs(params: Params, paths: Paths) -> Inputs:
    """Read the files of all runs, clips, subjects and reconstructions that the parameters name.

    A missing one raises ValueError.
    """
    reports = paths.reports
    decoders = list_decoders(params)
    clips = sorted({run.clip for run in decoders.values()})
    world_pictures = {name: reports / f"{name}.png" for name in ("scenes", "areas", "ncsnr")}
    blocks = {clip: paths.hierarchy(clip) for clip in params.clips}
    block_pictures = {clip: path.with_suffix(".png") for clip, path in blocks.items()}
    return Inputs(
        params=params,
        runs={name: _read_run(name, run, paths) for name, run in decoders.items()},
        references={clip: read_json(paths.reference_metrics(clip)) for clip in clips},
        rois={subject: read_json(paths.roi_report(subject)) for subject in params.subjects},
        world=read_json(paths.world) if paths.world.is_file() else None,
        world_pictures={name: path for name, path in world_pictures.items() if path.is_file()},
        studies={
            path.stem: read_json(path) for path in sorted((reports / "studies").glob("*.json"))
        },
        hierarchy={clip: read_json(path) for clip, path in blocks.items() if path.is_file()},
        hierarchy_pictures={clip: path for clip, path in block_pictures.items() if path.is_file()},
        weights=read_json(paths.parameters) if paths.parameters.is_file() else None,
        tokens=_read_tokens(paths.tokens, decoders),
        pictures=_read_pictures(params, paths),
        stimulus=_read_stimulus(params, paths.picture_metrics(STIMULUS)),
        picture_record=_read_record(params, paths.picture_metrics("record")),
        paths=paths,
    )


def list_decoders(params: Params) -> dict[str, Run]:
    """The runs that are no nulls. Raises ValueError if all are."""
    decoders = {
        name: run for name, run in params.runs.items() if not run_split(params, name).permute
    }
    if not decoders:
        raise ValueError(
            "every run has split.permute: true, a null, so there is no decoder to report; set it "
            "in the split of single runs (runs.<name>.split)"
        )
    return decoders


def find_kind(params: Params, name: str) -> str:
    """Kind of a reconstruction: null, decoder or reference."""
    source = params.reconstructions[name].source
    if source == TARGET:
        return "reference"
    return "null" if source == MEAN_IMAGE or run_split(params, source).permute else "decoder"


def _read_pictures(params: Params, paths: Paths) -> dict[str, PictureResult]:
    return {
        name: PictureResult(
            name=name,
            entry=entry,
            kind=find_kind(params, name),
            tree=read_json(paths.picture_metrics(name)),
            pictures=paths.reconstructions(name),
            scores=paths.picture_scores(name),
        )
        for name, entry in params.reconstructions.items()
    }


def _read_stimulus(params: Params, path: Path) -> Tree | None:
    """None without reconstructions, without the file, or where a reconstruction has that name."""
    there = (
        bool(params.reconstructions) and path.stem not in params.reconstructions and path.is_file()
    )
    return read_json(path) if there else None


def _read_record(params: Params, path: Path) -> Tree:
    """Facts of every protocol of params."""
    if not params.reconstructions:
        return {}
    record = read_json(path)
    for protocol in params.pictures.protocols:
        if protocol not in record:
            raise ValueError(
                f"{path} has no protocol {protocol}, it has {', '.join(record)}; run "
                "score_pictures again"
            )
    return record


def _read_run(name: str, run: Run, paths: Paths) -> RunResult:
    return RunResult(
        name=name,
        run=run,
        metrics=read_json(paths.metrics(name)),
        curves=read_curves(paths.curve(name)),
        predictions=paths.predictions(name),
    )


def _read_tokens(path: Path, runs: Mapping[str, Run]) -> dict[str, Tree]:
    """Analyses of these runs; none where the file is missing."""
    found = read_json(path) if path.is_file() else {}
    return {name: tree for name, tree in found.items() if name in runs}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a missing or broken file raises ValueError that names it."""
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; the report needs it: run the stage that writes it (dvc repro)"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); delete it and run its stage again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, a JSON object is needed; run its stage again"
        )
    return content


def read_curves(path: Path) -> dict[str, Curve]:
    """curve.csv -> subject -> Curve with every column that starts with 'val_', in percent."""
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; the report needs it: run the train stage (dvc repro)"
        )
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        rows = list(reader)
    if not {"subject", "epoch"} <= set(columns):
        raise ValueError(
            f"{path} has columns {', '.join(columns)}; subject and epoch are needed: run train "
            "again"
        )
    scores = [column for column in columns if column.startswith("val_")]
    return {
        subject: _curve([row for row in rows if row["subject"] == subject], scores)
        for subject in dict.fromkeys(row["subject"] for row in rows)
    }


def _curve(rows: list[dict[str, str]], columns: list[str]) -> Curve:
    def numbers(column: str) -> np.ndarray:
        return np.array([float(row[column]) if row[column] else np.nan for row in rows])

    return Curve(numbers("epoch"), {column: 100 * numbers(column) for column in columns})
