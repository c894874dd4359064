"""Token targets of a BrainMCLIP-style decoder: what the towers of a CLIP model say of a picture and
its caption.

x_l is the output of image block l (counted from 1), LN the image tower's own final layer norm, W_p
its projection:

    semantic   e_S = LN(x_last) W_p
    detail     e_D = LN(mean over detail_layers of x_l) W_p   (mean_then_project)
               e_D = mean of LN(x_l) W_p                      (project_then_mean)
               e_D = mean of x_l                              (raw)
    text       e_T = LN_text(states) W_text

Each is divided by a norm: e_S and e_D by that of their own class token, e_T by that of the pooled
text embedding.

LN and projection on every token, over the norm of the pooled one, is what diffusers' Versatile
Diffusion pipeline reads (`_encode_image_prompt`, `_encode_text_prompt`). That detail features are a
mean over intermediate blocks (11 to 20 of 24) is read in a summary of the paper, not in the paper;
LN and W_p after the mean, the other two aggregations and text tokens are our decision. Letters: I
images or texts, T image tokens (class token first), U text tokens, W token width, D embedding
width.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import VisionTransformer

from fmri2clip.core import params

SEMANTIC = "semantic_tokens_ITD"
TEXT = "text_tokens_IUD"
LOW_CLS = "low_cls_IW"
LOW_MEAN = "low_mean_IW"


def image_names(clip: params.Clip) -> tuple[str, str]:
    """Names of the semantic and of the detail tokens in the cache; raw detail tokens keep the
    tower's width W.
    """
    return SEMANTIC, "detail_tokens_ITW" if clip.aggregation == "raw" else "detail_tokens_ITD"


def pool_low_level(tokens_ITW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Low-level features of CLIP-MUSED from the tokens of block 1, class token first: that token,
    and the patch mean.

    The paper takes the first layer; which of its tokens, and how they are pooled, was not available
    to us.
    """
    return {LOW_CLS: tokens_ITW[:, 0], LOW_MEAN: tokens_ITW[:, 1:].float().mean(1)}


def describe(clip: params.Clip) -> dict[str, str]:
    """Attributes of a file with token targets: the blocks behind the detail tokens, such as
    '3,4,5', and their use.
    """
    return {
        "detail_layers": ",".join(map(str, sorted(clip.detail_layers))),
        "aggregation": clip.aggregation,
    }


class ImageTargets:
    """Semantic and detail tokens of one batch, gathered while the image tower runs.

    Only the running sum of the detail blocks is kept, so ten blocks take the memory of one. All of
    it is float32, whatever the precision of the tower.
    """

    def __init__(self, visual: Any, clip: params.Clip) -> None:
        self._visual = visual
        self._clip = clip
        self._last = len(visual.transformer.resblocks)
        self._final_ITW: torch.Tensor | None = None
        self._sum_ITW: torch.Tensor | None = None

    @property
    def blocks(self) -> set[int]:
        """The 1-based blocks that add() must see."""
        return {*self._clip.detail_layers, self._last}

    def add(self, block: int, tokens_ITW: torch.Tensor) -> None:
        """Take the output of a block; one that no target needs is passed over."""
        tokens_ITW = tokens_ITW.float()
        if block == self._last:
            self._final_ITW = tokens_ITW
        if block in self._clip.detail_layers:
            # W_p is linear: it can wait for the mean. LN is not.
            if self._clip.aggregation == "project_then_mean":
                tokens_ITW = self._visual.ln_post(tokens_ITW)
            self._sum_ITW = tokens_ITW if self._sum_ITW is None else self._sum_ITW + tokens_ITW

    def finish(self) -> dict[str, torch.Tensor]:
        """The two targets under their names in the cache, float32; the class token of each has norm
        1.
        """
        assert self._final_ITW is not None and self._sum_ITW is not None, (
            "a block was not handed over"
        )
        ln_post = self._visual.ln_post
        proj = self._visual.proj.float()
        detail = self._sum_ITW / len(self._clip.detail_layers)
        if self._clip.aggregation == "mean_then_project":
            detail = ln_post(detail)
        if self._clip.aggregation != "raw":
            detail = detail @ proj
        semantic = ln_post(self._final_ITW) @ proj
        targets = zip(image_names(self._clip), (semantic, detail), strict=True)
        return {name: tokens / tokens[:, :1].norm(dim=-1, keepdim=True) for name, tokens in targets}


def text_targets(model: Any, ids_IU: torch.Tensor) -> torch.Tensor:
    """Projected last hidden states (I, U, D), float32, over the norm of the pooled text embedding.

    ids_IU: token ids of open_clip's tokenizer, which fills the places after the end token with 0
    ('!'). Those places see the caption too, and the tokenizer behind Versatile Diffusion
    (transformers' for OpenAI's CLIP) repeats the end token there, so that is done here: the pooled
    embedding stays the same, the context is the one VD knows.
    """
    tower = _text_tower(model)
    end_I = ids_IU.argmax(dim=-1)  # the end token has the highest id
    place_U = torch.arange(ids_IU.shape[1], device=ids_IU.device)
    ids_IU = torch.where(place_U > end_I[:, None], ids_IU.amax(dim=-1, keepdim=True), ids_IU)
    # encode_text returns the pooled embedding alone; the states behind it pass the last norm.
    seen: list[torch.Tensor] = []
    hook = tower.ln_final.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model.encode_text(ids_IU)
    finally:
        hook.remove()
    tokens_IUD = seen[0].float() @ tower.text_projection.float()
    pooled_ID = tokens_IUD[torch.arange(len(ids_IU), device=ids_IU.device), end_I]
    return tokens_IUD / pooled_ID.norm(dim=-1)[:, None, None]


def check_towers(model: Any, name: str) -> None:
    """Raise ValueError for a model whose towers give no token targets: they must be built like
    OpenAI's CLIP.

    The image tower: a ViT pooled at its class token. The text tower: causal, pooled at the end
    token, projected by a matrix. name: of the model, for the message.
    """
    advice = "set tokens to false, or choose a model such as ViT-L-14-quickgelu"
    visual = model.visual
    text = _text_tower(model)
    if not isinstance(visual, VisionTransformer):
        kind = type(visual).__name__
        raise ValueError(
            f"{name} has no token targets: its image tower is a {kind}, not open_clip's ViT; "
            f"{advice}"
        )
    if visual.attn_pool is not None or visual.pool_type != "tok":
        pool = "attention" if visual.attn_pool is not None else visual.pool_type
        raise ValueError(
            f"{name} has no token targets: its image tower pools by {pool}, not its class token; "
            f"{advice}"
        )
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    if pool != "argmax" or not causal or not isinstance(text.text_projection, torch.nn.Parameter):
        raise ValueError(
            f"{name} has no text tokens: its text tower is not causal, pooled at the end token and "
            f"projected by a matrix, as OpenAI's is; {advice}"
        )


def _text_tower(model: Any) -> Any:
    # open_clip's CLIP carries the layers of its text tower itself
    return getattr(model, "text", model)
