"""What a study found: scores averaged over seeds and paired differences.

All of a study use the same resamples of the images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.paths import Paths, locate
from fmri2clip.artefacts.scores import read_scores
from fmri2clip.core.files import flatten
from fmri2clip.metrics.statistics import Estimate, Run, mean_score, paired_difference
from fmri2clip.metrics.summary import DECIMALS
from fmri2clip.metrics.worlds import across_worlds
from fmri2clip.studies.plan import Comparison, Study


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one experiment left: content of params.yaml; metrics.json and image scores by run."""

    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Run]
    world: Mapping[str, Any] = field(default_factory=dict)  # asserted, printed; if measured


def read_result(study: Study, files: Path, content: Mapping[str, Any]) -> Result:
    """The result of an experiment from its files, laid out as in the project."""
    metrics = {}
    scores = {}
    for name in study.scores:
        numbers, single, shared = locate(name, content)
        tree = json.loads((files / numbers).read_text(encoding="utf-8"))
        found = read_scores(files / single, files / shared)
        metrics[name] = average_subjects(tree, study.scored)
        scores[name] = {subject: found[subject] for subject in study.scored or found}
    world: dict[str, Any] = {}
    if study.measure_world:
        measured = json.loads(Paths(files).world.read_text(encoding="utf-8"))
        world = {part: measured[part] for part in ("asserted", "printed")}
    return Result(params=content, metrics=metrics, scores=scores, world=world)


def average_subjects(tree: Mapping[str, Any], subjects: Sequence[str]) -> dict[str, Any]:
    """Dotted numbers of metrics.json that all of these subjects have, averaged over them only; as
    they are for none.
    """
    if not subjects:
        return flatten(tree)
    branches = [flatten(tree["subjects"][subject]) for subject in subjects]
    common = [name for name in branches[0] if all(name in branch for branch in branches)]
    return {name: sum(float(b[name]) for b in branches) / len(branches) for name in common}


def summarise(
    study: Study, results: Mapping[tuple[str, int], Result], digest: str
) -> dict[str, Any]:
    """The content of reports/studies/<name>.json.

    results: (variant, seed) -> result of that experiment; digest: of the code that made them.
    `params` holds what all experiments share, each variant what it does not share; seeds and notes
    are left out of both.
    """
    flat = {key: _comparable(study, result.params) for key, result in results.items()}
    common = {
        k: v
        for k, v in next(iter(flat.values())).items()
        if all(k in f and f[k] == v for f in flat.values())
    }
    seeds = study.seeds.values
    variants: dict[str, Any] = {}
    for variant, overrides in study.variants.items():
        own = {k: v for k, v in flat[variant, seeds[0]].items() if k not in common}
        runs = {
            run: _score_run(study, [results[variant, seed] for seed in seeds], run)
            for run in study.scores
        }
        variants[variant] = {"overrides": list(overrides), "params": own, "runs": runs}
        if variant in study.x:
            variants[variant]["x"] = study.x[variant]
        if study.measure_world:
            variants[variant]["world"] = dict(results[variant, seeds[0]].world)
    named = ("question", "budget", "budget_minutes", "same_pictures", "x_label")
    facts = {name: getattr(study, name) for name in named} | {"scored": list(study.scored)}
    return {
        "study": study.name,
        **facts,
        "seeds": {"keys": list(study.seeds.keys), "values": list(seeds)},
        "metrics": list(study.metrics),
        "code_sha256": digest,
        "params": common,
        "variants": variants,
        "comparisons": [_compare(study, results, comparison) for comparison in study.compare],
    }


def _comparable(study: Study, content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in flatten(content).items() if k != "note" and k not in study.seeds.keys}


def _score_run(study: Study, results: list[Result], run: str) -> dict[str, dict[str, float]]:
    """Metric -> value, low, high, averaged over seeds; only a value where there is no interval."""
    n_bootstrap, seed = _bootstrap(results[0])
    scores: dict[str, dict[str, float]] = {}
    for metric in study.metrics:
        if all(_has(result.scores[run], metric) for result in results):
            found = _numbers(
                mean_score([r.scores[run] for r in results], metric, n_bootstrap, seed)
            )
            # A score that one subject lacks has no mean.
            if found:
                scores[metric] = found
        elif all(metric in result.metrics[run] for result in results):
            values = [float(result.metrics[run][metric]) for result in results]
            scores[metric] = {"value": round(sum(values) / len(values), DECIMALS)}
    return scores


def _compare(
    study: Study, results: Mapping[tuple[str, int], Result], c: Comparison
) -> dict[str, Any]:
    pairs = [
        (results[a, seed].scores[c.run_a], results[b, seed].scores[c.run_b])
        for a, b in zip(c.a, c.b, strict=True)
        for seed in study.seeds.values
    ]
    first = next(iter(results.values()))
    n_bootstrap, seed = _bootstrap(first)
    worlds = None
    if not study.same_pictures and len(c.a) > 1:
        worlds = [world for world in range(len(c.a)) for _ in study.seeds.values]
    metrics = {}
    for metric in study.metrics:
        if all(_has(run, metric) for pair in pairs for run in pair):
            found = paired_difference(pairs, metric, n_bootstrap, seed, worlds)
            metrics[metric] = {
                **_numbers(found.estimate),
                "n_positive": found.n_positive,
                "n_subjects": found.n_subjects,
                "per_subject": {subject: _numbers(e) for subject, e in found.per_subject.items()},
            }
            if worlds:
                n_primary = max(1, len(first.params["primary"]["outcomes"]))
                metrics[metric] |= _resample_worlds(
                    study, c, pairs, metric, n_bootstrap, seed, n_primary
                )
            elif study.equivalence:
                metrics[metric] |= _compare_with_nothing(study, pairs, metric, n_bootstrap, seed)
    sides = {"a": list(c.a), "run_a": c.run_a, "b": list(c.b), "run_b": c.run_b}
    return {"title": c.title, **sides, "metrics": metrics}


def _compare_with_nothing(
    study: Study, pairs: Sequence[tuple[Run, Run]], metric: str, n_bootstrap: int, seed: int
) -> dict[str, Any]:
    """Whether the difference is shown to be none: two one-sided tests at 5 % (Schuirmann 1987)."""
    narrow = paired_difference(pairs, metric, n_bootstrap, seed, level=0.9).estimate
    within = -study.equivalence < narrow.low and narrow.high < study.equivalence
    limits = [round(narrow.low, DECIMALS), round(narrow.high, DECIMALS)]
    return {"margin": study.equivalence, "limits90": limits, "equivalent": within}


def _resample_worlds(
    study: Study,
    c: Comparison,
    pairs: Sequence[tuple[Run, Run]],
    metric: str,
    n_bootstrap: int,
    seed: int,
    n_primary: int,
) -> dict[str, Any]:
    """Value and limits over worlds, in place of those over their images alone; p, the limits for
    every number of primary comparisons, and the difference in each world.
    """
    n_seeds = len(study.seeds.values)
    by_world = [pairs[k * n_seeds : (k + 1) * n_seeds] for k in range(len(c.a))]
    found = across_worlds(by_world, metric, n_bootstrap, seed, n_primary)
    limits = {str(k): [round(x, DECIMALS) for x in pair] for k, pair in found.limits.items()}
    low, high = limits["1"]
    worlds = {name: _numbers(one.estimate) for name, one in zip(c.a, found.worlds, strict=True)}
    return {
        "value": round(found.value, DECIMALS),
        "low": low,
        "high": high,
        "p": round(found.p, DECIMALS),
        "limits": limits,
        "worlds": worlds,
        "same_sign": found.same_sign,
    }


def _has(run: Run, metric: str) -> bool:
    return any(metric in scores.metrics() for scores in run.values())


def _bootstrap(result: Result) -> tuple[int, int]:
    """Number of resamples and their seed."""
    evaluation = result.params["evaluation"]
    return evaluation["n_bootstrap"], evaluation["seed"]


def _numbers(estimate: Estimate) -> dict[str, float]:
    """value, low, high; limits that are undefined are left out because JSON has no NaN."""
    named = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {
        name: round(number, DECIMALS) for name, number in named.items() if math.isfinite(number)
    }
