"""Predicted and true tokens with their norms and cosines, for losses that compare them.

Norms divide cosines, not tokens: the tokens of a batch are large, and a pass over them costs more
than the products. Tokens come whole (Tokens), or as scores on their components (Components), which
costs a tenth; then only the sampled tokens are read back.

Axis letters: B images of a batch, T tokens, W token width, P components of tokens, N sampled
tokens, X class token and components.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from fmri2clip.decoders.parts.token_basis import TokenBasis

TINY = 1e-12  # norms of zero vectors


class Tokens:
    """Tokens (B, T, W) in float32 with their norms and their cosines to others."""

    sampled = False  # fine terms see all tokens

    def __init__(self, x_BTW: Tensor) -> None:
        self.x_BTW = x_BTW.float()
        self.n_tokens = self.x_BTW.shape[1]
        self.norm_BT = torch.linalg.vector_norm(self.x_BTW, dim=2).clamp_min(TINY)
        self.scale_BT = 1 / self.norm_BT

    @property
    def device(self) -> torch.device:
        """Where they are; asking computes nothing."""
        return self.x_BTW.device

    @cached_property
    def scale_B(self) -> Tensor:
        """One over the norms of the flattened tokens."""
        return 1 / torch.linalg.vector_norm(self.norm_BT, dim=1)

    @cached_property
    def own_BB(self) -> Tensor:
        """Cosines of the flattened tokens with each other."""
        return self.cosine_BB(self)

    @cached_property
    def first(self) -> Tokens:
        """The class token alone."""
        return Tokens(self.x_BTW[:, :1])

    def pick(self, tokens_N: Tensor) -> Tokens:
        """Some of the tokens."""
        return Tokens(self.x_BTW[:, tokens_N])

    def cosine_BB(self, other: Tokens) -> Tensor:
        """Cosines of flattened tokens, rows of these with columns of the others."""
        product_BB = self.x_BTW.flatten(1) @ other.x_BTW.flatten(1).T
        return product_BB * (self.scale_B[:, None] * other.scale_B)

    def cosine_BT(self, other: Tokens) -> Tensor:
        """Cosine of each token with the token of the same image and place."""
        return (self.x_BTW * other.x_BTW).sum(2) * (self.scale_BT * other.scale_BT)

    def cosine_NBB(self, other: Tokens, tokens_N: Tensor, rows: Tensor) -> Tensor:
        """Cosines of these images, separately for each of the tokens."""
        own_NBW = _pick(self.x_BTW, tokens_N, rows)
        other_NBW = _pick(other.x_BTW, tokens_N, rows)
        product_NBB = own_NBW @ other_NBW.transpose(1, 2)
        scale_NB = self.scale_BT[rows][:, tokens_N].T
        other_NB = other.scale_BT[rows][:, tokens_N].T
        return product_NBB * (scale_NB[:, :, None] * other_NB[:, None])


class Components:
    """Tokens as their class token and the scores of the others on components, with their cosines.

    Nothing of the size of all tokens is made.
    """

    sampled = True

    def __init__(self, basis: TokenBasis, x_BX: Tensor) -> None:
        """x_BX: class token, then scores."""
        self.basis = basis
        n_scores = len(basis.gram_PP)
        self.first_BW = x_BX[:, :-n_scores].float()
        self.scores_BP = x_BX[:, -n_scores:].float()
        self.n_tokens = 1 + basis.n_tokens

    @property
    def device(self) -> torch.device:
        """Where they are; asking computes nothing."""
        return self.scores_BP.device

    @cached_property
    def scale_B(self) -> Tensor:
        """One over the norms of the flattened tokens."""
        square_B = self.first_BW.square().sum(1) + self.basis.own(self.scores_BP)
        return square_B.clamp_min(TINY).rsqrt()

    @cached_property
    def own_BB(self) -> Tensor:
        """Cosines of the flattened tokens with each other."""
        return self.cosine_BB(self)

    @cached_property
    def first(self) -> Tokens:
        """The class token alone."""
        return Tokens(self.first_BW[:, None])

    def pick(self, tokens_N: Tensor) -> Tokens:
        """Some of the tokens, read back."""
        others_BNW = self.basis.read(self.scores_BP, (tokens_N - 1).clamp_min(0))
        is_first_N1 = (tokens_N == 0)[:, None]
        return Tokens(torch.where(is_first_N1, self.first_BW[:, None], others_BNW))

    def cosine_BB(self, other: Components) -> Tensor:
        """Cosines of flattened tokens, rows of these with columns of the others."""
        product_BB = self.first_BW @ other.first_BW.T
        product_BB = product_BB + self.basis.inner(self.scores_BP, other.scores_BP)
        return product_BB * (self.scale_B[:, None] * other.scale_B)


def _pick(x_BTW: Tensor, tokens_N: Tensor, rows: Tensor) -> Tensor:
    """(N, B, W), contiguous, of some tokens and images."""
    # Taking all rows would copy every token of the batch for nothing.
    if len(rows) < len(x_BTW):
        x_BTW = x_BTW[rows]
    return x_BTW.transpose(0, 1).index_select(0, tokens_N)
