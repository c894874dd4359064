"""Pictures of the subjects with captions and labels, out of the raw tree: data/stimuli.

`train` holds the pictures that only one subject sees, `test` those that all subjects see.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, write_stimuli
from fmri2clip.core.params import Dataset, Labels
from fmri2clip.core.schema import Rows
from fmri2clip.datasets.nsd import design
from fmri2clip.datasets.nsd.pictures import coco, stimuli
from fmri2clip.datasets.nsd.pictures.largest import find_largest

BLOCK = 200  # pictures in memory at a time


def cache_stimuli(paths: Paths, subjects: Sequence[str], dataset: Dataset, labels: Labels) -> None:
    """Write data/stimuli/train.h5 and test.h5.

    Raises ValueError for files of the tree that are missing or broken.
    """
    # The simulated cortex is asked about reconstructions with all pictures of a subject around it.
    sessions = "released" if dataset.source == "simulated" else dataset.sessions
    pictures = design.list_pictures(paths.raw, subjects, sessions)
    for part, ids in ((TRAIN, pictures["train"]), (TEST, pictures["shared"])):
        write_part(paths.raw, ids, labels, paths.stimuli(part))


def write_part(root: Path, nsd_id_I: NDArray[np.int64], labels: Labels, path: Path) -> None:
    """One file of pictures with these ids, which ascend."""
    described = coco.load_annotations(root, nsd_id_I, min_area=labels.min_area)
    _, height, width = stimuli.image_shape(root)
    blocks = (images for _, images in stimuli.iterate_images(root, nsd_id_I, BLOCK))
    write_stimuli(
        path,
        {
            "nsd_id_I": nsd_id_I,
            "image_IHW3": Rows((len(nsd_id_I), height, width, 3), blocks),
            "caption_K": described.caption_K,
            "caption_image_K": described.caption_image_K,
            "labels_IC": described.labels_IC,
            "area_IC": described.area_IC,
            "n_objects_I": described.n_objects_I,
            "category_C": list(coco.CATEGORY_NAMES),
            "largest_I3": find_largest(root, nsd_id_I, min_area=labels.min_area),
        },
    )
