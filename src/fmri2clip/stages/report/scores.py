"""All scores as one tidy table: a row for each thing that was scored, metric and subject."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fmri2clip.core.files import flatten
from fmri2clip.stages.report.catalogue import Catalogue, Cell, Metric, Score
from fmri2clip.stages.report.inputs import STIMULUS, Inputs

MEAN = ""  # in place of a subject: the mean over subjects
NOISE_FREE = "reference.noise_free."
IMAGE = "retrieval.image_given_brain.top1"
HARD = "retrieval_hard.image_given_brain.top1"
CAPTION = "retrieval.text_given_brain.top1"
CATEGORY = "zero_shot.top1"
MAP = "classification.map"
WEIGHTS = "parameters.one_subject"
DECODING = (IMAGE, HARD, CAPTION, CATEGORY, MAP)  # what runs are compared by
TITLES = {  # rows that are no runs
    "baseline.nearest_brain": "nearest training response copied",
    "baseline.nearest_oracle": "nearest training embedding copied",
    "null.prior": "no brain: mean of training",
    "null.all_negative": "no category in any picture",
    "reference.target": "true CLIP embedding",
    "reference.repeats": "response searched among repeats",
    "reference.ideal_observer": "ideal observer of the voxels",
    "reference.ideal_observer_diagonal": "ideal observer, noise variances alone",
    STIMULUS: "the seen picture itself",
}


@dataclass(frozen=True)
class Scores:
    """The tidy table, and ways to look into it.

    table: columns row, kind (decoder, baseline, null, reference), metric, subject ('' is the mean),
    value, low, high, in the units of the files.
    """

    table: pd.DataFrame
    catalogue: Catalogue
    found: Mapping[tuple[str, str, str], Score]
    kinds: Mapping[str, str]  # row -> kind
    decoders: Mapping[str, str]  # run -> its decoder

    def get(self, row: str, metric: str, subject: str = MEAN) -> Score | None:
        """The score, or None."""
        return self.found.get((row, metric, subject))

    def cell(self, row: str, metric: str, subject: str = MEAN) -> Cell | None:
        """The score in print, or None."""
        score = self.get(row, metric, subject)
        return None if score is None else self.metric(metric).show(score)

    def metric(self, name: str) -> Metric:
        """The catalogue's entry."""
        return self.catalogue.find(name)

    def subjects(self, row: str, metric: str) -> list[str]:
        """Whose scores a row has."""
        return [s for r, m, s in self.found if (r, m) == (row, metric) and s != MEAN]

    def rows(self, metric: str, *kinds: str) -> list[str]:
        """Rows of these kinds that have the metric, in the order of params.

        A run that scores by construction as an earlier one of the same decoder, in every subject,
        is left out.
        """
        seen: set[tuple[object, ...]] = set()
        rows = []
        for row in self.kinds:
            score = self.get(row, metric)
            if self.kinds[row] not in kinds or score is None:
                continue
            subjects = self.subjects(row, metric)
            decoder = self.decoders.get(row, row)
            own = (decoder, score, *(self.found[row, metric, s] for s in subjects))
            if own not in seen:
                rows.append(row)
            seen.add(own)
        return rows

    def best(self, metric: str, *kinds: str) -> str | None:
        """The row with the best score, or None where there is none; the first of equals."""
        return next(iter(self.sort(self.rows(metric, *kinds), metric)), None)

    def sort(self, rows: Iterable[str], metric: str) -> list[str]:
        """The best score first; of equals the first."""
        sign = -1 if self.metric(metric).higher else 1
        return sorted(rows, key=lambda row: sign * self.found[row, metric, MEAN].value)


def make_scores(inputs: Inputs) -> Scores:
    """Everything that was scored."""
    columns = ["row", "kind", "metric", "subject", "value", "low", "high"]
    table = pd.DataFrame(_list_rows(inputs), columns=columns)
    table = table.drop_duplicates(["row", "metric", "subject"])
    found = {
        (row, metric, subject): Score(value, low, high)
        for row, _, metric, subject, value, low, high in table.itertuples(index=False)
    }
    kinds = dict(zip(table["row"], table["kind"], strict=True))
    decoders = {name: inputs.params.runs[name].decoder for name in inputs.runs}
    return Scores(table, make_catalogue(inputs), found, kinds, decoders)


def make_catalogue(inputs: Inputs) -> Catalogue:
    """With the sizes of this run's galleries."""
    evaluation = inputs.params.evaluation
    chances = [tree["zero_shot"]["chance"] for tree in inputs.runs.values() if "zero_shot" in tree]
    left_out = [
        tree["unseen"]["zero_shot"]["only"]["chance"]
        for tree in inputs.runs.values()
        if "unseen" in tree
    ]
    sizes = {
        "n_way": evaluation.n_way,
        "n_hard": evaluation.n_hard + 1,
        "n_images": next(iter(inputs.rois.values()))["test"]["images"],
        "n_categories": round(1 / chances[0]) if chances else 0,
        "n_unseen": len(left_out) / sum(left_out) if left_out else 0,
    }
    return Catalogue(sizes)


def _list_rows(inputs: Inputs) -> Iterator[tuple[Any, ...]]:
    for name, tree in inputs.runs.items():
        for metric, *rest in _list_numbers(tree):
            if metric.startswith(NOISE_FREE):
                plain = metric.removeprefix(NOISE_FREE)
                yield f"{name}, noise-free", "reference", plain, *rest
            else:
                yield name, inputs.kind(name), metric, *rest
        for subject, branch in {MEAN: tree, **tree.get("subjects", {})}.items():
            if weights := count_weights(branch.get("parameters", {})):
                yield name, inputs.kind(name), WEIGHTS, subject, weights, math.nan, math.nan
    for trees in inputs.references.values():
        for name, tree in trees.items():
            # A baseline that is not trained is no rival for the best of those that are.
            kind = "null" if name.startswith("null.") else "reference"
            for row in _list_numbers(tree):
                yield TITLES.get(name, name), kind, *row
    for name, tree in inputs.pictures.items():
        for row in _list_numbers(tree):
            yield TITLES.get(name, name), inputs.picture_kind(name), *row


def count_weights(counts: Mapping[str, float]) -> float:
    """Weights that decode one subject, of the counts of a model; 0 where it has none.

    What is deployed of a model of several subjects holds the weights of each.
    """
    if "per_subject" in counts:
        return float(counts["per_subject"] + counts["shared"])
    return float(counts.get("deployed", 0))


def _list_numbers(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float, float]]:
    """Metric, subject, value, low and high of every number: means, then those of each subject."""
    means = {key: node for key, node in tree.items() if key != "subjects"}
    for subject, branch in {MEAN: means, **tree.get("subjects", {})}.items():
        flat = flatten(branch)
        for metric, value in flat.items():
            if "_ci95_" in metric or not isinstance(value, int | float):
                continue
            ends = (flat.get(f"{metric}_ci95_{end}", math.nan) for end in ("low", "high"))
            yield metric, subject, float(value), *ends
