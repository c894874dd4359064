"""Intervals, and paired differences of runs.

Letters: I images, S subjects, R resamples, M metrics, C categories.

Images are resampled by NSD id, jointly for all subjects: one resample gives every subject the same
image counts, and the score is averaged over subjects within the resample. A score that one subject
lacks has no mean, unless it is of a brain region (REGIONAL). Subjects, galleries and the class set
are fixed; the neighbours in a hard gallery are those of the run's training images
(decoding/truth.py), so runs that were trained on other images are asked by other galleries.
Intervals are 95 % percentile intervals of a bootstrap. Two runs are compared on the same resamples
(a paired difference): runs share images and subjects, so the overlap of their single intervals says
little and is not a test.

mAP has a jackknife instead: its resamples leave out one image each, and the interval is Student's t
(I - 1 degrees of freedom), of a score on the logit scale. A bootstrap repeats positives, which
lifts average precision, so that its intervals miss (benchmarks/map_coverage.json). Means over
images and AUC show no such lift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.special
from numpy.typing import NDArray

from fmri2clip.solvers.average_precision import score_classes

Floats = NDArray[np.floating]
LOWER_IS_BETTER = ("hamming", "effnet", "swav")
FUNCTIONALS = ("map", "auc")  # not a mean over images: recomputed in every resample
JACKKNIFE = ("map",)  # of these; a bootstrap lifts them
REGIONAL = "encoding."  # of brain regions: a mean over the subjects that have the region
LEVEL = 0.95  # coverage of intervals


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What one subject's predictions scored, image by image; images in ascending NSD id. Equal to
    itself only.

    per_image: dotted metric -> (score_I, weight_I), NaN where the image is not scored; the metric
    is the weighted mean.
    class_scores: dotted prefix such as 'classification' -> score_IC; gives <prefix>.map and
    <prefix>.auc.
    label_IC, class_C: truth and the fixed class set of those. constants: numbers that have no
    interval.
    """

    nsd_id_I: NDArray[np.int64]
    per_image: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    class_scores: Mapping[str, Floats] = field(default_factory=dict)
    label_IC: NDArray[np.bool_] | None = None
    class_C: NDArray[np.bool_] | None = None
    constants: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> list[str]:
        """Dotted names of everything that can be resampled."""
        return [
            *self.per_image,
            *(f"{prefix}.{name}" for prefix in self.class_scores for name in FUNCTIONALS),
        ]


Run = Mapping[str, Scores]  # subject -> scores
Memo = dict[tuple[Scores, bytes, int, tuple[int, ...]], dict[str, Floats]]
"""Replicates (with the score on all images first) that `replicate` has computed, by metric. Its key
is all that they depend on: scores of a subject, ids that are resampled, n_bootstrap and seed. A run
is in many pairs, which mostly have the same ids, so callers that compare many pairs give one memo
to all. The scores must not change meanwhile.
"""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or difference with its 95 % interval; NaN limits where nothing could be resampled."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Paired difference a - b, averaged over pairs and over the n_subjects for whom it is defined
    in all pairs. n_positive of these have a better a (point estimate).
    """

    estimate: Estimate
    per_subject: Mapping[str, Estimate]
    n_positive: int
    n_subjects: int


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """point_MS: scores on all images; replicate_MRS: of each metric, the same on each resample of
    the images (R, S), or without each image in turn (JACKKNIFE).
    """

    metric_M: tuple[str, ...]
    subject_S: tuple[str, ...]
    point_MS: Floats
    replicate_MRS: tuple[Floats, ...]


@lru_cache(maxsize=4)
def resample_counts(n_images: int, n_bootstrap: int, seed: tuple[int, ...]) -> Floats:
    """count_RI: how often each image is drawn in each of n_bootstrap resamples of n_images with
    replacement.
    """
    # A multinomial draw is the counts of a bootstrap sample; who is drawn first does not matter.
    rng = np.random.default_rng(seed)
    count_RI = rng.multinomial(
        n_images, np.full(n_images, 1.0 / n_images), size=n_bootstrap
    ).astype(np.float32)
    count_RI.setflags(write=False)
    return count_RI


def union_ids(runs: Sequence[Run]) -> NDArray[np.int64]:
    """Every image id of any subject of any run, ascending: the population that is resampled."""
    return np.unique(np.concatenate([scores.nsd_id_I for run in runs for scores in run.values()]))


def replicate(
    run: Run,
    metrics: Sequence[str],
    image_ids: NDArray[np.int64],
    n_bootstrap: int,
    seed: tuple[int, ...],
    memo: Memo | None = None,
) -> Replicates:
    """Score every metric of every subject on all images and on the resamples that (image_ids, seed)
    fix.

    A metric that a subject does not have is NaN there. What memo has is not computed again; what is
    computed is put in.
    """
    memo = {} if memo is None else memo
    n_images = len(image_ids)
    # One row more than resamples, for the score itself; NaN until a subject has the metric.
    n_rows = [1 + (n_images if is_jackknifed(name) else n_bootstrap) for name in metrics]
    value_MRS = [np.full((n, len(run)), np.nan) for n in n_rows]
    for s, scores in enumerate(run.values()):
        known = memo.setdefault((scores, image_ids.tobytes(), n_bootstrap, seed), {})
        if missing := [metric for metric in metrics if metric not in known]:
            assert np.all(np.diff(scores.nsd_id_I) > 0), "images must be in ascending NSD id"
            column_I = np.searchsorted(image_ids, scores.nsd_id_I)
            count_RI = resample_counts(n_images, n_bootstrap, seed)[:, column_I]
            # Row 0 counts every image once: the score itself, computed as the resamples are.
            once_1I = np.ones((1, len(column_I)), np.float32)
            weight_RI = np.concatenate([once_1I, count_RI])
            known |= _weigh_means(scores, missing, weight_RI)
            without_RI = (np.arange(n_images)[:, None] != column_I).astype(np.float32)
            without_RI = np.concatenate([once_1I, without_RI])
            known |= _weigh_functionals(scores, missing, weight_RI, without_RI)
        # What a subject does not have stays NaN and is left out of its mean over subjects.
        for m, metric in enumerate(metrics):
            if metric in known:
                value_MRS[m][:, s] = known[metric]
    return Replicates(
        metric_M=tuple(metrics),
        subject_S=tuple(run),
        point_MS=np.stack([value_RS[0] for value_RS in value_MRS]),
        replicate_MRS=tuple(value_RS[1:] for value_RS in value_MRS),
    )


def is_jackknifed(metric: str) -> bool:
    """Whether the resamples of a metric leave out one image each."""
    return metric.rsplit(".", 1)[-1] in JACKKNIFE


def _weigh_means(scores: Scores, metrics: Sequence[str], weight_RI: Floats) -> dict[str, Floats]:
    """value_R of those metrics that are means over images."""
    names = [metric for metric in metrics if metric in scores.per_image]
    if not names:
        return {}
    score_IM = _stack_columns([scores.per_image[name][0] for name in names])
    weight_IM = _stack_columns([scores.per_image[name][1] for name in names])
    # NaN: the image has no score. Weight 0 takes it out of both sums of the weighted mean.
    weight_IM = np.where(np.isfinite(score_IM), weight_IM, 0.0)
    weight_RI = weight_RI.astype(np.float64)
    total_RM = weight_RI @ (np.nan_to_num(score_IM) * weight_IM)
    mass_RM = weight_RI @ weight_IM
    value_RM = np.divide(total_RM, mass_RM, out=np.full_like(total_RM, np.nan), where=mass_RM > 0)
    return dict(zip(names, value_RM.T, strict=True))


def _stack_columns(value_MI: Sequence[Floats]) -> Floats:
    """(I, M) in float64 of M vectors."""
    return np.stack([np.asarray(value_I, dtype=np.float64) for value_I in value_MI], axis=1)


def _weigh_functionals(
    scores: Scores, metrics: Sequence[str], weight_RI: Floats, without_RI: Floats
) -> dict[str, Floats]:
    """value_R of those metrics that are FUNCTIONALS."""
    values: dict[str, Floats] = {}
    for prefix, score_IC in scores.class_scores.items():
        for place, kind in enumerate(FUNCTIONALS):
            name = f"{prefix}.{kind}"
            if name in metrics:
                assert scores.label_IC is not None and scores.class_C is not None, (
                    "class scores need labels"
                )
                weights = without_RI if is_jackknifed(name) else weight_RI
                both = score_classes(scores.label_IC, score_IC, scores.class_C, weights)
                values[name] = both[place]
    return values


def estimate(
    point: float,
    replicate_R: Floats,
    metric: str = "",
    is_score: bool = True,
    level: float = LEVEL,
) -> Estimate:
    """Percentile interval, Student's for JACKKNIFE; resamples in which the score is undefined are
    left out.

    is_score: point lies between 0 and 1, so that a Student's interval is taken on the logit scale;
    False for a difference. level: coverage of the interval.
    """
    defined_R = replicate_R[np.isfinite(replicate_R)]
    if not (np.isfinite(point) and defined_R.size):
        return Estimate(value=float(point), low=float("nan"), high=float("nan"))
    if is_jackknifed(metric):
        low, high = _student_limits(point, defined_R, is_score, level)
    else:
        low, high = np.quantile(defined_R, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=float(point), low=float(low), high=float(high))


def _student_limits(
    point: float, left_out_R: Floats, is_score: bool, level: float
) -> tuple[float, float]:
    """Limits from the values without each image: Efron & Tibshirani (1993), chapter 11, for
    the standard error; its logit has it divided by the slope p (1 - p).
    """
    n = len(left_out_R)
    error = jackknife_error(left_out_R)
    # Without a second image, or where no image matters, there is nothing to tell.
    reach = scipy.special.stdtrit(n - 1, (1 + level) / 2) * error if n > 1 else np.nan
    if not is_score or not 0 < point < 1:
        return point - reach, point + reach
    reach /= point * (1 - point)
    centre = np.log(point / (1 - point))
    low, high = (1 / (1 + np.exp(-(centre + side * reach))) for side in (-1, 1))
    return float(low), float(high)


def jackknife_error(left_out_R: Floats) -> float:
    """Standard error from the values without each of the images in turn."""
    n = len(left_out_R)
    return float(np.sqrt((n - 1) / n * np.square(left_out_R - left_out_R.mean()).sum()))


def mean_defined(value_xS: Floats) -> Floats:
    """Mean over the last axis, NaN left out; NaN where all are."""
    # np.nanmean would warn where all are NaN, which is nothing unusual here.
    defined = np.isfinite(value_xS)
    n = defined.sum(axis=-1)
    total = np.where(defined, value_xS, 0.0).sum(axis=-1)
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def mean_all(value_xS: Floats) -> Floats:
    """Mean over the last axis; NaN where one is."""
    return np.where(np.isfinite(value_xS).all(axis=-1), mean_defined(value_xS), np.nan)


def mean_subjects(point_S: Floats, metric: str) -> float:
    """Mean of a metric over subjects; NaN where one lacks it, unless it is of a brain region."""
    # Subjects differ: a mean without those that cannot be scored would be of other people.
    mean = mean_defined(point_S) if metric.startswith(REGIONAL) else mean_all(point_S)
    return float(mean)


def mean_score(
    runs: Sequence[Run],
    metric: str,
    n_bootstrap: int = 1000,
    seed: int = 0,
    memo: Memo | None = None,
) -> Estimate:
    """A metric averaged over subjects and over runs (training seeds, variants); the rest as in
    paired_difference.
    """
    ids = [union_ids(runs)] * len(runs)
    replicates = _replicate_all(runs, metric, ids, n_bootstrap, [(seed,)] * len(runs), memo)
    point_S, replicate_RS = _average(replicates)
    return estimate(mean_subjects(point_S, metric), mean_defined(replicate_RS), metric)


def paired_difference(
    pairs: Sequence[tuple[Run, Run]],
    metric: str,
    n_bootstrap: int = 1000,
    seed: int = 0,
    worlds: Sequence[int] | None = None,
    memo: Memo | None = None,
    level: float = LEVEL,
) -> Difference:
    """Difference a - b of a metric on the same resamples, averaged over subjects and over the
    pairs.

    pairs: one (a, b) per training seed or variant. worlds: of each pair, the number of the world
    whose pictures it shows; the images of each world are resampled anew, even though their ids are
    equal numbers. None: all pairs show the same pictures.
    memo: one dictionary, empty at first, for calls whose pairs have runs in common; it saves time
    and changes nothing. level: coverage of the intervals. Only subjects for whom both runs have a
    number count. The sign of a lower-is-better metric is kept in the estimate, not in n_positive.
    """
    shared = [_shared_subjects(a, b) for a, b in pairs]
    # One population for all pairs of a world, so that a resample means the same images in each.
    world_of = [0] * len(pairs) if worlds is None else worlds
    by_world: dict[int, list[Run]] = {}
    for world, pair in zip(world_of, shared, strict=True):
        by_world.setdefault(world, []).extend(pair)
    populations = {world: union_ids(runs) for world, runs in by_world.items()}
    ids = [populations[world] for world in world_of]
    seeds = [(seed,) if worlds is None else (seed, world) for world in world_of]
    firsts = [first for first, _ in shared]
    seconds = [second for _, second in shared]
    a = _replicate_all(firsts, metric, ids, n_bootstrap, seeds, memo)
    b = _replicate_all(seconds, metric, ids, n_bootstrap, seeds, memo)
    point_S, replicate_RS = _average(a, b)
    sign = -1.0 if metric.rsplit(".", 1)[-1] in LOWER_IS_BETTER else 1.0
    total = estimate(float(mean_defined(point_S)), mean_defined(replicate_RS), metric, False, level)
    subjects = a[0].subject_S
    return Difference(
        estimate=total,
        per_subject={
            s: estimate(float(point_S[i]), replicate_RS[:, i], metric, False, level)
            for i, s in enumerate(subjects)
        },
        n_positive=int((sign * point_S > 0).sum()),
        n_subjects=int(np.isfinite(point_S).sum()),
    )


def pool_differences(
    pairs: Sequence[tuple[Run, Run]], metric: str, n_bootstrap: int, seed: tuple[int, ...]
) -> tuple[float, Floats]:
    """a - b of a metric, averaged over subjects and over the pairs, which share their images: on
    all images, and on each resample or without each image (Replicates).
    """
    shared = [_shared_subjects(a, b) for a, b in pairs]
    ids = union_ids([run for pair in shared for run in pair])
    sides = [
        [replicate(pair[side], [metric], ids, n_bootstrap, seed) for pair in shared]
        for side in (0, 1)
    ]
    point_S, replicate_RS = _average(*sides)
    return float(mean_defined(point_S)), mean_defined(replicate_RS)


def _shared_subjects(a: Run, b: Run) -> tuple[Run, Run]:
    """The same subjects in the same order, each with the same images: anything else is not a
    pair.
    """
    subjects = [subject for subject in a if subject in b]
    if not subjects:
        raise ValueError(f"the two runs share no subject: {', '.join(a)} and {', '.join(b)}")
    for subject in subjects:
        if not np.array_equal(a[subject].nsd_id_I, b[subject].nsd_id_I):
            raise ValueError(
                f"the two runs scored different test images of {subject}; evaluate both on the "
                "same data"
            )
    first = {subject: a[subject] for subject in subjects}
    second = {subject: b[subject] for subject in subjects}
    return first, second


def _replicate_all(
    runs: Sequence[Run],
    metric: str,
    ids: Sequence[NDArray[np.int64]],
    n_bootstrap: int,
    seeds: Sequence[tuple[int, ...]],
    memo: Memo | None,
) -> list[Replicates]:
    """Equal seeds and ids give equal resamples: that is what makes a difference a paired one."""
    for run in runs:
        if not any(metric in scores.metrics() for scores in run.values()):
            known = sorted({name for scores in run.values() for name in scores.metrics()})
            raise ValueError(f"no score {metric!r} in this run; it has {', '.join(known)}")
        if set(run) != set(runs[0]):
            raise ValueError(
                f"runs to be averaged have different subjects: {', '.join(runs[0])} and "
                f"{', '.join(run)}"
            )
    return [
        replicate({s: run[s] for s in runs[0]}, [metric], ids[i], n_bootstrap, seeds[i], memo)
        for i, run in enumerate(runs)
    ]


def _average(a: list[Replicates], b: list[Replicates] | None = None) -> tuple[Floats, Floats]:
    """point_S and replicate_RS of one metric (or of a - b), averaged over the list.

    Raises ValueError for a jackknife over different numbers of images.
    """
    if len(numbers := {len(item.replicate_MRS[0]) for item in a}) > 1:
        raise ValueError(
            f"{a[0].metric_M[0]} leaves out one image at a time, and the worlds have "
            f"{' and '.join(map(str, sorted(numbers)))} test images; give them equally many"
        )
    point_xS = np.stack([item.point_MS[0] for item in a])
    replicate_xRS = np.stack([item.replicate_MRS[0] for item in a])
    if b is not None:
        point_xS = point_xS - np.stack([item.point_MS[0] for item in b])
        replicate_xRS = replicate_xRS - np.stack([item.replicate_MRS[0] for item in b])
    point_S = mean_all(np.moveaxis(point_xS, 0, -1))
    replicate_RS = mean_defined(np.moveaxis(replicate_xRS, 0, -1))
    # Who is not in the value is not in its interval.
    replicate_RS[:, np.isnan(point_S)] = np.nan
    return point_S, replicate_RS


def is_testable(noise_free: Mapping[str, float], metric: str, chance: float) -> bool:
    """Whether a task can be failed at all: even the noise-free cortex must beat chance with its
    whole interval.

    noise_free: a branch of metrics.json such as unseen.noise_free.zero_shot.only. Where this is
    False, the report prints 'not testable here' in place of a score.
    """
    low = noise_free.get(f"{metric}_ci95_low")
    return low is not None and low > chance
