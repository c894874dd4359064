"""What the network of brainmclip_plus adds to closed forms; zeros before its first step.

Axis letters: B images, H hidden, X numbers of a stream, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmri2clip.decoders.parts.layers import make_trunk, make_voxel_decoder


@dataclass(frozen=True, kw_only=True)
class Run:
    """By stream: y and p, standardised; codes; voxels."""

    y: dict[str, Tensor]
    p: dict[str, Tensor]
    codes: dict[str, Tensor]
    voxels: dict[str, Tensor]


def _zero(n_in: int, n_out: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Projector(nn.Module):
    """p = y + M y + P b: numbers for retrieval from those for the generator, whose own training
    does not feel it.
    """

    def __init__(self, width: int, n_code: int) -> None:
        super().__init__()
        self.linear = _zero(width, width)
        self.head = _zero(n_code, width)

    def forward(self, y_BX: Tensor, code_BH: Tensor) -> Tensor:
        """(B, X) from the same numbers and the code behind them."""
        y_BX = y_BX.detach()
        return y_BX + self.linear(y_BX) + self.head(code_BH)


class Residual(nn.Module):
    """Encoders, heads, projectors and fMRI decoders of a detail and of a semantic stream.

    inputs: what each encoder reads; widths: stream -> X; codes: stream -> streams whose codes its
    head reads; projected: streams with a second head; voxels: of each stream, where fMRI is
    reconstructed.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[str, int],
        hidden: int,
        blocks: int,
        dropout: tuple[float, float],
        widths: Mapping[str, int],
        codes: Mapping[str, tuple[str, ...]],
        projected: tuple[str, ...],
        voxels: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.codes = dict(codes)
        self.encoders = nn.ModuleDict(
            {name: make_trunk(n, hidden, blocks, *dropout) for name, n in inputs.items()}
        )
        self.heads = nn.ModuleDict(
            {s: _zero(hidden * len(codes[s]), width) for s, width in widths.items()}
        )
        self.projectors = nn.ModuleDict(
            {s: Projector(widths[s], hidden * len(codes[s])) for s in projected}
        )
        # They serve the training only; without their loss there are none.
        self.voxel_decoders = nn.ModuleDict(
            {name: make_voxel_decoder(hidden, n) for name, n in voxels.items()}
        )

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """b_D and b_S, (B, H) each."""
        return {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}

    def forward(
        self, z: Mapping[str, Tensor], codes: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """y of every stream, and p of those that are projected; both standardised."""
        read = {s: torch.cat([codes[name] for name in self.codes[s]], 1) for s in self.heads}
        y = {s: z[s] + head(read[s]) for s, head in self.heads.items()}
        p = {s: projector(y[s], read[s]) for s, projector in self.projectors.items()}
        return y, p
