"""How often the interval of a multi-label mAP holds what a test set of its size gives on average.

    # needs data/clip of `dvc repro`; about 15 minutes on one core; writes map_coverage.json
    OMP_NUM_THREADS=1 python benchmarks/map_coverage.py

Simulated test sets with the labels of the development world: rows of its label matrix drawn with
replacement, so that classes have the counts and the company that they have there. Two subjects see
the same images; the score of a class is its label times a strength, plus noise of the image and of
the subject. The strengths of three decoders are such that their mAP is near those of params.yaml
and below. Coverage should be 93 to 97 %, for a score and for the difference of two decoders with
the same noise of the image. Beside the jackknife stands what it replaced: percentile and basic
bootstrap intervals.

What is to be held is the expected average precision of the classes that are averaged, over test
sets of this size. That of the whole population (here 200,000 images) is another thing: few
positives lift average precision, so that mAPs of test sets of different sizes cannot be compared.
`lift` says by how much.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import read_cache  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.metrics.statistics import (  # noqa: E402
    Scores,
    mean_defined,
    mean_score,
    paired_difference,
    resample_counts,
)
from fmri2clip.solvers.average_precision import (  # noqa: E402
    LEAST_POSITIVES,
    find_defined_classes,
    score_class,
    score_classes,
)

OUTPUT = ROOT / "benchmarks" / "map_coverage.json"
STRENGTHS = {"weak": 1.0, "middle": 1.5, "strong": 2.0}
SHARED = 0.7  # share of the noise's variance that the subjects of a decoder have in common
N_POPULATION = 200_000
N_EXPECTED = 1000  # test sets behind an expected average precision
N_BOOTSTRAP = 500
MAP = "classification.map"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1000, help="simulated test sets")
    parser.add_argument("--bootstrap", type=int, default=100, help="of them, with bootstrap, too")
    given = parser.parse_args()
    cache = read_cache(Paths(ROOT).clip_shared("mini"), ["labels_IC", "present_C"])
    label_IC = cache["labels_IC"][:, cache["present_C"]].astype(bool)
    rng = np.random.default_rng(0)
    truth = find_expected(label_IC)
    held: dict[str, list[bool]] = {}
    points: dict[str, list[float]] = {name: [] for name in STRENGTHS}
    aims: dict[str, list[float]] = {name: [] for name in STRENGTHS}
    for i in range(given.n):
        runs, class_C = draw_test_set(label_IC, rng)
        aim = {name: float(truth[name][class_C].mean()) for name in STRENGTHS}
        for name, run in runs.items():
            found = mean_score([run], MAP)
            points[name].append(found.value)
            aims[name].append(aim[name])
            held.setdefault(name, []).append(found.low <= aim[name] <= found.high)
            if i < given.bootstrap:
                for kind, (low, high) in bootstrap(run, found.value, i).items():
                    held.setdefault(f"{name}.{kind}", []).append(low <= aim[name] <= high)
        difference = paired_difference([(runs["strong"], runs["middle"])], MAP).estimate
        gap = aim["strong"] - aim["middle"]
        held.setdefault("difference", []).append(difference.low <= gap <= difference.high)
    table: dict[str, Any] = {
        "n": given.n,
        "n_bootstrap": given.bootstrap,
        "n_images": len(label_IC),
        "n_classes": label_IC.shape[1],
        "positives": sorted(int(n) for n in label_IC.sum(axis=0)),
        "expected": {name: round(float(np.mean(aims[name])), 4) for name in STRENGTHS},
        "mean_estimate": {name: round(float(np.mean(points[name])), 4) for name in STRENGTHS},
        "lift": {
            name: round(float((truth[name] - find_population(label_IC, strength)).mean()), 4)
            for name, strength in STRENGTHS.items()
        },
        "coverage": {name: round(float(np.mean(value)), 4) for name, value in held.items()},
    }
    print(json.dumps(table, indent=1))
    write_json(OUTPUT, table)


def draw_scores(
    label_IC: np.ndarray, strength: float, noise_IC: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Scores of one subject. noise_IC: of the image, the same for all."""
    own_IC = rng.standard_normal(label_IC.shape)
    return strength * label_IC + np.sqrt(SHARED) * noise_IC + np.sqrt(1 - SHARED) * own_IC


def find_expected(label_IC: np.ndarray) -> dict[str, np.ndarray]:
    """By decoder, average precision of each class (C) as the mean over test sets that count it."""
    rng = np.random.default_rng(2)
    total = {name: np.zeros(label_IC.shape[1]) for name in STRENGTHS}
    n_C = np.zeros(label_IC.shape[1])
    once_1I = np.ones((1, len(label_IC)), np.float32)
    for _ in range(N_EXPECTED):
        runs, class_C = draw_test_set(label_IC, rng)
        n_C += class_C
        for name, run in runs.items():
            scores = run["subj01"]
            assert scores.label_IC is not None
            score_IC = scores.class_scores["classification"]
            for c in np.flatnonzero(class_C):
                ap_1, _ = score_class(scores.label_IC[:, c], score_IC[:, c], once_1I)
                total[name][c] += ap_1[0]
    return {name: sum_C / n_C for name, sum_C in total.items()}


def find_population(label_IC: np.ndarray, strength: float) -> np.ndarray:
    """Average precision of each class in the population (C)."""
    rng = np.random.default_rng(1)
    drawn_IC = label_IC[rng.integers(0, len(label_IC), N_POPULATION)]
    score_IC = draw_scores(drawn_IC, strength, rng.standard_normal(drawn_IC.shape), rng)
    return np.array(average_precision_score(drawn_IC, score_IC, average=None))


def draw_test_set(
    label_IC: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, dict[str, Scores]], np.ndarray]:
    """One test set scored by the three decoders, and the classes that are averaged."""
    n = len(label_IC)
    drawn_IC = label_IC[rng.integers(0, n, n)]
    class_C = find_defined_classes(drawn_IC, np.ones(label_IC.shape[1], bool), LEAST_POSITIVES)
    noise_IC = rng.standard_normal(drawn_IC.shape)
    runs = {
        name: {
            subject: Scores(
                nsd_id_I=np.arange(n),
                class_scores={"classification": draw_scores(drawn_IC, strength, noise_IC, rng)},
                label_IC=drawn_IC,
                class_C=class_C,
            )
            for subject in ("subj01", "subj02")
        }
        for name, strength in STRENGTHS.items()
    }
    return runs, class_C


def bootstrap(run: dict[str, Scores], point: float, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile and basic limits from N_BOOTSTRAP resamples."""
    values = []
    for scores in run.values():
        count_RI = resample_counts(len(scores.nsd_id_I), N_BOOTSTRAP, (seed,))
        assert scores.label_IC is not None and scores.class_C is not None
        score_IC = scores.class_scores["classification"]
        values.append(score_classes(scores.label_IC, score_IC, scores.class_C, count_RI)[0])
    low, high = np.percentile(mean_defined(np.stack(values, axis=1)), [2.5, 97.5])
    return {"percentile": (low, high), "basic": (2 * point - high, 2 * point - low)}


if __name__ == "__main__":
    main()
