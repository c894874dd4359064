"""Settings of brainmclip_plus; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fmri2clip.core.strict import above_zero, at_least, choices, fraction
from fmri2clip.decoders.parts.routing import Routing, check_routing, group_names


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the closed forms, the network behind them, its losses and its training."""

    start: Literal["ridge", "none"]  # of each head; none: the network alone, from voxels
    hidden: int  # width of the codes b_D and b_S
    blocks: int  # residual blocks of an encoder
    dropout_in: float  # after the first layer of an encoder
    dropout_res: float  # in its residual blocks
    projector: bool  # a second head for retrieval; false: the contrast trains the regressed numbers
    text_branch: bool  # predict a text embedding and text tokens from the semantic stream
    fusion: Literal["stacked", "network", "semantic_only"]  # what reads both streams
    detail_rois: str  # ROI groups of the detail stream: a name, or names joined by +
    semantic_rois: str  # ROI groups of the semantic stream
    routing: Routing  # see parts/routing.py
    match_caliper: float  # largest difference in ncsnr of a matched pair (disjoint)
    detail_target: Literal["detail", "semantic"]  # semantic: the final layer for both (ablation)
    cross_rec: Literal["none", "self", "self_cross"]  # fMRI from the codes
    beta_rec: float
    beta_cross: float
    w_regression: float  # of the squared error of every stream
    w_fused: float  # of the alignment of fused tokens
    w_text: float  # of that of the text embedding and tokens
    w_image_text: float  # of the contrast of the image embedding with captions
    loss: Literal["global", "fine", "both"]
    alpha_fine: float
    class_weight: float  # c, of 1 - cosine of the class token
    class_contrast: float  # k, of the contrast of class tokens alone
    mixco_epochs: float  # fraction of max_epochs with BiMixCo
    mixco_share: float  # fraction of a batch that is mixed
    mixco_beta: float  # Beta(b, b) of the weights
    mixco_tau: float
    softclip_tau_start: float  # along half a cosine ...
    softclip_tau_end: float  # ... to this
    nce_tokens: int  # random tokens a step, of all fine terms
    nce_tau: float  # of the tokens' contrast, and of the image embedding's with captions
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
        at_least(self, 0, "blocks", "match_caliper", "warmup_epochs", "gradient_clip")
        at_least(self, 0, "beta_rec", "beta_cross", "alpha_fine", "weight_decay", "w_regression")
        at_least(self, 0, "w_fused", "w_text", "w_image_text")
        at_least(self, 0, "class_weight", "class_contrast", "nce_weight")
        at_least(self, 0, "repeats_convex", "repeats_mean")
        fraction(self, "mixco_epochs", "mixco_share", "dropout_in", "dropout_res")
        temperatures = ("mixco_tau", "softclip_tau_start", "softclip_tau_end", "nce_tau")
        above_zero(self, "mixco_beta", *temperatures, "lr")
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        if self.repeats_convex + self.repeats_mean > 1 + 1e-9:
            raise ValueError(
                f"repeats_convex and repeats_mean are {self.repeats_convex} and "
                f"{self.repeats_mean}, expected shares that sum to at most 1"
            )
        check_routing(self)

    def rois(self) -> tuple[str, ...]:
        """ROI groups of both streams."""
        return (*group_names(self.detail_rois), *group_names(self.semantic_rois))
