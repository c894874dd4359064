"""Tokens as scores on their leading components: what a decoder needs to read them back.

    x = m + s C      tokens of a picture but the class token, flat; C (P, X) orthonormal, fixed
    x y^T = s G s'^T + s l^T + l s'^T + m m^T,    G = C C^T,  l = m C^T

so that inner products of tokens cost P numbers and not X = T W. G is the identity but for the
rounding of C to float16. Axis letters: B images, P components, T tokens, W token width, N chosen
tokens.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import Basis


class TokenBasis(nn.Module):
    """Mean and components of one stream's tokens, class token aside; buffers, no weights."""

    mean_TW: Tensor
    components_PTW: Tensor
    gram_PP: Tensor
    lean_P: Tensor
    square: Tensor

    def __init__(self, n_components: int, n_tokens: int, width: int) -> None:
        """Zeros, until `fill` or a model's weights give it content."""
        super().__init__()
        shape = (n_components, n_tokens, width)
        self.register_buffer("mean_TW", torch.zeros(n_tokens, width))
        self.register_buffer("components_PTW", torch.zeros(shape, dtype=torch.float16))
        self.register_buffer("gram_PP", torch.zeros(n_components, n_components))
        self.register_buffer("lean_P", torch.zeros(n_components))
        self.register_buffer("square", torch.zeros(()))

    @classmethod
    def of(cls, basis: Basis) -> Self:
        """A module with this content."""
        made = cls(*basis.components_PTW.shape)
        if basis.mean_TW.device.type == "meta":
            return made
        made.mean_TW.copy_(basis.mean_TW)
        made.components_PTW.copy_(basis.components_PTW)
        mean_X = made.mean_TW.flatten()
        # Token by token: the components in float32 are 400 MB at real size.
        for t in range(made.mean_TW.shape[0]):
            part_PW = made.components_PTW[:, t].float()
            made.gram_PP += part_PW @ part_PW.T
            made.lean_P += part_PW @ made.mean_TW[t]
        made.square.copy_(mean_X @ mean_X)
        return made

    @property
    def n_tokens(self) -> int:
        """Tokens without the class token."""
        return len(self.mean_TW)

    def read(self, scores_BP: Tensor, tokens_N: Tensor | None = None) -> Tensor:
        """Tokens (B, T, W) in float32, or those of them that are named (B, N, W)."""
        components_PTW, mean_TW = self.components_PTW, self.mean_TW
        if tokens_N is not None:
            components_PTW, mean_TW = components_PTW[:, tokens_N], mean_TW[tokens_N]
        flat_BX = scores_BP.float() @ components_PTW.float().flatten(1)
        return flat_BX.unflatten(1, mean_TW.shape) + mean_TW

    def read_all(self, x_BX: Tensor) -> Tensor:
        """Tokens (B, 1 + T, W) in float32 of a class token and scores, one after the other."""
        n_scores = len(self.gram_PP)
        class_B1W = x_BX[:, None, :-n_scores].float()
        return torch.cat([class_B1W, self.read(x_BX[:, -n_scores:])], 1)

    def inner(self, a_BP: Tensor, b_CP: Tensor) -> Tensor:
        """Inner products (B, C) of flat tokens, rows of one with rows of the other."""
        across_BC = (a_BP @ self.gram_PP + self.lean_P) @ b_CP.T
        return across_BC + (a_BP @ self.lean_P)[:, None] + self.square

    def own(self, a_BP: Tensor) -> Tensor:
        """Squared norms (B) of flat tokens."""
        return ((a_BP @ self.gram_PP + 2 * self.lean_P) * a_BP).sum(1) + self.square
