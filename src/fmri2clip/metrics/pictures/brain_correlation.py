"""Brain correlation: does a reconstruction predict the brain pattern that its stimulus evoked?

An encoding model of our own predicts voxels from a picture's classifier features (MindEye2 uses
GNet); the score of an image is Pearson r across the voxels of a region between the measured
pattern, the mean of the image's z-scored repeats, and the pattern predicted from its
reconstruction. With y the mean of an image's training trials:

    W* = argmin_W ||Z W - (Y - mean Y)||^2 + alpha ||W||^2

Z: features of some layers, maps averaged onto a grid, z-scored over the training images, each layer
scaled to a mean squared norm of 1 so that wide layers do not drown narrow ones. One alpha for all
voxels, by folds over images.

It is fitted on training images only, which is checked by id, and never on features of CLIP: target
and generator live there, so that agreement would be circular. It must not select among candidates
either, or it would score itself.

Letters: I images, V voxels, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from fmri2clip.core.rows import find_rows
from fmri2clip.core.store import MappedRows
from fmri2clip.metrics.pictures.image_scores import correlate_rows
from fmri2clip.metrics.pictures.networks import Network, extract, flatten
from fmri2clip.metrics.pictures.protocols import Resize
from fmri2clip.metrics.pictures.resizing import Images, PictureSet, resize, to_float
from fmri2clip.solvers.kernel_ridge import solve

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
PREFIX = "brain_correlation"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the encoding model."""

    layers: tuple[str, ...] = ("features.4", "features.11")  # of the classifier
    size: int = 224  # pixels of the pictures that it sees, unless it has a size of its own
    grid: int = 6  # larger maps are averaged onto grid x grid positions
    n_alphas: int = 6  # number of candidates for alpha, spaced evenly in log10
    # smallest candidate; each layer gives an image a squared norm of about 1
    log10_alpha_min: float = -1.0
    log10_alpha_max: float = 4.0  # largest candidate
    n_folds: int = 3  # folds of the cross-validation, over images

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers is empty; name at least one layer of the classifier")
        for name, least in (("size", 1), ("grid", 1), ("n_alphas", 1), ("n_folds", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if self.log10_alpha_min > self.log10_alpha_max:
            raise ValueError(
                f"log10_alpha_min is {self.log10_alpha_min}, expected at most log10_alpha_max"
            )


@dataclass(frozen=True, kw_only=True)
class EncodingModel:
    """Pictures to voxels. cv_error: mean squared error of z-scored betas over folds; trained_id_I:
    NSD ids it saw.
    """

    network: Network
    config: Config
    mean_F: Floats
    scale_F: Floats
    weight_FV: Floats
    mean_V: Floats
    alpha: float
    cv_error: float
    trained_id_I: NDArray[np.int64]

    def predict(self, images_IHWC: Images | MappedRows) -> Floats:
        """Predicted betas (I, V), float32."""
        feature_IF, _ = describe(self.network, self.config, images_IHWC)
        z_IF = (feature_IF - self.mean_F) * self.scale_F
        predicted_IV: Floats = z_IF @ self.weight_FV + self.mean_V
        return predicted_IV


def fit_encoding(
    network: Network,
    training: PictureSet,
    betas_IV: Floats,
    config: Config | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> EncodingModel:
    """Fit on the training images; betas_IV: z-scored, mean of an image's training trials, rows as
    `training`. device: cpu or cuda, where the regression is solved.

    Raises ValueError for features of CLIP and for betas of other images.
    """
    config = config or Config()
    _check_training(network, training, betas_IV)
    feature_IF, widths = describe(network, config, training.images_IHWC)
    mean_F = feature_IF.mean(axis=0)
    scale_F = scale_layers(feature_IF, widths)
    mean_V = betas_IV.mean(axis=0, dtype=np.float64).astype(np.float32)
    z_IF = (feature_IF - mean_F) * scale_F
    y_IV = (betas_IV - mean_V).astype(np.float32)
    z = torch.from_numpy(z_IF).to(device)
    y = torch.from_numpy(y_IV).to(device)
    fitted = solve(z, y, config, seed)
    return EncodingModel(
        network=network,
        config=config,
        mean_F=mean_F,
        scale_F=scale_F,
        weight_FV=fitted.weight_VD.cpu().numpy(),
        mean_V=mean_V,
        alpha=fitted.alpha,
        cv_error=fitted.error,
        trained_id_I=training.nsd_id_I,
    )


def _check_training(network: Network, training: PictureSet, betas_IV: Floats) -> None:
    if network.info.kind == "clip":
        raise ValueError(
            f"brain correlation on features of {network.info.name} is circular, as decoders and "
            "generators live in CLIP space; take a classifier"
        )
    fits = betas_IV.ndim == 2 and len(betas_IV) == len(training.nsd_id_I)
    if not fits or not np.isfinite(betas_IV).all():
        raise ValueError(
            f"training betas must be finite (I, V) of the {len(training.nsd_id_I)} pictures, got "
            f"{betas_IV.shape}"
        )


def describe(
    network: Network, config: Config, images_IHWC: Images | MappedRows
) -> tuple[NDArray[np.float32], list[int]]:
    """Features (I, F) of all layers side by side, and the width of each layer; pictures are clamped
    to [0, 1].
    """
    # A size of its own is that of a stand-in, which sees nothing larger.
    step = Resize(size=network.size or config.size)

    def ready(images: Images) -> NDArray[np.float32]:
        return to_float(resize(np.clip(to_float(images), 0.0, 1.0), step))

    found = extract(network, images_IHWC, config.layers, ready, partial(pool, grid=config.grid))
    widths = [feature_IF.shape[1] for feature_IF in found.values()]
    return np.concatenate(list(found.values()), axis=1), widths


def pool(maps_Ixx: Floats, grid: int) -> Floats:
    """(I, F): maps (I, C, H, W) averaged onto grid x grid positions where they are larger; others
    as they are.
    """
    if maps_Ixx.ndim == 4 and max(maps_Ixx.shape[2:]) > grid:
        height, width = maps_Ixx.shape[2:]
        maps_Ixx = adaptive_avg_pool2d(
            torch.from_numpy(maps_Ixx), (min(grid, height), min(grid, width))
        ).numpy()
    return flatten(maps_Ixx)


def scale_layers(feature_IF: Floats, widths: list[int]) -> Floats:
    """scale_F = 1 / (deviation sqrt(varying features of the layer)); 0 for features that do not
    vary.
    """
    deviation_F = feature_IF.std(axis=0)
    # Relative to the liveliest feature, with a floor for a layer that is silent altogether.
    varies_F = deviation_F > 1e-6 * max(float(deviation_F.max(initial=0.0)), 1e-12)
    # A layer of many features must not outweigh one of few: one penalty serves all of them.
    layers = np.split(varies_F, np.cumsum(widths)[:-1])
    n_F = np.concatenate([np.full(len(part), part.sum()) for part in layers])
    scale_F = np.divide(1.0, deviation_F * np.sqrt(n_F), out=np.zeros(len(n_F)), where=varies_F)
    return scale_F.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Test patterns: betas_IV, z-scored, mean of the repeats of the images nsd_id_I; regions: name
    -> members V.
    """

    nsd_id_I: NDArray[np.int64]
    betas_IV: Floats
    regions: Mapping[str, Bools] = field(default_factory=dict)  # empty: all voxels as region 'all'


@dataclass(frozen=True, kw_only=True)
class BrainCorrelation:
    """The metric: an encoding model and the patterns of one subject.

    Raises ValueError if it was fitted on any.
    """

    model: EncodingModel
    measured: Measured

    def __post_init__(self) -> None:
        # Fitted on a scored image, the model would have seen the noise of its pattern.
        seen = np.intersect1d(self.model.trained_id_I, self.measured.nsd_id_I)
        if seen.size:
            raise ValueError(
                f"the encoding model was fitted on {seen.size} of the images to be scored (first "
                f"NSD id {seen[0]}); fit it on training images only"
            )

    def score(self, reconstructions: PictureSet) -> dict[str, Floats]:
        """brain_correlation.<region> -> r_I, rows as the reconstructions."""
        rows = find_rows(
            self.measured.nsd_id_I, reconstructions.nsd_id_I, "the set of measured patterns"
        )
        predicted_IV = self.model.predict(reconstructions.images_IHWC)
        return correlate_patterns(self.measured.betas_IV[rows], predicted_IV, self.measured.regions)

    def record(self) -> dict[str, Any]:
        """What the scores rest on."""
        model = self.model
        return model.network.record() | {
            "layers": list(model.config.layers),
            "alpha": model.alpha,
            "cv_error": model.cv_error,
            "n_training_images": len(model.trained_id_I),
        }


def correlate_patterns(
    measured_IV: Floats, predicted_IV: Floats, regions: Mapping[str, Bools]
) -> dict[str, Floats]:
    """brain_correlation.<region> -> Pearson r_I across its voxels, NaN for constant patterns.

    Takes any prediction: an encoding model's, or the true responses of the simulated cortex to a
    reconstruction. Raises ValueError for a region of fewer than 2 voxels.
    """
    regions = regions or {"all": np.ones(measured_IV.shape[1], dtype=bool)}
    for name, member_V in regions.items():
        if member_V.sum() < 2:
            raise ValueError(
                f"region {name} has {member_V.sum()} voxels, a correlation needs at least 2; leave "
                "it out"
            )
    return {
        f"{PREFIX}.{name}": correlate_rows(measured_IV[:, member_V], predicted_IV[:, member_V])
        for name, member_V in regions.items()
    }
