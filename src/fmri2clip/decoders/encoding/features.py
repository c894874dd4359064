"""Features of pictures, likelihoods of responses, and a library of pictures as a prior.

Letters: I images, J pictures of a gallery or library, V voxels, F features, P components, D
embedding width, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers.low_rank import LowRank

SCORES = ("semantic_components_IP", "detail_components_IP")
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
EPSILONS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)


def read_features(named: Mapping[str, Tensor], n_components: int, n_tokens: int) -> Tensor:
    """Image embedding and leading components of semantic and detail tokens, (I, F).

    Scores are divided by the square root of the number of tokens: then a token weighs as much as
    the embedding, and the same penalty is fair to both.
    """
    embedding_ID = named["image_embedding_ID"].float()
    scores = [
        named[name][:, :n_components].float().to(embedding_ID.device) / n_tokens**0.5
        for name in SCORES
    ]
    return torch.cat([embedding_ID, *scores], 1)


@dataclass(frozen=True)
class Gallery:
    """Responses r_j that are expected of pictures, as r_j S^-1 and r_j^T S^-1 r_j / 2."""

    solved_JV: Tensor
    half_J: Tensor

    @classmethod
    def of(cls, response_JV: Tensor, noise: LowRank) -> Gallery:
        """S: covariance of noise."""
        solved_JV = noise.solve(response_JV)
        return cls(solved_JV, (solved_JV * response_JV).sum(1) / 2)

    def compare(self, betas_IV: Tensor) -> Tensor:
        """log N(b_i; r_j, S) (I, J), less what is the same for all j."""
        return betas_IV @ self.solved_JV.T - self.half_J


def weigh(betas_IV: Tensor, response_JV: Tensor, noise: LowRank) -> Tensor:
    """log N(b_i; r_j, S) (I, J), less what is the same for all j and i."""
    own_I = (noise.solve(betas_IV) * betas_IV).sum(1)
    return Gallery.of(response_JV, noise).compare(betas_IV) - own_I[:, None] / 2


class Library(nn.Module):
    """Pictures with the responses that are expected of them, and what is known of each; buffers."""

    response_JV: Tensor
    image_JD: Tensor
    text_JD: Tensor
    label_JC: Tensor
    open_J: Tensor
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
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("eps", torch.zeros(()))

    def fill(self, data: TrainingData, response_IV: Tensor) -> None:
        """The subject's pictures, of which those for validation are not open; response_IV: of
        training pictures, as fits without each of them predict it.
        """
        assert data.labels_IC is not None
        self.response_JV.copy_(response_IV)
        self.image_JD.copy_(data.image_embedding_ID)
        self.text_JD.copy_(data.mean_text_ID)
        self.label_JC.copy_(data.labels_IC)
        self.open_J.copy_(~data.is_validation_I)

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

    def probabilities(self, weight_IJ: Tensor, told_IC: Tensor) -> Tensor:
        """Of every category, (I, C); told_IC: what features say of it (decoder.py)."""
        seen_IC = weight_IJ @ self.label_JC.float()
        return (1 - self.eps) * seen_IC + self.eps * told_IC

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
            for slope, told_IC in told.items():
                for eps in EPSILONS:
                    found = log_loss((1 - eps) * seen_IC + eps * told_IC, label_IC)
                    best = min(best, (found, temperature, eps, slope))
        loss, temperature, eps, slope = best
        self.temperature.fill_(temperature)
        self.eps.fill_(eps)
        return loss, slope


def log_loss(p_IC: Tensor, label_IC: Tensor) -> float:
    """Mean over images and categories, in nats; no probability is nearer to 0 or 1 than 1e-6."""
    return float(nn.functional.binary_cross_entropy(p_IC.clamp(1e-6, 1 - 1e-6), label_IC))
