"""Features of pictures, and likelihoods of responses.

Letters: I images, J pictures of a gallery, V voxels, F features, P components, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fmri2clip.solvers.low_rank import LowRank

SCORES = ("semantic_components_IP", "detail_components_IP")


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
