"""Settings of the aligned decoder; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from fmri2clip.core.strict import above_zero, at_least, fraction
from fmri2clip.solvers.kernel_ridge import check_penalties


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the closed form, of the network behind it, and of its training."""

    n_alphas: int  # candidates for the penalties, evenly spaced in log10
    log10_alpha_min: float
    log10_alpha_max: float
    components: int  # leading ones of semantic and of detail tokens, each
    block: int  # components that share a penalty
    hidden: int  # width of the network
    blocks: int  # residual blocks
    dropout_in: float  # after the first layer
    dropout_res: float  # in the residual blocks
    shared: bool  # false: one network for each subject
    w_image: float  # of the contrast with image embeddings
    w_text: float  # of the contrast with the mean of captions
    w_label: float  # of the categories' cross entropy
    w_token: float  # of the squared error of components of semantic tokens
    tau: float  # initial temperature, learned
    tau_min: float  # the temperature never falls below this
    new_subject: str  # subject that the network never sees; '' for none
    new_sessions: int  # its first sessions only; 0 = all
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak rate of AdamW; rises over warmup_epochs, falls to 0 over the last fifth
    warmup_epochs: float
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # images in a step, all subjects together
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        at_least(self, 1, "components", "block", "hidden", "batch_size")
        at_least(self, 1, "max_epochs", "patience")
        at_least(self, 0, "blocks", "warmup_epochs", "w_image", "w_text", "w_label", "w_token")
        at_least(self, 0, "new_sessions", "repeats_convex", "repeats_mean")
        at_least(self, 0, "weight_decay")
        above_zero(self, "lr")
        fraction(self, "dropout_in", "dropout_res")
        check_penalties(self)
        if not 0 < self.tau_min <= self.tau:
            raise ValueError(
                f"tau is {self.tau}, expected at least tau_min ({self.tau_min}), both above 0"
            )
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        if self.repeats_convex + self.repeats_mean > 1 + 1e-9:
            raise ValueError(
                f"repeats_convex and repeats_mean are {self.repeats_convex} and "
                f"{self.repeats_mean}, expected shares that sum to at most 1"
            )
