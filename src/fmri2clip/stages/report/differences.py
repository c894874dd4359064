"""Paired differences of runs and of reconstructions, from the scores of single images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fmri2clip.artefacts.scores import read_scores
from fmri2clip.core.params import Evaluation
from fmri2clip.metrics.statistics import Difference, Estimate, Memo, Run, paired_difference
from fmri2clip.metrics.summary import DECIMALS
from fmri2clip.stages.report.catalogue import Score
from fmri2clip.stages.report.inputs import Inputs, is_null
from fmri2clip.stages.report.scores import DECODING, TITLES

RIVAL = "baseline.nearest_brain"  # the one baseline without training
LOOKS = (  # of the main protocol, what reconstructions are compared by
    "pixcorr",
    "ssim",
    "alexnet2.image_given_reconstruction",
    "alexnet5.image_given_reconstruction",
    "inception.image_given_reconstruction",
    "clip.image_given_reconstruction",
    "effnet",
    "swav",
    "brain_correlation.all",
)
Found = Mapping[tuple[str, str], Mapping[str, Difference]]  # (a, b) -> metric -> a less b


@dataclass(frozen=True)
class Paired:
    """a less b. n_positive of n_subjects have the better a."""

    score: Score
    per_subject: Mapping[str, float]
    n_positive: int
    n_subjects: int


@dataclass(frozen=True)
class Differences:
    """Of the runs and of the reconstructions."""

    decoding: Found
    pictures: Found

    def get(self, a: str, b: str, metric: str) -> Paired | None:
        """a less b, or None where they were not compared."""
        for (first, second), by_metric in (*self.decoding.items(), *self.pictures.items()):
            if {first, second} == {a, b} and metric in by_metric:
                return _orient(by_metric[metric], 1 if first == a else -1)
        return None

    def to_json(self) -> dict[str, Any]:
        """The content of reports/differences.json, laid out as the comparisons of a study."""
        return {
            part: [_make_entry(pair, by_metric) for pair, by_metric in found.items()]
            for part, found in (("decoding", self.decoding), ("pictures", self.pictures))
        }


def _orient(found: Difference, sign: int) -> Paired:
    """The difference, or the opposite one."""
    ends = (sign * found.estimate.low, sign * found.estimate.high)
    low, high = ends[::sign]
    n = found.n_subjects
    return Paired(
        score=Score(sign * found.estimate.value, low, high),
        per_subject={subject: sign * one.value for subject, one in found.per_subject.items()},
        # Subjects without any difference are so rare that they are counted on one side.
        n_positive=found.n_positive if sign == 1 else n - found.n_positive,
        n_subjects=n,
    )


def compare_all(inputs: Inputs) -> Differences:
    """Every pair of decoders and baselines, and of reconstructions, nulls included."""
    return Differences(_compare_runs(inputs), _compare_pictures(inputs))


def _compare_runs(inputs: Inputs) -> dict[tuple[str, str], dict[str, Difference]]:
    params = inputs.params
    shared = {name: inputs.paths.clip_shared(run.clip) for name, run in params.runs.items()}
    runs = {
        name: read_scores(inputs.paths.predictions(name), shared[name])
        for name in inputs.runs
        if not is_null(params, name)
    }
    pairs = [((a, runs[a]), (b, runs[b])) for b, a in combinations(runs, 2)]
    for clip in inputs.references:
        rival = read_scores(
            inputs.paths.reference_scores(clip), inputs.paths.clip_shared(clip), RIVAL
        )
        pairs += [
            ((name, run), (TITLES[RIVAL], rival))
            for name, run in runs.items()
            if params.runs[name].clip == clip
        ]
    return compare_pairs(pairs, DECODING, params.evaluation)


def _compare_pictures(inputs: Inputs) -> dict[tuple[str, str], dict[str, Difference]]:
    kinds = {name: inputs.picture_kind(name) for name in inputs.params.reconstructions}
    shown = [name for name, kind in kinds.items() if kind in ("decoder", "baseline")]
    nulls = [name for name, kind in kinds.items() if kind == "null"]
    chosen = [*combinations(shown, 2), *((name, null) for null in nulls for name in shown)]
    shared = inputs.paths.clip_shared(inputs.clip)
    names = dict.fromkeys(name for pair in chosen for name in pair)
    runs = {name: read_scores(inputs.paths.picture_scores(name), shared) for name in names}
    metrics = [f"{inputs.protocol}.{look}" for look in LOOKS]
    pairs = [((a, runs[a]), (b, runs[b])) for a, b in chosen]
    return compare_pairs(pairs, metrics, inputs.params.evaluation)


def compare_pairs(
    pairs: Sequence[tuple[tuple[str, Run], tuple[str, Run]]],
    metrics: Iterable[str],
    evaluation: Evaluation,
) -> dict[tuple[str, str], dict[str, Difference]]:
    """(a, b) -> metric -> difference a - b, for every pair that shares subjects and every metric
    that both have.
    """
    found: dict[tuple[str, str], dict[str, Difference]] = {}
    memo: Memo = {}
    for (a, run_a), (b, run_b) in pairs:
        if set(run_a) & set(run_b):
            names = [metric for metric in metrics if _has(run_a, metric) and _has(run_b, metric)]
            found[a, b] = {
                name: paired_difference(
                    [(run_a, run_b)], name, evaluation.n_bootstrap, evaluation.seed, memo=memo
                )
                for name in names
            }
    return found


def _has(run: Run, metric: str) -> bool:
    return all(metric in scores.metrics() for scores in run.values())


def _make_entry(pair: tuple[str, str], by_metric: Mapping[str, Difference]) -> dict[str, Any]:
    metrics = {
        metric: {
            **_round(found.estimate),
            "n_positive": found.n_positive,
            "n_subjects": found.n_subjects,
            "per_subject": {subject: _round(one) for subject, one in found.per_subject.items()},
        }
        for metric, found in by_metric.items()
    }
    return {"title": f"{pair[0]} - {pair[1]}", "metrics": metrics}


def _round(one: Estimate) -> dict[str, float]:
    """value, low, high; limits that are undefined are left out because JSON has no NaN."""
    named = {"value": one.value, "low": one.low, "high": one.high}
    return {key: round(x, DECIMALS) for key, x in named.items() if math.isfinite(x)}
