"""Reads everything that a report shows.

What belongs to a run, clip, subject or reconstruction must be there; studies, verdicts and what
other stages analyse may not, and then the report leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.study import read_plans, read_results
from fmri2clip.core.params import MEAN_IMAGE, TARGET, Params, run_split

Tree = Mapping[str, Any]
STIMULUS = "stimulus"  # row of the pictures that were seen
BASELINES = ("ridge", "label_ridge")  # decoders that everybody knows
FURTHER = {  # name -> file of another stage, shown where it is there
    "weights": "data/parameters.json",
    "tokens": "data/tokens.json",
    "world": "data/world.json",
    "checks": "reports/data_checks.json",
    # Follows from params and reports/studies, so that it is no input of its own.
    "primary": "reports/primary.json",
    "areas": "benchmarks/roi_groups.json",
}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that was read, and what it was read by."""

    params: Params
    paths: Paths
    runs: Mapping[str, Tree]  # metrics.json; nulls only where theirs is there
    curves: Mapping[str, pd.DataFrame]  # decoders: curve.csv
    references: Mapping[str, Mapping[str, Tree]]  # clip -> row name -> metric tree
    rois: Mapping[str, Tree]  # subject -> counts
    pictures: Mapping[str, Tree]  # reconstruction -> its numbers by protocol
    record: Tree  # protocol -> networks, versions; {} without reconstructions
    hierarchy: Mapping[str, Tree]  # clip -> RSA and CKA by block
    further: Mapping[str, Tree]  # what is there of FURTHER
    plans: Mapping[str, Mapping[str, Any]]  # of studies, also of those not run
    studies: Mapping[str, Tree]

    @property
    def is_simulated(self) -> bool:
        """Whether the numbers come from the simulated NSD."""
        return self.params.dataset.source == "simulated"

    @property
    def data(self) -> str:
        """What measured data are called."""
        if self.params.dataset.source != "folder":
            return "Natural Scenes Dataset"
        return str(self.further.get("checks", {}).get("dataset", {}).get("name", "own data"))

    @property
    def clip(self) -> str:
        """The CLIP model of the first decoder, by which test images are labelled."""
        return next(iter(self.references))

    @property
    def protocol(self) -> str:
        """The main protocol of pictures."""
        return self.params.pictures.protocols[0]

    def kind(self, run: str) -> str:
        """Kind of a run: decoder, baseline or null."""
        if is_null(self.params, run):
            return "null"
        return "baseline" if self.params.runs[run].decoder in BASELINES else "decoder"

    def picture_kind(self, name: str) -> str:
        """Kind of a reconstruction, by its source."""
        if name == STIMULUS:
            return "reference"
        source = self.params.reconstructions[name].source
        if source in (TARGET, MEAN_IMAGE):
            return "reference" if source == TARGET else "null"
        return self.kind(source)


def is_null(params: Params, run: str) -> bool:
    """Whether a run is trained on permuted pairs."""
    return run_split(params, run).permute


def read_inputs(params: Params, paths: Paths) -> Inputs:
    """Read the files that the parameters name. A missing one raises ValueError that names it."""
    decoders = [name for name in params.runs if not is_null(params, name)]
    if not decoders:
        raise ValueError(
            "every run has split.permute: true, a null, so there is no decoder to report; set it "
            "in the split of single runs (runs.<name>.split)"
        )
    nulls = [name for name in params.runs if is_null(params, name)]
    nulls = [name for name in nulls if paths.metrics(name).is_file()]
    clips = sorted({params.runs[name].clip for name in decoders})
    further = {name: paths.root / file for name, file in FURTHER.items()}
    blocks = {clip: paths.hierarchy(clip) for clip in params.clips}
    # Empty where the data are too few for it.
    hierarchy = {clip: read_json(path) for clip, path in blocks.items() if path.is_file()}
    results = read_results(paths.reports / "studies")
    studies = {name: study for name, study in results.items() if is_of_data(study, params)}
    read = {name: read_json(path) for name, path in further.items() if path.is_file()}
    if any(
        one["study"] not in studies for one in read.get("primary", {}).values() if "value" in one
    ):
        del read["primary"]
    return Inputs(
        params=params,
        paths=paths,
        runs={name: read_json(paths.metrics(name)) for name in (*decoders, *nulls)},
        curves={name: read_curve(paths.curve(name)) for name in decoders},
        references={clip: read_json(paths.reference_metrics(clip)) for clip in clips},
        rois={subject: read_json(paths.roi_report(subject)) for subject in params.subjects},
        pictures=_read_pictures(params, paths),
        record=_read_record(params, paths.picture_metrics("record")),
        hierarchy={clip: tree for clip, tree in hierarchy.items() if tree},
        further=read,
        plans=read_plans(paths.root / "studies"),
        studies=studies,
    )


def is_of_data(study: Tree, params: Params) -> bool:
    """Whether a study was made on data of the same source: of the same folder if it is one; if
    they are simulated, of the same world, or of worlds that its variants name.
    """
    source = params.dataset.source
    if study["params"].get("dataset.source", "simulated") != source:
        return False
    if source == "folder":
        return bool(study["params"].get("dataset.folder") == params.dataset.folder)
    return source != "simulated" or study["params"].get("world.seed") in (None, params.world.seed)


def list_worlds(study: Tree) -> list[int]:
    """Seeds of the simulated worlds that a study was made on."""
    parts = [study["params"], *(v.get("params", {}) for v in study["variants"].values())]
    return sorted({part["world.seed"] for part in parts if "world.seed" in part})


def say_worlds(params: Params, seeds: Sequence[int]) -> str:
    """'development world, seed 1', 'reporting worlds, seeds 201 to 206', or both."""
    said = []
    for role in ("development", "reporting"):
        own = [seed for seed in seeds if (seed in params.primary.worlds) == (role == "reporting")]
        if len(own) == 1:
            said.append(f"{role} world, seed {own[0]}")
        elif own:
            is_range = own == list(range(own[0], own[-1] + 1))
            listed = f"{own[0]} to {own[-1]}" if is_range else ", ".join(map(str, own))
            said.append(f"{role} worlds, seeds {listed}")
    return "; ".join(said)


def _read_pictures(params: Params, paths: Paths) -> dict[str, Tree]:
    """Of every reconstruction, and of the stimuli where they were measured."""
    names = params.reconstructions
    trees: dict[str, Tree] = {name: read_json(paths.picture_metrics(name)) for name in names}
    path = paths.picture_metrics(STIMULUS)
    if trees and STIMULUS not in trees and path.is_file():
        trees[STIMULUS] = read_json(path)
    return trees


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


def read_curve(path: Path) -> pd.DataFrame:
    """A row for each subject and epoch, with losses and validation scores as fractions."""
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; the report needs it: run the train stage (dvc repro)"
        )
    table = pd.read_csv(path)
    if not {"subject", "epoch"} <= set(table.columns):
        raise ValueError(
            f"{path} has columns {', '.join(table.columns)}; subject and epoch are needed: run "
            "train again"
        )
    return table
