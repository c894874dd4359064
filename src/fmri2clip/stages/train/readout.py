"""What the model folder keeps so that predictions can be put into words and pictures elsewhere.

All of it is fitted to the validation images, which the weights have not seen: how sure a decoder
may be of its categories, for means of 1, 2, ... trials, as one trial says less than three; and how
large its embeddings are, for a generator.

Letters: N trials, I images, J validation images, V voxels, D embedding width, C categories, R
numbers of trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmri2clip.clip import calibration
from fmri2clip.clip.prompts import compare_prompts, fit_scale
from fmri2clip.decoders import Decoder
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers.platt import fit_platt
from fmri2clip.solvers.ranks import centre

Array = NDArray[Any]


def fit_readout(
    decoder: Decoder, data: TrainingData, means: Mapping[str, Tensor], prompts: Mapping[str, Array]
) -> dict[str, Array]:
    """Arrays of inputs.safetensors, those of what the decoder offers.

    prompt_scale_R: of clip/prompts.py, by number of trials, from 1 to those of most images;
    label_scaling_R2: slope and offset of solvers/platt.py, likewise; embedding_factor_1: of
    clip/calibration.py. prompts: present_C and prompt_embedding_PCD.
    """
    n_repeats = max(1, data.n_repeats)
    decoded = [
        decoder.decode(average_first(data, n), data.subject, n) for n in range(1, n_repeats + 1)
    ]
    found: dict[str, Array] = {}
    arrays = {name: value.cpu().numpy() for name, value in means.items()}
    embeddings = [d.embedding_ID.cpu().numpy() for d in decoded if d.embedding_ID is not None]
    if embeddings:
        true_JD = data.image_embedding_ID[data.is_validation_I].cpu().numpy()
        fitted = calibration.fit(arrays, "embedding", embeddings[-1], true_JD)
        found["embedding_factor_1"] = np.array([fitted.factor], np.float32)
    if data.labels_IC is None:
        return found
    labels_JC = data.labels_IC[data.is_validation_I].cpu().numpy().astype(bool)
    if embeddings:
        mean_D = arrays["mean_predicted_image_D"]
        cosines = [compare_prompts(centre(x_JD, mean_D), prompts) for x_JD in embeddings]
        scales = [fit_scale(cosine_JC, labels_JC, prompts["present_C"]) for cosine_JC in cosines]
        found["prompt_scale_R"] = np.array(scales, np.float32)
    logits = [d.logits_IC.float().cpu().numpy() for d in decoded if d.logits_IC is not None]
    if logits:
        # A category that training never showed is no measure of how sure one may be of the others.
        seen_C = data.labels_IC[~data.is_validation_I].cpu().numpy().any(axis=0)
        pairs = [fit_platt(logit_JC[:, seen_C], labels_JC[:, seen_C]) for logit_JC in logits]
        found["label_scaling_R2"] = np.array(pairs, np.float32)
    return found


def average_first(data: TrainingData, n: int) -> Tensor:
    """Mean (J, V) of the first n trials of each validation image, of all where it has fewer."""
    n_I = data.image_N.bincount(minlength=len(data.nsd_id_I))
    order = data.image_N.argsort(stable=True)
    first_I = n_I.cumsum(0) - n_I
    place_N = torch.empty_like(order)
    place_N[order] = torch.arange(len(order), device=order.device)
    place_N -= first_I[data.image_N]  # 0 for the first trial of an image
    kept_N = (place_N < n) & data.is_validation_I[data.image_N]
    row_N = (data.is_validation_I.cumsum(0) - 1)[data.image_N[kept_N]]
    n_J = n_I[data.is_validation_I].clamp(max=n)
    sums_JV = data.betas_NV.new_zeros((len(n_J), data.betas_NV.shape[1]))
    return sums_JV.index_add_(0, row_N, data.betas_NV[kept_N]) / n_J[:, None]
