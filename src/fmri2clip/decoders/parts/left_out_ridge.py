"""The closed form of one subject: voxels to numbers that mean the same in every brain.

    z = slope (W x + b - m) + t     W: a ridge with a penalty for each block of numbers, the one of
                                    least left-out error; slope: of the truth on left-out
                                    predictions, m and t: their means

What is trained behind it reads, for its training pictures, what W predicts for them without
themselves (solvers/blocked_ridge.py), trials included, so that it meets errors like those of new
pictures; of validation and test pictures it reads the ordinary predictions. This is stacking
(Wolpert 1992).

Letters: I images, N trials, V voxels, Q numbers, such as: image embedding, mean of captions,
components of semantic tokens, components of detail tokens, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.solvers import blocked_ridge

SCORES = ("semantic_components_IP", "detail_components_IP")
BLOCK = 16  # components that share a penalty
ALPHAS = tuple(10.0 ** (k / 2) for k in range(2, 15))  # 10 to 10^7, as betas are z-scored


def read_targets(data: TrainingData, n_components: int) -> Tensor:
    """Image embedding, mean of captions, and leading components of both streams of tokens, (I, Q),
    of all images.
    """
    scores = [data.features[name][:, :n_components].float() for name in SCORES]
    device = data.betas_NV.device
    parts = (data.image_embedding_ID, data.mean_text_ID, *scores)
    return torch.cat([part.to(device) for part in parts], 1)


def block_targets(width_D: int, n_components: int, block: int = BLOCK) -> list[int]:
    """How many columns of read_targets share a penalty, in order."""
    return [width_D, width_D, *2 * blocked_ridge.split_evenly(n_components, block)]


def standardise(targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (Q) over the images of all subjects."""
    y_IQ = torch.cat(list(targets))
    return y_IQ.mean(0), y_IQ.std(0).clamp_min(1e-6)


def check_components(n: int, data: TrainingData) -> None:
    """Raise ValueError where the cache has fewer components of a stream than the setting asks."""
    for name in SCORES:
        n_cached = data.features[name].shape[1]
        if n > n_cached:
            raise ValueError(
                f"components is {n}, but the CLIP cache has {n_cached} of a stream; lower "
                "components, or raise token_components of the clip"
            )


class LeftOutRidge(nn.Module):
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
        """Numbers (B, Q) of z-scored betas."""
        return betas_BV @ self.weight_VQ + self.bias_Q

    def n_parameters(self) -> int:
        """Numbers that decoding needs."""
        return self.weight_VQ.numel() + self.bias_Q.numel() + self.explained_Q.numel()

    @torch.no_grad()
    def fit(
        self,
        data: TrainingData,
        y_IQ: Tensor,
        blocks: Sequence[int],
        alphas: Sequence[float] = ALPHAS,
        voxels_V: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """From the means of repeats of training images; y_IQ: targets of all images; voxels_V:
        which ones are read, None for all; dtype: float64 where inputs are nearly collinear.

        Returns the numbers (N, Q) of every trial: of training images by the fit without the image,
        of the others by the fit to all.
        """
        train_I = ~data.is_validation_I
        y_IQ = y_IQ[train_I].to(dtype)
        x_IV, betas_NV = data.mean_betas_IV[train_I], data.betas_NV
        if voxels_V is not None:
            x_IV, betas_NV = x_IV[:, voxels_V], betas_NV[:, voxels_V]
        found = blocked_ridge.fit(x_IV.to(dtype), y_IQ, alphas, blocks)
        slope_Q, explained_Q = blocked_ridge.calibrate(y_IQ, found.left_out_IQ)
        # About the subject's own mean: slope (f - m) + m.
        own_Q = found.left_out_IQ.mean(0)
        self.weight_VQ.copy_(found.weight_VQ * slope_Q)
        self.bias_Q.copy_(slope_Q * (found.bias_Q - own_Q) + y_IQ.mean(0))
        self.explained_Q.copy_(explained_Q)
        # Row of each image among those that are fitted.
        row_I = torch.cumsum(train_I, 0) - 1
        train_N = train_I[data.image_N]
        z_NQ: Tensor = self(betas_NV)
        left_out_NQ = found.leave_out(betas_NV[train_N].to(dtype), row_I[data.image_N[train_N]])
        z_NQ[train_N] = (slope_Q * (left_out_NQ - own_Q) + y_IQ.mean(0)).to(z_NQ.dtype)
        return z_NQ
