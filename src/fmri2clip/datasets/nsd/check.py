"""What must hold in a tree with NSD's files, real or simulated: one named verdict for each property.

Properties are functions of the tree's own number of sessions and shared pictures. Published constants (order of the
first trials, picture and voxel counts) are asked of a tree of the full size only: 30,000 planned trials and no
noise-free file. Sources: NSD manual; Allen et al. 2022; constants recounted from the released nsd_expdesign.mat.

Axis letters: N trials, I images, S sessions.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.io

from fmri2clip.datasets.nsd import check_subject, coco, layout, stimuli
from fmri2clip.datasets.nsd import design as designs
from fmri2clip.datasets.nsd.check_subject import SubjectFiles, require
from fmri2clip.params import Dataset

# From the released design. 0-based trial -> nsd id of the first shared trials; nsd ids of subj01's first ten trials;
# nsd id -> (subject, 1-based trials) of pictures that one subject saw, or all (then subj01 stands for them).
FIRST_SHARED = {
    0: 46002, 28: 48617, 35: 44980, 44: 32625, 55: 53052, 56: 4930, 90: 32625, 120: 6431, 126: 70335, 132: 36576,
}  # fmt: skip
FIRST_OF_SUBJ01 = (46002, 61882, 828, 67573, 16020, 40422, 51517, 62325, 50610, 55065)
PRESENTATIONS = {
    2950: ("subj01", (2616, 9716, 27566)), 46002: ("subj01", (1, 12803, 25837)),
    0: ("subj03", (13792, 14918, 28011)), 72999: ("subj01", (16206, 22389, 22664)),
}  # fmt: skip
SHARED_IDS = (2950, 2990, 3049, 3077, 3146, 3157, 3164, 3171, 3181, 3386)  # the first ten of sharedix, 0-based
COCO_OF_NSD_ID = {2950: 262145, 2951: 262146}  # guards against ids that are off by one
SPLIT_COUNTS = {  # sessions -> trials and pictures for training, then of the test set; the same for all subjects
    1: (688, 536, 62, 47), 3: (2049, 1431, 201, 145),
    27: (18265, 7907, 1985, 872), 29: (19637, 8188, 2113, 894), 30: (20312, 8302, 2188, 907),
    32: (21629, 8481, 2371, 930), 37: (24980, 8859, 2770, 982), 40: (27000, 9000, 3000, 1000),
}  # fmt: skip


class Check(NamedTuple):
    """Verdict on one property; the detail says what was seen or what is wrong."""

    name: str
    passed: bool
    detail: str


def check_tree(root: Path, subjects: Sequence[str], dataset: Dataset) -> list[Check]:
    """Every verdict on the tree, in a fixed order; a file that is missing or unreadable is a failed check."""
    is_real = _is_real(root, subjects, dataset.preparation)
    tasks: dict[str, Callable[[], str]] = {
        "design.tables": partial(check_design, root),
        "stimuli.pictures": partial(check_pictures, root, is_real),
        "stimuli.table": partial(check_table, root, is_real),
        "coco": partial(check_annotations, root, subjects),
    }
    if is_real:
        tasks["design.published"] = partial(check_published_design, root)
    for subject in subjects:
        for name, check in check_subject.CHECKS.items():
            tasks[f"{subject}.{name}"] = partial(_check_subject, check, root, subject, dataset, is_real)
    return [_run(name, task) for name, task in tasks.items()]


def _run(name: str, task: Callable[[], str]) -> Check:
    try:
        return Check(name, True, task())
    except (ValueError, OSError) as error:
        return Check(name, False, str(error))


def check_design(root: Path) -> str:
    """Dtypes and shapes of nsd_expdesign.mat; every picture three times; own pictures of nobody else; run lengths."""
    path = layout.expdesign_path(root)
    designs.load_design(root)
    mat = scipy.io.loadmat(path)
    n_shared, n_columns = mat["sharedix"].size, mat["subjectim"].shape[1]
    n_sessions = layout.REPETITIONS * n_columns // layout.TRIALS_PER_SESSION
    expected = {
        "masterordering": (np.uint16, (1, layout.REPETITIONS * n_columns)),
        "subjectim": (np.int32, (len(layout.SUBJECTS), n_columns)),
        "sharedix": (np.int32, (1, n_shared)),
        "stimpattern": (np.uint8, (n_sessions, layout.RUNS_PER_SESSION, layout.SLOTS_PER_RUN)),
        "basiccnt": (np.uint16, (3, n_sessions)),
    }
    for name, (dtype, shape) in expected.items():
        require(name in mat, f"{path} lacks {name}")
        seen = (mat[name].dtype, mat[name].shape)
        require(
            seen == (np.dtype(dtype), shape), f"{path}: {name} is {seen[0]} {seen[1]}, not {dtype.__name__} {shape}"
        )
    ordering_N = mat["masterordering"].ravel().astype(np.int64)
    counts = np.bincount(ordering_N, minlength=n_columns + 1)[1:]
    require((counts == layout.REPETITIONS).all(), f"{path}: not every picture is shown {layout.REPETITIONS} times")
    _check_columns(path, mat["subjectim"], mat["sharedix"].ravel())
    lengths = mat["stimpattern"].sum(axis=2, dtype=np.int64)
    require((lengths == np.tile(layout.TRIALS_PER_RUN, 6)).all(), f"{path}: runs are not of 63 and 62 trials in turn")
    blocks = ordering_N.reshape(n_sessions, -1)
    repeats = [np.bincount(np.unique(block, return_counts=True)[1], minlength=4)[1:] for block in blocks]
    require(np.array_equal(mat["basiccnt"], np.transpose(repeats)), f"{path}: basiccnt is not what is shown")
    shared_S = (blocks <= n_shared).sum(axis=1)
    require(shared_S.min() > 0, f"{path}: session {shared_S.argmin() + 1} shows no shared picture")
    return f"{n_sessions} sessions, {n_columns} pictures each, {n_shared} shared"


def _check_columns(path: Path, subjectim: np.ndarray, sharedix: np.ndarray) -> None:
    n_shared = sharedix.size
    require((np.diff(sharedix) > 0).all(), f"{path}: sharedix is not sorted")
    require((subjectim[:, :n_shared] == sharedix).all(), f"{path}: shared columns of subjectim are not sharedix")
    ids = np.concatenate((sharedix, subjectim[:, n_shared:].ravel()))
    every = np.array_equal(np.sort(ids), np.arange(1, ids.size + 1))
    require(every, f"{path}: shared and own pictures are not each of 1 to {ids.size} once")


def check_published_design(root: Path) -> str:
    """Spot values and split sizes of the released design."""
    design = designs.load_design(root)
    shown_N = design.nsd_id_SJ[:, design.ordering_N - 1]
    for trial, nsd_id in FIRST_SHARED.items():
        require((shown_N[:, trial] == nsd_id).all(), f"trial {trial + 1} does not show nsd id {nsd_id} to everybody")
    require(tuple(shown_N[0, :10]) == FIRST_OF_SUBJ01, f"subj01 begins with {shown_N[0, :10].tolist()}")
    for nsd_id, (subject, trials) in PRESENTATIONS.items():
        seen = tuple(np.flatnonzero(shown_N[layout.subject_number(subject) - 1] == nsd_id) + 1)
        require(seen == trials, f"nsd id {nsd_id} is shown to {subject} on the trials {seen}, published {trials}")
    require(tuple(design.nsd_id_SJ[0, :10]) == SHARED_IDS, f"sharedix begins with {design.nsd_id_SJ[0, :10].tolist()}")
    n_pictures = np.unique(design.nsd_id_SJ).size
    require(n_pictures == layout.N_IMAGES, f"{n_pictures} pictures, the release has {layout.N_IMAGES}")
    for n_sessions, expected in SPLIT_COUNTS.items():
        ordering = design.ordering_N[: n_sessions * layout.TRIALS_PER_SESSION]
        parts = (ordering[ordering > design.n_shared], ordering[ordering <= design.n_shared])
        counts = tuple(count for part in parts for count in (part.size, np.unique(part).size))
        require(counts == expected, f"{n_sessions} sessions split into {counts}, published {expected}")
    return f"{len(SPLIT_COUNTS)} split sizes and {len(FIRST_SHARED) + 10} trials as published"


def check_pictures(root: Path, is_real: bool) -> str:
    """imgBrick has one square picture for every id of the design; published number and size in a real tree."""
    n_pictures, height, width = stimuli.image_shape(root)
    n_designed = int(designs.load_design(root).nsd_id_SJ.max()) + 1
    path = layout.stimuli_path(root)
    require(n_pictures == n_designed, f"{path} has {n_pictures} pictures, the design {n_designed}")
    require(height == width, f"{path} has pictures of {height} x {width} pixels, not square")
    published = (layout.N_IMAGES, layout.IMAGE_SIZE)
    require(not is_real or (n_pictures, height) == published, f"{path} is not of the published size {published}")
    return f"{n_pictures} pictures of {height} x {width}"


def check_table(root: Path, is_real: bool) -> str:
    """Columns of the CSV; what the design fixes in it, rebuilt from there; crops cut one axis only."""
    path = layout.stim_info_path(root)
    require(path.is_file(), f"{path} does not exist")
    table = pd.read_csv(path, index_col=0)
    require(tuple(table.columns) == layout.CSV_COLUMNS, f"{path} has the columns {list(table.columns)}")
    design = designs.load_design(root)
    ids = np.arange(int(design.nsd_id_SJ.max()) + 1)
    require(np.array_equal(table.index, ids) and np.array_equal(table["nsdId"], ids), f"{path}: nsdId is not 0, 1, ...")
    shared = np.isin(ids, design.nsd_id_SJ[0, : design.n_shared])
    require(np.array_equal(table["shared1000"], shared), f"{path}: shared1000 is not sharedix")
    require(table["cocoSplit"].isin(layout.COCO_SPLITS).all(), f"{path}: cocoSplit is neither of {layout.COCO_SPLITS}")
    trials_JR = np.argsort(design.ordering_N, kind="stable").reshape(-1, layout.REPETITIONS) + 1
    for row, subject in enumerate(layout.SUBJECTS):
        expected = np.zeros((ids.size, layout.REPETITIONS), dtype=np.int64)
        expected[design.nsd_id_SJ[row]] = trials_JR
        names = [f"subject{row + 1}_rep{r}" for r in range(layout.REPETITIONS)]
        require(np.array_equal(table[names], expected), f"{path}: {names} are not the trials of {subject}")
        require(np.array_equal(table[f"subject{row + 1}"] > 0, expected[:, 0] > 0), f"{path}: subject{row + 1} differs")
    crops = np.array([ast.literal_eval(text) for text in table["cropBox"]], dtype=float)
    one_axis = ((crops[:, :2] == 0).all(axis=1) | (crops[:, 2:] == 0).all(axis=1)) & ((crops >= 0) & (crops < 1)).all(
        axis=1
    )
    require(crops.shape[1] == 4 and one_axis.all(), f"{path}: a cropBox cuts both axes or leaves 0 to 1")
    for nsd_id, coco_id in COCO_OF_NSD_ID.items() if is_real else ():
        require(table["cocoId"][nsd_id] == coco_id, f"{path}: nsdId {nsd_id} has cocoId {table['cocoId'][nsd_id]}")
    return f"{len(table)} rows, presentations as in the design"


def check_annotations(root: Path, subjects: Sequence[str]) -> str:
    """80 categories with COCO's ids; crops of val2017 are square; the subjects' pictures have five captions each."""
    design = designs.load_design(root)
    rows = [layout.subject_number(subject) - 1 for subject in subjects]
    ids = np.unique(design.nsd_id_SJ[rows])
    path = layout.instances_path(root, layout.COCO_SPLITS[1])
    require(path.is_file(), f"{path} does not exist")
    content: dict[str, Any] = json.loads(path.read_bytes())
    categories = sorted((c["id"], c["name"]) for c in content["categories"])
    require(categories == [c[:2] for c in layout.COCO_CATEGORIES], f"{path}: categories are not COCO's 80")
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for nsd_id, source in coco.load_sources(root, ids).items():
        if source.split == layout.COCO_SPLITS[1]:
            require(source.coco_id in sizes, f"{path} lacks image {source.coco_id} (nsdId {nsd_id})")
            x0, y0, x1, y1 = source.crop.bounds(*sizes[source.coco_id])
            require(abs((x1 - x0) - (y1 - y0)) < 1.5, f"the crop of nsdId {nsd_id} is {x1 - x0:.1f} x {y1 - y0:.1f}")
    annotations = coco.load_annotations(root, ids, min_area=0.0)
    captions_I = np.bincount(annotations.caption_image_K, minlength=ids.size)
    require(captions_I.min() == coco.MAX_CAPTIONS, f"nsdId {ids[captions_I.argmin()]} has {captions_I.min()} captions")
    n_empty = int(np.sum(~annotations.labels_IC.any(axis=1)))
    n_further = sum(bool(texts) for texts in annotations.further_captions)
    return f"{ids.size} pictures, {n_empty} without visible object, {n_further} with more than five captions"


def _check_subject(
    check: Callable[[SubjectFiles], str], root: Path, subject: str, dataset: Dataset, is_real: bool
) -> str:
    design = designs.load_design(root)
    files = SubjectFiles(
        root=root, subject=subject, preparation=dataset.preparation, is_real=is_real,
        trials=designs.list_trials(design, subject, dataset.sessions),
        all_sessions=designs.count_sessions(design, subject, dataset.sessions)
        == designs.count_sessions(design, subject, "released"),
    )  # fmt: skip
    return check(files)


def _is_real(root: Path, subjects: Sequence[str], preparation: str) -> bool:
    try:
        n_trials = designs.load_design(root).ordering_N.size
    except ValueError:
        return False
    noise_free = (layout.noise_free_path(root, subject, preparation) for subject in subjects)
    full = layout.REPETITIONS * layout.IMAGES_PER_SUBJECT
    return n_trials == full and not any(path.is_file() for path in noise_free)
