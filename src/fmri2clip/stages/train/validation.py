"""How good a decoder is on its validation images: the score that stops training.

Top-1 retrieval by centred cosine with all validation images as gallery, once with image embeddings,
once with the mean of captions. Predictions and targets are each centred by their own mean over the
training images: a contrastive decoder is free to place its outputs beside the cone in which CLIP's
image (or text) embeddings lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmri2clip.clip.targets import SEMANTIC_STREAMS, TOKEN_TARGETS
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers.average_precision import find_defined_classes, score_classes
from fmri2clip.stages.train.batches import EpochBatches

CENTRE_IMAGES = 512
BLOCK = 64  # images whose tokens are in memory at a time


def training_means(
    decoder: Any, data: TrainingData, n_decoded: int | None = None
) -> dict[str, Tensor]:
    """Means over the training images, each (D,), that centre the cosine.

    mean_image_D and mean_text_D of the targets; mean_predicted_image_D and mean_predicted_text_D of
    what the decoder makes of the mean of repeats (only what it offers), of all training images or
    of about n_decoded of them.
    """
    train_I = ~data.is_validation_I
    rows = train_I.nonzero()[:, 0]
    # Evenly spaced and not drawn: scoring takes no random number from training.
    rows = rows[:: max(1, len(rows) // (n_decoded or len(rows)))]
    decoded = decoder.decode(data.mean_betas_IV[rows], data.subject, data.n_repeats)
    means = {
        "mean_image_D": data.image_embedding_ID[train_I].mean(0),
        "mean_text_D": data.mean_text_ID[train_I].mean(0),
    }
    if decoded.embedding_ID is not None:
        means["mean_predicted_image_D"] = decoded.embedding_ID.mean(0)
    if decoded.text_embedding_ID is not None:
        means["mean_predicted_text_D"] = decoded.text_embedding_ID.mean(0)
    return means


def token_means(decoder: Any, data: TrainingData) -> dict[str, Tensor]:
    """Means over the training images, each (T, W), that centre the cosine of flattened tokens.

    mean_tokens_<stream>_TW of the targets and mean_predicted_tokens_<stream>_TW of the predictions;
    empty for a decoder without tokens. Tokens are predicted for BLOCK images at a time and only
    summed up.
    """
    if not decoder.offers_tokens:
        return {}
    rows = (~data.is_validation_I).nonzero()[:, 0]
    sums: dict[str, Tensor] = {}
    for block in rows.split(BLOCK):
        tokens = decoder.decode_tokens(
            data.mean_betas_IV[block], data.subject, data.n_repeats
        ).tokens
        for stream, predicted_ITW in tokens.items():
            sums[stream] = sums.get(stream, 0) + predicted_ITW.double().sum(0)
    means: dict[str, Tensor] = {}
    for stream, total_TW in sums.items():
        true_TW = _mean_target(data, stream, rows)[: len(total_TW)]
        # A stream that was trained on tokens of another width cannot be compared.
        if true_TW.shape == total_TW.shape:
            means[f"mean_tokens_{stream}_TW"] = true_TW.float()
            means[f"mean_predicted_tokens_{stream}_TW"] = (total_TW / len(rows)).float()
    return means


def _mean_target(data: TrainingData, stream: str, rows_I: Tensor) -> Tensor:
    """Mean (T, W) of the tokens that a stream is compared with: of those in the cache, or of what
    the scores on their components stand for.
    """
    for name in TOKEN_TARGETS[stream].split("|"):
        if name in data.features:
            tokens_ITW = data.features[name]
            blocks = rows_I.split(BLOCK)
            total = sum(tokens_ITW[block].double().sum(0) for block in blocks)
            return torch.as_tensor(total) / len(rows_I)
    kind = "semantic" if stream in SEMANTIC_STREAMS else stream
    scores_P = data.features[f"{kind}_components_IP"][rows_I].mean(0)
    basis = data.bases[kind]
    components_PX = basis.components_PTW.float().flatten(1).to(scores_P.device)
    read_TW = (scores_P @ components_PX).unflatten(0, basis.mean_TW.shape)
    mean_TW = read_TW + basis.mean_TW.to(scores_P.device)
    if kind == "text":
        return mean_TW
    first = {"semantic": data.image_embedding_ID, "detail": data.features.get("detail_class_IW")}
    class_IW = first[kind]
    assert class_IW is not None, "scores of detail tokens come with their class tokens"
    return torch.cat([class_IW[rows_I].float().mean(0)[None], mean_TW])


def validation_scores(decoder: Any, data: TrainingData) -> dict[str, float]:
    """val_image_top1, val_text_top1, val_map (those offered) and their mean, val_mean; fractions.

    Chance is 1/n for top-1. val_map is the mean over the categories that have both labels among
    these images. The centre of the predictions comes from CENTRE_IMAGES training images: all would
    cost a quarter of an epoch.
    """
    means = training_means(decoder, data, CENTRE_IMAGES)
    validation_I = data.is_validation_I
    decoded = decoder.decode(data.mean_betas_IV[validation_I], data.subject, data.n_repeats)
    pairs = (
        ("image", decoded.embedding_ID, data.image_embedding_ID),
        ("text", decoded.text_embedding_ID, data.mean_text_ID),
    )
    scores = {}
    for kind, query_ID, target_ID in pairs:
        if query_ID is None:
            continue
        # Each side is centred by its own mean, as outputs may lie beside the cone of the targets.
        centred_query_ID = query_ID - means[f"mean_predicted_{kind}_D"]
        centred_target_ID = target_ID[validation_I] - means[f"mean_{kind}_D"]
        scores[f"val_{kind}_top1"] = top1(centred_query_ID, centred_target_ID)
    if decoded.logits_IC is not None and data.labels_IC is not None:
        scores["val_map"] = mean_average_precision(data.labels_IC[validation_I], decoded.logits_IC)
    return scores | {"val_mean": sum(scores.values()) / len(scores)}


def validation_loss(decoder: Any, batches: EpochBatches, epoch: float) -> float:
    """The loss of batches of validation images, without dropout, with the weights of terms that
    hold at this epoch.

    Draws from torch's generator, always the same, so that epochs differ by their weights alone. NaN
    without any image.
    """
    if not len(batches):
        return float("nan")
    torch.manual_seed(0)
    with decoder.inference():
        losses = [sum(decoder.loss(batch, epoch).values()) for batch in batches]
    return float(torch.stack([torch.as_tensor(loss) for loss in losses]).mean())


def mean_average_precision(labels_IC: Tensor, logits_IC: Tensor) -> float:
    """Mean average precision over categories that only some of the images show; 0 without any."""
    label_IC = labels_IC.cpu().numpy()
    score_IC = logits_IC.float().cpu().numpy()
    # Without both labels among these images, a category has no average precision.
    class_C = find_defined_classes(label_IC, np.ones(label_IC.shape[1], dtype=bool))
    if not class_C.any():
        return 0.0
    once_1I = np.ones((1, len(label_IC)))  # every image counts once
    return float(score_classes(label_IC, score_IC, class_C, once_1I)[0][0])


def top1(query_ID: Tensor, gallery_ID: Tensor) -> float:
    """Share of queries whose own row has the highest cosine; k rows that tie share it, 1/k each."""
    similarity_II = normalize(query_ID.float(), dim=1) @ normalize(gallery_ID.float(), dim=1).T
    best_II = similarity_II == similarity_II.max(1, keepdim=True).values
    return float((torch.diagonal(best_II) / best_II.sum(1)).double().mean())
