"""Settings of the BrainMCLIP-style decoder; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fmri2clip.core.strict import above_zero, at_least, choices, fraction
from fmri2clip.decoders.parts.routing import Routing, check_routing, group_names


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the network, its losses and its training."""

    # components: class token and components of the others | tokens: all, by low-rank heads |
    # pooled: class tokens only
    variant: Literal["components", "tokens", "pooled"]
    hidden: int  # width of the codes b_D and b_S
    blocks: int  # residual blocks of an encoder
    token_rank: int  # rank of the token heads (variant tokens); 0 = full
    dropout_in: float  # after the first layer of an encoder
    dropout_res: float  # in its residual blocks
    text_branch: bool  # predict text tokens and a text embedding from b_S
    fusion: Literal["gated", "mix", "semantic_only"]  # mix: convex, when decoding only
    mix_weight: float  # of the detail tokens in a mix
    detail_rois: str  # ROI groups of the detail stream: a name, or names joined by +
    semantic_rois: str  # ROI groups of the semantic stream
    routing: Routing  # see parts/routing.py
    match_caliper: float  # largest difference in ncsnr of a matched pair (disjoint)
    voxel_pool: int  # both inputs are max-pooled to this many numbers; 0 = off
    detail_target: Literal["detail", "semantic"]  # semantic: the final layer for both (ablation)
    cross_rec: Literal["none", "self", "self_cross"]  # fMRI from the codes
    cross_target: Literal["decoder", "source"]  # R1 | R2, which needs voxel_pool
    stop_grad: Literal["none", "cross_to_semantic"]  # of D_D(b_S) into b_S
    beta_rec: float
    beta_cross: float
    loss: Literal["global", "fine", "both"]
    alpha_fine: float
    w_detail: float
    w_semantic: float
    w_fused: float  # without effect unless fusion is gated
    w_text: float
    class_weight: float  # c, of 1 - cosine of the class token
    class_contrast: float  # k, of the contrast of class tokens alone
    mixco_epochs: float  # fraction of max_epochs with BiMixCo
    mixco_share: float  # fraction of a batch that is mixed
    mixco_beta: float  # Beta(b, b) of the weights
    mixco_tau: float
    softclip_tau_start: float  # along half a cosine ...
    softclip_tau_end: float  # ... to this
    nce_tokens: int  # random tokens a step; with components, of all fine terms
    nce_tau: float
    nce_weight: float  # n
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak rate of AdamW; rises over warmup_epochs, falls to 0 over the last fifth
    warmup_epochs: float
    gradient_clip: float  # largest norm of the gradient; 0 = no limit
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # largest number of images in a step
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "hidden", "batch_size", "max_epochs", "patience", "nce_tokens")
        at_least(self, 0, "blocks", "token_rank", "voxel_pool", "match_caliper")
        at_least(self, 0, "warmup_epochs", "gradient_clip", "beta_rec", "beta_cross", "alpha_fine")
        at_least(self, 0, "w_detail", "w_semantic", "w_fused", "w_text")
        at_least(self, 0, "class_weight", "class_contrast", "nce_weight")
        at_least(self, 0, "repeats_convex", "repeats_mean")
        fraction(self, "mix_weight", "mixco_epochs", "mixco_share", "dropout_in", "dropout_res")
        temperatures = ("mixco_tau", "softclip_tau_start", "softclip_tau_end", "nce_tau")
        above_zero(self, "mixco_beta", *temperatures, "lr")
        at_least(self, 0, "weight_decay")
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        if self.repeats_convex + self.repeats_mean > 1 + 1e-9:
            found = f"{self.repeats_convex} and {self.repeats_mean}"
            raise ValueError(
                f"repeats_convex and repeats_mean are {found}, "
                "expected shares that sum to at most 1"
            )
        if self.cross_target == "source" and not self.voxel_pool:
            raise ValueError(
                "cross_target is 'source' (R2), expected with a voxel_pool above 0 (such as 8192): "
                "without one the two inputs have different lengths; "
                "set voxel_pool, or cross_target to decoder (R1)"
            )
        check_routing(self)

    def rois(self) -> tuple[str, ...]:
        """ROI groups that params must define."""
        return (*group_names(self.detail_rois), *group_names(self.semantic_rois))
