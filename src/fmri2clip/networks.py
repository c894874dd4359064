"""Network parts of decoders that predict CLIP tokens from voxels, each with its number of weights
in closed form.

The trunk (wide linear layer with strong dropout, residual blocks) is that of MindEye1 and
MindBridge, read in their code; the low-rank token head and the gated fusion are our decisions. Axis
letters: B images, V voxels, H hidden, T tokens, W token width, R rank of a token head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + dropout(gelu(norm(A x)))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def make_trunk(
    n_in: int, hidden: int, blocks: int, dropout_in: float, dropout_res: float
) -> nn.Sequential:
    """Encoder: (B, n_in) -> (B, hidden)."""
    first = (nn.Linear(n_in, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout_in))
    return nn.Sequential(*first, *(ResidualBlock(hidden, dropout_res) for _ in range(blocks)))


def count_trunk(n_in: int, hidden: int, blocks: int) -> int:
    """Weights of make_trunk."""
    return n_in * hidden + 3 * hidden + blocks * (hidden**2 + 3 * hidden)


class TokenHead(nn.Module):
    """Code (B, H) -> tokens (B, T, W): Linear(H, T R), norm over R, Linear(R, W); Linear(H, T
    W) where rank is 0.
    """

    def __init__(self, hidden: int, n_tokens: int, rank: int, width: int) -> None:
        super().__init__()
        self.n_tokens, self.columns = n_tokens, rank or width
        self.spread = nn.Linear(hidden, n_tokens * self.columns)
        self.lift = (
            nn.Sequential(nn.LayerNorm(rank), nn.Linear(rank, width)) if rank else nn.Identity()
        )

    def forward(self, code_BH: Tensor, n: int | None = None) -> Tensor:
        """All tokens, or the first n of them at that share of the cost."""
        n = n or self.n_tokens
        rows = n * self.columns
        spread = F.linear(code_BH, self.spread.weight[:rows], self.spread.bias[:rows])
        tokens_BTW: Tensor = self.lift(spread.view(len(code_BH), n, self.columns))
        return tokens_BTW


def count_head(hidden: int, n_tokens: int, rank: int, width: int) -> int:
    """Weights of TokenHead."""
    columns = rank or width
    return (hidden + 1) * n_tokens * columns + (2 * rank + (rank + 1) * width if rank else 0)


class TextHead(nn.Module):
    """Code (B, H) -> (B, 1 + T, W): a pooled text embedding in the place of a class token, then
    the text tokens.
    """

    def __init__(self, hidden: int, n_tokens: int, rank: int, width: int) -> None:
        super().__init__()
        self.pooled = nn.Linear(hidden, width)
        self.tokens = TokenHead(hidden, n_tokens, rank, width) if n_tokens else None

    def forward(self, code_BH: Tensor, n: int | None = None) -> Tensor:
        """All, or the pooled embedding alone for n = 1."""
        pooled_B1W = self.pooled(code_BH)[:, None]
        return (
            pooled_B1W
            if self.tokens is None or n == 1
            else torch.cat([pooled_B1W, self.tokens(code_BH)], 1)
        )


def count_text_head(hidden: int, n_tokens: int, rank: int, width: int) -> int:
    """Weights of TextHead."""
    return (hidden + 1) * width + (count_head(hidden, n_tokens, rank, width) if n_tokens else 0)


class GatedFusion(nn.Module):
    """e_F = e_S + g * (W_2 gelu(W_1 norm(e_D))), token by token; g starts at 0, so that e_F
    starts as e_S.
    """

    def __init__(self, width_detail: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_detail)
        self.first, self.second = (
            nn.Linear(width_detail, width, bias=False),
            nn.Linear(width, width, bias=False),
        )
        self.gate_W = nn.Parameter(torch.zeros(width))

    def forward(self, semantic_BTW: Tensor, detail_BTW: Tensor) -> Tensor:
        return semantic_BTW + self.gate_W * self.second(F.gelu(self.first(self.norm(detail_BTW))))


def count_fusion(width_detail: int, width: int) -> int:
    """Weights of GatedFusion."""
    return 2 * width_detail + width_detail * width + width**2 + width


def make_voxel_decoder(hidden: int, n_voxels: int) -> nn.Sequential:
    """Code (B, H) -> voxels (B, V)."""
    return nn.Sequential(
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, n_voxels)
    )


def count_voxel_decoder(hidden: int, n_voxels: int) -> int:
    """Weights of make_voxel_decoder."""
    return hidden**2 + 3 * hidden + (hidden + 1) * n_voxels


class TwoStreams(nn.Module):
    """Encoders, token heads, fusion and fMRI decoders of a detail stream and a semantic stream, in
    this order.

    voxels: numbers of the two inputs; n_text_tokens: None for no text head, 0 for a text embedding
    alone; widths: of detail and of semantic tokens; gated, reconstruct: with a learned fusion, with
    fMRI decoders.
    """

    def __init__(
        self,
        *,
        voxels: tuple[int, ...],
        hidden: int,
        blocks: int,
        dropout: tuple[float, float],
        n_image_tokens: int,
        n_text_tokens: int | None,
        rank: int,
        widths: tuple[int, int],
        gated: bool,
        reconstruct: bool,
    ) -> None:
        super().__init__()
        self.detail_encoder, self.semantic_encoder = (
            make_trunk(n, hidden, blocks, *dropout) for n in voxels
        )
        self.detail_head, self.semantic_head = (
            TokenHead(hidden, n_image_tokens, rank, width) for width in widths
        )
        self.fusion = GatedFusion(*widths) if gated else None
        self.text_head = (
            None if n_text_tokens is None else TextHead(hidden, n_text_tokens, rank, widths[1])
        )
        if reconstruct:
            self.detail_decoder, self.semantic_decoder = (
                make_voxel_decoder(hidden, n) for n in voxels
            )

    def encode(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Voxels of the two streams -> their codes, (B, H) each."""
        return self.detail_encoder(inputs[0]), self.semantic_encoder(inputs[1])

    def predict(self, codes: tuple[Tensor, Tensor], n: int | None = None) -> dict[str, Tensor]:
        """Tokens of each stream, or the first n of them: detail, semantic, fused if it is
        learned, text if there is.
        """
        predicted = {
            "detail": self.detail_head(codes[0], n),
            "semantic": self.semantic_head(codes[1], n),
        }
        if self.fusion is not None:
            predicted["fused"] = self.fusion(predicted["semantic"], predicted["detail"])
        if self.text_head is not None:
            predicted["text"] = self.text_head(codes[1], n)
        return predicted
