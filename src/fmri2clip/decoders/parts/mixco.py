"""MindEye1's contrast of predictions with CLIP features: BiMixCo first, SoftCLIP afterwards.

    C(x, y)     cosines, one row a prediction, one column a target;  L = C / tau
    bimixco     1/2 [ CE(softmax L, P) + CE(softmax L^T, P^T) ],
                P = diag(share) + (1 - share) at the partner's column
    soft_clip   1/2 [ CE(softmax L, S) + CE(softmax L^T, S) ],    S = softmax(C(y, y) / tau)

Both are those of MindEye1's training script (Scotti et al. 2023, utils.py: mixco_nce with
bidirectional=True, soft_clip_loss), with one departure: an image that is its own partner keeps the
whole weight 1 there (MindEye1 overwrites the share by 1 - share). Logits are float32: at tau =
0.004 one reaches 250, where bfloat16 has steps of 1; callers switch autocast off around products.

Axis letters: B images of a batch, V voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmri2clip.decoders.parts.distributed import same


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


def contrast_tokens(x: Any, true: Any, c: Any, mixing: Mixing | None, progress: float) -> Tensor:
    """BiMixCo where inputs are mixed, else SoftCLIP, of the flattened tokens.

    x, true: what has cosine_BB and own_BB (compared_tokens.py). c: a Config with mixco_tau,
    mixco_epochs, softclip_tau_start and softclip_tau_end. progress: share of the epochs that is
    over.
    """
    if mixing is not None:
        return bimixco(x.cosine_BB(true), mixing, c.mixco_tau)
    # Share of SoftCLIP's own phase that is over; it follows that of BiMixCo.
    done = (progress - c.mixco_epochs) / max(1 - c.mixco_epochs, 1e-9)
    tau = cosine_anneal(c.softclip_tau_start, c.softclip_tau_end, done)
    return soft_clip(x.cosine_BB(true), true.own_BB, tau)


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


def cosine_anneal(start: float, end: float, progress: float) -> float:
    """From start (progress 0) to end (progress 1) along half a cosine: MindEye1's cosine_anneal in
    continuous time.
    """
    progress = min(max(progress, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
