"""What must hold for pictures, picture table and COCO annotations of an NSD tree, real or
simulated.

Sources: NSD manual, Experiments; Lin et al. 2014 for the annotations.

Axis letters: I images, C categories, J columns of subjectim, R presentations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import design as designs
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import coco, coco_files, stimuli
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES
from fmri2clip.stages.check_data import duplicates
from fmri2clip.stages.check_data.outcomes import Outcome, passed, require, shorten

COCO_OF_NSD_ID = {2950: 262145, 2951: 262146}  # guards against ids that are off by one
SQUARE_WITHIN = 1.5  # pixels of the uncropped picture
FEW_FLAT = 10  # pictures of a single colour that may be photographs


def check_pictures(root: Path, is_real: bool) -> Outcome:
    """imgBrick has one square picture for every id of the design; published number and size in a
    real tree.
    """
    n_pictures, height, width = stimuli.image_shape(root)
    n_designed = int(designs.load_design(root).nsd_id_SJ.max()) + 1
    path = layout.stimuli_path(root)
    require(n_pictures == n_designed, f"{path} has {n_pictures} pictures, the design {n_designed}")
    require(height == width, f"{path} has pictures of {height} x {width} pixels, not square")
    published = (layout.N_IMAGES, layout.IMAGE_SIZE)
    require(
        not is_real or (n_pictures, height) == published,
        f"{path} is not of the published size {published}",
    )
    return passed(f"{n_pictures} pictures of {height} x {width}")


def check_table(root: Path, is_real: bool) -> Outcome:
    """The CSV has its columns; what the design fixes in it, rebuilt from there; crops cut one axis
    only. Everything reads columns by name, so another order or more of them are a warning.
    """
    path = layout.stim_info_path(root)
    design = designs.load_design(root)
    table = coco.read_stim_info(root, ("Unnamed: 0", *layout.CSV_COLUMNS)).set_index("Unnamed: 0")
    columns = tuple(pd.read_csv(path, index_col=0, nrows=0).columns)
    ids = np.arange(int(design.nsd_id_SJ.max()) + 1)
    require(
        np.array_equal(table.index, ids) and np.array_equal(table["nsdId"], ids),
        f"{path}: nsdId is not 0, 1, ...",
    )
    shared = np.isin(ids, design.nsd_id_SJ[0, : design.n_shared])
    require(np.array_equal(table["shared1000"], shared), f"{path}: shared1000 is not sharedix")
    require(
        table["cocoSplit"].isin(layout.COCO_SPLITS).all(),
        f"{path}: cocoSplit is neither of {layout.COCO_SPLITS}",
    )
    _check_presentations(path, table, design)
    crops = np.array(
        [coco.parse_crop(path, nsd_id, text) for nsd_id, text in enumerate(table["cropBox"])]
    )
    one_axis = (crops[:, :2] == 0).all(axis=1) | (crops[:, 2:] == 0).all(axis=1)
    require(one_axis.all(), f"{path}: the cropBox of nsdId {one_axis.argmin()} cuts both axes")
    for nsd_id, coco_id in COCO_OF_NSD_ID.items() if is_real else ():
        row = table.loc[nsd_id, ["cocoId", "cocoSplit"]].tolist()
        require(
            row == [coco_id, "train2017"],
            f"{path}: nsdId {nsd_id} is {row}, published {coco_id} of train2017",
        )
    train_only = (table["cocoSplit"][shared] == "train2017").all()
    require(not is_real or train_only, f"{path}: a shared picture is not from train2017")
    more = sorted(set(columns) - set(layout.CSV_COLUMNS))
    problem = f"more columns: {shorten(more)}" if more else "its columns in another order"
    warnings = [] if columns == layout.CSV_COLUMNS else [f"{path} has {problem}"]
    return passed(f"{len(table)} rows, presentations as in the design", warnings)


def _check_presentations(path: Path, table: pd.DataFrame, design: designs.Design) -> None:
    """Membership and trial columns of all subjects are what the design says."""
    trials_JR = np.argsort(design.ordering_N, kind="stable").reshape(-1, layout.REPETITIONS) + 1
    for row, subject in enumerate(layout.SUBJECTS):
        expected = np.zeros((len(table), layout.REPETITIONS), dtype=np.int64)
        expected[design.nsd_id_SJ[row]] = trials_JR
        names = [f"subject{row + 1}_rep{r}" for r in range(layout.REPETITIONS)]
        require(
            np.array_equal(table[names], expected),
            f"{path}: {names} are not the trials of {subject}",
        )
        require(
            np.array_equal(table[f"subject{row + 1}"] > 0, expected[:, 0] > 0),
            f"{path}: subject{row + 1} differs",
        )


def check_annotations(root: Path, subjects: Sequence[str]) -> Outcome:
    """80 categories with COCO's ids; square crops; five captions for each of the subjects'
    pictures.
    """
    design = designs.load_design(root)
    rows = [layout.subject_number(subject) - 1 for subject in subjects]
    ids = np.unique(design.nsd_id_SJ[rows])
    sources = coco.load_sources(root, ids)
    for split in layout.COCO_SPLITS:
        path = layout.instances_path(root, split)
        categories = sorted(coco_files.load_categories(root, split))
        require(
            categories == [c[:2] for c in COCO_CATEGORIES], f"{path}: categories are not COCO's 80"
        )
        sizes = coco_files.load_sizes(root, split)
        for nsd_id, source in sources.items():
            if source.split == split:
                require(
                    source.coco_id in sizes,
                    f"{path} has no image {source.coco_id} (nsdId {nsd_id})",
                )
                x0, y0, x1, y1 = source.crop.bounds(*sizes[source.coco_id])
                square = abs((x1 - x0) - (y1 - y0)) < SQUARE_WITHIN
                require(
                    square, f"{path}: the crop of nsdId {nsd_id} is {x1 - x0:.1f} x {y1 - y0:.1f}"
                )
    annotations = coco.load_annotations(root, ids, min_area=0.0)
    captions_I = np.bincount(annotations.caption_image_K, minlength=ids.size)
    path = layout.annotations_dir(root)
    fewest = captions_I.argmin()
    require(
        captions_I.min() == coco.MAX_CAPTIONS,
        f"{path}: nsdId {ids[fewest]} has {captions_I.min()} captions",
    )
    n_empty = int(np.sum(~annotations.labels_IC.any(axis=1)))
    n_further = sum(bool(texts) for texts in annotations.further_captions)
    return passed(
        f"{ids.size} pictures, {n_empty} without visible object, {n_further} with more than five "
        "captions"
    )


def _list_images(trials: Sequence[designs.Trials], *, shared: bool) -> NDArray[np.int64]:
    """nsd ids, ascending, that any of the subjects saw."""
    return np.unique(np.concatenate([designs.list_images(t, shared=shared) for t in trials]))


def check_duplicates(root: Path, subjects: Sequence[str], dataset: Dataset) -> Outcome:
    """Lists pictures that are almost the same in the test set and in a training set; only an equal
    one is a warning. Pictures of a single colour are one, too, and many of them a failure, but in a
    simulation.
    """
    design = designs.load_design(root)
    trials = [designs.list_trials(design, subject, dataset.sessions) for subject in subjects]
    shared_I = _list_images(trials, shared=True)
    train_I = _list_images(trials, shared=False)
    found = duplicates.find_duplicates(root, shared_I, train_I)
    warnings = []
    if found.n_same_photograph:
        pairs = [tuple(pair) for pair in found.same_photograph]
        warnings.append(
            f"{found.n_same_photograph} shared and training pictures with the same cocoId in "
            f"{layout.stim_info_path(root)}: {shorten(pairs)}"
        )
    if found.flat:
        flat = (
            f"{len(found.flat)} pictures of a single colour in {layout.stimuli_path(root)}: "
            f"nsdId {shorten(found.flat)}"
        )
        require(
            dataset.source == "simulated" or len(found.flat) <= FEW_FLAT,
            f"{flat}; a copy that was interrupted looks so: remove the file and run "
            "download_stimuli again",
        )
        warnings.append(flat)
    detail = (
        f"{found.n_pairs} pairs of {len(shared_I)} shared and {len(train_I)} training pictures "
        f"correlate above {duplicates.THRESHOLD} as thumbnails"
    )
    outcome = passed(detail, warnings)
    return outcome._replace(data=found.as_json())
