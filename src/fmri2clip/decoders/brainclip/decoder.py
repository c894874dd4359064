"""BrainCLIP-style decoder: voxels into CLIP space with image and text supervision together.

    f   = network(x) / |network(x)|,   S(a, b) = a b^T / tau
    L_nce(f, y) = 1/2 [ CE(S(f, y), diagonal) + CE(S(y, f), diagonal) ]
    L   = alpha L_nce(f, v) + (1 - alpha) L_nce(f, t)
          + beta KL( N(mu, s^2) || N(0, I) )                    (last term: vae only)

    target_map linear:  M v and M t, normalised, stand for v and t; M is learned and starts as 1
    components:         x is what a ridge of the subject predicts of CLIP (parts/left_out_ridge.py)

v is the CLIP image embedding of the picture and t that of one of its captions, drawn anew at each
step; both as CLIP gives them (not centred). The single output f serves as image and as text
embedding.

What is known of the paper: that a mapping network puts fMRI into CLIP space and combines visual
with textual supervision (all abstracts), and that its first version was VAE-based. Layers, loss
equation, temperature, weights and optimiser were not available to us; they are our decisions, hence
"style". Pairs with an equal image are no negatives of each other, nor are pairs of one subject with
an equal caption; those of two subjects are (`shared`). What is no negative leaves the logits,
except on the diagonal.

Two settings are ours and off by default. Some directions of CLIP are hardly decodable, and the
cosine weighs them like others: with `target_map: linear` the contrast learns the metric on CLIP's
side. What is offered is f M, whose product with v is that of f with M v; the own similarity has the
norm of M v in it, too. With `components` above 0 the network reads closed forms in the place of
voxels, of its training pictures what fits without them predict; their numbers mean the same in
every brain, so one network can serve all subjects (`shared`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.core.strict import above_zero, at_least, choices, fraction
from fmri2clip.decoders.batches import Batch, Decoded, MixedBatch, Phase, TrainingData
from fmri2clip.decoders.parts.contrast import contrastive
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.layers import make_trunk
from fmri2clip.decoders.parts.left_out_ridge import (
    SCORES,
    LeftOutRidge,
    block_targets,
    check_components,
    read_targets,
    standardise,
)

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
    target_map: Literal["none", "linear"]  # of CLIP's side
    components: int  # of semantic and of detail tokens, each, that a ridge hands on; 0: voxels
    shared: bool  # one network for all subjects, on components
    repeats_convex: float  # share of images trained on a random convex combination of their repeats
    repeats_mean: float  # share trained on the mean of repeats; the rest on a single repeat
    lr: float  # peak learning rate of AdamW, falls to 0 over the last fifth
    weight_decay: float  # of AdamW, on matrices only
    batch_size: int  # largest number of images in a step
    max_epochs: int  # passes over the training images
    patience: int  # epochs without a better validation score before training stops

    def __post_init__(self) -> None:
        choices(self)
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
        at_least(self, 0, "latent", "beta", "kl_warmup", "weight_decay", "components")
        fraction(self, "alpha", "dropout_in", "dropout_block")
        above_zero(self, "lr")
        if self.shared and not self.components:
            raise ValueError(
                "shared is true, expected with components above 0 (such as 192): voxels of two "
                "brains have nothing in common"
            )


class Decoder(decoders.Decoder):
    """Mapping network with a learned temperature; one output for image and text."""

    targets = (*decoders.Decoder.targets, *SCORES)

    def __init__(
        self,
        config: Config,
        n_voxels: int | Mapping[str, int],
        width_D: int,
        seed: int,
        n_of: Mapping[str, int] | None = None,
    ) -> None:
        """n_of: subject -> voxels, where the network reads what their closed forms predict."""
        super().__init__()
        self.config = config
        # Shadows the class: a setting decides whether all subjects have one model.
        self.per_subject = not config.shared
        n_inputs = n_voxels
        self.closed_forms = nn.ModuleDict()
        if config.components:
            assert n_of is not None, "from_data and a model's folder give it"
            self.sizes = {"n_of": dict(n_of)}
            self.subjects = tuple(sorted(n_of)) if config.shared else ()
            n_inputs = sum(block_targets(width_D, config.components))
            for subject in sorted(n_of):
                self.closed_forms[subject] = LeftOutRidge(n_of[subject], n_inputs)
        # What they predict of training trials (N, Q) by subject; meanwhile betas are such numbers.
        self._inputs: dict[str, Tensor] = {}
        self._reads_numbers = False
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        assert isinstance(n_inputs, int)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(config, n_inputs, width_D)
        # As a logarithm, so that no step of the optimiser can make the temperature negative.
        self.log_tau = nn.Parameter(torch.tensor(math.log(config.tau)))
        self.target_map: nn.Parameter | None = None
        if config.target_map == "linear":
            self.target_map = nn.Parameter(torch.eye(width_D))

    def _build(self, config: Config, n_inputs: int, width_D: int) -> None:
        self.trunk: nn.Module = nn.Identity()
        if config.network == "linear":
            self.mu = nn.Linear(n_inputs, width_D)
            return
        self.trunk = make_trunk(n_inputs, config.hidden, 1, config.dropout_in, config.dropout_block)
        latent = config.latent or width_D if config.network == "vae" else width_D
        self.mu = nn.Linear(config.hidden, latent)
        if config.network == "vae":
            self.logvar = nn.Linear(config.hidden, latent)
            self.head = nn.Identity() if latent == width_D else nn.Linear(latent, width_D)

    @classmethod
    def trains_alone(cls, config: Config) -> bool:
        """True unless one network serves all subjects."""
        return not config.shared

    @classmethod
    def select_targets(cls, config: Config) -> tuple[str, ...]:
        """Scores only where closed forms predict them."""
        return cls.targets if config.components else decoders.Decoder.targets

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Voxels of each subject, where there are closed forms."""
        if not config.components:
            return {}
        check_components(config.components, data[0])
        return {"n_of": {d.subject: d.betas_NV.shape[1] for d in data}}

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the closed forms of its subjects, if it has any."""
        decoder = super().from_data(config, data, seed)
        if not config.components:
            return decoder
        targets = {d.subject: read_targets(d, config.components) for d in data}
        mean_Q, deviation_Q = standardise(list(targets.values()))
        blocks = block_targets(data[0].image_embedding_ID.shape[1], config.components)
        for d in data:
            ridge = decoder.closed_forms[d.subject]
            assert isinstance(ridge, LeftOutRidge)
            y_IQ = (targets[d.subject] - mean_Q) / deviation_Q
            decoder._inputs[d.subject] = ridge.fit(d, y_IQ, blocks)
        return decoder

    def phases(self, data: Sequence[TrainingData]) -> Iterator[Phase]:
        """One, on what closed forms predict, if there are any."""
        if self._inputs:
            data = [replace(d, betas_NV=self._inputs.pop(d.subject)) for d in data]
            self._reads_numbers = True
        try:
            yield Phase("", list(data), self.config)
        finally:
            self._reads_numbers = False

    def forward(
        self, betas_BV: Tensor, subject: str
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Unit-norm embedding (B, D) and, for the vae, mu and logvar (B, latent).

        The vae draws z in training only.
        """
        if self.closed_forms and not self._reads_numbers:
            betas_BV = self.closed_forms[subject](betas_BV)
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
        tau = self.log_tau.exp()
        # Below the floor the gradient still passes, or tau would never come back.
        return tau + (tau.clamp(min=self.config.tau_min) - tau).detach()

    def loss(self, batch: Batch | MixedBatch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L (see the head of this file).

        epoch: counted in fractions, for the warm-up of beta.
        """
        parts = batch.parts if isinstance(batch, MixedBatch) else [batch]
        # Each process decodes its share of the rows. The loss needs all of them, because every
        # other image of the batch is a negative.
        shares = Shares([len(part.betas_BV) for part in parts])
        found = [self(shares.take(p, part.betas_BV), part.subject) for p, part in enumerate(parts)]
        f_BD, mu, logvar = (
            None if outputs[0] is None else shares.gather(torch.cat(outputs))
            for outputs in zip(*found, strict=True)
        )
        assert f_BD is not None
        image_id_B = torch.cat([part.image_id_B for part in parts])
        text_id_B = torch.cat([part.text_id_B for part in parts])
        # Numbers of captions are those of one subject.
        part_B = torch.repeat_interleave(torch.tensor(shares.sizes)).to(text_id_B.device)
        # Captions of one image are no negatives of each other, nor are equal captions of two.
        same_image_BB = image_id_B[:, None] == image_id_B
        equal_BB = (text_id_B[:, None] == text_id_B) & (part_B[:, None] == part_B)
        same_text_BB = same_image_BB | equal_BB
        alpha = self.config.alpha
        tau = self.temperature
        image_BD = self.map_targets(torch.cat([part.image_embedding_BD for part in parts]))
        text_BD = self.map_targets(torch.cat([part.text_embedding_BD for part in parts]))
        image_nce = contrastive(f_BD, image_BD, tau, same_image_BB)
        text_nce = contrastive(f_BD, text_BD, tau, same_text_BB)
        terms = {"image_loss": alpha * image_nce, "text_loss": (1 - alpha) * text_nce}
        if mu is not None and logvar is not None:
            warm = min(1.0, epoch / self.config.kl_warmup) if self.config.kl_warmup > 0 else 1.0
            terms["kl_loss"] = self.config.beta * warm * kl_divergence(mu, logvar)
        return terms

    def map_targets(self, v_BD: Tensor) -> Tensor:
        """M v on the unit sphere; v itself without a target map."""
        if self.target_map is None:
            return v_BD
        with torch.autocast(v_BD.device.type, enabled=False):
            return F.normalize(v_BD.float() @ self.target_map.T, dim=1)

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Unit-norm embedding of each row, the same for image and text."""
        embedding_ID = self(betas_IV, subject)[0]
        if self.target_map is not None:
            embedding_ID = F.normalize(embedding_ID @ self.target_map, dim=1)
        return Decoded(embedding_ID=embedding_ID, text_embedding_ID=embedding_ID)

    @property
    def has_likelihood(self) -> bool:
        """With a target map, where one subject's brain is asked."""
        return self.target_map is not None and not self.config.shared

    def identify(
        self, betas_IV: Tensor, features: Mapping[str, Tensor], n_repeats: int = 1
    ) -> Tensor | None:
        """f . M v / tau of rows with pictures: what the contrast is trained to tell, up to a
        constant of each row. None without a target map.
        """
        if not self.has_likelihood:
            return None
        with self.inference():
            f_ID = self(betas_IV, next(iter(self.closed_forms), ""))[0]
            gallery_ID = F.normalize(features["image_embedding_ID"].float(), dim=1)
            return f_ID @ self.map_targets(gallery_ID).T / self.temperature

    def n_parameters(self) -> dict[str, int]:
        """Trained, and those needed to decode (no temperature, no variance head; with closed
        forms).
        """
        sizes = {name: value.numel() for name, value in self.named_parameters()}
        spare = sum(n for name, n in sizes.items() if name.startswith(("logvar", "log_tau")))
        maps = sum(value.numel() for value in self.closed_forms.buffers())
        return {"trained": sum(sizes.values()), "deployed": sum(sizes.values()) - spare + maps}


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """-1/2 mean_b sum_j (1 + logvar_j - mu_j^2 - exp(logvar_j)).

    The KL divergence from N(mu, s^2) to N(0, I), mean over the batch.
    """
    return -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
