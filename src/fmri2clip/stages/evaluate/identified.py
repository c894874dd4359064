"""Identification by a decoder's own likelihood of the responses, where it has one: `own`.

Letters: I test images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.components import PICTURE_STREAMS as STREAMS
from fmri2clip.artefacts.components import score_streams
from fmri2clip.artefacts.model import Model
from fmri2clip.artefacts.trials import TestBetas
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.rows import find_rows
from fmri2clip.datasets.nsd.layout import REPETITIONS
from fmri2clip.metrics.decoding.retrieval import Galleries, score_information, score_retrieval
from fmri2clip.metrics.statistics import Scores

Array = NDArray[Any]
DIRECTION = "image_given_brain"


def has_likelihood(model: Model) -> bool:
    """Whether the decoder states how likely a response is for a picture."""
    return model.decoder.has_likelihood


def list_features(
    clip: Mapping[str, Array], nsd_id_I: Array, basis: Mapping[str, Array]
) -> dict[str, torch.Tensor]:
    """Features of the test images, as Decoder.identify takes them.

    clip: arrays of the CLIP cache of the test images, tokens included; basis: their components.
    """
    row_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the test images")
    features = {"image_embedding_ID": torch.from_numpy(clip["image_embedding_ID"][row_I]).float()}
    tokens = {
        name: clip[name][row_I]
        for stream in STREAMS
        for name in TOKEN_TARGETS[stream].split("|")
        if name in clip
    }
    scores = score_streams(tokens, basis)
    features |= {name: torch.from_numpy(score_IP) for name, score_IP in scores.items()}
    return features


def score_identification(
    model: Model, betas: TestBetas, features: Mapping[str, torch.Tensor], galleries: Galleries
) -> Scores:
    """own.retrieval... and its bits, of means of 1, 2 and all trials.

    Bits are of the likelihood as it is, at temperature 1: where it is misfit they say so.
    """
    per_image: dict[str, Any] = {}
    for n, mean_IV in {**betas.first, REPETITIONS: betas.mean_IV}.items():
        n_repeats = betas.n_repeats if n == REPETITIONS else n
        told = model.decoder.identify(torch.from_numpy(mean_IV), features, n_repeats)
        assert told is not None
        told_II = told.double().numpy()
        found = score_retrieval(told_II, galleries, DIRECTION)
        found |= score_information(told_II, 1.0, DIRECTION)
        place = "" if n == REPETITIONS else f"trials.{n}."
        per_image |= {f"{place}own.{name}": value for name, value in found.items()}
    return Scores(nsd_id_I=betas.nsd_id_I, per_image=per_image)
