"""MindEye1-style decoder: a wide residual network, regressed for the generator, projected for
retrieval.

    r   = A trunk(x) + a                     the backbone's output: class token, scores
    p   = projector(r)                       norm, gelu, three linear layers with norm and gelu
    L   = C(p, y) + w_regression R(r, y)
    C   = BiMixCo for the first share of epochs, then SoftCLIP (parts/mixco.py), of flat tokens
    R   = |r - y|^2 / T, mean over images

A rival, after the authors' public code (MedARC-AI/fMRI-reconstruction-NSD at 041a685, models.py;
Train_MindEye.py at 3fd9296). Theirs: backbone and projector, layer by layer, the contrast with its
schedule and temperatures, voxels mixed for both terms, w_regression 30, and that the generator
reads the backbone, retrieval the projector. R is the loss of their prior, which predicts tokens
times sqrt(W). Departures:

* Their prior is a diffusion model over tokens conditioned on r; here r itself is regressed, and
  there is no low-level route through a VAE.
* Tokens are a class token and the scores of the others on their leading components, from which all
  are read back, as in brainmclip's variant components. So the projector sees one vector of these,
  theirs each of 257 tokens alone.
* Sizes and temperatures are those that params.yaml gives; published ones: hidden 4096, 4 blocks,
  projector 2048, tau 0.006, then 0.004 to 0.0075, lr 3e-4, 240 epochs. A warm-up, a constant rate
  and a fall stand for OneCycle; repeats are mixed as in brainclip; targets are cached, so pictures
  are not augmented.

Axis letters: B images, V voxels, H hidden, T image tokens, D embedding width, P components of
tokens, X class token and components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.core.strict import above_zero, at_least, fraction
from fmri2clip.decoders.batches import Batch, Decoded, TrainingData
from fmri2clip.decoders.parts.compared_tokens import Components
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.layers import make_projector, make_trunk
from fmri2clip.decoders.parts.mixco import contrast_tokens, draw_mixing
from fmri2clip.decoders.parts.token_basis import TokenBasis

CITATION = (
    "P. S. Scotti, A. Banerjee, J. Goode, S. Shabalin, A. Nguyen, E. Cohen, A. J. Dempster, "
    "N. Verlinde, E. Yundler, D. Weisberg, K. A. Norman, T. M. Abraham, 'Reconstructing the Mind's "
    "Eye: fMRI-to-Image with Contrastive Learning and Diffusion Priors', NeurIPS 2023, "
    "arXiv:2305.18274."
)
SCORES = "semantic_components_IP"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the network, its losses and its training."""

    hidden: int  # width of the backbone
    blocks: int  # its residual blocks
    projector: int  # width of the projector
    dropout_in: float  # after the first layer
    dropout_res: float  # in the residual blocks
    w_regression: float
    mixco_epochs: float  # fraction of max_epochs with BiMixCo
    mixco_share: float  # fraction of a batch that is mixed
    mixco_beta: float  # Beta(b, b) of the weights
    mixco_tau: float
    softclip_tau_start: float  # along half a cosine ...
    softclip_tau_end: float  # ... to this
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak rate of AdamW; rises over warmup_epochs, falls to 0 over the last fifth
    warmup_epochs: float
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # largest number of images in a step
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        at_least(self, 1, "hidden", "projector", "batch_size", "max_epochs", "patience")
        at_least(self, 0, "blocks", "warmup_epochs", "weight_decay", "w_regression")
        at_least(self, 0, "repeats_convex", "repeats_mean")
        fraction(self, "dropout_in", "dropout_res", "mixco_epochs", "mixco_share")
        above_zero(self, "mixco_beta", "mixco_tau", "softclip_tau_start", "softclip_tau_end", "lr")
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        if self.repeats_convex + self.repeats_mean > 1 + 1e-9:
            raise ValueError(
                f"repeats_convex and repeats_mean are {self.repeats_convex} and "
                f"{self.repeats_mean}, expected shares that sum to at most 1"
            )


class Decoder(decoders.Decoder):
    """Backbone and projector over components of semantic tokens."""

    targets = (*decoders.Decoder.targets, SCORES)

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        *,
        n_components: int,
        n_patches: int,
    ) -> None:
        """n_patches: tokens but the class token."""
        super().__init__()
        self.config = config
        self.sizes = {"n_components": n_components, "n_patches": n_patches}
        # Fixed: no weight of the network, and read by none of its parts.
        self.basis = TokenBasis(n_components, n_patches, width_D)
        width_X = width_D + n_components
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = make_trunk(
                n_voxels, config.hidden, config.blocks, config.dropout_in, config.dropout_res
            )
            self.head = nn.Linear(config.hidden, width_X)
            self.projector = make_projector(width_X, config.projector)

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the components of the CLIP cache."""
        decoder = super().from_data(config, data, seed)
        decoder.basis = TokenBasis.of(data[0].bases["semantic"])
        return decoder

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, int]:
        """Components and patches that the CLIP cache has."""
        n_components, n_patches, _ = data[0].bases["semantic"].components_PTW.shape
        return {"n_components": n_components, "n_patches": n_patches}

    def forward(self, betas_BV: Tensor) -> tuple[Tensor, Tensor]:
        """r and p of the head of this file, (B, X) each."""
        regressed_BX = self.head(self.trunk(betas_BV))
        return regressed_BX, self.projector(regressed_BX)

    def loss(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L, see the head of this file.

        epoch: counted in fractions, for the schedule of the contrast.
        """
        c = self.config
        progress = epoch / c.max_epochs
        betas_BV = batch.betas_BV
        mixing = None
        if progress < c.mixco_epochs:
            mixing = draw_mixing(len(betas_BV), c.mixco_beta, c.mixco_share, betas_BV.device)
            betas_BV = mixing.apply(betas_BV)
        # Each process decodes its share of the rows; the contrast needs those of all.
        shares = Shares([len(betas_BV)])
        found = self(shares.take(0, betas_BV))
        regressed_BX, projected_BX = (shares.gather(x_BX).float() for x_BX in found)
        true_BX = torch.cat([batch.image_embedding_BD, batch.features[SCORES].float()], 1)
        with torch.autocast(betas_BV.device.type, enabled=False):
            projected = Components(self.basis, projected_BX)
            true = Components(self.basis, true_BX)
            contrast = contrast_tokens(projected, true, c, mixing, progress)
            # Components are orthonormal: these are the squared errors of tokens, class token first.
            error_B = (regressed_BX - true_BX).square().sum(1) / (1 + self.basis.n_tokens)
        return {
            "contrast_loss": contrast,
            "regression_loss": c.w_regression * error_B.mean(),
        }

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Unit-norm image embedding of each row: the projector's class token."""
        projected_IX = self(betas_IV)[1].float()
        return Decoded(embedding_ID=F.normalize(projected_IX[:, : -self._n_components], dim=1))

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """predict, with the tokens (I, T, D) of the backbone, `semantic`, and of the projector.

        They are not normalised: a projected token has a direction and no size.
        """
        regressed_IX, projected_IX = self(betas_IV)
        decoded = Decoded(
            embedding_ID=F.normalize(projected_IX[:, : -self._n_components].float(), dim=1)
        )
        decoded.tokens["semantic"] = self.basis.read_all(regressed_IX)
        decoded.tokens["projected"] = self.basis.read_all(projected_IX)
        return decoded

    def n_parameters(self) -> dict[str, int]:
        """Weights of the network; the components of the tokens are data."""
        n = sum(value.numel() for value in self.parameters())
        return {"trained": n, "deployed": n}

    @property
    def _n_components(self) -> int:
        return len(self.basis.gram_PP)
