"""Bootstrap and jackknife against explicit resampling, the meaning of pairing, trees."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fmri2clip.metrics import statistics
from fmri2clip.metrics.decoding.retrieval import score_sizes
from fmri2clip.metrics.statistics import Estimate, Scores
from fmri2clip.metrics.summary import summarise

IDS = np.arange(10, 130, 2)


def make_run(
    seed: int, shift: float = 0.0, subjects: tuple[str, ...] = ("subj01", "subj02")
) -> dict[str, Scores]:
    """Scores with a part common to all runs (the difficulty of the image), one subject saw a third
    of the images.
    """
    difficulty_I = np.random.default_rng(0).random(len(IDS))
    rng = np.random.default_rng(seed + 1)
    run = {}
    for s, subject in enumerate(subjects):
        rows = np.arange(len(IDS)) if s == 0 else np.arange(len(IDS))[::3]
        score_I = difficulty_I[rows] + 0.05 * rng.standard_normal(len(rows)) + shift
        run[subject] = Scores(
            nsd_id_I=IDS[rows],
            per_image={"retrieval.x.top1": (score_I, rng.integers(1, 9, len(rows)).astype(float))},
        )
    return run


def with_classes(run: dict[str, Scores], seed: int) -> dict[str, Scores]:
    out = {}
    for subject, scores in run.items():
        label_IC = (
            np.random.default_rng(int(scores.nsd_id_I.size)).random((len(scores.nsd_id_I), 3)) < 0.4
        )
        score_IC = label_IC + np.random.default_rng(seed).standard_normal(label_IC.shape)
        out[subject] = Scores(
            nsd_id_I=scores.nsd_id_I,
            per_image=scores.per_image,
            class_scores={"classification": score_IC},
            label_IC=label_IC,
            class_C=np.array([True, True, False]),
            constants={"classification.n_classes": 2.0},
        )
    return out


def test_replicates_equal_explicit_resampling() -> None:
    run = with_classes(make_run(1), 3)
    metrics = ["retrieval.x.top1", "classification.auc"]
    result = statistics.replicate(run, metrics, IDS, 20, (5,))
    count_RI = statistics.resample_counts(len(IDS), 20, (5,))
    for r in range(20):
        drawn = np.repeat(IDS, count_RI[r].astype(int))
        assert drawn.size == len(IDS)
        for s, scores in enumerate(run.values()):
            rows = [
                int(np.flatnonzero(scores.nsd_id_I == i)[0]) for i in drawn if i in scores.nsd_id_I
            ]
            score_I, weight_I = scores.per_image["retrieval.x.top1"]
            assert result.replicate_MRS[0][r, s] == pytest.approx(
                np.average(score_I[rows], weights=weight_I[rows])
            )
            expected = roc_auc_score(
                scores.label_IC[rows][:, :2],
                scores.class_scores["classification"][rows][:, :2],
                average="macro",
            )
            assert result.replicate_MRS[1][r, s] == pytest.approx(expected)


def test_map_is_scored_without_each_image_in_turn() -> None:
    run = with_classes(make_run(1), 3)
    result = statistics.replicate(run, ["classification.map"], IDS, 20, (5,))
    assert result.replicate_MRS[0].shape == (len(IDS), 2)
    for i, left_out in enumerate(IDS):
        for s, scores in enumerate(run.values()):
            rows = scores.nsd_id_I != left_out
            expected = average_precision_score(
                scores.label_IC[rows][:, :2],
                scores.class_scores["classification"][rows][:, :2],
                average="macro",
            )
            assert result.replicate_MRS[0][i, s] == pytest.approx(expected)


def test_the_jackknife_interval_of_a_mean_is_students() -> None:
    """Of a mean the jackknife gives the standard error that everybody knows."""
    value_I = np.random.default_rng(2).random(30)
    without_I = (value_I.sum() - value_I) / 29
    mean = float(value_I.mean())
    found = statistics.estimate(mean, without_I, "x.map", is_score=False)
    error = scipy.stats.sem(value_I)
    expected = scipy.stats.t.interval(0.95, 29, loc=mean, scale=error)
    assert (found.low, found.high) == pytest.approx(expected)
    logit = statistics.estimate(mean, without_I, "x.map")
    reach = scipy.stats.t.ppf(0.975, 29) * error / (mean * (1 - mean))
    limits = scipy.special.expit(scipy.special.logit(mean) + reach * np.array([-1, 1]))
    assert (logit.low, logit.high) == pytest.approx(limits)
    assert np.isnan(statistics.estimate(0.5, without_I[:1], "x.map").low)


def test_nan_images_do_not_count() -> None:
    run = make_run(1, subjects=("subj01",))
    score_I, weight_I = run["subj01"].per_image["retrieval.x.top1"]
    score_I[:10] = np.nan
    result = statistics.replicate(run, ["retrieval.x.top1"], IDS, 5, (0,))
    assert result.point_MS[0, 0] == pytest.approx(np.average(score_I[10:], weights=weight_I[10:]))


def test_interval_covers_the_truth_about_95_times_of_100() -> None:
    """2,000 experiments as 2,000 metrics; nominal coverage of the percentile interval at n = 60 is
    just below 0.95.
    """
    score_IM = np.random.default_rng(0).standard_normal((len(IDS), 2000)) + 1.0
    scores = Scores(
        nsd_id_I=IDS, per_image={f"m{m}": (score_IM[:, m], np.ones(len(IDS))) for m in range(2000)}
    )
    result = statistics.replicate({"s": scores}, scores.metrics(), IDS, 1000, (0,))
    found = [
        statistics.estimate(result.point_MS[m, 0], result.replicate_MRS[m][:, 0])
        for m in range(2000)
    ]
    assert np.mean([x.low < 1.0 < x.high for x in found]) == pytest.approx(0.945, abs=0.015)


def test_pairing_removes_the_difficulty_of_the_images() -> None:
    a, b = make_run(1, shift=0.08), make_run(2)
    for run in (a, b):
        for scores in run.values():
            scores.per_image["retrieval.x.top1"][1][:] = 1.0
    singles = [statistics.mean_score([run], "retrieval.x.top1") for run in (a, b)]
    assert singles[0].low < singles[1].high  # single intervals overlap
    found = statistics.paired_difference([(a, b)], "retrieval.x.top1")
    assert found.estimate.low > 0
    assert found.n_positive == found.n_subjects == 2
    assert found.estimate.value == pytest.approx(singles[0].value - singles[1].value)


def test_difference_of_a_run_with_itself_is_zero() -> None:
    run = with_classes(make_run(1), 3)
    for metric in ("retrieval.x.top1", "classification.map", "classification.auc"):
        found = statistics.paired_difference([(run, run)], metric, 50)
        assert found.estimate == Estimate(value=0.0, low=0.0, high=0.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-0.2, 0.2))
def test_difference_is_antisymmetric(seed: int, shift: float) -> None:
    a, b = make_run(seed, shift), make_run(seed + 100)
    ab = statistics.paired_difference([(a, b)], "retrieval.x.top1", 60)
    ba = statistics.paired_difference([(b, a)], "retrieval.x.top1", 60)
    assert ab.estimate.value == pytest.approx(-ba.estimate.value)
    assert ab.estimate.low == pytest.approx(-ba.estimate.high)


def test_average_over_seeds_and_over_worlds() -> None:
    pairs = [(make_run(seed, 0.1), make_run(seed + 50)) for seed in range(3)]
    joint = statistics.paired_difference(pairs, "retrieval.x.top1", 200)
    each = [
        statistics.paired_difference([pair], "retrieval.x.top1", 200).estimate.value
        for pair in pairs
    ]
    assert joint.estimate.value == pytest.approx(np.mean(each))
    apart = statistics.paired_difference(pairs, "retrieval.x.top1", 200, worlds=range(3))
    assert apart.estimate.value == pytest.approx(joint.estimate.value)
    assert apart.estimate.low != joint.estimate.low


def test_trainings_of_one_world_share_its_resamples() -> None:
    """Trained twice to the same numbers, worlds have the interval of one training each; images
    drawn anew for each training would make it narrower.
    """
    pairs = [(make_run(seed, 0.1), make_run(seed + 50)) for seed in range(2)]
    once = statistics.paired_difference(pairs, "retrieval.x.top1", 200, worlds=[0, 1])
    twice = statistics.paired_difference(
        [pairs[0], pairs[0], pairs[1], pairs[1]], "retrieval.x.top1", 200, worlds=[0, 0, 1, 1]
    )
    assert twice.estimate.low == pytest.approx(once.estimate.low)
    assert twice.estimate.high == pytest.approx(once.estimate.high)


def test_a_jackknife_of_worlds_needs_as_many_images() -> None:
    """A bootstrap does not."""
    large, small = (with_classes(make_run(seed), seed) for seed in (1, 2))
    fewer = {"subj02": small["subj02"]}
    pairs = [({"subj02": large["subj01"]},) * 2, (fewer,) * 2]
    with pytest.raises(ValueError, match=r"classification\.map leaves .* 20 and 60 test images"):
        statistics.paired_difference(pairs, "classification.map", 20, worlds=[0, 1])
    found = statistics.paired_difference(pairs, "classification.auc", 20, worlds=[0, 1])
    assert found.estimate == Estimate(value=0.0, low=0.0, high=0.0)


def test_memo_changes_nothing_and_computes_each_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six pairs of four runs, one of them with other subjects, so that its pairs resample other
    images.
    """
    runs = [with_classes(make_run(seed, 0.01 * seed), seed) for seed in range(3)]
    fewer = with_classes(make_run(3), 3)
    runs.append({"subj02": fewer["subj02"]})
    asked = [
        (pair, metric, worlds)
        for pair in combinations(runs, 2)
        for metric in ("retrieval.x.top1", "classification.map", "classification.auc")
        for worlds in (None, [0])
    ]
    expected = [statistics.paired_difference([pair], m, 50, 1, i) for pair, m, i in asked]
    score_classes, calls = statistics.score_classes, []
    monkeypatch.setattr(
        statistics, "score_classes", lambda *args: calls.append(1) or score_classes(*args)
    )
    memo: statistics.Memo = {}
    found = [statistics.paired_difference([pair], m, 50, 1, i, memo) for pair, m, i in asked]
    assert found == expected
    # Three runs of two subjects among all images, all four subj02 among its own; with either kind
    # of seed, for mAP and for AUC.
    assert len(calls) == 4 * (3 * 2 + 4)
    assert statistics.mean_score(
        [runs[0]], "classification.map", 50, 1, memo=memo
    ) == statistics.mean_score([runs[0]], "classification.map", 50, 1)
    assert len(calls) == 4 * (3 * 2 + 4) + 2  # of the call without a memo


def test_worlds_with_other_images_are_averaged_independently() -> None:
    first, second = (make_run(1, 0.1), make_run(2)), (make_run(3, 0.1), make_run(4))
    moved = tuple(
        {s: Scores(nsd_id_I=v.nsd_id_I + 1000, per_image=v.per_image) for s, v in run.items()}
        for run in second
    )
    found = statistics.paired_difference([first, moved], "retrieval.x.top1", 100, worlds=[0, 1])
    assert found.estimate.low > 0


def test_lower_is_better_turns_the_count_not_the_number() -> None:
    run_a = {
        "s": Scores(
            nsd_id_I=IDS, per_image={"classification.hamming": (np.full(60, 0.1), np.ones(60))}
        )
    }
    run_b = {
        "s": Scores(
            nsd_id_I=IDS, per_image={"classification.hamming": (np.full(60, 0.3), np.ones(60))}
        )
    }
    found = statistics.paired_difference([(run_a, run_b)], "classification.hamming", 50)
    assert found.estimate.value == pytest.approx(-0.2)
    assert found.estimate.high < 0 and found.n_positive == 1


def test_summary_tree_has_intervals_subjects_and_numbers_only() -> None:
    run = with_classes(make_run(1), 3)
    tree = summarise(run, 100, 0)
    leaf = tree["retrieval"]["x"]
    assert leaf["top1_ci95_low"] < leaf["top1"] < leaf["top1_ci95_high"]
    values = [tree["subjects"][s]["retrieval"]["x"]["top1"] for s in run]
    assert leaf["top1"] == pytest.approx(np.mean(values), abs=1e-6)
    assert tree["classification"]["n_classes"] == 2
    assert tree["subjects"]["subj02"]["classification"]["map_ci95_high"] <= 1.0
    assert summarise(run, 100, 0) == tree


def test_summary_leaves_out_what_nobody_was_asked() -> None:
    scores = Scores(nsd_id_I=IDS, per_image={"zero_shot.top1": (np.full(60, np.nan), np.ones(60))})
    assert summarise({"s": scores}, 10, 0) == {"subjects": {"s": {}}}


def test_what_a_subject_lacks_has_no_mean() -> None:
    """Neither what it does not have nor what is undefined for it; of a brain region it may."""
    run = make_run(1)
    ones_I = np.ones(len(IDS))
    whole = dict.fromkeys(("a.top1", "b.top1", "encoding.r.FFA-1"), (ones_I, ones_I))
    part = {"b.top1": (np.full(20, np.nan), np.ones(20))}
    for subject, added in zip(run, (whole, part), strict=True):
        scores = run[subject]
        run[subject] = Scores(nsd_id_I=scores.nsd_id_I, per_image=added | dict(scores.per_image))
    tree = summarise(run, 20, 0)
    assert "a" not in tree and "b" not in tree
    assert tree["subjects"]["subj01"]["a"]["top1"] == tree["subjects"]["subj01"]["b"]["top1"] == 1
    assert tree["encoding"]["r"]["FFA-1"] == 1 and "retrieval" in tree
    assert np.isnan(statistics.mean_score([run], "a.top1", 20).value)
    assert statistics.mean_score([run], "encoding.r.FFA-1", 20).value == 1
    for metric in ("a.top1", "b.top1"):
        found = statistics.paired_difference([(run, run)], metric, 20)
        assert found.n_subjects == 1 and found.estimate.value == 0


def test_a_gallery_that_a_subject_does_not_reach_has_no_mean() -> None:
    run = {}
    for subject, n in (("subj01", 120), ("subj02", 60)):
        per_image = score_sizes(np.eye(n), "image_given_brain")
        run[subject] = Scores(nsd_id_I=np.arange(n), per_image=per_image)
    tree = summarise(run, 20, 0)
    assert list(tree["retrieval_sizes"]) == ["50"]
    assert list(tree["subjects"]["subj01"]["retrieval_sizes"]) == ["50", "100"]


def test_a_subject_counts_where_every_pair_has_a_number() -> None:
    pairs = [(make_run(seed, 0.1), make_run(seed + 50)) for seed in range(2)]
    pairs[1][0]["subj02"].per_image["retrieval.x.top1"][0][:] = np.nan
    found = statistics.paired_difference(pairs, "retrieval.x.top1", 20)
    assert found.n_positive == found.n_subjects == 1
    assert found.estimate == found.per_subject["subj01"]


def test_is_testable() -> None:
    assert statistics.is_testable({"top1": 0.3, "top1_ci95_low": 0.2}, "top1", 0.125)
    assert not statistics.is_testable({"top1": 0.3, "top1_ci95_low": 0.1}, "top1", 0.125)
    assert not statistics.is_testable({}, "top1", 0.125)


def test_errors_say_what_does_not_fit() -> None:
    run = make_run(1)
    with pytest.raises(ValueError, match=r"it has retrieval\.x\.top1"):
        statistics.mean_score([run], "retrieval.y.top1")
    other = {s: Scores(nsd_id_I=v.nsd_id_I + 2, per_image=v.per_image) for s, v in run.items()}
    with pytest.raises(ValueError, match="different test images of subj01"):
        statistics.paired_difference([(run, other)], "retrieval.x.top1")
    with pytest.raises(ValueError, match="share no subject"):
        statistics.paired_difference([(run, {"subj07": run["subj01"]})], "retrieval.x.top1")


def test_another_level_is_another_quantile(rng: np.random.Generator) -> None:
    """Of resamples for a mean over images, of Student's t for the jackknife."""
    replicate_R = rng.standard_normal(2001)
    found = statistics.estimate(0.1, replicate_R, "x.top1", False, level=0.9)
    assert [found.low, found.high] == pytest.approx(np.percentile(replicate_R, [5, 95]))
    wide, narrow = (
        statistics.estimate(0.1, 0.1 + replicate_R / 2000, "x.map", False, level=level)
        for level in (0.95, 0.9)
    )
    ratio = scipy.stats.t.ppf(0.95, 2000) / scipy.stats.t.ppf(0.975, 2000)
    assert narrow.high - 0.1 == pytest.approx(ratio * (wide.high - 0.1))
