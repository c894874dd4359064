"""Ridge from the input map of CLIP-MUSED straight to category labels: its linear baseline.

    z = map(x)                                          all ROIs and components as one vector
    W* = argmin_W ||Z W - Y||^2 + alpha ||W||^2         Y = labels - mean
    logits = slope (z W + mean) + offset

One alpha for all categories, chosen by k-fold cross-validation over training images
(kernel_ridge.py). Predictions of a ridge are no probabilities. Platt scaling makes log odds of
them: slope and offset are one pair for all categories, the maximum of the likelihood of the
validation images' labels over all pairs of image and category that training has seen. One pair,
because a rare category has a handful of positives among validation images; ranks within a category,
and so average precision and AUC, do not depend on it. Beyond this pair validation images take no
part.

Axis letters: I images, V voxels, X inputs (ROIs times components), C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fmri2clip import decoders
from fmri2clip.core.strict import at_least
from fmri2clip.decoders.batches import Decoded, TrainingData
from fmri2clip.decoders.parts.areas import parse_names, select_rois
from fmri2clip.decoders.parts.input_maps import InputMap, find_clip_axes
from fmri2clip.solvers.kernel_ridge import check_penalties, solve
from fmri2clip.solvers.platt import fit_platt

CITATION = (
    "J. Platt, 'Probabilistic outputs for support vector machines and comparisons to regularized "
    "likelihood methods', Advances in Large Margin Classifiers, 61-74, 1999 (scaling); "
    "ridge as in decoders/ridge."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the baseline; areas, input_map and components as those of clip_mused."""

    areas: str
    input_map: Literal["pca", "clip_aligned"]
    components: int  # K, numbers of an ROI
    n_alphas: int  # number of candidates for alpha, spaced evenly in log10
    log10_alpha_min: float  # smallest candidate
    log10_alpha_max: float  # largest candidate
    n_folds: int  # folds of the cross-validation, over images

    def __post_init__(self) -> None:
        if self.input_map not in ("pca", "clip_aligned"):
            raise ValueError(
                f"input_map is {self.input_map!r}, expected pca or clip_aligned: "
                "a closed form learns none"
            )
        at_least(self, 1, "components")
        at_least(self, 2, "n_folds")
        check_penalties(self)
        parse_names(self.areas)


class Decoder(decoders.Decoder):
    """Input map of one subject, linear weights, and the two numbers of the scaling."""

    weight_XC: Tensor
    bias_C: Tensor
    scaling_2: Tensor  # slope, offset

    closed_form = True

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        *,
        n_classes: int,
        n_roi_voxels: Sequence[int],
    ) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.sizes = {"n_classes": n_classes, "n_roi_voxels": list(n_roi_voxels)}
        self.map = InputMap(n_roi_voxels, config.components, learned=False)
        self.register_buffer(
            "weight_XC", torch.zeros(len(n_roi_voxels) * config.components, n_classes)
        )
        self.register_buffer("bias_C", torch.zeros(n_classes))
        self.register_buffer("scaling_2", torch.tensor([1.0, 0.0]))

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with its input map fitted; clip_aligned knows this subject's images alone."""
        (single,) = data
        if single.labels_IC is None:
            raise ValueError(
                f"the data of {single.subject} have no category labels; leave this run out, or add "
                "labels (docs/own_data.md)"
            )
        decoder = super().from_data(config, data, seed)
        rows = select_rois(single, parse_names(config.areas))
        # One subject a model: the axes are those of its own images.
        axes = None
        if config.input_map == "clip_aligned":
            axes = find_clip_axes([single], config.components)
        decoder.map.fit(single, rows, axes)
        return decoder

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Categories, and voxels of each ROI."""
        (single,) = data
        assert single.labels_IC is not None
        rows = select_rois(single, parse_names(config.areas))
        return {
            "n_classes": single.labels_IC.shape[1],
            "n_roi_voxels": [len(voxels) for voxels in rows],
        }

    def fit(self, data: TrainingData) -> dict[str, float]:
        """Weights from training images, scaling from validation images.

        Returns alpha, its error and the slope.
        """
        assert data.labels_IC is not None
        train_I = ~data.is_validation_I
        labels_IC = data.labels_IC.float()
        x_IX = self.map(data.mean_betas_IV).flatten(1)
        mean_X = x_IX[train_I].mean(0)
        mean_C = labels_IC[train_I].mean(0)
        fitted = solve(x_IX[train_I] - mean_X, labels_IC[train_I] - mean_C, self.config, self.seed)
        self.weight_XC.copy_(fitted.weight_VD)
        # Both centrings go into the offset, so that decoding takes inputs as they are.
        self.bias_C.copy_(mean_C - mean_X @ self.weight_XC)
        # The scaling is read off images that the weights have not seen, and off categories that
        # they have.
        seen_C = mean_C > 0
        score_IC = x_IX[data.is_validation_I] @ self.weight_XC + self.bias_C
        true_IC = labels_IC[data.is_validation_I] > 0
        pair = fit_platt(score_IC[:, seen_C].cpu().numpy(), true_IC[:, seen_C].cpu().numpy())
        self.scaling_2.copy_(torch.tensor(pair))
        return {"alpha": fitted.alpha, "cv_error": fitted.error, "slope": float(self.scaling_2[0])}

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Calibrated log odds of all categories for each row of z-scored betas."""
        score_IC = self.map(betas_IV).flatten(1) @ self.weight_XC + self.bias_C
        return Decoded(logits_IC=self.scaling_2[0] * score_IC + self.scaling_2[1])

    def n_parameters(self) -> dict[str, int]:
        """Weights, offsets and scaling; deployed with the input map."""
        n = self.weight_XC.numel() + self.bias_C.numel() + self.scaling_2.numel()
        return {"trained": n, "deployed": n + self.map.n_parameters()}

    def facts(self, subject: str) -> Mapping[str, float]:
        """All weights are the subject's own."""
        counts = {
            "input_map": self.map.n_parameters(),
            "shared": 0,
            "per_subject": self.n_parameters()["deployed"],
        }
        return {f"parameters.{name}": float(n) for name, n in counts.items()}
