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

from fmri2clip.decoders.parts.layers import make_trunk, make_voxel_decoder


class TokenHead(nn.Module):
    """Code (B, H) -> tokens (B, T, W): Linear(H, T R), norm over R, Linear(R, W); Linear(H, T W)
    where rank is 0.
    """

    def __init__(self, hidden: int, n_tokens: int, rank: int, width: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.columns = rank or width
        self.spread = nn.Linear(hidden, n_tokens * self.columns)
        # Rank 0 spreads to the full width at once, and there is nothing left to lift.
        self.lift = (
            nn.Sequential(nn.LayerNorm(rank), nn.Linear(rank, width)) if rank else nn.Identity()
        )

    def forward(self, code_BH: Tensor, n: int | None = None) -> Tensor:
        """All tokens, or the first n of them at that share of the cost."""
        n = n or self.n_tokens
        # Rows of the wide layer lie token by token: its first rows make the first tokens.
        rows = n * self.columns
        spread = F.linear(code_BH, self.spread.weight[:rows], self.spread.bias[:rows])
        tokens_BTW: Tensor = self.lift(spread.view(len(code_BH), n, self.columns))
        return tokens_BTW


class TextHead(nn.Module):
    """Code (B, H) -> (B, 1 + T, W): a pooled text embedding in the place of a class token, then the
    text tokens.
    """

    def __init__(self, hidden: int, n_tokens: int, rank: int, width: int) -> None:
        super().__init__()
        self.pooled = nn.Linear(hidden, width)
        self.tokens = TokenHead(hidden, n_tokens, rank, width) if n_tokens else None

    def forward(self, code_BH: Tensor, n: int | None = None) -> Tensor:
        """All, or the pooled embedding alone for n = 1."""
        pooled_B1W = self.pooled(code_BH)[:, None]
        if self.tokens is None or n == 1:
            return pooled_B1W
        return torch.cat([pooled_B1W, self.tokens(code_BH)], 1)


class GatedFusion(nn.Module):
    """e_F = e_S + g * (W_2 gelu(W_1 norm(e_D))), token by token; g starts at 0, so that e_F starts
    as e_S.
    """

    def __init__(self, width_detail: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_detail)
        self.first = nn.Linear(width_detail, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        # At 0 the detail path has no say, and the gate a gradient.
        self.gate_W = nn.Parameter(torch.zeros(width))

    def forward(self, semantic_BTW: Tensor, detail_BTW: Tensor) -> Tensor:
        """Semantic tokens (B, T, W) with what the detail tokens of the same places add."""
        return semantic_BTW + self.gate_W * self.second(F.gelu(self.first(self.norm(detail_BTW))))


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
        n_detail, n_semantic = voxels
        width_detail, width_semantic = widths
        # The order of the parts fixes which random numbers each starts from.
        self.detail_encoder = make_trunk(n_detail, hidden, blocks, *dropout)
        self.semantic_encoder = make_trunk(n_semantic, hidden, blocks, *dropout)
        self.detail_head = TokenHead(hidden, n_image_tokens, rank, width_detail)
        self.semantic_head = TokenHead(hidden, n_image_tokens, rank, width_semantic)
        self.fusion = GatedFusion(width_detail, width_semantic) if gated else None
        self.text_head: TextHead | None = None
        if n_text_tokens is not None:
            self.text_head = TextHead(hidden, n_text_tokens, rank, width_semantic)
        # fMRI decoders serve the training only; without their loss there are none.
        if reconstruct:
            self.detail_decoder = make_voxel_decoder(hidden, n_detail)
            self.semantic_decoder = make_voxel_decoder(hidden, n_semantic)

    def encode(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Voxels of the two streams -> their codes, (B, H) each."""
        return self.detail_encoder(inputs[0]), self.semantic_encoder(inputs[1])

    def predict(self, codes: tuple[Tensor, Tensor], n: int | None = None) -> dict[str, Tensor]:
        """Tokens of each stream, or the first n of them: detail, semantic, fused if it is learned,
        text if there is.
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
