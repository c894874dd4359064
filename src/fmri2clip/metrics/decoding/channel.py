"""Retrieval by what a prediction tells of a target, in the metric of the decoder's own errors.

Centred cosine takes every direction of an embedding as equally reliable. A decoder's errors are
large along some and small along others, and unlike those of another decoder: where that decides,
the cosine judges the similarity and not the decoder. Here the similarity of a prediction and a
target is their pointwise mutual information under a joint Gaussian (solvers/joint_gaussian.py),
fitted to predictions for training images that the decoder did not see. Rows rank targets given a
brain, columns brains given a target.

Letters: I test images, J images of the judge, R repeats behind a prediction, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.decoding.retrieval import Galleries, score_retrieval
from fmri2clip.metrics.statistics import Scores
from fmri2clip.solvers import joint_gaussian

Floats = NDArray[np.floating]
N_REPEATS = 3  # behind the patterns of test images


def score_channel(
    heldout: Mapping[str, Floats],
    decoded: Mapping[str, Floats],
    image_ID: Floats,
    text_ID: Floats,
    nsd_id_I: NDArray[np.int64],
    galleries: Galleries,
) -> Scores:
    """channel.retrieval... of the pooled embeddings, for what the decoder offers.

    heldout: arrays of heldout.safetensors (artefacts/model.py); decoded: embedding_ID and
    text_embedding_ID of the test images; image_ID, text_ID: their true embeddings, the second the
    mean of the captions. A decoder without a text embedding is asked for captions by its image
    embedding, with a fit of its own.
    """
    per_image: dict[str, tuple[Floats, Floats]] = {}
    constants: dict[str, float] = {}
    if "embedding_ID" in decoded:
        judge = joint_gaussian.fit(_repeat(heldout["embedding_RJD"]), heldout["image_JD"])
        information_II = judge.score(decoded["embedding_ID"], image_ID)
        per_image |= score_retrieval(information_II, galleries, "image_given_brain")
        per_image |= score_retrieval(information_II.T, galleries, "brain_given_image")
        constants["image_weight"] = judge.weight
    name = "text_embedding" if "text_embedding_ID" in decoded else "embedding"
    if f"{name}_ID" in decoded:
        judge = joint_gaussian.fit(_repeat(heldout[f"{name}_RJD"]), heldout["text_JD"])
        information_II = judge.score(decoded[f"{name}_ID"], text_ID)
        per_image |= score_retrieval(information_II, galleries, "text_given_brain")
        constants["text_weight"] = judge.weight
    return Scores(
        nsd_id_I=nsd_id_I,
        per_image={f"channel.{name}": value for name, value in per_image.items()},
        constants={f"channel.{name}": value for name, value in constants.items()},
    )


def _repeat(prediction_RJD: Floats) -> Floats:
    """Predictions from as many trials as test images have, or from the most there are."""
    return prediction_RJD[min(N_REPEATS, len(prediction_RJD)) - 1]
