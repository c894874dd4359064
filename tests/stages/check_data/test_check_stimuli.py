"""check_stimuli.py and check_design.py against hostile tables, and against a full-size design with
known numbers.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.design import make_design
from fmri2clip.stages.check_data import check_design
from fmri2clip.stages.check_data.check import check_tree
from fmri2clip.stages.check_data.check_stimuli import check_table
from tests.stages.check_data.check_world import SUBJECT, write_tree


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("intact")
    write_tree(root)
    return root


@pytest.fixture
def tree(intact: Path, tmp_path: Path) -> Path:
    """Design and picture table alone."""
    for path in (layout.expdesign_path, layout.stim_info_path):
        path(tmp_path).parent.mkdir(parents=True, exist_ok=True)
        path(tmp_path).write_bytes(path(intact).read_bytes())
    return tmp_path


def _edit(root: Path, **columns: object) -> pd.DataFrame:
    table = pd.read_csv(layout.stim_info_path(root), index_col=0).assign(**columns)
    table.to_csv(layout.stim_info_path(root))
    return table


def _swapped(values: pd.Series) -> pd.Series:
    values = values.copy()
    values[[5, 6]] = values[[6, 5]].to_numpy()
    return values


def test_intact_table(tree: Path) -> None:
    assert check_table(tree, is_real=False).status == "PASS"


def test_columns_are_missing_too_many_or_in_another_order(tree: Path) -> None:
    table = _edit(tree)
    table.drop(columns=["cropBox", "subject3_rep1"]).to_csv(layout.stim_info_path(tree))
    with pytest.raises(ValueError, match="lacks cropBox, subject3_rep1; download it again"):
        check_table(tree, is_real=False)
    table.assign(more=1).to_csv(layout.stim_info_path(tree))
    finding = check_table(tree, is_real=False)
    assert finding.status == "WARN" and "merged.csv has more columns: more (" in finding.detail
    table[[*table.columns[1:], table.columns[0]]].to_csv(layout.stim_info_path(tree))
    finding = check_table(tree, is_real=False)
    assert finding.status == "WARN" and "has its columns in another order" in finding.detail


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (
            lambda t: {"nsdId": _swapped(t["nsdId"])},
            r"nsdId is not 0, 1, \.\.\. in order, row 5 has 6",
        ),
        (
            lambda t: {"nsdId": t["nsdId"].replace(7, 6)},
            r"nsdId is not 0, 1, \.\.\. in order, row 7 has 6",
        ),
        (
            lambda t: {"nsdId": t["nsdId"].astype(str) + "x"},
            r"nsdId is not 0, 1, \.\.\. in order, row 0 has 0x",
        ),
        (
            lambda t: {"shared1000": _swapped(t["shared1000"]).map(lambda v: not v)},
            "shared1000 is not sharedix",
        ),
        (lambda t: {"cocoSplit": "test2017"}, "cocoSplit is neither of"),
        (lambda t: {"subject2_rep1": t["subject2_rep1"] + 1}, "are not the trials of subj02"),
        (lambda t: {"subject4": 1 - t["subject4"]}, "subject4 differs"),
        (lambda t: {"cropBox": "(0.1, 0, 0.1, 0)"}, "cropBox of nsdId 0 cuts both axes"),
        (lambda t: {"cropBox": "(0.1, 0, 0.1"}, "not four numbers"),
        (lambda t: {"cropBox": "(0.6, 0.5, 0, 0)"}, "that leave something"),
        (lambda t: {"cropBox": "__import__('os')"}, "not four numbers"),
    ],
)
def test_hostile_values(tree: Path, edit, problem: str) -> None:
    table = pd.read_csv(layout.stim_info_path(tree), index_col=0)
    _edit(tree, **edit(table))
    with pytest.raises(ValueError, match=problem) as error:
        check_table(tree, is_real=False)
    assert str(layout.stim_info_path(tree)) in str(error.value)


def test_a_real_tree_must_have_the_published_photographs(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"nsdId 2950 is .*published 262145 of train2017"):
        check_table(tree, is_real=True)
    _edit(tree, cocoId=np.arange(3790) + 262145 - 2950, cocoSplit="train2017")
    assert check_table(tree, is_real=True).status == "PASS"


def test_a_page_instead_of_the_table(tree: Path) -> None:
    layout.stim_info_path(tree).write_bytes(b"<html>\x80</html>")
    with pytest.raises(ValueError, match=r"merged\.csv is no NSD stimulus table"):
        check_table(tree, is_real=False)


def _full_size() -> dict[str, np.ndarray]:
    """Arrays of a design of 30,000 trials whose order is random."""
    rng = np.random.default_rng(4)
    ids = rng.permutation(73_000) + 1
    shared, own = np.sort(ids[:1000]), ids[1000:].reshape(8, 9000)
    return {
        "masterordering": rng.permutation(np.repeat(np.arange(1, 10_001), 3))[None].astype(
            np.uint16
        ),
        "subjectim": np.hstack([np.tile(shared, (8, 1)), own]).astype(np.int32),
        "sharedix": shared[None].astype(np.int32),
    }


def test_structure_against_a_loop() -> None:
    arrays = _full_size()
    ordering = arrays["masterordering"].ravel().tolist()
    trials: dict[int, list[int]] = {}
    for trial, column in enumerate(ordering):
        trials.setdefault(column, []).append(trial)
    gaps = [b - a for seen in trials.values() for a, b in itertools.pairwise(seen)]
    together = np.mean([len({t // 750 for t in seen}) < 3 for seen in trials.values()])
    shared = [sum(c <= 1000 for c in ordering[s : s + 750]) for s in range(0, 30_000, 750)]
    first = [ordering[:750].count(c) for c in set(ordering[:750])]
    found = check_design.describe_structure(make_design(**arrays))
    assert found.shared_trials == (shared[0], min(shared), max(shared))
    assert found.percent_together == pytest.approx(100 * together, abs=0.051)
    assert found.median_gap == np.median(gaps)
    assert found.seen_in_first == tuple(first.count(k) for k in (1, 2, 3))


def test_published_values_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up design passes with its own numbers in the place of the published ones, and with
    none of them wrong.
    """
    arrays = _full_size()
    path = layout.expdesign_path(tmp_path)
    path.parent.mkdir(parents=True)
    scipy.io.savemat(path, arrays, format="5")
    ordering, table = arrays["masterordering"].ravel().astype(int), arrays["subjectim"].astype(int)
    trials = [np.flatnonzero(ordering == 1 + column) + 1 for column in (0, 2000)]
    first = int(np.flatnonzero(ordering <= 1000)[0])
    numbers = {
        "FIRST_SHARED": {first: table[0, ordering[first] - 1] - 1},
        "FIRST_OF_SUBJ01": tuple(int(table[0, c - 1]) - 1 for c in ordering[:10]),
        "PRESENTATIONS": {
            int(table[0, 0]) - 1: (layout.SUBJECTS, tuple(trials[0].tolist())),
            int(table[2, 2000]) - 1: (("subj03",), tuple(trials[1].tolist())),
        },
        "FIRST_SHARED_IDS": tuple((table[0, :10] - 1).tolist()),
        "LAST_SHARED_ID": int(table[0, 999]) - 1,
        "SPLITS": {2: check_design.count_split(make_design(**arrays), 2)},
        "STRUCTURE": check_design.describe_structure(make_design(**arrays)),
    }
    for name, value in numbers.items():
        monkeypatch.setattr(check_design, name, value)
    assert check_design.check_published_design(tmp_path).status == "PASS"
    monkeypatch.setattr(check_design, "STRUCTURE", check_design.STRUCTURE._replace(median_gap=1.5))
    assert check_design.check_published_design(tmp_path).status == "WARN"
    subjects, seen = numbers["PRESENTATIONS"][int(table[2, 2000]) - 1]
    wrong = {
        "FIRST_SHARED": {first: 1},
        "FIRST_OF_SUBJ01": (0,) * 10,
        "LAST_SHARED_ID": 0,
        "PRESENTATIONS": {int(table[2, 2000]) - 1: ((*subjects, "subj04"), seen)},
        "SPLITS": {2: numbers["SPLITS"][2]._replace(test_pictures=1)},
    }
    for name, value in wrong.items():
        with (
            monkeypatch.context() as changed,
            pytest.raises(ValueError, match=r"nsd_expdesign\.mat"),
        ):
            changed.setattr(check_design, name, value)
            check_design.check_published_design(tmp_path)


def test_a_download_of_another_design_is_a_warning(intact: Path) -> None:
    checks = {check.name: check for check in check_tree(intact, [SUBJECT], Dataset(source="s3"))}
    assert checks["design.published"].status == "WARN"
    assert "plans 1500 trials, the released NSD 30000" in checks["design.published"].detail
