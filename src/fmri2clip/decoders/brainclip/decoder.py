"""BrainCLIP-style decoder: voxels into CLIP space with image and text supervision together.

    f   = network(x) / |network(x)|,   S(a, b) = a b^T / tau
    L_nce(f, y) = 1/2 [ CE(S(f, y), diagonal) + CE(S(y, f), diagonal) ]
    L   = alpha L_nce(f, v) + (1 - alpha) L_nce(f, t)
          + beta KL( N(mu, s^2) || N(0, I) )                    (last term: vae only)

v is the CLIP image embedding of the picture and t that of one of its captions, drawn anew at each
step; both as CLIP gives them (not centred). The single output f serves as image and as text
embedding.

What is known of the paper: that a mapping network puts fMRI into CLIP space and combines visual
with textual supervision (all abstracts), and that its first version was VAE-based. Layers, loss
equation, temperature, weights and optimiser were not available to us; they are our decisions, hence
"style". Pairs with an equal image or an equal caption are no negatives of each other: they leave
the logits, except on the diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.core.strict import above_zero, at_least, fraction
from fmri2clip.decoders.batches import Batch, Decoded
from fmri2clip.decoders.parts.contrast import contrastive
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.layers import make_trunk

CITATION = (
    "Y. Liu, Y. Ma, W. Zhou, G. Zhu, N. Zheng, 'BrainCLIP: Bridging Brain and Visual-Linguistic "
    "Representation via CLIP for Generic Natural Visual Stimulus Decoding', arXiv:2302.12971; "
    "journal version IEEE TMI 44(10), 3962-3972, 2025."
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the network, its loss and its training."""

    network: Literal["linear", "mlp", "vae"]  # mapping network
    hidden: int  # width of the hidden layers (mlp, vae)
    latent: int  # width of the latent code (vae); 0 = D, then no output head
    dropout_in: float  # dropout after the first layer
    dropout_block: float  # dropout inside the residual block
    alpha: float  # weight of the image term; 1 = image only, 0 = text only
    beta: float  # weight of the KL term (vae)
    kl_warmup: float  # epochs over which beta rises linearly from 0
    tau: float  # initial temperature, learned
    tau_min: float  # the temperature never falls below this
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak learning rate of AdamW, falls to 0 over the last fifth
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # largest number of images in a step
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        if self.network not in ("linear", "mlp", "vae"):
            raise ValueError(f"network is {self.network!r}, expected linear, mlp or vae")
        # 1e-9: the sum of shares such as 0.7 and 0.3 is a rounded number.
        share = self.repeats_convex + self.repeats_mean
        if min(self.repeats_convex, self.repeats_mean) < 0 or share > 1 + 1e-9:
            found = f"{self.repeats_convex} and {self.repeats_mean}"
            raise ValueError(
                f"repeats_convex and repeats_mean are {found}, "
                "expected shares that sum to at most 1"
            )
        if not 0 < self.tau_min <= self.tau:
            raise ValueError(
                f"tau is {self.tau}, expected at least tau_min ({self.tau_min}), both above 0"
            )
        at_least(self, 1, "hidden", "batch_size", "max_epochs", "patience")
        at_least(self, 0, "latent", "beta", "kl_warmup", "weight_decay")
        fraction(self, "alpha", "dropout_in", "dropout_block")
        above_zero(self, "lr")


class Decoder(decoders.Decoder):
    """Mapping network with a learned temperature; one output for image and text."""

    def __init__(self, config: Config, n_voxels: int, width_D: int, seed: int) -> None:
        super().__init__()
        self.config = config
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(config, n_voxels, width_D)
        # As a logarithm, so that no step of the optimiser can make the temperature negative.
        self.log_tau = nn.Parameter(torch.tensor(math.log(config.tau)))

    def _build(self, config: Config, n_voxels: int, width_D: int) -> None:
        self.trunk: nn.Module = nn.Identity()
        if config.network == "linear":
            self.mu = nn.Linear(n_voxels, width_D)
            return
        self.trunk = make_trunk(n_voxels, config.hidden, 1, config.dropout_in, config.dropout_block)
        latent = config.latent or width_D if config.network == "vae" else width_D
        self.mu = nn.Linear(config.hidden, latent)
        if config.network == "vae":
            self.logvar = nn.Linear(config.hidden, latent)
            self.head = nn.Identity() if latent == width_D else nn.Linear(latent, width_D)

    def forward(self, betas_BV: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Unit-norm embedding (B, D) and, for the vae, mu and logvar (B, latent).

        The vae draws z in training only.
        """
        hidden = self.trunk(betas_BV)
        mu = self.mu(hidden)
        if self.config.network != "vae":
            return F.normalize(mu.float(), dim=1), None, None
        logvar = self.logvar(hidden)
        # Decoding takes the mean of the code: the same betas give the same embedding.
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu) if self.training else mu
        return F.normalize(self.head(z).float(), dim=1), mu.float(), logvar.float()

    @property
    def temperature(self) -> Tensor:
        """tau, learned, never below tau_min."""
        # Logits are cosines over tau, so the floor bounds them by 1 / tau_min.
        return self.log_tau.exp().clamp(min=self.config.tau_min)

    def loss(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L (see the head of this file).

        epoch: counted in fractions, for the warm-up of beta.
        """
        # Each process decodes its share of the rows. The loss needs all of them, because every
        # other image of the batch is a negative.
        shares = Shares([len(batch.betas_BV)])
        f_BD, mu, logvar = (
            None if output is None else shares.gather(output)
            for output in self(shares.take(0, batch.betas_BV))
        )
        assert f_BD is not None
        # Captions of one image are no negatives of each other, nor are equal captions of two.
        same_image_BB = batch.image_id_B[:, None] == batch.image_id_B
        same_text_BB = same_image_BB | (batch.text_id_B[:, None] == batch.text_id_B)
        alpha = self.config.alpha
        tau = self.temperature
        image_nce = contrastive(f_BD, batch.image_embedding_BD, tau, same_image_BB)
        text_nce = contrastive(f_BD, batch.text_embedding_BD, tau, same_text_BB)
        terms = {"image_loss": alpha * image_nce, "text_loss": (1 - alpha) * text_nce}
        if mu is not None and logvar is not None:
            warm = min(1.0, epoch / self.config.kl_warmup) if self.config.kl_warmup > 0 else 1.0
            terms["kl_loss"] = self.config.beta * warm * kl_divergence(mu, logvar)
        return terms

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Unit-norm embedding of each row, the same for image and text."""
        embedding_ID = self(betas_IV)[0]
        return Decoded(embedding_ID=embedding_ID, text_embedding_ID=embedding_ID)

    def n_parameters(self) -> dict[str, int]:
        """Trained, and those needed to decode (no temperature, no variance head)."""
        sizes = {name: value.numel() for name, value in self.named_parameters()}
        spare = sum(n for name, n in sizes.items() if name.startswith(("logvar", "log_tau")))
        return {"trained": sum(sizes.values()), "deployed": sum(sizes.values()) - spare}


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """-1/2 mean_b sum_j (1 + logvar_j - mu_j^2 - exp(logvar_j)).

    The KL divergence from N(mu, s^2) to N(0, I), mean over the batch.
    """
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
