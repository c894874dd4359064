"""CLIP-MUSED-style decoder of categories: one model for all, two tokens a subject, guided by CLIP.

    z_r = projection(map_s(x)_r) + e_r      ROI r of subject s: K components -> E,
                                            plus a learned ROI embedding
    [h_s, l_s, z_1 ... z_R] -> blocks of self-attention -> Zh, Zl, (ROI outputs)
    logits = head([Zh, Zl])
    L = w_label BCE(logits, labels) + w_orthogonal orth(Zh, Zl)
        + w_high guide(Fh, Zh) + w_low guide(Fl, Zl)

guide and orth are defined in guidance.py, the maps in input_maps.py (components: closed forms whose
numbers mean the same in every brain, components_map.py), the blocks in networks.py. Fh are features
of CLIP's last layer (picture and captions), Fl those of its first block. A batch mixes subjects, so
the similarity matrices hold pairs of images that different brains saw: this ties the subjects
together. BCE is the mean over images and classes.

From the authors' HCP code (commit 99d153d): losses and their weights, clipping of features, tokens
from a normal distribution of deviation 0.02, head. Ours, as the code for NSD is not public and the
paper could not be read: ROI tokens, all sizes, AdamW, pre-norm blocks with residual paths for the
tokens (`block: paper_like` is theirs), a head bias that starts at the log odds of the classes.
Baselines of the paper are settings: `identity` none or embedding (which read the mean of the ROI
outputs), `backbone: mlp`, `shared: false`; only settings with tokens have guidance. A new subject
(`new_subject`) is ours too: the other subjects train the model, then everything is frozen but the
new subject's tokens, started at the mean of the others', and, as an option, a projection of its
own.

Axis letters: B images of a batch, I images, V voxels, R ROIs, K components, E token width, T
tokens, C categories.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.decoders.batches import Decoded, MixedBatch, Phase, TrainingData
from fmri2clip.decoders.clip_mused import describe
from fmri2clip.decoders.clip_mused.config import LOW_TARGETS, Config
from fmri2clip.decoders.clip_mused.guidance import guide_tokens, measure_features
from fmri2clip.decoders.clip_mused.networks import FlatMLP, Transformer, roll_out
from fmri2clip.decoders.clip_mused.phases import make_phases
from fmri2clip.decoders.parts.areas import parse_names, select_rois
from fmri2clip.decoders.parts.components_map import ComponentsMap, count_numbers, fit_maps
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.input_maps import InputMap, find_clip_axes
from fmri2clip.decoders.parts.labels import log_odds, read_labels
from fmri2clip.decoders.parts.left_out_ridge import SCORES, check_components
from fmri2clip.decoders.parts.new_subject import check_new_subject, without_new_subject

__all__ = ["CITATION", "Config", "Decoder"]

CITATION = (
    "Q. Zhou, C. Du, S. Wang, H. He, 'CLIP-MUSED: CLIP-Guided Multi-Subject Visual Neural "
    "Information Semantic Decoding', ICLR 2024, arXiv:2402.08994."
)
POOLED = ("image_embedding_ID", "text_embedding_KD")


class Decoder(decoders.Decoder):
    """Input maps and tokens of each subject around a network that all share."""

    cosines_S2: Tensor

    targets = (*POOLED, *LOW_TARGETS.values(), *SCORES)
    per_subject = False

    def __init__(
        self,
        config: Config,
        n_voxels: Mapping[str, int],
        width_D: int,
        seed: int,
        *,
        n_classes: int,
        n_roi_voxels: Mapping[str, Sequence[int]],
    ) -> None:
        """n_roi_voxels: subject -> voxels of each ROI; from_data or loading says which."""
        super().__init__()
        self.config = config
        self.roi_names = parse_names(config.areas)
        self.subjects = tuple(sorted(n_roi_voxels))
        self.n_roi_voxels = {s: list(n_roi_voxels[s]) for s in self.subjects}
        self.sizes = {"n_classes": n_classes, "n_roi_voxels": self.n_roi_voxels}
        self.register_buffer("cosines_S2", torch.zeros(len(self.subjects), 2))
        self._frozen = False
        self.n_numbers = config.components
        if config.input_map == "components":
            self.n_numbers = count_numbers(width_D, config.components)
        # What ComponentsMaps predict of training trials (N, R K) by subject; meanwhile betas are
        # such numbers.
        self._inputs: dict[str, Tensor] = {}
        self._reads_numbers = False
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build_shared(config, n_classes)
            for subject in self.subjects:
                # A subject's own weights start the same whoever else is there.
                torch.manual_seed(seed << 32 | zlib.crc32(subject.encode()))
                self._build_own(config, subject)

    def _build_own(self, c: Config, subject: str) -> None:
        """Input map, and tokens or embedding, of one subject."""
        n_voxels_R = self.n_roi_voxels[subject]
        if c.input_map == "components":
            self.maps[subject] = ComponentsMap(n_voxels_R, self.n_numbers)
        else:
            learned = c.input_map == "subject_linear"
            self.maps[subject] = InputMap(n_voxels_R, self.n_numbers, learned)
        if c.identity not in ("none", "shared_tokens"):
            # The deviation 0.02 is that of the authors' code.
            self.identity[subject] = torch.randn(c.n_tokens or 1, c.width) * 0.02

    def _build_shared(self, c: Config, n_classes: int) -> None:
        """Projection, ROI embedding, network, head, and tokens that are nobody's own."""
        self.maps = nn.ModuleDict()
        self.projection = nn.Linear(self.n_numbers, c.width)
        self.roi_embedding_RE = nn.Parameter(torch.randn(len(self.roi_names), c.width) * 0.02)
        self.identity = nn.ParameterDict()
        if c.identity == "shared_tokens":
            self.identity["all"] = torch.randn(c.n_tokens, c.width) * 0.02
        self.network: nn.Module
        if c.backbone == "mlp":
            self.network = FlatMLP(len(self.roi_names), c.width, c.hidden, c.layers, c.dropout)
            n_read = c.hidden
        else:
            sizes = (c.width, c.layers, c.heads, c.feedforward * c.width, c.dropout)
            self.network = Transformer(*sizes, c.block, c.n_tokens)
            n_read = c.width * (c.n_tokens * self._reads("tokens") + self._reads("pooled"))
        self.head = nn.Linear(n_read, n_classes)
        # Drawn last: the weights above are the same with and without it.
        self.new_projection: nn.Linear | None = None
        if c.new_fit == "tokens_projection" and c.new_subject:
            self.new_projection = nn.Linear(self.n_numbers, c.width)

    def _reads(self, kind: str) -> bool:
        """Whether the head reads tokens, or pooled ROI outputs: all there is without tokens."""
        c = self.config
        return c.head_input in (kind, "both") if c.n_tokens else kind == "pooled"

    @property
    def n_tokens(self) -> int:
        """Tokens whose outputs and attention can be read."""
        return self.config.n_tokens

    @property
    def knows_subject(self) -> bool:
        """Whether anything behind the input map is a subject's own: decode_as can swap it."""
        return any(subject in self.identity for subject in self.subjects)

    @classmethod
    def trains_alone(cls, config: Config) -> bool:
        """A baseline: one model for each subject, by the code of the shared one."""
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
    def select_targets(cls, config: Config) -> tuple[str, ...]:
        """Low-level features only where they guide, scores only where the map predicts them."""
        low = (LOW_TARGETS[config.low_pool],) if config.n_tokens and config.w_low else ()
        return (*POOLED, *low, *(SCORES if config.input_map == "components" else ()))

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the maps fitted on training images.

        Raises ValueError for unknown ROIs or new_subject.
        """
        # In the order of `subjects`, which is that of the rows of cosines_S2.
        data = sorted(data, key=lambda d: d.subject)
        old = without_new_subject(data, config.new_subject)
        rows = {d.subject: select_rois(d, parse_names(config.areas)) for d in data}
        # What all subjects share must not know the new one, its labels and axes included.
        labels_IC = torch.cat([read_labels(d)[~d.is_validation_I] for d in old])
        decoder = super().from_data(config, data, seed)
        axes = None
        if config.input_map == "clip_aligned":
            axes = find_clip_axes(old, config.components)
        if config.input_map == "components":
            maps = dict(decoder.maps.items())
            decoder._inputs = fit_maps(maps, data, old, rows, config.components)
        for s, d in enumerate(data):
            if config.input_map != "components":
                decoder.map_of(d.subject).fit(d, rows[d.subject], axes)
            decoder.cosines_S2[s] = torch.tensor(measure_features(config, d))
        decoder.head.bias.data.copy_(log_odds(labels_IC))
        return decoder

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Categories, and voxels of each ROI of each subject."""
        names = parse_names(config.areas)
        if config.input_map == "components":
            check_components(config.components, data[0])
        return {
            "n_classes": read_labels(data[0]).shape[1],
            "n_roi_voxels": {d.subject: [len(r) for r in select_rois(d, names)] for d in data},
        }

    def map_of(self, subject: str) -> InputMap:
        """The input map of a subject."""
        found = self.maps[subject]
        assert isinstance(found, InputMap)
        return found

    def embed(self, betas_BV: Tensor, subject: str, identity: str) -> Tensor:
        """Places (B, T + R, E) before the first block: tokens of `identity`, then ROIs."""
        own = self.new_projection if subject == self.config.new_subject else None
        if self._reads_numbers:
            components_BRK = betas_BV.unflatten(1, (len(self.roi_names), -1))
        else:
            components_BRK = self.map_of(subject)(betas_BV)
        components_BRK = F.dropout(components_BRK, self.config.dropout_in, self.training)
        x_BRE = (own or self.projection)(components_BRK) + self.roi_embedding_RE
        # An ROI that the subject lacks has no input; `encode` keeps others from attending to it.
        x_BRE = x_BRE.masked_fill(self.map_of(subject).empty_R[:, None], 0.0)
        if self.config.identity == "embedding":
            return x_BRE + self.identity[identity]
        if not self.config.n_tokens:
            return x_BRE
        token_TE = self.identity["all" if self.config.identity == "shared_tokens" else identity]
        return torch.cat([token_TE.expand(len(x_BRE), -1, -1), x_BRE], 1)

    def _empty(self, subject: str, n: int) -> Tensor:
        """Places (n, T + R) of ROIs that the subject lacks."""
        empty_N = F.pad(self.map_of(subject).empty_R, (self.config.n_tokens, 0), value=False)
        return empty_N.expand(n, -1)

    def encode(self, x_BNE: Tensor, empty_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and token outputs (B, T, E)."""
        if isinstance(self.network, FlatMLP):
            # An mlp has no tokens: an axis of length 0 stands for their outputs.
            return self.head(self.network(x_BNE)), x_BNE[:, :0]
        y_BNE = self.network(x_BNE, empty_BN if self._any_empty else None)
        token_BTE, roi_BRE = y_BNE.split([self.config.n_tokens, len(self.roi_names)], 1)
        # The mean is over the ROIs that the subject has.
        full_BR1 = ~empty_BN[:, self.config.n_tokens :, None]
        pooled_BE = (roi_BRE * full_BR1).sum(1) / full_BR1.sum(1)
        parts = []
        if self._reads("tokens"):
            parts.append(token_BTE.flatten(1))
        if self._reads("pooled"):
            parts.append(pooled_BE)
        return self.head(torch.cat(parts, 1)), token_BTE

    @property
    def _any_empty(self) -> bool:
        return any(n == 0 for voxels in self.n_roi_voxels.values() for n in voxels)

    def loss(self, batch: MixedBatch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L over all rows of all subjects, see the head of this file."""
        # Each process decodes its share of every subject's rows. The loss is computed on all of
        # them, since the guidance compares all pairs of images.
        shares = Shares([len(part.betas_BV) for part in batch.parts])
        xs = [
            self.embed(shares.take(p, part.betas_BV), part.subject, part.subject)
            for p, part in enumerate(batch.parts)
        ]
        empty_BN = torch.cat(
            [self._empty(part.subject, len(x)) for part, x in zip(batch.parts, xs, strict=True)]
        )
        logits_BC, token_BTE = self.encode(torch.cat(xs), empty_BN)
        logits_BC = shares.gather(logits_BC)
        token_BTE = shares.gather(token_BTE)
        labels = [part.labels_BC for part in batch.parts if part.labels_BC is not None]
        labels_BC = torch.cat(labels)
        terms = {"label_loss": F.binary_cross_entropy_with_logits(logits_BC.float(), labels_BC)}
        if self.config.n_tokens:
            terms |= guide_tokens(self.config, batch, token_BTE)
        # A term of weight 0 is left out of the sum and of the curve.
        weights = {name: getattr(self.config, f"w_{name.removesuffix('_loss')}") for name in terms}
        return {name: weights[name] * term for name, term in terms.items() if weights[name]}

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Logits (log odds) of all categories for each row of z-scored betas."""
        return Decoded(logits_IC=self._run(betas_IV, subject, subject)[0].float())

    def decode_as(self, betas_IV: Tensor, subject: str, token_subject: str) -> Decoded:
        """decode with the tokens (or the embedding) of another subject.

        Map and projection stay the subject's own.
        """
        with self.inference():
            return Decoded(logits_IC=self._run(betas_IV, subject, token_subject)[0].float())

    def read_tokens(self, betas_IV: Tensor, subject: str) -> dict[str, Tensor]:
        """Outputs of the tokens, high and low, (I, E) each.

        The same twice for one token, nothing without tokens.
        """
        with self.inference():
            token_ITE = self._run(betas_IV, subject, subject)[1]
        if not self.config.n_tokens:
            return {}
        return {"high": token_ITE[:, 0], "low": token_ITE[:, -1]}

    def read_attention(self, betas_IV: Tensor, subject: str, rollout: bool = False) -> Tensor:
        """Attention (I, T, R) of the tokens (high, low) over the ROIs: last layer, mean over heads.

        What a row lacks to 1 goes to the tokens. rollout: through all layers instead, residual
        paths included. Raises ValueError for settings without tokens.
        """
        if not self.config.n_tokens:
            raise ValueError(
                f"identity {self.config.identity!r} has no tokens whose attention could be read"
            )
        with self.inference():
            x_INE = self.embed(betas_IV, subject, subject)
            assert isinstance(self.network, Transformer)
            empty_IN = self._empty(subject, len(x_INE)) if self._any_empty else None
            layers = self.network.read_attention(x_INE, empty_IN)
        # Rows are places that look (the tokens stand first), columns those that are looked at.
        n = self.config.n_tokens
        n_replaced = n if self.config.block == "paper_like" else 0
        attention_INN = roll_out(layers, n_replaced) if rollout else layers[-1]
        return attention_INN[:, :n, n:]

    def _run(self, betas_IV: Tensor, subject: str, identity: str) -> tuple[Tensor, Tensor]:
        """encode rows of one subject, with the tokens of another or its own."""
        for name in (subject, identity):
            if name not in self.subjects:
                raise ValueError(
                    f"the model has no subject {name!r}; choose from {', '.join(self.subjects)}"
                )
        x_INE = self.embed(betas_IV, subject, identity)
        return self.encode(x_INE, self._empty(subject, len(betas_IV)))

    def train(self, mode: bool = True) -> Decoder:
        """A frozen network keeps its statistics and drops nothing while a new subject is fitted."""
        super().train(mode)
        if self._frozen:
            self.network.eval()
        return self

    def phases(self, data: Sequence[TrainingData]) -> Iterator[Phase]:
        """All subjects at once; or all but the new one, and then what is the new one's own."""
        if self._inputs:
            data = [replace(d, betas_NV=self._inputs.pop(d.subject)) for d in data]
            self._reads_numbers = True
        try:
            yield from make_phases(self, data)
        finally:
            self._reads_numbers = False

    def freeze_shared(self, frozen: bool) -> None:
        """Whether the network stays in evaluation mode while the rest trains."""
        self._frozen = frozen

    def n_parameters(self) -> dict[str, int]:
        """Trained by gradients; deployed: with the input maps of all subjects."""
        return describe.count_all(self)

    def facts(self, subject: str) -> dict[str, float]:
        """Weights, own and common; what the input map holds; mean cosines of the guidance."""
        return describe.describe(self, subject)
