"""Retrieval by what a prediction tells of a target, in the metric of the decoder's own errors.

Centred cosine takes every direction of an embedding as equally reliable. A decoder's errors are
large along some and small along others, and unlike those of another decoder: where that decides,
the cosine judges the similarity and not the decoder. Here the similarity of a prediction and a
target is their pointwise mutual information under a joint Gaussian (solvers/joint_gaussian.py),
fitted to predictions for training images that the decoder did not see, and asked about test images
of the same decoder: another fit has other errors. Rows rank targets given a brain, columns brains
given a target. The same predictions are scored by their centred cosine, too.

The same images give the temperatures behind information in bits, of the cosine and of this
similarity, one for each direction; there each half of them is asked by a fit to the other half.

Letters: I test images, J images of the judge, R repeats behind a prediction, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.decoding.retrieval import (
    Galleries,
    fit_temperature,
    score_information,
    score_retrieval,
    similarity,
)
from fmri2clip.metrics.statistics import Scores
from fmri2clip.solvers import joint_gaussian
from fmri2clip.solvers.ranks import centre

Floats = NDArray[np.floating]
Compare = Callable[[Floats, Floats], Floats]  # queries (I, D), gallery (J, D) -> (I, J)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One kind of target. predicted, target: of the judge's images (J, D) and of the test images
    (I, D); mean_*: over training images (D); directions: those that are asked, the first with
    brains as queries.
    """

    predicted_JD: Floats
    target_JD: Floats
    predicted_ID: Floats
    target_ID: Floats
    mean_predicted_D: Floats
    mean_target_D: Floats
    directions: tuple[str, ...]


def score_embeddings(
    heldout: Mapping[str, Floats],
    decoded: Mapping[int, Mapping[str, Floats]],
    image_ID: Floats,
    text_ID: Floats,
    means: Mapping[str, Floats],
    nsd_id_I: NDArray[np.int64],
    galleries: Galleries,
    n_repeats: int,
) -> Scores:
    """judge.{cosine,channel}.retrieval... of the pooled embeddings, for what is offered.

    heldout: arrays of heldout.safetensors (artefacts/model.py); decoded: number of trials ->
    embedding_ID and text_embedding_ID of the test images; image_ID, text_ID: their true embeddings,
    the second the mean of the captions; means: mean_{predicted_image,image,predicted_text,text}_D;
    n_repeats: trials that the most really are. Each number of trials has a fit of its own; those of
    fewer than the most stand under trials.<n>.
    A decoder without a text embedding is asked for captions by its image embedding, with a fit of
    its own.
    """
    per_image: dict[str, tuple[Floats, Floats]] = {}
    constants: dict[str, float] = {}
    for n_trials, offered in decoded.items():
        is_most = n_trials == max(decoded)
        place = "" if is_most else f"trials.{n_trials}."
        n_behind = n_repeats if is_most else n_trials
        questions = _ask(heldout, offered, n_behind, image_ID, text_ID, means)
        for kind, question in questions.items():
            found, weight = _answer(question, place, galleries)
            per_image |= found
            constants[f"{place}judge.channel.{kind}_weight"] = weight
    return Scores(nsd_id_I=nsd_id_I, per_image=per_image, constants=constants)


def score_token_streams(
    heldout: Mapping[str, Floats],
    predicted: Mapping[str, Floats],
    target_IX: Floats,
    nsd_id_I: NDArray[np.int64],
    galleries: Galleries,
    n_repeats: int,
) -> Scores:
    """The same for streams of semantic tokens, on their components:
    judge.{cosine,channel}.retrieval_tokens.<stream>...

    heldout: tokens_JX and <stream>_tokens_RJX; predicted: stream -> predictions (I, X) from all
    n_repeats trials of the test images.
    """
    per_image: dict[str, tuple[Floats, Floats]] = {}
    for stream, predicted_IX in predicted.items():
        judged_JX = _choose_row(heldout[f"{stream}_tokens_RJX"], n_repeats)
        question = Question(
            predicted_JD=judged_JX,
            target_JD=heldout["tokens_JX"],
            predicted_ID=predicted_IX,
            target_ID=target_IX,
            mean_predicted_D=judged_JX.mean(axis=0),
            mean_target_D=heldout["tokens_JX"].mean(axis=0),
            directions=("image_given_brain",),
        )
        for name, value in _answer(question, "", galleries)[0].items():
            gallery, rest = name.split("retrieval", 1)
            kind, rest = rest.split(".", 1)
            per_image[f"{gallery}retrieval_tokens{kind}.{stream}.{rest}"] = value
    return Scores(nsd_id_I=nsd_id_I, per_image=per_image)


def _answer(
    question: Question, place: str, galleries: Galleries
) -> tuple[dict[str, tuple[Floats, Floats]], float]:
    """Scores by name, and the weight of the judge's shrinkage."""
    per_image: dict[str, tuple[Floats, Floats]] = {}
    cosine = _cosine(question)
    asked = [cosine(question.predicted_JD, question.target_JD)]
    near_II = cosine(question.predicted_ID, question.target_ID)
    judge = joint_gaussian.fit(question.predicted_JD, question.target_JD)
    told_II = judge.score(question.predicted_ID, question.target_ID)
    crossed = _cross_score(question)
    for direction in question.directions:
        is_brain = direction.startswith("brain")
        for name, rows_II, parts in (("cosine", near_II, asked), ("channel", told_II, crossed)):
            # Rows and columns of one fit: targets given a brain, brains given a target.
            told = rows_II.T if is_brain else rows_II
            temperature = fit_temperature([part.T if is_brain else part for part in parts])
            found = score_retrieval(told, galleries, direction)
            found |= score_information(told, temperature, direction)
            per_image |= {f"{place}judge.{name}.{score}": found[score] for score in found}
    return per_image, judge.weight


def _ask(
    heldout: Mapping[str, Floats],
    offered: Mapping[str, Floats],
    n_trials: int,
    image_ID: Floats,
    text_ID: Floats,
    means: Mapping[str, Floats],
) -> dict[str, Question]:
    """What can be asked of predictions from n_trials trials."""
    found = {}
    text = "text_embedding" if "text_embedding_ID" in offered else "embedding"
    for kind, name, target_ID, directions in (
        ("image", "embedding", image_ID, ("image_given_brain", "brain_given_image")),
        ("text", text, text_ID, ("text_given_brain",)),
    ):
        if f"{name}_ID" in offered:
            predicted = "image" if name == "embedding" else "text"
            found[kind] = Question(
                predicted_JD=_choose_row(heldout[f"{name}_RJD"], n_trials),
                target_JD=heldout[f"{kind}_JD"],
                predicted_ID=offered[f"{name}_ID"],
                target_ID=target_ID,
                mean_predicted_D=means[f"mean_predicted_{predicted}_D"],
                mean_target_D=means[f"mean_{kind}_D"],
                directions=directions,
            )
    return found


def _choose_row(predicted_RJD: Floats, n_trials: int) -> Floats:
    """Predictions for the judge's images from as many trials, or from the most that there are."""
    return predicted_RJD[min(n_trials, len(predicted_RJD)) - 1]


def _cosine(question: Question) -> Compare:
    def compare(query_ID: Floats, gallery_JD: Floats) -> Floats:
        return similarity(
            centre(query_ID, question.mean_predicted_D), centre(gallery_JD, question.mean_target_D)
        )

    return compare


def _cross_score(question: Question) -> list[Floats]:
    """Each half of the judge's images, scored by a fit to the other half."""
    half_J = np.arange(len(question.target_JD)) % 2 == 0
    scored = []
    for member_J in (half_J, ~half_J):
        judge = joint_gaussian.fit(question.predicted_JD[~member_J], question.target_JD[~member_J])
        scored.append(judge.score(question.predicted_JD[member_J], question.target_JD[member_J]))
    return scored
