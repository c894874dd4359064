"""design.py against the published counts of the real experiment, and against loops written from the
definitions.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.datasets.nsd import design, layout
from fmri2clip.stages.check_data import check_design
from tests.stages.check_data.check_world import small_mat

# sessions: (all, train, test) as (trials, images), and test images seen (3, 2, 1) times: counted on
# the real file
PUBLISHED = {
    1: ((750, 583), (688, 536), (62, 47), (2, 11, 34)),
    3: ((2250, 1576), (2049, 1431), (201, 145), (12, 32, 101)),
    27: ((20250, 8779), (18265, 7907), (1985, 872), (413, 287, 172)),
    29: ((21750, 9082), (19637, 8188), (2113, 894), (481, 257, 156)),
    30: ((22500, 9209), (20312, 8302), (2188, 907), (515, 251, 141)),
    32: ((24000, 9411), (21629, 8481), (2371, 930), (614, 213, 103)),
    37: ((27750, 9841), (24980, 8859), (2770, 982), (839, 110, 33)),
    40: ((30000, 10000), (27000, 9000), (3000, 1000), (1000, 0, 0)),
}
TRAIN_AT_37 = {3: 7581, 2: 959, 1: 319}


def _at_least(n_sessions: int) -> tuple[list[int], list[int]]:
    """Images shown at least 1, 2, 3 times by that session: (train, test)."""
    _, (trials, images), _, (thrice, twice, once) = PUBLISHED[n_sessions]
    test = [thrice + twice + once, thrice + twice, thrice]
    again = trials - images
    third = TRAIN_AT_37[3] if n_sessions == 37 else round(again * thrice / (2 * thrice + twice))
    return [images, again - third, third], test


def _published_ordering() -> np.ndarray:
    """An ordering whose cumulative counts are the published ones.

    Between two rows of the table, the k-th image (of the training or the test images) gets its r-th
    presentation when the number of images shown at least r times passes k. That fixes which ids a
    stretch holds; they are then shuffled.
    """
    rng = np.random.default_rng(0)
    ids = [1000 + rng.permutation(9000) + 1, rng.permutation(1000) + 1]
    ordering, before = [], ([0, 0, 0], [0, 0, 0])
    for n_sessions in PUBLISHED:
        now = _at_least(n_sessions)
        stretch = [ids[part][before[part][r] : now[part][r]] for part in (0, 1) for r in range(3)]
        ordering.append(rng.permutation(np.concatenate(stretch)))
        before = now
    return np.concatenate(ordering).astype(np.uint16)


def _published_design() -> design.Design:
    rng = np.random.default_rng(1)
    ids = rng.permutation(73_000) + 1
    shared, own = np.sort(ids[:1000]), ids[1000:].reshape(8, 9000)
    subjectim = np.hstack([np.tile(shared, (8, 1)), own]).astype(np.int32)
    return design.make_design(_published_ordering()[None], subjectim, shared[None].astype(np.int32))


@pytest.fixture(scope="module")
def published() -> design.Design:
    return _published_design()


def _loop(ordering: np.ndarray, n_shared: int) -> tuple[Counter, Counter]:
    """Presentations of every training and test id, one trial after the other."""
    train: Counter = Counter()
    test: Counter = Counter()
    for value in ordering.tolist():
        (test if value <= n_shared else train)[value] += 1
    return train, test


@pytest.mark.parametrize("n_sessions", PUBLISHED)
def test_published_table(published: design.Design, n_sessions: int) -> None:
    everything, train, test, seen = PUBLISHED[n_sessions]
    trials = design.list_trials(published, "subj05", n_sessions)
    counted = {
        shared: (
            int(np.sum(trials.is_shared_N == shared)),
            len(design.list_images(trials, shared=shared)),
        )
        for shared in (False, True)
    }
    assert counted == {False: train, True: test}
    assert (len(trials.trial_N), len(np.unique(trials.nsd_id_N))) == everything
    shown = design.count_presentations(trials, shared=True)
    assert (shown[3], shown[2], shown[1]) == seen

    once, twice, thrice = (shown[k] for k in (1, 2, 3))
    split = check_design.SplitCounts(*train, *test, (thrice, twice, once))
    assert (
        check_design.count_split(published, n_sessions) == split == check_design.SPLITS[n_sessions]
    )

    train_loop, test_loop = _loop(published.ordering_N[: 750 * n_sessions], 1000)
    assert (sum(train_loop.values()), len(train_loop)) == train
    assert (sum(test_loop.values()), len(test_loop)) == test
    assert Counter(test_loop.values()) == Counter({k: n for k, n in shown.items() if n})


@pytest.mark.parametrize(
    ("subject", "sessions", "trials", "test_trials", "test_images"),
    [
        ("subj01", "released", 30000, 3000, 1000),
        ("subj02", "old37", 27750, 2770, 982),
        ("subj03", "released", 24000, 2371, 930),
        ("subj06", "old37", 21750, 2113, 894),
        ("subj04", "released", 22500, 2188, 907),
        ("subj08", "old37", 20250, 1985, 872),
    ],
)
def test_published_counts_by_subject(
    published: design.Design,
    subject: str,
    sessions: str,
    trials: int,
    test_trials: int,
    test_images: int,
) -> None:
    listed = design.list_trials(published, subject, sessions)
    assert (len(listed.trial_N), int(listed.is_shared_N.sum())) == (trials, test_trials)
    assert len(design.list_images(listed, shared=True)) == test_images


def test_published_totals(published: design.Design) -> None:
    listed = [design.list_trials(published, subject, "released") for subject in layout.SUBJECTS]
    assert sum(len(trials.trial_N) for trials in listed) == 213_000
    assert len(np.unique(np.concatenate([trials.nsd_id_N for trials in listed]))) == 70_566
    assert (
        design.count_presentations(design.list_trials(published, "subj01", 37), shared=False)
        == TRAIN_AT_37
    )
    # shared images stay out of the training of every subject
    shared = set(design.list_images(listed[0], shared=True).tolist())
    assert all(
        shared.isdisjoint(design.list_images(trials, shared=False).tolist()) for trials in listed
    )


def test_file_is_read_one_based_and_without_wrapping(tmp_path: Path) -> None:
    mat = scipy.io.loadmat(small_mat(tmp_path))
    loaded = design.load_design(tmp_path)
    trials = design.list_trials(loaded, "subj03", "released")
    assert loaded.n_sessions == 2 and loaded.n_shared == 20
    for t, value in enumerate(mat["masterordering"].ravel().tolist(), start=1):
        assert trials.nsd_id_N[t - 1] == mat["subjectim"][2, value - 1] - 1
        assert trials.session_N[t - 1] == (t - 1) // 750 + 1
        assert trials.is_shared_N[t - 1] == (trials.nsd_id_N[t - 1] + 1 in mat["sharedix"])
    assert design.count_sessions(loaded, "subj03", "old37") == 2
    assert len(design.list_trials(loaded, "subj03", 1).trial_N) == 750


@pytest.mark.parametrize("sessions", [0, 3, "all", True, 1.0])
def test_sessions_out_of_range(tmp_path: Path, sessions: object) -> None:
    small_mat(tmp_path)
    with pytest.raises(ValueError, match="subj01 allows released, old37 or a number from 1 to 2"):
        design.count_sessions(design.load_design(tmp_path), "subj01", sessions)  # type: ignore[arg-type]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nsd_expdesign\.mat does not exist"):
        design.load_design(tmp_path)
    with pytest.raises(ValueError, match="no multiple of 750"):
        small_mat(tmp_path / "a", masterordering=np.ones((1, 749), dtype=np.uint16))
        design.load_design(tmp_path / "a")
    with pytest.raises(ValueError, match="leaves 1"):
        small_mat(tmp_path / "b", masterordering=np.full((1, 750), 501, dtype=np.uint16))
        design.load_design(tmp_path / "b")
    with pytest.raises(ValueError, match="differ between subjects"):
        small_mat(tmp_path / "c", sharedix=np.arange(1, 31, dtype=np.int32)[None])
        design.load_design(tmp_path / "c")
    path = small_mat(tmp_path / "d")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read as a MATLAB 5 file"):
        design.load_design(tmp_path / "d")


@given(st.lists(st.integers(0, 5), max_size=30))
def test_repetitions_count_earlier_occurrences(ids: list[int]) -> None:
    counted = design.count_repetitions(np.array(ids, dtype=np.int64))
    assert counted.tolist() == [ids[: i + 1].count(value) for i, value in enumerate(ids)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n_shared=st.integers(0, 500), sessions=st.integers(1, 2))
def test_split_invariants(seed: int, n_shared: int, sessions: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(n_shared + 8 * (500 - n_shared)) + 1
    shared = np.sort(ids[:n_shared])
    subjectim = np.hstack([np.tile(shared, (8, 1)), ids[n_shared:].reshape(8, -1)]).astype(np.int32)
    ordering = rng.permutation(np.repeat(np.arange(1, 501), 3)).astype(np.uint16)
    made = design.make_design(ordering[None], subjectim, shared[None])
    one, two = (design.list_trials(made, subject, sessions) for subject in ("subj01", "subj08"))
    train, test = (set(design.list_images(one, shared=part).tolist()) for part in (False, True))
    assert train.isdisjoint(test) and train | test == set(one.nsd_id_N.tolist())
    assert test <= set((shared - 1).tolist())
    np.testing.assert_array_equal(
        design.list_images(one, shared=True), design.list_images(two, shared=True)
    )
    assert set(design.list_images(two, shared=False).tolist()).isdisjoint(train)
    assert one.repetition_N.min() == 1 and one.repetition_N.max() <= 3
    assert (
        len(set(zip(one.nsd_id_N.tolist(), one.repetition_N.tolist(), strict=True)))
        == 750 * sessions
    )
