"""Networks of the CLIP-MUSED-style decoder: ROI tokens and subject tokens through blocks of
self-attention, or an MLP.

    pre_norm     x <- x + attention(LN x);  x <- x + feedforward(LN x);  a last LN
                 (tokens and ROIs alike)
    paper_like   y = BN2(feedforward(BN1(attention(x))));  ROIs: x + y;  tokens: y
                 (BN2 starts with weight 0)

paper_like keeps what the authors' HCP code does (`AttentionBlock.py`, `models.py`, commit 99d153d):
batch norm shared by tokens and patches, no dropout, and tokens without a residual path, which are
therefore exactly zero at the start. Axis letters: B images of a batch, R ROI tokens, T subject
tokens, N = T + R places, E width, H hidden.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fmri2clip.decoders.parts.layers import make_trunk

Block = Literal["pre_norm", "paper_like"]


class PaperBlock(nn.Module):
    """One attention block of the authors' HCP code; the first n_tokens places are replaced, the
    others added to.
    """

    def __init__(self, width: int, heads: int, feedforward: int, n_tokens: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1 = nn.BatchNorm1d(width)
        self.norm2 = nn.BatchNorm1d(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width)
        )
        # y is 0 at the start, so the block begins as the identity of the ROIs.
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x_BNE: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        """(B, N, E) -> (B, N, E), tokens first: y for them, x + y for the ROIs."""
        y_BNE = self.self_attn(x_BNE, x_BNE, x_BNE, src_key_padding_mask, need_weights=False)[0]
        y_BNE = _batch_norm(self.norm1, y_BNE)
        y_BNE = _batch_norm(self.norm2, self.feedforward(y_BNE))
        return torch.cat([y_BNE[:, : self.n_tokens], (x_BNE + y_BNE)[:, self.n_tokens :]], 1)


def _batch_norm(norm: nn.BatchNorm1d, x_BNE: Tensor) -> Tensor:
    # BatchNorm1d takes the second axis for the channels: places join the batch instead.
    normed: Tensor = norm(x_BNE.flatten(0, 1)).view_as(x_BNE)
    return normed


class Transformer(nn.Module):
    """Self-attention over the places [tokens, ROIs]; without positional embedding, as ROIs carry
    their own.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        block: Block,
        n_tokens: int,
    ) -> None:
        super().__init__()
        # paper_like has no dropout and no last norm.
        if block == "paper_like":
            self.layers = nn.ModuleList(
                PaperBlock(width, heads, feedforward, n_tokens) for _ in range(layers)
            )
            self.norm: nn.Module = nn.Identity()
            return
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                heads,
                feedforward,
                dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BNE: Tensor, empty_BN: Tensor | None) -> Tensor:
        """Outputs of all places; nothing attends to those marked empty."""
        for layer in self.layers:
            x_BNE = layer(x_BNE, src_key_padding_mask=empty_BN)
        output_BNE: Tensor = self.norm(x_BNE)
        return output_BNE

    def read_attention(self, x_BNE: Tensor, empty_BN: Tensor | None) -> list[Tensor]:
        """Attention (B, N, N) of each layer, mean over heads: row i says where place i looks; rows
        sum to 1.
        """
        weights = []
        # Layers do not return their weights, so attention is asked again with what each one reads.
        for layer in self.layers:
            assert isinstance(layer, PaperBlock | nn.TransformerEncoderLayer)
            query = x_BNE if isinstance(layer, PaperBlock) else layer.norm1(x_BNE)
            weights.append(layer.self_attn(query, query, query, empty_BN, need_weights=True)[1])
            x_BNE = layer(x_BNE, src_key_padding_mask=empty_BN)
        return weights


class FlatMLP(nn.Module):
    """All ROI tokens of an image as one vector through residual blocks: (B, R, E) -> (B, H);
    baselines read with it.
    """

    def __init__(self, n_rois: int, width: int, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.trunk = make_trunk(n_rois * width, hidden, blocks, dropout, dropout)

    def forward(self, x_BRE: Tensor) -> Tensor:
        """Code (B, H) of ROI tokens (B, R, E), which are joined into one vector."""
        code_BH: Tensor = self.trunk(x_BRE.flatten(1))
        return code_BH


def roll_out(attention: list[Tensor], n_replaced: int) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020): product over layers of (A + 1) / 2, last layer
    first; (B, N, N). n_replaced: first places without a residual path, whose rows are A.
    """
    identity_NN = torch.eye(attention[0].shape[1], device=attention[0].device)
    result = identity_NN
    for layer in attention:
        # (A + 1) / 2 stands for attention and the residual path beside it, in equal parts.
        mixed = (layer + identity_NN) / 2
        mixed[:, :n_replaced] = layer[:, :n_replaced]
        result = mixed @ result
    return result
