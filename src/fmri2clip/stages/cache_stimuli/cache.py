"""Pictures of the subjects with captions and labels, out of the raw tree: data/stimuli.

`train` holds the pictures that only one subject sees, `test` those that all subjects see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, write_stimuli
from fmri2clip.core.params import Dataset, Labels
from fmri2clip.core.schema import Rows, Value
from fmri2clip.datasets.folder.pictures import FolderPictures
from fmri2clip.datasets.interface import Pictures
from fmri2clip.datasets.nsd.pictures import coco
from fmri2clip.datasets.pictures import open_pictures

BLOCK = 200  # pictures in memory at a time


def cache_stimuli(paths: Paths, subjects: Sequence[str], dataset: Dataset, labels: Labels) -> None:
    """Write data/stimuli/train.h5 and test.h5.

    Raises ValueError for files of the tree that are missing or broken.
    """
    # The simulated cortex is asked about reconstructions with all pictures of a subject around it.
    if dataset.source == "simulated":
        dataset = replace(dataset, sessions="released")
    pictures = open_pictures(paths.raw, dataset, labels)
    seen = pictures.seen(subjects)
    for part, ids in ((TRAIN, seen["train"]), (TEST, seen["shared"])):
        write_part(pictures, ids, paths.stimuli(part), dataset.source == "s3")


def write_part(
    pictures: Pictures, nsd_id_I: NDArray[np.int64], path: Path, has_photographs: bool = False
) -> None:
    """One file of pictures with these ids, which ascend; of NSD itself with COCO's ids, of a folder
    with the names of its files.
    """
    described = pictures.annotations(nsd_id_I)
    origin: dict[str, Value] = {}
    if has_photographs:
        assert isinstance(described, coco.Annotations)
        origin["coco_id_I"] = described.coco_id_I
    if isinstance(pictures, FolderPictures):
        origin["name_I"] = pictures.names(nsd_id_I)
    height, width = pictures.size()
    blocks = (images for _, images in pictures.iterate(nsd_id_I, BLOCK))
    write_stimuli(
        path,
        {
            "nsd_id_I": nsd_id_I,
            **origin,
            "image_IHW3": Rows((len(nsd_id_I), height, width, 3), blocks),
            "caption_K": described.caption_K,
            "caption_image_K": described.caption_image_K,
            "labels_IC": described.labels_IC,
            "area_IC": described.area_IC,
            "n_objects_I": described.n_objects_I,
            "category_C": list(described.category_C),
            "largest_I3": pictures.largest(nsd_id_I),
        },
    )
