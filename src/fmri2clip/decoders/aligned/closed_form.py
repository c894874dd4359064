"""The closed form of one subject: voxels to numbers that mean the same in every brain.

Letters: I images, N trials, V voxels, Q numbers: image embedding, mean of captions, components of
semantic tokens, components of detail tokens, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmri2clip.decoders.aligned.config import Config
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers import blocked_ridge


def read_targets(data: TrainingData, n_components: int) -> Tensor:
    """What the closed form predicts, (I, Q), of all images."""
    scores = [
        data.features[f"{stream}_components_IP"][:, :n_components].float()
        for stream in ("semantic", "detail")
    ]
    device = data.betas_NV.device
    parts = (data.image_embedding_ID, data.mean_text_ID, *scores)
    return torch.cat([part.to(device) for part in parts], 1)


def standardise(targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (Q) over the images of all subjects."""
    y_IQ = torch.cat(list(targets))
    return y_IQ.mean(0), y_IQ.std(0).clamp_min(1e-6)


class Aligned(nn.Module):
    """Ridge regression with the slope of its left-out predictions in it; buffers, no weights."""

    weight_VQ: Tensor
    bias_Q: Tensor
    explained_Q: Tensor

    def __init__(self, n_voxels: int, n_numbers: int) -> None:
        super().__init__()
        self.register_buffer("weight_VQ", torch.zeros(n_voxels, n_numbers))
        self.register_buffer("bias_Q", torch.zeros(n_numbers))
        self.register_buffer("explained_Q", torch.zeros(n_numbers))

    def forward(self, betas_BV: Tensor) -> Tensor:
        """Standardised numbers (B, Q) of z-scored betas."""
        return betas_BV @ self.weight_VQ + self.bias_Q

    def n_parameters(self) -> int:
        """Numbers that decoding needs."""
        return self.weight_VQ.numel() + self.bias_Q.numel() + self.explained_Q.numel()

    @torch.no_grad()
    def fit(
        self,
        data: TrainingData,
        config: Config,
        n_components: int,
        mean_Q: Tensor,
        deviation_Q: Tensor,
    ) -> Tensor:
        """From the means of repeats of training images; mean_Q, deviation_Q: those of all.

        Returns the numbers (N, Q) of every trial: of training images by the fit without the image,
        of the others by the fit to all.
        """
        train_I = ~data.is_validation_I
        y_IQ = (read_targets(data, n_components)[train_I] - mean_Q) / deviation_Q
        alphas = torch.logspace(config.log10_alpha_min, config.log10_alpha_max, config.n_alphas)
        width = data.image_embedding_ID.shape[1]
        found = blocked_ridge.fit(
            data.mean_betas_IV[train_I],
            y_IQ,
            alphas.tolist(),
            [width, width, *2 * blocked_ridge.split_evenly(n_components, config.block)],
        )
        slope_Q, explained_Q = blocked_ridge.calibrate(y_IQ, found.left_out_IQ)
        # About the subject's own mean: slope (f - m) + m.
        own_Q = found.left_out_IQ.mean(0)
        self.weight_VQ.copy_(found.weight_VQ * slope_Q)
        self.bias_Q.copy_(slope_Q * (found.bias_Q - own_Q) + y_IQ.mean(0))
        self.explained_Q.copy_(explained_Q)
        # Row of each image among those that are fitted.
        row_I = torch.cumsum(train_I, 0) - 1
        train_N = train_I[data.image_N]
        z_NQ: Tensor = self(data.betas_NV)
        left_out_NQ = found.leave_out(data.betas_NV[train_N], row_I[data.image_N[train_N]])
        z_NQ[train_N] = slope_Q * (left_out_NQ - own_Q) + y_IQ.mean(0)
        return z_NQ
