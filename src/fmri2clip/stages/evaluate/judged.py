"""Scores of a subject's second fit: its own cosine, and the metric of its own errors (channel).

The judge is fitted to what a model predicts for images that it did not see, so it may be asked
about that model's predictions alone. Its cosine stands beside, as the deployed model has learned
from more images.

Letters: I test images, D embedding width, X numbers that express the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.components import express_tokens
from fmri2clip.artefacts.model import Model, decode, read_streams
from fmri2clip.artefacts.trials import TestBetas
from fmri2clip.clip.targets import SEMANTIC_STREAMS, TOKEN_TARGETS
from fmri2clip.core.rows import find_rows
from fmri2clip.datasets.nsd.layout import REPETITIONS
from fmri2clip.metrics.decoding.channel import score_embeddings, score_token_streams
from fmri2clip.metrics.decoding.retrieval import Galleries
from fmri2clip.metrics.decoding.scoring import merge
from fmri2clip.metrics.decoding.truth import average_captions
from fmri2clip.metrics.statistics import Scores

Array = NDArray[Any]


def score_judged(
    judged: Model,
    subject: str,
    betas: TestBetas,
    clip: Mapping[str, Array],
    galleries: Galleries,
    basis: Mapping[str, Array] | None = None,
) -> Scores:
    """All scores under `judge`, of means of 1, 2 and all trials.

    clip: arrays of the CLIP cache of the test images; basis: components of its tokens, for a
    decoder that offers them.
    """
    assert judged.heldout is not None, "a second fit comes with its predictions"
    row_I = find_rows(clip["nsd_id_I"], betas.nsd_id_I, "the CLIP cache of the test images")
    image_ID = clip["image_embedding_ID"][row_I].astype(np.float64)
    # As in training, the picture stands for its captions where there are none.
    text_ID = average_captions(clip, row_I)[0] if len(clip["caption_image_K"]) else image_ID
    means = {**betas.first, REPETITIONS: betas.mean_IV}
    n_repeats = {**{n: n for n in betas.first}, REPETITIONS: betas.n_repeats}
    decoded = {n: decode(judged, subject, mean_IV, n_repeats[n]) for n, mean_IV in means.items()}
    parts = [
        score_embeddings(
            judged.heldout,
            decoded,
            image_ID,
            text_ID,
            judged.inputs,
            betas.nsd_id_I,
            galleries,
            betas.n_repeats,
        )
    ]
    if basis and "tokens_JX" in judged.heldout:
        streams = read_streams(judged, subject, betas.mean_IV, SEMANTIC_STREAMS, betas.n_repeats)
        predicted = {
            stream: express_tokens(tokens_ITW, basis, "semantic")
            for stream, tokens_ITW in streams.items()
        }
        target_IX = express_tokens(clip[TOKEN_TARGETS["semantic"]][row_I], basis, "semantic")
        parts.append(
            score_token_streams(
                judged.heldout, predicted, target_IX, betas.nsd_id_I, galleries, betas.n_repeats
            )
        )
    return merge(parts)
