"""A library of pictures as a prior: which of them evoked this response.

Letters: I images, J pictures of the library, V voxels, D embedding width, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import Pictures, TrainingData
from fmri2clip.decoders.encoding.features import Gallery
from fmri2clip.solvers.low_rank import LowRank

LEAST = 1e-6  # probability of a category
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
EPSILONS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)


def find_own(pictures: Pictures, data: TrainingData) -> Tensor:
    """Row among the subject's training images of each picture, (J); -1 for those of others."""
    found_J = torch.full_like(pictures.nsd_id_J, -1)
    # Pictures x images are 36,000 x 9,000 flags at real size, so in blocks.
    for block in torch.arange(len(found_J), device=found_J.device).split(1024):
        same_JI = pictures.nsd_id_J[block][:, None] == data.nsd_id_I
        found_J[block] = torch.where(same_JI.any(1), same_JI.int().argmax(1), -1)
    return found_J


class Library(nn.Module):
    """Pictures with the responses that are expected of them, and what is known of each; buffers."""

    response_JV: Tensor
    image_JD: Tensor
    text_JD: Tensor
    label_JC: Tensor
    open_J: Tensor
    is_labelled_J: Tensor
    nsd_id_J: Tensor
    temperature: Tensor
    eps: Tensor

    def __init__(self, n: int, n_voxels: int, width_D: int, n_classes: int) -> None:
        super().__init__()
        half = {
            "response_JV": (n, n_voxels),
            "image_JD": (n, width_D),
            "text_JD": (n, width_D),
            "label_JC": (n, n_classes),
        }
        for name, shape in half.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("open_J", torch.ones(n, dtype=torch.bool))
        self.register_buffer("is_labelled_J", torch.ones(n, dtype=torch.bool))
        self.register_buffer("nsd_id_J", torch.zeros(n, dtype=torch.int64))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("eps", torch.zeros(()))

    def fill(self, pictures: Pictures, response_JV: Tensor, open_J: Tensor) -> None:
        """response_JV: that are expected of the pictures; open_J: those that may be weighed."""
        self.response_JV.copy_(response_JV)
        self.image_JD.copy_(pictures.image_embedding_JD)
        self.text_JD.copy_(pictures.mean_text_JD)
        self.label_JC.copy_(pictures.labels_JC & pictures.is_labelled_J[:, None])
        self.is_labelled_J.copy_(pictures.is_labelled_J)
        self.nsd_id_J.copy_(pictures.nsd_id_J)
        self.open_J.copy_(open_J)

    def gallery(self, noise: LowRank) -> Gallery:
        """Of all pictures, for this noise."""
        return Gallery.of(self.response_JV.float(), noise)

    def log_likelihood(self, betas_IV: Tensor, gallery: Gallery) -> Tensor:
        """log p(b | j) (I, J), up to a number for each i; minus infinity for pictures that are not
        open.
        """
        return gallery.compare(betas_IV).masked_fill(~self.open_J, -torch.inf)

    def posterior(self, betas_IV: Tensor, gallery: Gallery) -> Tensor:
        """Weights (I, J) of the pictures; rows sum to 1."""
        return (self.log_likelihood(betas_IV, gallery) / self.temperature).softmax(1)

    def average(self, weight_IJ: Tensor) -> tuple[Tensor, Tensor]:
        """Image and text embeddings of the pictures, (I, D) each; without caption, no text."""
        return weight_IJ @ self.image_JD.float(), weight_IJ @ self.text_JD.float()

    def probabilities(self, weight_IJ: Tensor, told_IC: Tensor) -> Tensor:
        """Of every category, (I, C); told_IC: what features say of it (decoder.py), also for the
        pictures without labels.
        """
        told_I1 = self.eps + (1 - self.eps) * (1 - self._labelled(weight_IJ))
        return (1 - self.eps) * (weight_IJ @ self.label_JC.float()) + told_I1 * told_IC

    def _labelled(self, weight_IJ: Tensor) -> Tensor:
        """Weight of the pictures whose labels are known, (I, 1)."""
        return weight_IJ @ self.is_labelled_J.float()[:, None]

    def choose(
        self, log_IJ: Tensor, told: Mapping[float, Tensor], label_IC: Tensor
    ) -> tuple[float, float]:
        """Set temperature and eps to those of least log-loss for these images.

        told: slope -> what features say with it. Returns the log-loss and its slope.
        """
        best = (torch.inf, TEMPERATURES[0], EPSILONS[0], 0.0)
        for temperature in TEMPERATURES:
            weight_IJ = (log_IJ / temperature).softmax(1)
            seen_IC = weight_IJ @ self.label_JC.float()
            unseen_I1 = 1 - self._labelled(weight_IJ)
            for slope, told_IC in told.items():
                for eps in EPSILONS:
                    told_I1 = eps + (1 - eps) * unseen_I1
                    found = log_loss((1 - eps) * seen_IC + told_I1 * told_IC, label_IC)
                    best = min(best, (found, temperature, eps, slope))
        loss, temperature, eps, slope = best
        self.temperature.fill_(temperature)
        self.eps.fill_(eps)
        return loss, slope


def tell(x_IC: Tensor, base_C: Tensor, slope: Tensor) -> Tensor:
    """t of decoder.py, (I, C)."""
    deviation_C = (base_C * (1 - base_C)).sqrt()
    return torch.sigmoid(torch.logit(base_C) + slope * (x_IC - base_C) / deviation_C)


def log_loss(p_IC: Tensor, label_IC: Tensor) -> float:
    """Mean over images and categories, in nats; no probability is nearer to 0 or 1 than LEAST."""
    return float(nn.functional.binary_cross_entropy(p_IC.clamp(LEAST, 1 - LEAST), label_IC))


def find_top1(predicted_ID: Tensor | None, target_ID: Tensor, rows_I: Tensor) -> float:
    """Share of these images that their own target is nearest to, both centred."""
    assert predicted_ID is not None
    centred_ID = nn.functional.normalize(predicted_ID - predicted_ID.mean(0), dim=1)
    true_ID = nn.functional.normalize(target_ID[rows_I] - target_ID[~rows_I].mean(0), dim=1)
    best_I = (centred_ID @ true_ID.T).argmax(1)
    return float((best_I == torch.arange(len(best_I), device=best_I.device)).float().mean())
