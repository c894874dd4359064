"""The closed forms that brainmclip_plus starts from: a ridge of each stream, and one of both.

Letters: B images of a batch, N trials, V voxels, X numbers of a stream, Z numbers of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.parts.left_out_ridge import BLOCK, LeftOutRidge
from fmri2clip.solvers.blocked_ridge import split_evenly

ORDER = ("detail", "semantic", "text", "fused")


class ClosedForms(nn.Module):
    """R_D, R_S and R_F of decoder.py; buffers, no weights.

    voxels, widths: of each stream; stacked: with R_F.
    """

    def __init__(
        self, voxels: Mapping[str, int], widths: Mapping[str, int], n_scores: int, stacked: bool
    ) -> None:
        super().__init__()
        self.n_scores = n_scores
        self.widths = {s: widths[s] for s in ORDER if s in widths and (s != "fused" or stacked)}
        # The semantic stream's voxels predict captions, too.
        self.read_semantic = [s for s in ("semantic", "text") if s in widths]
        self.detail = LeftOutRidge(voxels["detail"], widths["detail"])
        n_semantic = sum(widths[s] for s in self.read_semantic)
        self.semantic = LeftOutRidge(voxels["semantic"], n_semantic)
        self.fused: LeftOutRidge | None = None
        if stacked:
            self.fused = LeftOutRidge(widths["detail"] + widths["semantic"], widths["fused"])

    def forward(self, voxels: Mapping[str, Tensor]) -> Tensor:
        """Numbers (B, Z) of the streams' voxels, in the order of `widths`."""
        parts = [self.detail(voxels["detail"]), self.semantic(voxels["semantic"])]
        if self.fused is not None:
            parts.append(self.fused(self._both(*parts)))
        return torch.cat(parts, 1)

    def split(self, z_BZ: Tensor) -> dict[str, Tensor]:
        """The same by stream; fused numbers are the semantic stream's where nothing is stacked."""
        z = dict(zip(self.widths, z_BZ.split(list(self.widths.values()), 1), strict=True))
        return {"fused": z["semantic"]} | z

    def fit(
        self, data: TrainingData, true: Mapping[str, Tensor], rows: Mapping[str, Tensor]
    ) -> Tensor:
        """true: standardised numbers of all images, by stream; rows: voxels of each.

        Returns the numbers (N, Z) of every trial, of training images from fits without them.
        """
        detail = self.detail.fit(
            data, true["detail"], self._blocks("detail"), voxels_V=rows["detail"]
        )
        semantic = self.semantic.fit(
            data,
            torch.cat([true[s] for s in self.read_semantic], 1),
            [n for s in self.read_semantic for n in self._blocks(s)],
            voxels_V=rows["semantic"],
        )
        parts = [detail, semantic]
        if self.fused is not None:
            both = replace(data, betas_NV=self._both(detail, semantic))
            # Numbers that nobody can predict are constant, and others say the same twice.
            parts.append(
                self.fused.fit(both, true["fused"], self._blocks("fused"), dtype=torch.float64)
            )
        return torch.cat(parts, 1)

    def _both(self, detail_BX: Tensor, semantic_BX: Tensor) -> Tensor:
        """What the fusion reads: without captions."""
        return torch.cat([detail_BX, semantic_BX[:, : self.widths["semantic"]]], 1)

    def _blocks(self, stream: str) -> list[int]:
        """Numbers that share a penalty: the class token's, and so many components at a time."""
        width = {"fused": "semantic"}.get(stream, stream)
        return [self.widths[width] - self.n_scores, *split_evenly(self.n_scores, BLOCK)]

    @property
    def ridges(self) -> dict[str, LeftOutRidge]:
        """All of them by name."""
        found = {"detail": self.detail, "semantic": self.semantic}
        return found if self.fused is None else found | {"fused": self.fused}

    def n_parameters(self) -> int:
        """Numbers that decoding needs."""
        return sum(ridge.n_parameters() for ridge in self.ridges.values())
