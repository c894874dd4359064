"""Contrastive and regression terms between predicted and true CLIP tokens, shared by decoders that
predict tokens.

    C(x, y)     cosines, one row a prediction, one column a target;  L = C / tau
    bimixco     1/2 [ CE(softmax L, P) + CE(softmax L^T, P^T) ],
                P = diag(share) + (1 - share) at the partner's column
    soft_clip   1/2 [ CE(softmax L, S) + CE(softmax L^T, S) ],    S = softmax(C(y, y) / tau)
    token_nce   mean over tokens t of 1/2 [ CE(L_t, diagonal) + CE(L_t^T, diagonal) ]

bimixco and soft_clip are those of MindEye1's training script (Scotti et al. 2023, utils.py:
mixco_nce with bidirectional=True, soft_clip_loss), with one departure: an image that is its own
partner keeps the whole weight 1 there (MindEye1 overwrites the share by 1 - share). token_nce in
both directions is ours. All of it runs in float32 even under autocast: at tau = 0.004 a logit
reaches 250, where bfloat16 has steps of 1. Norms divide cosines, not tokens: the tokens of a batch
are large, and a pass over them costs more than the products.

Tokens come whole (Tokens), or as scores on their components (Components), which costs a tenth; then
only the sampled tokens are read back, and the mean over tokens is the mean over these.

Axis letters: B images of a batch, V voxels, X flattened tokens, T tokens, W token width, P
components of tokens, N sampled tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fmri2clip.decoders.parts.distributed import same
from fmri2clip.decoders.parts.token_basis import TokenBasis

TINY = 1e-12  # norms of zero vectors


@dataclass(frozen=True)
class Mixing:
    """Which images of a batch are mixed: row b becomes share_B[b] x_b + (1 - share_B[b])
    x_partner_B[b].
    """

    partner_B: Tensor  # int64, a permutation
    share_B: Tensor  # 1 where not mixed
    mixed_B: Tensor  # bool

    def apply(self, x_BV: Tensor) -> Tensor:
        """The mixed rows; applied to all voxels of a trial at once, so every stream sees the same
        mixture.
        """
        share_B1 = self.share_B[:, None].to(x_BV.dtype)
        return share_B1 * x_BV + (1 - share_B1) * x_BV[self.partner_B]


def draw_mixing(n: int, beta: float, share: float, device: torch.device | str = "cpu") -> Mixing:
    """One permutation and one set of Beta(beta, beta) weights for a batch of n; a share of the
    images is mixed.

    Numbers come from torch's global CPU generator, so they are the same on every device; those of
    the first process hold for all that train together.
    """
    partner_B = torch.randperm(n)
    weight_B = torch.distributions.Beta(beta, beta).sample((n,))
    mixed_B = torch.rand(n) < share
    share_B = torch.where(mixed_B, weight_B, torch.ones(n))
    drawn = (partner_B, share_B, mixed_B)
    return Mixing(*(same(x.to(device)) for x in drawn))


class Tokens:
    """Tokens (B, T, W) in float32 with their norms and their cosines to others."""

    sampled = False  # fine terms see all tokens

    def __init__(self, x_BTW: Tensor) -> None:
        self.x_BTW = x_BTW.float()
        self.n_tokens = self.x_BTW.shape[1]
        self.norm_BT = torch.linalg.vector_norm(self.x_BTW, dim=2).clamp_min(TINY)
        self.scale_BT = 1 / self.norm_BT

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


def bimixco(cosine_BB: Tensor, mixing: Mixing, tau: float) -> Tensor:
    """Contrast of mixed predictions (rows) with the unmixed targets (columns), both directions."""
    logits_BB = cosine_BB.float() / tau
    share_B = mixing.share_B.float()
    # Added, not set: an image that is its own partner keeps the whole weight 1.
    target_BB = torch.diag(share_B)
    target_BB = target_BB.scatter_add(1, mixing.partner_B[:, None], 1 - share_B[:, None])
    return (_cross_entropy(logits_BB, target_BB) + _cross_entropy(logits_BB.T, target_BB.T)) / 2


def soft_clip(cosine_BB: Tensor, own_BB: Tensor, tau: float) -> Tensor:
    """Contrast of predictions (rows) and targets (columns) whose labels are the targets' own
    cosines own_BB.
    """
    logits_BB = cosine_BB.float() / tau
    teacher_BB = torch.softmax(own_BB.float() / tau, dim=1)
    return (_cross_entropy(logits_BB, teacher_BB) + _cross_entropy(logits_BB.T, teacher_BB)) / 2


def _cross_entropy(logits_BB: Tensor, target_BB: Tensor) -> Tensor:
    return -(logits_BB.log_softmax(1) * target_BB).sum(1).mean()


def token_nce(cosine_NBB: Tensor, tau: float) -> Tensor:
    """InfoNCE over the batch, separately for each of N tokens, both directions; 0 for fewer than
    two images.
    """
    logits_NBB = cosine_NBB.float() * (1 / tau)
    if logits_NBB.shape[1] < 2:
        return logits_NBB.sum() * 0  # a zero with a gradient, so that backward() finds its way
    # CE(L, diagonal) = logsumexp of the row - diagonal; both directions share the product.
    own_NB = torch.diagonal(logits_NBB, dim1=1, dim2=2)
    return (logits_NBB.logsumexp(2) + logits_NBB.logsumexp(1) - 2 * own_NB).mean() / 2


def draw_tokens(n_tokens: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Numbers of n random tokens, each once, from torch's global CPU generator; all in order if n
    is not smaller.
    """
    if n >= n_tokens:
        return torch.arange(n_tokens, device=device)
    return same(torch.randperm(n_tokens)[:n].to(device))


def align(x: Any, true: Any, c: Any, mixing: Mixing | None, progress: float) -> dict[str, Tensor]:
    """The terms `global` and `fine` (times alpha_fine) of predicted tokens x against true ones,
    class token first; both Tokens, or both Components.

    c: the decoder's Config; its fields loss, alpha_fine, class_*, mixco_*, softclip_* and nce_* are
    read here.
    mixing: of the inputs that x was predicted from; None selects SoftCLIP. progress: share of the
    epochs that is over. Only the contrast uses mixed images.
    """
    with torch.autocast(x.scale_B.device.type, enabled=False):
        device = x.scale_B.device
        terms = {}
        # A mixed input has no one true picture: regression and token_nce leave its row out.
        if mixing is None:
            rows = torch.arange(len(x.scale_B), device=device)
        else:
            rows = (~mixing.mixed_B).nonzero()[:, 0]
        n_kept = max(len(rows), 1)  # all may be mixed: the terms are 0 then, not NaN
        if c.loss != "fine":
            term = _contrast(x, true, c, mixing, progress)
            if c.class_contrast and x.n_tokens > 1:
                term = term + c.class_contrast * _contrast(x.first, true.first, c, mixing, progress)
            distance_BT = 1 - x.first.cosine_BT(true.first)[rows]
            terms["global"] = term + c.class_weight * distance_BT.sum() / n_kept
        if c.loss != "global":
            if x.sampled or c.nce_weight:
                tokens_N = draw_tokens(x.n_tokens, c.nce_tokens, device)
            if x.sampled:
                x, true = x.pick(tokens_N), true.pick(tokens_N)
                tokens_N = torch.arange(x.n_tokens, device=device)
            term = (1 - x.cosine_BT(true)[rows]).sum() / (n_kept * x.n_tokens)
            if c.nce_weight:
                cosine_NBB = x.cosine_NBB(true, tokens_N, rows)
                term = term + c.nce_weight * token_nce(cosine_NBB, c.nce_tau)
            terms["fine"] = c.alpha_fine * term
        return terms


def _contrast(x: Any, true: Any, c: Any, mixing: Mixing | None, progress: float) -> Tensor:
    """BiMixCo or SoftCLIP of the flattened tokens."""
    if mixing is not None:
        return bimixco(x.cosine_BB(true), mixing, c.mixco_tau)
    # Share of SoftCLIP's own phase that is over; it follows that of BiMixCo.
    done = (progress - c.mixco_epochs) / max(1 - c.mixco_epochs, 1e-9)
    tau = cosine_anneal(c.softclip_tau_start, c.softclip_tau_end, done)
    return soft_clip(x.cosine_BB(true), true.own_BB, tau)


def cosine_anneal(start: float, end: float, progress: float) -> float:
    """From start (progress 0) to end (progress 1) along half a cosine: MindEye1's cosine_anneal in
    continuous time.
    """
    progress = min(max(progress, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
