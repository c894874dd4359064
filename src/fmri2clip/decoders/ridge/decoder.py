"""Ridge regression from voxels to CLIP space: the baseline that every method here has to beat.

For each target (pooled image embedding; mean of the caption embeddings, on the unit sphere; with
`tokens: all` all semantic tokens of the image as one long vector, as in Brain-Diffuser, arXiv
2303.05334), with y centred:

    W* = argmin_W ||X W - Y||^2 + alpha ||W||^2

X holds one row an image, the mean of its repeats. alpha is one number per target, common to all D
columns (an embedding is one geometric object), chosen by k-fold cross-validation inside the
training images. A row is an image, so folds over rows are folds over images: no image is in both
parts. Validation images take no part, neither in the weights nor in the choice of alpha, so that
all decoders learn from the same images.

At real size the map to all tokens would have 3.1 billion weights (12 GB) a subject. With `tokens:
components` it goes to the scores of the patch tokens on their leading components (stage
components), from which they are read back; the class token is the predicted image embedding. 8
million weights for 512 components. Brain-Diffuser has no such step. Every `block` of components has
an alpha of its own, the best for predictions that are given their right sizes afterwards
(blocked_ridge.py), as reconstruct does. By plain error what is hardly predictable gets the largest
alpha, and with it the directions of the loudest voxels, whatever they say: on validation images
that cost a sixth of the pixel correlation of pictures.

The kernel is decomposed, not X: images are fewer than voxels in NSD (about 9,000 x 15,724), and
even at 2,250 x 1,700 its eigendecomposition was 2 to 4 times as fast as the SVD of X. All targets
share it (kernel_ridge.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fmri2clip import decoders
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.strict import at_least, choices
from fmri2clip.decoders.batches import Decoded, TrainingData
from fmri2clip.decoders.parts.token_basis import TokenBasis
from fmri2clip.solvers import blocked_ridge
from fmri2clip.solvers.kernel_ridge import check_penalties, solve_all

CITATION = (
    "A. E. Hoerl, R. W. Kennard, 'Ridge regression: biased estimation for nonorthogonal problems', "
    "Technometrics 12, 55, 1970."
)
STREAM = "semantic"
SCORES = f"{STREAM}_components_IP"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the ridge baseline."""

    n_alphas: int  # number of candidates for alpha, spaced evenly in log10
    log10_alpha_min: float  # smallest candidate (betas are z-scored)
    log10_alpha_max: float  # largest candidate
    n_folds: int  # folds of the cross-validation, over images
    # A third map, to semantic tokens, for generators that read them: to scores on their components,
    # or to all of their numbers
    tokens: Literal["none", "components", "all"]
    block: int  # components that share a penalty; 0: all of them do

    def __post_init__(self) -> None:
        choices(self)
        at_least(self, 2, "n_folds")
        at_least(self, 0, "block")
        check_penalties(self)


class Decoder(decoders.Decoder):
    """Linear maps to image and text embedding and, if asked, tokens: uncentred CLIP space."""

    image_weight_VD: Tensor
    image_bias_D: Tensor
    text_weight_VD: Tensor
    text_bias_D: Tensor
    token_weight_VX: Tensor  # X: tokens x width, or components of them
    token_bias_X: Tensor

    targets = (*decoders.Decoder.targets, TOKEN_TARGETS[STREAM], SCORES)
    closed_form = True

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        n_tokens: int = 0,
        n_components: int = 0,
    ) -> None:
        """n_tokens: of the third map, 0 without it; n_components: 0 for all numbers of tokens."""
        super().__init__()
        self.config = config
        self.seed = seed
        self.width_D = width_D
        # Empty without the third map: `sizes` is how predict_tokens and fit know of it.
        self.sizes = {"n_tokens": n_tokens} if n_tokens else {}
        self.basis: TokenBasis | None = None
        if n_tokens:
            n_columns = n_components or n_tokens * width_D
            self.register_buffer("token_weight_VX", torch.zeros(n_voxels, n_columns))
            self.register_buffer("token_bias_X", torch.zeros(n_columns))
        if n_components:
            self.sizes["n_components"] = n_components
            self.basis = TokenBasis(n_components, n_tokens - 1, width_D)
        for kind in ("image", "text"):
            self.register_buffer(f"{kind}_weight_VD", torch.zeros(n_voxels, width_D))
            self.register_buffer(f"{kind}_bias_D", torch.zeros(width_D))

    @classmethod
    def select_targets(cls, config: Config) -> tuple[str, ...]:
        """Cached CLIP arrays that these settings need."""
        own = {"none": (), "components": (SCORES,), "all": (TOKEN_TARGETS[STREAM],)}
        return (*decoders.Decoder.targets, *own[config.tokens])

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Tokens that the CLIP cache has, and components of them, where there is a third map."""
        if config.tokens == "none":
            return {}
        if config.tokens == "all":
            return {"n_tokens": data[0].features[TOKEN_TARGETS[STREAM]].shape[1]}
        n_components, n_patches, _ = data[0].bases[STREAM].components_PTW.shape
        return {"n_tokens": 1 + n_patches, "n_components": n_components}

    def fit(self, data: TrainingData) -> dict[str, float]:
        """Fit all maps on the training images; returns each target's alpha and squared error.

        The error is that of the cross-validation, the alpha of components that of the first block.
        """
        # Validation images take no part, so that all decoders learn from the same images.
        train_I = ~data.is_validation_I
        x_IV = data.mean_betas_IV[train_I]
        mean_V = x_IV.mean(0)
        targets = {"image": data.image_embedding_ID[train_I], "text": data.mean_text_ID[train_I]}
        if self.sizes and self.basis is None:
            targets["token"] = data.features[TOKEN_TARGETS[STREAM]][train_I].flatten(1).float()
        means = {kind: target_IX.mean(0) for kind, target_IX in targets.items()}
        # In place, as all tokens of NSD are 7 GB a subject; picking the rows has copied, so `data`
        # stays as it is.
        for kind, target_IX in targets.items():
            target_IX -= means[kind]
        row: dict[str, float] = {}
        for kind, fitted in solve_all(x_IV - mean_V, targets, self.config, self.seed).items():
            axis = "X" if kind == "token" else "D"
            getattr(self, f"{kind}_weight_V{axis}").copy_(fitted.weight_VD)
            # Both centrings go into the offset, so that decoding takes betas as they are.
            getattr(self, f"{kind}_bias_{axis}").copy_(means[kind] - mean_V @ fitted.weight_VD)
            row |= {f"{kind}_alpha": fitted.alpha, f"{kind}_cv_error": fitted.error}
        if self.basis is not None:
            self.basis = TokenBasis.of(data.bases[STREAM]).to(x_IV.device)
            row |= self._fit_scores(x_IV, data.features[SCORES][train_I])
        return row

    def _fit_scores(self, x_IV: Tensor, score_IP: Tensor) -> dict[str, float]:
        """The map to components of the tokens; alpha of the first block and left-out error."""
        c = self.config
        alphas = torch.logspace(c.log10_alpha_min, c.log10_alpha_max, c.n_alphas).tolist()
        n_components = score_IP.shape[1]
        blocks = blocked_ridge.split_evenly(n_components, c.block or n_components)
        found = blocked_ridge.fit(x_IV, score_IP, alphas, blocks, rescaled=True)
        self.token_weight_VX.copy_(found.weight_VQ)
        self.token_bias_X.copy_(found.bias_Q)
        error = float(found.error_IQ.square().mean())
        return {"token_alpha": float(found.alpha_Q[0]), "token_cv_error": error}

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Predicted image and text embedding of each row; not normalised."""
        return Decoded(
            embedding_ID=betas_IV @ self.image_weight_VD + self.image_bias_D,
            text_embedding_ID=betas_IV @ self.text_weight_VD + self.text_bias_D,
        )

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """The same, with the semantic tokens (I, T, D) where the settings have them.

        They are not normalised.
        """
        decoded = self.predict(betas_IV, subject)
        if self.sizes:
            found_IX = betas_IV @ self.token_weight_VX + self.token_bias_X
            if self.basis is None:
                decoded.tokens[STREAM] = found_IX.unflatten(1, (-1, self.width_D))
            else:
                class_I1D = decoded.embedding_ID[:, None]  # type: ignore[index]
                decoded.tokens[STREAM] = torch.cat([class_I1D, self.basis.read(found_IX)], 1)
        return decoded

    def n_parameters(self) -> dict[str, int]:
        """Weights and offsets of the maps; the components are fixed."""
        n = sum(value.numel() for name, value in self.named_buffers() if "basis." not in name)
        return {"trained": n, "deployed": n}

    @property
    def offers_tokens(self) -> bool:
        """Only with the third map."""
        return bool(self.sizes)
