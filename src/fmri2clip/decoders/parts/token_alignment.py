"""A loss of several granularities between predicted and true tokens.

    global      C(x) + k C(x_0) + c (1 - cos(x_0))      C: mixco.py, of flat tokens;
                                                        x_0: class token
    fine        alpha [ mean_t (1 - cos(x_t)) + n token_nce ]
    token_nce   mean over tokens t of 1/2 [ CE(L_t, diagonal) + CE(L_t^T, diagonal) ]

token_nce in both directions is ours. All of it runs in float32 even under autocast. Of Components
only sampled tokens are read back, and the mean over tokens is the mean over these.

Axis letters: B images of a batch, N sampled tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fmri2clip.decoders.parts.distributed import same
from fmri2clip.decoders.parts.mixco import Mixing, contrast_tokens


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
    device = true.device
    # Norms and cosines are computed when they are first asked for: in here.
    with torch.autocast(device.type, enabled=False):
        terms = {}
        n_images = len(x.scale_B)
        # A mixed input has no one true picture: regression and token_nce leave its row out.
        if mixing is None:
            rows = torch.arange(n_images, device=device)
        else:
            rows = (~mixing.mixed_B).nonzero()[:, 0]
        n_kept = max(len(rows), 1)  # all may be mixed: the terms are 0 then, not NaN
        if c.loss != "fine":
            term = contrast_tokens(x, true, c, mixing, progress)
            if c.class_contrast and x.n_tokens > 1:
                term = term + c.class_contrast * contrast_tokens(
                    x.first, true.first, c, mixing, progress
                )
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
