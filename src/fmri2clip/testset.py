"""Test images and the brain patterns they evoked, read for scoring; imports neither torch nor a
decoder.

Letters: N trials, I test images (ascending NSD id), V voxels, D embedding width, K captions,
C categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fmri2clip import store
from fmri2clip.metrics.classification import dominant_category
from fmri2clip.metrics.retrieval import centre, make_galleries
from fmri2clip.metrics.scoring import Truth, find_rows
from fmri2clip.params import Evaluation

Array = NDArray[Any]
CLIP_NAMES = (
    "nsd_id_I", "image_embedding_ID", "text_embedding_KD", "caption_image_K", "labels_IC", "area_IC", "n_objects_I",
    "category_C", "present_C", "prompt_embedding_PCD",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TestBetas:
    """mean_IV: mean of the repeats of each image; noise_free_IV: rows of the same images, or
    None.
    """

    nsd_id_I: NDArray[np.int64]
    mean_IV: NDArray[np.float32]
    noise_free_IV: NDArray[np.float32] | None


def read_test_betas(path: Path, rows_V: Array) -> TestBetas:
    """Mean patterns of the test images, columns rows_V, and the noise-free patterns if the file
    has them.
    """
    arrays = store.read(path, "betas")
    mean_IV, nsd_id_I = average_repeats(arrays["betas_NV"][:, rows_V], arrays["nsd_id_N"])
    noise_free_IV = None
    if "noise_free_IV" in arrays:
        row_I = find_rows(arrays["noise_free_nsd_id_I"], nsd_id_I, f"noise_free_IV of {path}")
        noise_free_IV = arrays["noise_free_IV"][:, rows_V][row_I].astype(np.float32)
    for name, values in (("betas", mean_IV), ("noise-free betas", noise_free_IV)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(
                f"{path}: {name} are not all finite in the voxels used; extract the ROIs again"
            )
    return TestBetas(nsd_id_I=nsd_id_I, mean_IV=mean_IV, noise_free_IV=noise_free_IV)


def average_repeats(
    betas_NV: Array, nsd_id_N: Array
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """mean_IV (float32) and nsd_id_I: the mean over the trials of each image, images in
    ascending id.
    """
    nsd_id_I, n_I = np.unique(nsd_id_N, return_counts=True)
    order, first_I = np.argsort(nsd_id_N, kind="stable"), np.concatenate([[0], np.cumsum(n_I)])
    weight_N = np.repeat(1.0 / n_I, n_I).astype(np.float32)
    mean_IN = csr_array(
        (weight_N, order, first_I), shape=(len(nsd_id_I), len(nsd_id_N))
    )  # sparse: reduceat is slow
    return mean_IN @ betas_NV.astype(np.float32, copy=False), nsd_id_I


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
    its last.
    """
    e = evaluation
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
    n_prompts = len(clip["prompt_embedding_PCD"])
    if e.prompt >= n_prompts:
        raise ValueError(
            f"evaluation.prompt is {e.prompt}, but the CLIP cache has {n_prompts} prompts, counted "
            "from 0"
        )
    text_ID, caption_ID = average_captions(clip, row_I, e.caption_index)
    prompt_CD = clip["prompt_embedding_PCD"][e.prompt].astype(np.float64)
    label_IC, present_C = clip["labels_IC"][row_I], clip["present_C"]
    image_ID = centre(clip["image_embedding_ID"][row_I], mean_image_D)
    return Truth(
        nsd_id_I=nsd_id_I,
        image_ID=image_ID,
        text_ID=centre(text_ID, mean_text_D),
        caption_ID=centre(caption_ID, mean_text_D),
        prompt_CD=centre(prompt_CD, prompt_CD[present_C].mean(axis=0)),
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
    """Mean caption embedding, back on the unit sphere, and caption caption_index (or the last)
    of the images row_I.
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
    sum_ID = np.add.reduceat(
        np.concatenate([text_KD, np.zeros((1, text_KD.shape[1]))]), first_I[:-1]
    )
    fixed_I = first_I[:-1][row_I] + np.minimum(caption_index, n_I[row_I] - 1)
    return sum_ID[row_I] / np.linalg.norm(sum_ID[row_I], axis=1, keepdims=True), text_KD[fixed_I]
