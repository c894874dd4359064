"""One network for all subjects, behind a ridge regression of each to what they share: CLIP.

    z_s = slope_s (W_s x + b_s), standardised     closed form of subject s: image embedding, mean of
                                                  captions, components of semantic and detail tokens
    h   = trunk([z_s, r_s])                       r_s: share of each number that z_s explains
    y   = A z_s + B h                             image, text, categories; a linear path beside
    t   = z_s's semantic components + C h         C = 0 at the start
    L   = w_image NCE(y_image, v) + w_text NCE(y_text, t_mean) + w_label BCE + w_token MSE(t)

W_s has a penalty for each block of components, the one of least left-out error. For its training
pictures the network reads what W_s predicts for them without themselves
(solvers/blocked_ridge.py), trials included, so that it meets errors like those of new pictures; for
validation and test pictures the ordinary predictions. slope_s is the slope of the truth on left-out
predictions, r_s the share of variance that they explain. So a new subject needs its closed form
alone (`new_subject`).

It shares targets: nothing here aligns responses with responses, and no picture has to be seen by
two subjects. MindEye2 (arXiv 2403.11207) has a ridge of each subject into a latent space, too, but
learned together with its network from pretrained weights, and fine-tunes on a new subject; here the
space is CLIP's, the ridge is closed form, and the network is small. The idea of leave-one-out
predictions as inputs is stacking (Wolpert 1992).

What a subject validates on trains none of the others (stages/train/inputs.py): the network would
have seen it. In NSD subjects share test pictures alone.

Axis letters: B images of a batch, I images, N trials, V voxels, Q numbers of the closed form, P
components, D embedding width, C categories, T tokens, W token width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.decoders.aligned.config import Config
from fmri2clip.decoders.batches import Basis, Decoded, MixedBatch, Phase, TrainingData
from fmri2clip.decoders.parts.contrast import contrastive
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.labels import log_odds, read_labels
from fmri2clip.decoders.parts.layers import make_trunk
from fmri2clip.decoders.parts.left_out_ridge import (
    SCORES,
    LeftOutRidge,
    block_targets,
    check_components,
    read_targets,
    standardise,
)
from fmri2clip.decoders.parts.new_subject import check_new_subject, without_new_subject
from fmri2clip.decoders.parts.token_basis import TokenBasis

__all__ = ["CITATION", "Config", "Decoder"]

CITATION = (
    "D. H. Wolpert, 'Stacked generalization', Neural Networks 5, 241, 1992; after the subject-wise "
    "ridge of P. S. Scotti et al., 'MindEye2', arXiv:2403.11207, 2024."
)


class Decoder(decoders.Decoder):
    """Closed forms of the subjects (buffers) and the network that all share."""

    mean_Q: Tensor
    deviation_Q: Tensor

    targets = (*decoders.Decoder.targets, *SCORES)
    per_subject = False

    def __init__(
        self,
        config: Config,
        n_voxels: Mapping[str, int],
        width_D: int,
        seed: int,
        *,
        n_classes: int,
        n_patches: int,
        n_components: int,
    ) -> None:
        """n_patches: tokens but the class token; n_components: of a stream, that are used."""
        super().__init__()
        self.config = config
        self.subjects = tuple(sorted(n_voxels))
        self.width_D = width_D
        self.n_components = n_components
        self.sizes = {
            "n_classes": n_classes,
            "n_patches": n_patches,
            "n_components": n_components,
        }
        n_inputs = 2 * width_D + 2 * n_components
        self.basis = TokenBasis(n_components, n_patches, width_D)
        self.closed_forms = nn.ModuleDict(
            {s: LeftOutRidge(n_voxels[s], n_inputs) for s in self.subjects}
        )
        self.register_buffer("mean_Q", torch.zeros(n_inputs))
        self.register_buffer("deviation_Q", torch.ones(n_inputs))
        # What the network is trained on (N, Q) by subject; meanwhile betas are such numbers.
        self._inputs: dict[str, Tensor] = {}
        self._reads_components = False
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(config, n_inputs, n_classes, n_components)
        # As a logarithm, so that no step of the optimiser can make the temperature negative.
        self.log_tau = nn.Parameter(torch.tensor(math.log(config.tau)))

    def _build(self, c: Config, n_inputs: int, n_classes: int, n_components: int) -> None:
        self.trunk = make_trunk(2 * n_inputs, c.hidden, c.blocks, c.dropout_in, c.dropout_res)
        widths = {"image": self.width_D, "text": self.width_D, "label": n_classes}
        self.linear = nn.ModuleDict({k: nn.Linear(n_inputs, n) for k, n in widths.items()})
        self.heads = nn.ModuleDict(
            {k: nn.Linear(c.hidden, n, bias=False) for k, n in widths.items()}
        )
        self.token_head = nn.Linear(c.hidden, n_components)
        nn.init.zeros_(self.token_head.weight)
        nn.init.zeros_(self.token_head.bias)

    @classmethod
    def trains_alone(cls, config: Config) -> bool:
        """The comparison: one network for each subject, by the same code."""
        return not config.shared

    @classmethod
    def first_sessions(cls, config: Config, subject: str) -> int:
        """Of a new subject, the first `new_sessions` only."""
        return config.new_sessions if subject == config.new_subject else 0

    @classmethod
    def check_run(
        cls, config: Config, subjects: Sequence[str], groups: Iterable[str], where: str
    ) -> None:
        """A new subject must be one of the run's."""
        check_new_subject(config.new_subject, subjects, where)

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the closed form of every subject.

        Raises ValueError for data without category labels, and where all are the new subject.
        """
        old = without_new_subject(data, config.new_subject)
        decoder = super().from_data(config, data, seed)
        n = decoder.n_components
        whole = data[0].bases["semantic"]
        decoder.basis = TokenBasis.of(Basis(whole.mean_TW, whole.components_PTW[:n]))
        # What all share must not know the new one.
        mean_Q, deviation_Q = standardise([read_targets(d, n) for d in old])
        decoder.mean_Q.copy_(mean_Q)
        decoder.deviation_Q.copy_(deviation_Q)
        blocks = block_targets(decoder.width_D, n, config.block)
        alphas = torch.logspace(config.log10_alpha_min, config.log10_alpha_max, config.n_alphas)
        for d in data:
            own = decoder.closed_form_of(d.subject)
            y_IQ = (read_targets(d, n) - mean_Q) / deviation_Q
            decoder._inputs[d.subject] = own.fit(d, y_IQ, blocks, alphas.tolist())
        labels_IC = torch.cat([read_labels(d)[~d.is_validation_I] for d in old])
        label = decoder.linear["label"]
        assert isinstance(label, nn.Linear)
        label.bias.data.copy_(log_odds(labels_IC))
        return decoder

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Categories, patches, and components that are used.

        Raises ValueError where the cache has fewer components.
        """
        check_components(config.components, data[0])
        return {
            "n_classes": read_labels(data[0]).shape[1],
            "n_patches": len(data[0].bases["semantic"].mean_TW),
            "n_components": config.components,
        }

    def closed_form_of(self, subject: str) -> LeftOutRidge:
        """The closed form of a subject."""
        found = self.closed_forms[subject]
        assert isinstance(found, LeftOutRidge)
        return found

    def phases(self, data: Sequence[TrainingData]) -> Iterator[Phase]:
        """One, of all subjects but the new one, on what the closed forms predict."""
        learned = [d for d in data if d.subject != self.config.new_subject]
        seen = [replace(d, betas_NV=self._inputs[d.subject]) for d in learned]
        self._inputs.clear()
        self._reads_components = True
        try:
            yield Phase("", seen, self.config)
        finally:
            self._reads_components = False

    @property
    def temperature(self) -> Tensor:
        """tau, learned, never below tau_min."""
        tau = self.log_tau.exp()
        # Below the floor the gradient still passes, or tau would never come back.
        return tau + (tau.clamp(min=self.config.tau_min) - tau).detach()

    def _align(self, betas_BV: Tensor, subject: str) -> Tensor:
        """z_s of the head of this file, (B, Q)."""
        if self._reads_components:
            return betas_BV
        return self.closed_form_of(subject)(betas_BV)

    def _run(self, z_BQ: Tensor, subject: str) -> dict[str, Tensor]:
        """image, text, label and token (standardised components) of each row."""
        explained_Q = self.closed_form_of(subject).explained_Q.expand_as(z_BQ)
        hidden_BH = self.trunk(torch.cat([z_BQ, explained_Q], 1))
        found = {k: self.linear[k](z_BQ) + self.heads[k](hidden_BH) for k in self.linear}
        found["token"] = z_BQ[:, self._semantic] + self.token_head(hidden_BH)
        return found

    @property
    def _semantic(self) -> slice:
        """Where the semantic components stand among the numbers of the closed form."""
        return slice(2 * self.width_D, 2 * self.width_D + self.n_components)

    def loss(self, batch: MixedBatch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L over all rows of all subjects, see the head of this file."""
        c = self.config
        # Each process decodes its share of every subject's rows; the contrast needs those of all.
        shares = Shares([len(part.betas_BV) for part in batch.parts])
        parts = [
            self._run(self._align(shares.take(p, part.betas_BV), part.subject), part.subject)
            for p, part in enumerate(batch.parts)
        ]
        found = {k: shares.gather(torch.cat([part[k] for part in parts])) for k in parts[0]}
        image_id_B = torch.cat([part.image_id_B for part in batch.parts])
        same_BB = image_id_B[:, None] == image_id_B
        targets = {
            "image": torch.cat([part.image_embedding_BD for part in batch.parts]),
            "text": torch.cat([_required(part.mean_text_BD) for part in batch.parts]),
        }
        terms = {
            f"{kind}_loss": getattr(c, f"w_{kind}")
            * contrastive(
                F.normalize(found[kind].float(), dim=1), target_BD, self.temperature, same_BB
            )
            for kind, target_BD in targets.items()
        }
        labels_BC = torch.cat([_required(part.labels_BC) for part in batch.parts])
        scores_BP = torch.cat([part.features[SCORES[0]] for part in batch.parts])
        scores_BP = scores_BP[:, : self.n_components].float()
        true_BP = (scores_BP - self.mean_Q[self._semantic]) / self.deviation_Q[self._semantic]
        terms["label_loss"] = c.w_label * F.binary_cross_entropy_with_logits(
            found["label"].float(), labels_BC
        )
        terms["token_loss"] = c.w_token * F.mse_loss(found["token"].float(), true_BP)
        return {name: term for name, term in terms.items() if getattr(c, f"w_{name[:-5]}")}

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Unit-norm image and text embedding and logits (log odds) of each row."""
        found = self._run(self._align(betas_IV, subject), subject)
        return Decoded(
            embedding_ID=F.normalize(found["image"].float(), dim=1),
            text_embedding_ID=F.normalize(found["text"].float(), dim=1),
            logits_IC=found["label"].float(),
        )

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """predict, with semantic tokens (I, T, D); the class token is the embedding."""
        z_IQ = self._align(betas_IV, subject)
        found = self._run(z_IQ, subject)
        decoded = Decoded(embedding_ID=F.normalize(found["image"].float(), dim=1))
        scores_IP = found["token"].float() * self.deviation_Q[self._semantic]
        scores_IP = scores_IP + self.mean_Q[self._semantic]
        assert decoded.embedding_ID is not None
        class_I1D = decoded.embedding_ID[:, None]
        decoded.tokens["semantic"] = torch.cat([class_I1D, self.basis.read(scores_IP)], 1)
        return decoded

    def n_parameters(self) -> dict[str, int]:
        """Trained by gradients; deployed: with the closed forms, without temperature."""
        trained = sum(value.numel() for value in self.parameters())
        maps = sum(self.closed_form_of(s).n_parameters() for s in self.subjects)
        return {"trained": trained, "deployed": trained - 1 + maps}

    def facts(self, subject: str) -> Mapping[str, float]:
        """Weights of the subject's own, its network's where that is not shared, and shared ones,
        and what its closed form explains.
        """
        own = self.closed_form_of(subject)
        n_own = own.n_parameters()
        n_network = sum(value.numel() for value in self.parameters()) - 1  # but the temperature
        is_shared = self.config.shared
        facts = {"parameters.per_subject": float(n_own + (0 if is_shared else n_network))}
        facts["parameters.shared"] = float(n_network if is_shared else 0)
        widths = [self.width_D, self.width_D, *[self.n_components] * 2]
        names = ("image", "text", "semantic", "detail")
        for name, part in zip(names, own.explained_Q.split(widths), strict=True):
            facts[f"closed_form.explained_{name}"] = float(part.mean())
        return facts


def _required(value: Tensor | None) -> Tensor:
    assert value is not None, "batches of training data have them"
    return value
