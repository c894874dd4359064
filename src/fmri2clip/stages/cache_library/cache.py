"""What is known of the pictures that decoders may weigh: features, captions, categories.

Training pictures come from the CLIP cache, a file a subject; pictures of a folder are encoded here,
block by block, and a killed job goes on at the next block. Every picture passes guard.py first.

Letters: J pictures, K captions, C categories, D embedding width, P components of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.components import read_components
from fmri2clip.artefacts.library import FOLDER, take_pictures, write_library
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, iterate_images, read_photographs
from fmri2clip.core import resume
from fmri2clip.core.params import TRAINING_PICTURES, Clip, Labels, Library
from fmri2clip.stages.cache_library.folder import encode_folder
from fmri2clip.stages.cache_library.guard import BLOCK, Guard

Array = NDArray[Any]
NAMES = (
    "nsd_id_I",
    "image_embedding_ID",
    "text_embedding_KD",
    "caption_K",
    "caption_image_K",
    "labels_IC",
)


def cache_library(
    paths: Paths,
    name: str,
    library: Library,
    clip: Clip,
    subjects: Sequence[str],
    labels: Labels,
    device: str = "cpu",
    threads: int = 1,
    resume_root: Any = resume.RESUME_ROOT,
    is_nsd: bool = False,
) -> dict[str, dict[str, int]]:
    """Write data/libraries/<name>/, returns the numbers of refused pictures by part and reason.

    is_nsd: test pictures are NSD's own, cut from photographs of COCO. Raises ValueError where no
    picture is left.
    """
    is_training = library.pictures == TRAINING_PICTURES
    refused = {}
    guard = Guard.of(paths.stimuli(TEST), library.near_duplicates == "keep")
    for part in subjects if is_training else (FOLDER,):
        guard.refused = dict.fromkeys(guard.refused, 0)
        if is_training:
            arrays = take_training(paths, library.clip, part, guard)
        else:
            known = frozenset(read_photographs(paths.stimuli(TEST)).tolist()) if is_nsd else ()
            cached = read_cache(paths.clip_train(library.clip, subjects[0]), ["category_C"])
            categories = [str(category) for category in cached["category_C"]]
            arrays = encode_folder(
                paths, library, clip, labels, guard, device, threads, resume_root, categories, known
            )
        if not len(arrays["name_J"]):
            raise ValueError(
                f"libraries.{name}: none of the pictures of {library.pictures} is left beside "
                "the test set; name other pictures"
            )
        write_library(paths.library(name, part), arrays, dict(guard.refused))
        refused[part] = dict(guard.refused)
    return refused


def take_training(paths: Paths, clip: str, subject: str, guard: Guard) -> Mapping[str, Array]:
    """The accepted training pictures of a subject, as the CLIP cache has them."""
    cache = read_cache(paths.clip_train(clip, subject), NAMES)
    scores = read_components(paths.clip_components(clip, subject))
    nsd_id_J = cache["nsd_id_I"]
    accepted = []
    starts = range(0, len(nsd_id_J), BLOCK)
    blocks = iterate_images(paths.stimuli(TRAIN), nsd_id_J, BLOCK)
    for start, images_JHWC in zip(starts, blocks, strict=True):
        accepted.append(guard.accept(nsd_id_J[start : start + BLOCK], images_JHWC))
    arrays: dict[str, Any] = {
        "name_J": np.array([str(nsd_id) for nsd_id in nsd_id_J], dtype=object),
        "nsd_id_J": nsd_id_J,
        "image_embedding_JD": cache["image_embedding_ID"],
        "caption_K": cache["caption_K"],
        "caption_picture_K": cache["caption_image_K"],
        "text_embedding_KD": cache["text_embedding_KD"],
        "labels_JC": cache["labels_IC"],
        "is_labelled_J": np.ones(len(nsd_id_J), bool),
    }
    arrays |= {
        f"{stream}_components_JP": scores[f"{stream}_components_IP"]
        for stream in ("semantic", "detail")
        if f"{stream}_components_IP" in scores
    }
    return take_pictures(arrays, np.flatnonzero(np.concatenate(accepted)))
