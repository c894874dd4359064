"""Settings of the encoding model; decoder.py says what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from fmri2clip.core.strict import at_least
from fmri2clip.solvers.kernel_ridge import check_penalties


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the closed form, its noise, and its library."""

    n_alphas: int  # candidates for the penalty of a voxel, evenly spaced in log10
    log10_alpha_min: float
    log10_alpha_max: float
    components: int  # leading ones of semantic and of detail tokens, each
    max_rank: int  # axes of the noise that are kept, at most; of model error and of trials, each
    # Pictures that are a prior: own (the subject's training pictures) | all (of all subjects of the
    # run) | none (a Gaussian of features alone) | a folder of pictures, a key of params `libraries`
    library: str

    def __post_init__(self) -> None:
        at_least(self, 1, "components", "max_rank")
        check_penalties(self)
