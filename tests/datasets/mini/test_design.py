"""The simulated design tables against definitions written out anew."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.io import loadmat

from fmri2clip.datasets.mini.design import design_mat, make_design, presentations, stim_info
from fmri2clip.datasets.nsd import layout


@pytest.fixture(scope="module")
def design():
    return make_design(world_seed=1, n_sessions=12, n_shared=500)


def test_every_picture_three_times(design) -> None:
    ids, counts = np.unique(design.masterordering_N, return_counts=True)
    assert np.array_equal(ids, np.arange(1, 3001)) and (counts == 3).all()


def test_subjects_share_exactly_the_first_columns(design) -> None:
    sets = [set(row) for row in design.subjectim.tolist()]
    assert (
        set.intersection(*sets)
        == set(design.sharedix.tolist())
        == set(design.subjectim[0, :500].tolist())
    )
    assert set.union(*sets) == set(range(1, 500 + 8 * 2500 + 1))
    assert np.ptp(design.sharedix) > 0.9 * design.n_images  # shared ids are spread over all ids


def test_repeats_are_bunched_and_shared_pictures_are_everywhere(design) -> None:
    session = np.argsort(design.masterordering_N, kind="stable").reshape(-1, 3) // 750
    together = (session[:, 0] == session[:, 1]) | (session[:, 1] == session[:, 2])
    assert 0.5 < together.mean() < 0.75  # 0.56 in the release
    share = (design.masterordering_N.reshape(12, 750) <= 500).mean(axis=1)
    assert share.min() > 0.08 and share.max() < 0.25


def test_basiccnt_counts_by_hand(design) -> None:
    for session in (0, 7):
        shown = design.masterordering_N[session * 750 : (session + 1) * 750].tolist()
        by_hand = [sum(shown.count(i) == k for i in set(shown)) for k in (1, 2, 3)]
        assert design.basiccnt[:, session].tolist() == by_hand


def test_runs_have_63_and_62_trials(design) -> None:
    lengths = design.stimpattern.sum(axis=2)
    assert (lengths[:, ::2] == 63).all() and (lengths[:, 1::2] == 62).all()
    assert not design.stimpattern[:, :, :3].any()


def test_mat_file_has_the_dtypes_of_the_release_and_no_date(design) -> None:
    content = design_mat(design)
    assert content == design_mat(design) and b"Created" not in content[:128]
    mat = loadmat(io.BytesIO(content))
    seen = {name: (value.dtype.name, value.shape) for name, value in mat.items() if name[0] != "_"}
    assert seen == {
        "masterordering": ("uint16", (1, 9000)),
        "subjectim": ("int32", (8, 3000)),
        "sharedix": ("int32", (1, 500)),
        "stimpattern": ("uint8", (12, 12, 75)),
        "basiccnt": ("uint16", (3, 12)),
    }


def test_presentations_lead_back_to_the_picture(design) -> None:
    trials = presentations(design)
    for subject in ("subj01", "subj07"):
        nsd_id_N, column = design.nsd_id_N(subject), layout.subject_number(subject) - 1
        for nsd_id in (int(nsd_id_N[0]), int(design.sharedix[3]) - 1):
            assert (np.flatnonzero(nsd_id_N == nsd_id) + 1).tolist() == trials[
                nsd_id, column
            ].tolist()
    n_shown = (trials > 0).sum(axis=(1, 2))
    assert sorted(set(n_shown.tolist())) == [3, 24]


def test_stim_info_columns_and_crops(design) -> None:
    table = stim_info(1, design, {4: (0.0, 0.0, 0.25, 0.0)})
    assert tuple(table.columns) == layout.CSV_COLUMNS
    assert table["cropBox"][4] == "(0, 0, 0.25, 0)" and table["cocoId"].is_unique
    assert (table.loc[table["shared1000"], "cocoSplit"] == "train2017").all()


def test_seed_decides() -> None:
    first, second, other = make_design(3, 1, 40), make_design(3, 1, 40), make_design(4, 1, 40)
    assert design_mat(first) == design_mat(second) != design_mat(other)


def test_too_many_shared_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"world\.n_shared is 250.*choose 1 to 249"):
        make_design(1, 1, 250)
