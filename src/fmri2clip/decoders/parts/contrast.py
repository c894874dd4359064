"""The symmetric contrast of predictions and targets (Radford et al. 2021, arXiv 2103.00020).

Axis letters: B images of a batch, D embedding width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(f_BD: Tensor, y_BD: Tensor, tau: Tensor | float, same_BB: Tensor) -> Tensor:
    """1/2 [ CE(f y^T / tau, diagonal) + CE(y f^T / tau, diagonal) ] without the pairs of `same_BB`.

    The diagonal itself always stays. f and y have unit norm; `same_BB` is symmetric, True where a
    pair is no negative.
    """
    eye_BB = torch.eye(len(f_BD), dtype=torch.bool, device=f_BD.device)
    # Under autocast the product would be rounded to bfloat16: at tau = 0.01, steps of 0.5 where
    # logits reach 100.
    with torch.autocast(f_BD.device.type, enabled=False):
        logits_BB = f_BD.float() @ y_BD.float().T / tau
        logits_BB = logits_BB.masked_fill(same_BB & ~eye_BB, -torch.inf)
        diagonal_B = torch.arange(len(f_BD), device=f_BD.device)
        rows = F.cross_entropy(logits_BB, diagonal_B)
        return (rows + F.cross_entropy(logits_BB.T, diagonal_B)) / 2
