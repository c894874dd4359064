"""An input map whose numbers mean the same in every brain: what each ROI says of CLIP.

    z_r = left_out_ridge of the voxels of ROI r to: image embedding, mean of captions, leading
          components of semantic and of detail tokens

One closed form for each ROI, see left_out_ridge.py: whatever is trained behind it reads, for its
training pictures, what the fits without them predict. Letters: I images, N trials, R ROIs, Q
numbers of an ROI, X voxels of all ROIs one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.parts.input_maps import InputMap
from fmri2clip.decoders.parts.left_out_ridge import (
    LeftOutRidge,
    block_targets,
    read_targets,
    standardise,
)


class ComponentsMap(InputMap):
    """The map of one subject: betas (B, V) -> (B, R, Q), buffers alone.

    explained_R: mean share of the numbers' variance that an ROI explains of left-out pictures.
    """

    def __init__(self, n_voxels_R: Sequence[int], n_numbers: int) -> None:
        super().__init__(n_voxels_R, n_numbers, learned=False)

    @torch.no_grad()
    def fit_left_out(
        self, data: TrainingData, rows: Sequence[Tensor], y_IQ: Tensor, blocks: Sequence[int]
    ) -> Tensor:
        """rows: voxels of each ROI; y_IQ: standardised targets of all images; blocks: how many of
        them share a penalty.

        Returns what is read of every trial (N, R Q), flat; zeros for an ROI without voxels.
        """
        self.rows_X.copy_(torch.cat(list(rows)))
        z_NRQ = data.betas_NV.new_zeros(len(data.betas_NV), len(rows), y_IQ.shape[1])
        for r, weight_XQ in enumerate(self.weight_XK.split(self.n_voxels_R)):
            if not len(rows[r]):
                continue
            ridge = LeftOutRidge(len(rows[r]), y_IQ.shape[1])
            z_NRQ[:, r] = ridge.fit(data, y_IQ, blocks, voxels_V=rows[r])
            weight_XQ.copy_(ridge.weight_VQ)
            self.offset_RK[r].copy_(ridge.bias_Q)
            self.explained_R[r] = ridge.explained_Q.mean()
        return z_NRQ.flatten(1)


def count_numbers(width_D: int, n_components: int) -> int:
    """Q."""
    return sum(block_targets(width_D, n_components))


def fit_maps(
    maps: Mapping[str, nn.Module],
    data: Sequence[TrainingData],
    old: Sequence[TrainingData],
    rows: Mapping[str, Sequence[Tensor]],
    n_components: int,
) -> dict[str, Tensor]:
    """Fit the maps of all subjects; returns what each is trained on, (N, R Q).

    old: subjects who train what all share, who alone decide mean and deviation of the targets.
    """
    mean_Q, deviation_Q = standardise([read_targets(d, n_components) for d in old])
    found = {}
    for d in data:
        y_IQ = (read_targets(d, n_components) - mean_Q) / deviation_Q
        blocks = block_targets(d.image_embedding_ID.shape[1], n_components)
        own = maps[d.subject]
        assert isinstance(own, ComponentsMap)
        found[d.subject] = own.fit_left_out(d, rows[d.subject], y_IQ, blocks)
    return found
