"""Reads decoded embeddings and puts them beside pictures and captions.

Letters: I test images, K captions, D width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.model import read_inputs
from fmri2clip.artefacts.scores import read_predictions
from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
from fmri2clip.stages.report.inputs import Inputs, RunResult
from fmri2clip.stages.report.pictures import Retrieval, compare, rank_true

SOURCE = "the CLIP cache of the test images"
MEANS = ("mean_image_D", "mean_text_D", "mean_predicted_image_D", "mean_predicted_text_D")


def read_retrieval(inputs: Inputs, result: RunResult, subject: str) -> Retrieval | None:
    """Similarities of a subject's predictions with its test pictures and captions.

    None without image embeddings.
    """
    stored = read_predictions(result.predictions, group=subject)
    if "embedding_ID" not in stored:
        return None
    shared = read_cache(
        inputs.paths.clip_shared(result.run.clip),
        ("nsd_id_I", "image_embedding_ID", "text_embedding_KD", "caption_K", "caption_image_K"),
    )
    row_I = find_rows(shared["nsd_id_I"], stored["nsd_id_I"], SOURCE)
    own_K = np.isin(shared["caption_image_K"], row_I)
    means = read_means(inputs.paths.model(result.name) / subject)
    image_II, text_IK = compare(
        stored["embedding_ID"],
        stored.get("text_embedding_ID"),
        shared["image_embedding_ID"][row_I],
        shared["text_embedding_KD"][own_K],
        means,
    )
    _check_ranks(stored, image_II, f"{result.predictions}, {subject}")
    place_of = {int(row): place for place, row in enumerate(row_I)}
    return Retrieval(
        nsd_id_I=stored["nsd_id_I"],
        image_II=image_II,
        text_IK=text_IK,
        caption_K=list(shared["caption_K"][own_K]),
        caption_image_K=np.array([place_of[int(row)] for row in shared["caption_image_K"][own_K]]),
    )


def read_means(folder: Path) -> dict[str, NDArray[np.floating]]:
    """Training means of targets and predictions, (D,) each, that the scores were centred with."""
    arrays = read_inputs(folder)
    return {name: arrays[name] for name in MEANS if name in arrays}


def _check_ranks(stored: store.Arrays, image_II: NDArray[np.floating], where: str) -> None:
    """Ranks shown beside pictures and scores in the tables must come from the same similarities."""
    metric = np.flatnonzero(stored["metric_M"] == "retrieval_all.image_given_brain.top1")
    if metric.size and not np.array_equal(
        stored["score_IM"][:, metric[0]] == 1, rank_true(image_II) == 1
    ):
        raise ValueError(
            f"{where}: scores do not belong to the embeddings and the model; run evaluate again "
            "(dvc repro)"
        )
