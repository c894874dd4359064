"""Score whatever a decoder offers for the test images of one subject; knows no decoder and reads no
file.

Letters: I test images (ascending NSD id), D embedding width, C categories.

Offered          scored as
embedding        retrieval of images (both directions), zero_shot, and classification through the
                 category prompts
text_embedding   text_given_brain and zero_shot_text; a decoder without it is searched with its
                 embedding
logits           classification in place of the prompts, and hamming (logits are log odds, so 0 is
                 probability 0.5)
tokens           retrieval with all tokens of a picture as one vector:
                 retrieval_tokens.<stream>.image_given_brain, retrieval_detail.image_given_brain and
                 retrieval_text_tokens.text_given_brain; the other galleries as
                 retrieval_tokens_hard..., retrieval_tokens_all...

The text of an image is the mean of its caption embeddings (`text_given_brain`) or one fixed caption
of it (`text_given_brain_fixed`). Prompts are centred by the mean prompt of the categories that
occur in the world. "Zero-shot" means that no decoder saw category names; CLIP itself was trained on
pictures and words of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.decoding import classification
from fmri2clip.metrics.decoding.retrieval import (
    TOP_K,
    Galleries,
    score_retrieval,
    score_sizes,
    similarity,
)
from fmri2clip.metrics.statistics import Scores
from fmri2clip.solvers.average_precision import (
    LEAST_POSITIVES,
    find_defined_classes,
    score_class,
)

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
# Where the scores of a stream of tokens stand, and what is searched; streams that are not named:
# tokens.<stream>.
TOKEN_BRANCHES = {
    "detail": ("detail", "image_given_brain"),
    "text": ("text_tokens", "text_given_brain"),
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the test images show. image_ID, text_ID, caption_ID, prompt_CD: centred, unit norm; no
    text where the data have no captions, no category where they have no labels.
    """

    nsd_id_I: NDArray[np.int64]
    image_ID: Floats
    text_ID: Floats | None  # mean of the captions
    caption_ID: Floats | None  # one fixed caption
    prompt_CD: Floats
    label_IC: Bools
    present_C: Bools  # occurs in the world
    category_I: NDArray[np.integer]  # dominant category, -1 = none
    galleries: Galleries


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Decoded patterns of the same images. image_ID and text_ID: centred, unit norm; None = not
    offered.

    own_text: text_ID is a second embedding, not a copy of image_ID's source. search_images: False
    where image retrieval would be true by definition.
    """

    image_ID: Floats | None = None
    text_ID: Floats | None = None
    logits_IC: Floats | None = None
    own_text: bool = False
    search_images: bool = True


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """What a run's training left out: categories (candidates_C) or, for each test image, its
    cluster (held_out_I).
    """

    candidates_C: Bools | None = None
    held_out_I: Bools | None = None


def score(prediction: Prediction, truth: Truth) -> Scores:
    """Everything that can be scored of what is offered."""
    per_image: dict[str, tuple[Floats, Floats]] = {}
    constants: dict[str, float] = {}
    if prediction.image_ID is not None and prediction.search_images:
        similarity_II = similarity(prediction.image_ID, truth.image_ID)
        per_image |= score_retrieval(similarity_II, truth.galleries, "image_given_brain")
        per_image |= score_retrieval(similarity_II.T, truth.galleries, "brain_given_image")
        per_image |= score_sizes(similarity_II, "image_given_brain")
    if prediction.text_ID is not None:
        for name, target_ID in (
            ("text_given_brain", truth.text_ID),
            ("text_given_brain_fixed", truth.caption_ID),
        ):
            if target_ID is None:
                continue
            per_image |= score_retrieval(
                similarity(prediction.text_ID, target_ID), truth.galleries, name
            )
    for name, candidate_ID in (
        ("zero_shot", prediction.image_ID),
        ("zero_shot_text", prediction.text_ID),
    ):
        # A copy of the image embedding in the place of a text embedding would score twice the same.
        is_own = name == "zero_shot" or (prediction.own_text and truth.text_ID is not None)
        if candidate_ID is not None and is_own and truth.present_C.any():
            scored = score_categories(
                similarity(candidate_ID, truth.prompt_CD), truth, name, truth.present_C
            )
            per_image |= scored.per_image
            constants |= scored.constants
    classes = score_labels(prediction, truth)
    return replace(
        classes,
        per_image=per_image | dict(classes.per_image),
        constants=constants | dict(classes.constants),
    )


def score_trials(prediction: Prediction, truth: Truth) -> Scores:
    """Of `score`, first choices alone: for patterns of fewer trials than there are."""
    scored = score(prediction, truth)
    first = {
        name: value
        for name, value in scored.per_image.items()
        if name.endswith(".top1") and not name.startswith("retrieval_sizes")
    }
    return Scores(nsd_id_I=truth.nsd_id_I, per_image=first)


def score_tokens(
    similarity_II: Floats, galleries: Galleries, stream: str
) -> dict[str, tuple[Floats, Floats]]:
    """Retrieval by flattened tokens; similarity_II: rows predicted tokens of a stream, columns true
    ones.
    """
    branch, direction = TOKEN_BRANCHES.get(stream, (f"tokens.{stream}", "image_given_brain"))
    # retrieval_<part>[.<stream>].<direction>.top<k>; only unnamed streams keep their own level.
    part, _, stream = branch.partition(".")
    scores: dict[str, tuple[Floats, Floats]] = {}
    for name, value in score_retrieval(similarity_II, galleries, direction).items():
        gallery, rest = name.split(".", 1)
        gallery = gallery.replace("retrieval", f"retrieval_{part}")
        scores[".".join(filter(None, (gallery, stream, rest)))] = value
    return scores


def score_categories(score_IC: Floats, truth: Truth, name: str, candidate_C: Bools) -> Scores:
    """Choice of the dominant category among the candidates; images whose category is no candidate
    are not asked.
    """
    asked_I = (truth.category_I >= 0) & candidate_C[truth.category_I]
    n_candidates = int(candidate_C.sum())
    per_image = {
        f"{name}.top{k}": (
            classification.score_zero_shot(score_IC, candidate_C, truth.category_I, k),
            np.ones(len(score_IC)),
        )
        for k in TOP_K
        if k == 1 or k < n_candidates  # among five, top-5 is no question
    }
    constants = {
        f"{name}.chance": 1.0 / max(n_candidates, 1),
        f"{name}.n_images": float(asked_I.sum()),
    }
    return Scores(nsd_id_I=truth.nsd_id_I, per_image=per_image, constants=constants)


def score_labels(prediction: Prediction, truth: Truth) -> Scores:
    """Multi-label scores from the logits, or from the similarity to the prompts where a decoder has
    none.
    """
    if not truth.present_C.any():
        return Scores(nsd_id_I=truth.nsd_id_I)
    per_image: dict[str, tuple[Floats, Floats]] = {}
    if prediction.logits_IC is not None:
        score_IC = prediction.logits_IC.astype(np.float32)
        n_bad = int(np.isnan(score_IC).sum())
        if n_bad:
            raise ValueError(
                f"{n_bad} of {score_IC.size} scores of categories are NaN; the decoder gives "
                "something that is no number: train it again"
            )
        # Rare classes, too: a loss is defined whatever the number of positives.
        loss_I = classification.score_hamming(truth.label_IC, prediction.logits_IC, truth.present_C)
        per_image["classification.hamming"] = loss_I, np.ones(len(loss_I))
    elif prediction.image_ID is not None:
        score_IC = similarity(prediction.image_ID, truth.prompt_CD).astype(np.float32)
    else:
        return Scores(nsd_id_I=truth.nsd_id_I)
    # A class that all test images have, or none, has no average precision; that of a rare one says
    # little.
    class_C = find_defined_classes(truth.label_IC, truth.present_C, LEAST_POSITIVES)
    if not class_C.any():
        return Scores(nsd_id_I=truth.nsd_id_I, per_image=per_image)
    n_present = int(truth.present_C.sum())
    n_classes = int(class_C.sum())
    return Scores(
        nsd_id_I=truth.nsd_id_I,
        per_image=per_image,
        class_scores={"classification": score_IC},
        label_IC=truth.label_IC,
        class_C=class_C,
        constants={
            "classification.n_classes": float(n_classes),
            "classification.n_undefined": float(n_present - n_classes),
        },
    )


def list_categories(scores: Scores, category_C: Sequence[str], present_C: Bools) -> Scores:
    """Average precision and number of positives of each category that has one among the test
    images, as constants of `classification.by_category`; nothing where no category was scored.
    """
    if "classification" not in scores.class_scores:
        return Scores(nsd_id_I=scores.nsd_id_I)
    score_IC = scores.class_scores["classification"]
    label_IC = scores.label_IC
    assert label_IC is not None, "class scores need labels"
    once_1I = np.ones((1, len(score_IC)), np.float32)
    constants = {}
    for c in np.flatnonzero(find_defined_classes(label_IC, present_C)):
        ap_1, _ = score_class(label_IC[:, c], score_IC[:, c], once_1I)
        place = f"classification.by_category.{category_C[int(c)]}"
        constants[f"{place}.average_precision"] = float(ap_1[0])
        constants[f"{place}.n_positive"] = float(label_IC[:, c].sum())
    return Scores(nsd_id_I=scores.nsd_id_I, constants=constants)


def score_unseen(prediction: Prediction, truth: Truth, unseen: Unseen) -> Scores:
    """The `unseen` branch: zero_shot.only and .all for images of unseen categories; retrieval of
    held-out clusters.

    Galleries stay those of the whole test set; only the queries are restricted.
    """
    per_image: dict[str, tuple[Floats, Floats]] = {}
    constants: dict[str, float] = {}
    if unseen.candidates_C is not None and prediction.image_ID is not None:
        score_IC = similarity(prediction.image_ID, truth.prompt_CD)
        asked = replace(truth, category_I=mask_categories(truth.category_I, unseen.candidates_C))
        for name, candidate_C in (
            ("only", unseen.candidates_C & truth.present_C),
            ("all", truth.present_C),
        ):
            scored = score_categories(score_IC, asked, f"zero_shot.{name}", candidate_C)
            per_image |= scored.per_image
            constants |= scored.constants
    if unseen.held_out_I is not None:
        constants["n_held_out_images"] = float(unseen.held_out_I.sum())
        for metric, (score_I, weight_I) in score(prediction, truth).per_image.items():
            # Not asked is NaN, so that galleries and weights stay those of the whole test set.
            if metric.startswith("retrieval"):
                per_image[metric] = np.where(unseen.held_out_I, score_I, np.nan), weight_I
    return Scores(nsd_id_I=truth.nsd_id_I, per_image=per_image, constants=constants)


def mask_categories(category_I: NDArray[np.integer], keep_C: Bools) -> NDArray[np.integer]:
    """category_I with -1 where the category is not kept."""
    return np.where((category_I >= 0) & keep_C[category_I], category_I, -1)


def place(scores: Scores, prefix: str) -> Scores:
    """The same scores under a dotted prefix such as 'reference.noise_free'."""
    return replace(
        scores,
        per_image={f"{prefix}.{name}": value for name, value in scores.per_image.items()},
        class_scores={f"{prefix}.{name}": value for name, value in scores.class_scores.items()},
        constants={f"{prefix}.{name}": value for name, value in scores.constants.items()},
    )


def merge(parts: list[Scores]) -> Scores:
    """Scores of one subject under different prefixes, as one."""
    merged = parts[0]
    for part in parts[1:]:
        merged = replace(
            merged,
            per_image={**merged.per_image, **part.per_image},
            class_scores={**merged.class_scores, **part.class_scores},
            constants={**merged.constants, **part.constants},
            label_IC=merged.label_IC if part.label_IC is None else part.label_IC,
            class_C=merged.class_C if part.class_C is None else part.class_C,
        )
    return merged
