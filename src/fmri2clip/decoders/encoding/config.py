"""Settings of the encoding model; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fmri2clip.core.strict import at_least, choices
from fmri2clip.solvers.kernel_ridge import check_penalties


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the closed form, its noise, and its library."""

    n_alphas: int  # candidates for the penalty of a voxel, evenly spaced in log10
    log10_alpha_min: float
    log10_alpha_max: float
    components: int  # leading ones of semantic and of detail tokens, each
    max_rank: int  # axes of the noise that are kept, at most; of model error and of trials, each
    # own: the subject's training pictures are a prior | none: a Gaussian of their features alone
    library: Literal["own", "none"]

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 1, "components", "max_rank")
        check_penalties(self)
