"""Settings of the CLIP-MUSED-style decoder and of its baselines; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fmri2clip.core.strict import above_zero, at_least, choices, fraction
from fmri2clip.decoders.clip_mused.networks import Block
from fmri2clip.decoders.parts.areas import parse_names

HighMode = Literal["average", "concat", "image", "text"]
Guidance = Literal["paper_like", "centred"]
Orthogonality = Literal["F", "L1", "L2"]
LOW_TARGETS = {"cls": "low_cls_IW", "mean": "low_mean_IW", "flatten": "block_1_ITW"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the network, its guidance and its training."""

    areas: str  # ROIs, see parts/areas.py
    # Voxels of an ROI -> K numbers, see parts/input_maps.py; components: parts/components_map.py
    input_map: Literal["pca", "clip_aligned", "subject_linear", "components"]
    components: int  # K; of either kind of tokens, where the input map is components
    width: int  # E, of a token
    layers: int  # attention blocks (transformer), residual blocks (mlp)
    heads: int
    feedforward: int  # hidden layer of a block, in widths
    hidden: int  # width of the mlp
    dropout_in: float  # of the components
    dropout: float  # inside the blocks
    block: Block
    backbone: Literal["transformer", "mlp"]
    identity: Literal["tokens", "shared_tokens", "one_token", "embedding", "none"]
    head_input: Literal["tokens", "pooled", "both"]  # pooled: mean of the ROI outputs
    shared: bool  # false: one model for each subject
    low_pool: Literal["cls", "mean", "flatten"]  # of block 1
    high_mode: HighMode
    clip_threshold: float  # of every number of a low-level CLIP feature
    guidance: Guidance
    orthogonality: Orthogonality
    w_label: float
    w_high: float
    w_low: float
    w_orthogonal: float
    new_subject: str  # subject that the shared weights never see; '' for none
    new_sessions: int  # its first sessions only; 0 = all
    new_fit: Literal["tokens", "tokens_projection"]  # what is fitted for it beside its input map
    new_lr: float  # peak learning rate of that fit
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak rate of AdamW; rises over warmup_epochs, falls to 0 over the last fifth
    warmup_epochs: float
    gradient_clip: float  # largest norm of the gradient; 0 = no limit
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # images in a step, all subjects together
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "components", "width", "layers", "heads", "feedforward", "hidden")
        at_least(self, 1, "batch_size", "max_epochs", "patience")
        at_least(
            self, 0, "w_label", "w_high", "w_low", "w_orthogonal", "new_sessions", "warmup_epochs"
        )
        at_least(self, 0, "gradient_clip", "repeats_convex", "repeats_mean")
        fraction(self, "dropout_in", "dropout")
        above_zero(self, "clip_threshold", "lr", "new_lr")
        at_least(self, 0, "weight_decay")
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        if self.repeats_convex + self.repeats_mean > 1 + 1e-9:
            found = f"{self.repeats_convex} and {self.repeats_mean}"
            raise ValueError(
                f"repeats_convex and repeats_mean are {found}, "
                "expected shares that sum to at most 1"
            )
        parse_names(self.areas)
        self._check_parts()

    def _check_parts(self) -> None:
        """Settings that do not go together."""
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, expected a multiple of heads ({self.heads})")
        if self.backbone == "mlp" and self.identity not in ("none", "embedding"):
            raise ValueError(
                f"identity is {self.identity!r}, but an mlp has no tokens; expected none or "
                "embedding"
            )
        if self.new_subject and self.identity not in ("tokens", "one_token", "embedding"):
            raise ValueError(
                f"new_subject is {self.new_subject!r}, but identity {self.identity!r} has no "
                "weights of a subject to fit; set identity to tokens, one_token or embedding"
            )
        if self.new_subject and not self.shared:
            raise ValueError(
                f"new_subject is {self.new_subject!r}, expected '' where shared is false"
            )
        if self.new_sessions and not self.new_subject:
            raise ValueError(
                "new_sessions restricts new_subject, which is ''; "
                "for all subjects set split.n_sessions"
            )

    @property
    def n_tokens(self) -> int:
        """Tokens in front of the ROIs."""
        return {"tokens": 2, "shared_tokens": 2, "one_token": 1}.get(self.identity, 0)
