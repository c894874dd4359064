"""The published numbers of NSD, counted on the released files themselves: runs only where these are
present.

The tree is the folder that the environment variable FMRI2CLIP_NSD names, or data/raw/nsd of the
checkout if that is the release. Numbers: recounted from the released nsd_expdesign.mat; voxel
counts as in public analysis code. They are written down here a second time on purpose: the checks
of the library have their own copy.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fmri2clip.datasets.nsd import design, layout
from fmri2clip.datasets.nsd.voxels import rois
from fmri2clip.stages.check_data.check import is_released
from fmri2clip.stages.check_data.check_design import check_design, check_published_design

PREPARATION = "betas_fithrf_GLMdenoise_RR"
NSDGENERAL = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)
SHAPES = (
    (81, 104, 83),
    (82, 106, 84),
    (81, 106, 82),
    (85, 99, 80),
    (79, 97, 78),
    (85, 113, 83),
    (78, 95, 81),
    (80, 103, 78),
)
AREAS = {  # labels of prf-visualrois -> voxels of subjects 1 to 8
    (1, 2): (1350, 1102, 1254, 877, 1113, 1127, 1142, 1074),
    (3, 4): (1433, 1075, 1141, 863, 1081, 1180, 986, 1033),
    (7,): (687, 483, 426, 475, 542, 477, 397, 495),
}
SPLITS = {  # sessions: trials and pictures of all, training, test; test pictures seen 3, 2, 1 times
    1: (750, 583, 688, 536, 62, 47, 2, 11, 34),
    3: (2250, 1576, 2049, 1431, 201, 145, 12, 32, 101),
    27: (20250, 8779, 18265, 7907, 1985, 872, 413, 287, 172),
    29: (21750, 9082, 19637, 8188, 2113, 894, 481, 257, 156),
    30: (22500, 9209, 20312, 8302, 2188, 907, 515, 251, 141),
    32: (24000, 9411, 21629, 8481, 2371, 930, 614, 213, 103),
    37: (27750, 9841, 24980, 8859, 2770, 982, 839, 110, 33),
    40: (30000, 10000, 27000, 9000, 3000, 1000, 1000, 0, 0),
}


@pytest.fixture(scope="module")
def tree(root: Path) -> Path:
    """Root of the released NSD; skips where there is none."""
    named = os.environ.get("FMRI2CLIP_NSD", "")
    folder = Path(named) if named else root / "data" / "raw" / "nsd"
    if not layout.expdesign_path(folder).is_file():
        pytest.skip(
            f"no NSD in {folder}; set FMRI2CLIP_NSD to a folder that holds nsddata of the release"
        )
    if not is_released(folder, layout.SUBJECTS, PREPARATION):
        pytest.skip(
            f"{folder} is not the released NSD, but simulated; set FMRI2CLIP_NSD to a folder that "
            "holds it"
        )
    return folder


@pytest.fixture(scope="module")
def mat(tree: Path) -> dict[str, np.ndarray]:
    return scipy.io.loadmat(layout.expdesign_path(tree))


@pytest.fixture(params=range(8), ids=layout.SUBJECTS)
def subject(tree: Path, request: pytest.FixtureRequest) -> tuple[int, str]:
    """Row and name of a subject whose regions are there."""
    name = layout.SUBJECTS[request.param]
    if not layout.roi_path(tree, name, "nsdgeneral").is_file():
        pytest.skip(f"{tree} has no regions of {name}")
    return request.param, name


def test_the_design_is_the_released_file(tree: Path) -> None:
    content = layout.expdesign_path(tree).read_bytes()
    assert len(content) == 261_803
    digest = hashlib.sha256(content).hexdigest()
    assert digest.startswith("4cf4901e") and digest.endswith("faadf89")


def test_design_tables(mat: dict[str, np.ndarray]) -> None:
    shapes = {
        name: (mat[name].shape, mat[name].dtype.name) for name in mat if not name.startswith("__")
    }
    assert shapes == {
        "masterordering": ((1, 30000), "uint16"),
        "subjectim": ((8, 10000), "int32"),
        "sharedix": ((1, 1000), "int32"),
        "stimpattern": ((40, 12, 75), "uint8"),
        "basiccnt": ((3, 40), "uint16"),
    }
    assert mat["sharedix"][0, :10].tolist() == [
        2951,
        2991,
        3050,
        3078,
        3147,
        3158,
        3165,
        3172,
        3182,
        3387,
    ]
    assert mat["sharedix"][0, -1] == 72949
    assert mat["basiccnt"][:, 0].tolist() == [447, 105, 31]
    assert mat["stimpattern"].sum(axis=2).tolist() == [[63, 62] * 6] * 40


def test_first_trials(mat: dict[str, np.ndarray]) -> None:
    ordering = mat["masterordering"].ravel().astype(int)
    shown = mat["subjectim"][:, ordering - 1]
    assert shown[0, :10].tolist() == [
        46003,
        61883,
        829,
        67574,
        16021,
        40423,
        51518,
        62326,
        50611,
        55066,
    ]
    assert ordering[0] == 626 and (shown[:, 0] == 46003).all()
    shared = [(t, int(shown[0, t]) - 1) for t in np.flatnonzero(ordering <= 1000)[:10].tolist()]
    assert shared == [
        (0, 46002),
        (28, 48617),
        (35, 44980),
        (44, 32625),
        (55, 53052),
        (56, 4930),
        (90, 32625),
        (120, 6431),
        (126, 70335),
        (132, 36576),
    ]
    for nsd_id, seen, trials in (
        (46002, range(8), [1, 12803, 25837]),
        (2950, range(8), [2616, 9716, 27566]),
        (0, [2], [13792, 14918, 28011]),
        (72999, [0], [16206, 22389, 22664]),
    ):
        for row in range(8):
            assert (np.flatnonzero(shown[row] == nsd_id + 1) + 1).tolist() == (
                trials if row in seen else []
            )


def test_spread_of_repeats(mat: dict[str, np.ndarray]) -> None:
    ordering = mat["masterordering"].ravel().astype(int)
    shared = (ordering.reshape(40, 750) <= 1000).sum(axis=1)
    assert (shared[0], shared.min(), shared.max(), shared.mean()) == (62, 57, 101, 75)
    trials = [np.flatnonzero(ordering == column) for column in range(1, 10_001)]
    assert all(len(seen) == 3 for seen in trials)
    together = np.mean([len(set((seen // 750).tolist())) < 3 for seen in trials])
    assert round(100 * together, 1) == 55.9
    gaps = np.diff(np.array(trials), axis=1)
    assert (gaps.min(), np.median(gaps)) == (1, 1517.5)


@pytest.mark.parametrize("n_sessions", SPLITS)
def test_split_sizes(tree: Path, n_sessions: int) -> None:
    trials = design.list_trials(design.load_design(tree), "subj01", n_sessions)
    train, test = (trials.nsd_id_N[trials.is_shared_N == shared] for shared in (False, True))
    seen = Counter(Counter(test.tolist()).values())
    found = (
        len(trials.trial_N),
        len(set(trials.nsd_id_N.tolist())),
        len(train),
        len(set(train.tolist())),
        len(test),
        len(set(test.tolist())),
        seen[3],
        seen[2],
        seen[1],
    )
    assert found == SPLITS[n_sessions]


def test_totals(tree: Path) -> None:
    planned = design.load_design(tree)
    trials = [design.list_trials(planned, subject, "released") for subject in layout.SUBJECTS]
    assert sum(len(t.trial_N) for t in trials) == 213_000
    assert len(set(np.concatenate([t.nsd_id_N for t in trials]).tolist())) == 70_566
    assert len(np.unique(planned.nsd_id_SJ)) == 73_000
    counts = [Counter(t.nsd_id_N[t.is_shared_N].tolist()) for t in trials]
    everybody = Counter({nsd_id: min(count[nsd_id] for count in counts) for nsd_id in counts[0]})
    assert [sum(n >= least for n in everybody.values()) for least in (1, 2, 3)] == [907, 766, 515]
    train = design.count_presentations(design.list_trials(planned, "subj02", "old37"), shared=False)
    assert train == {3: 7581, 2: 959, 1: 319}


def test_the_checks_agree(tree: Path) -> None:
    assert check_design(tree).status == "PASS"
    assert check_published_design(tree).status == "PASS"


def test_nsdgeneral(tree: Path, subject: tuple[int, str]) -> None:
    row, name = subject
    volume = rois.read_volume(layout.roi_path(tree, name, "nsdgeneral"))
    assert volume.shape == SHAPES[row] and volume.dtype == np.float64
    assert int((volume == 1).sum()) == NSDGENERAL[row]


def test_visual_areas_within_five_percent(tree: Path, subject: tuple[int, str]) -> None:
    row, name = subject
    path = layout.roi_path(tree, name, "prf-visualrois")
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    volume = rois.read_volume(path)
    for labels, voxels in AREAS.items():
        assert int(np.isin(volume, labels).sum()) == pytest.approx(voxels[row], rel=0.05)
