"""Test images and the brain patterns they evoked, read for scoring; imports neither torch nor a
decoder.

Letters: N trials, I test images (ascending NSD id), V voxels, D embedding width, K captions,
C categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.params import Evaluation
from fmri2clip.core.rows import find_rows
from fmri2clip.metrics.decoding.classification import dominant_category
from fmri2clip.metrics.decoding.retrieval import make_galleries
from fmri2clip.metrics.decoding.scoring import Truth
from fmri2clip.solvers.ranks import centre

Array = NDArray[Any]


def make_truth(
    clip: Mapping[str, Array],
    nsd_id_I: Array,
    mean_image_D: Array,
    mean_text_D: Array,
    evaluation: Evaluation,
) -> Truth:
    """What the test images of one subject show, with the galleries that the parameters ask for.

    clip: arrays of kind 'clip'; mean_image_D, mean_text_D: means over the subject's training
    images. The fixed caption is number evaluation.caption_index; an image with fewer captions uses
    its last; data without captions have none. Neighbours in the hard gallery are found by image
    embeddings less mean_image_D, so runs that were trained on other images have others.
    """
    e = evaluation
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
    n_prompts = len(clip["prompt_embedding_PCD"])
    if e.prompt >= n_prompts:
        raise ValueError(
            f"evaluation.prompt is {e.prompt}, but the CLIP cache has {n_prompts} prompts, counted "
            "from 0"
        )
    text_ID = caption_ID = None
    if len(clip["caption_image_K"]):
        text_ID, caption_ID = average_captions(clip, row_I, e.caption_index)
    prompt_CD = clip["prompt_embedding_PCD"][e.prompt].astype(np.float64)
    label_IC = clip["labels_IC"][row_I]
    present_C = clip["present_C"]
    mean_prompt_D = prompt_CD[present_C].mean(axis=0) if present_C.any() else 0 * mean_image_D
    image_ID = centre(clip["image_embedding_ID"][row_I], mean_image_D)
    return Truth(
        nsd_id_I=nsd_id_I,
        image_ID=image_ID,
        text_ID=None if text_ID is None else centre(text_ID, mean_text_D),
        caption_ID=None if caption_ID is None else centre(caption_ID, mean_text_D),
        prompt_CD=centre(prompt_CD, mean_prompt_D),
        label_IC=label_IC,
        present_C=present_C,
        category_I=dominant_category(
            label_IC, clip["area_IC"][row_I], clip["n_objects_I"][row_I], e.dominant_area
        ),
        galleries=make_galleries(image_ID, e.n_way, e.n_draws, e.n_hard, e.seed),
    )


def average_captions(
    clip: Mapping[str, Array], row_I: Array, caption_index: int = 0
) -> tuple[Array, Array]:
    """Mean caption embedding, back on the unit sphere, and caption caption_index (or the last) of
    the images row_I.
    """
    order_K = np.argsort(clip["caption_image_K"], kind="stable")
    first_I = np.searchsorted(
        clip["caption_image_K"][order_K], np.arange(len(clip["nsd_id_I"]) + 1)
    )
    n_I = np.diff(first_I)
    if (n_I[row_I] == 0).any():
        image = clip["nsd_id_I"][row_I][n_I[row_I] == 0][0]
        raise ValueError(f"the CLIP cache has no caption of NSD id {image}; rebuild it")
    text_KD = clip["text_embedding_KD"][order_K].astype(np.float64)
    # One zero row at the end, so that images without captions (not asked for) do not shift the
    # sums.
    padded_KD = np.concatenate([text_KD, np.zeros((1, text_KD.shape[1]))])
    sum_ID = np.add.reduceat(padded_KD, first_I[:-1])[row_I]
    # The norm takes out the number of captions, so a sum serves as a mean.
    mean_ID = sum_ID / np.linalg.norm(sum_ID, axis=1, keepdims=True)
    fixed_I = first_I[:-1][row_I] + np.minimum(caption_index, n_I[row_I] - 1)
    return mean_ID, text_KD[fixed_I]
