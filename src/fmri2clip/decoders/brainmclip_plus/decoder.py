"""brainmclip rebuilt on closed form: each head starts as its stream's ridge to components of CLIP's
tokens, and the network learns what is left.

    z_D = R_D(F_D)                  F_D, F_S: voxels of detail and semantic ROIs; R: ridges whose
    z_S, z_T = R_S(F_S)             left-out predictions the network is trained on
    z_F = R_F([z_D, z_S])           both streams to the final layer: the fusion (stacked)
    b_D = E_D(z_D), b_S = E_S([z_S, z_T])
    y_x = z_x + C_x b               what a generator reads; C = 0 at the start
    p_x = y_x + M_x y_x + P_x b     what pictures are found by; M = P = 0 at the start
    L   = w_regression sum_x |y_x - t_x|^2 / X + w_fused L_MG(p_F) + w_text L_MG(p_T)
          + w_image_text NCE(class token of p_F, captions) + beta_rec L_rec + beta_cross L_cross

t are a class token (image embedding, class token of detail tokens, mean of the captions'
embeddings) and the scores of the other tokens on their leading components, standardised over
images. L_MG is the loss of several granularities of brainmclip (parts/token_alignment.py), L_rec
and L_cross its Cross-Reconstruction, of voxels from codes. p starts at y without training it, so
that sizes are the regression's and directions the contrast's.

Kept of the paper's idea as far as it is known (decoders/brainmclip): functionally distinct areas to
intermediate and final layers, fused; Cross-Reconstruction; several granularities; few weights. All
else is ours: the closed forms, stacking (Wolpert 1992) as fusion, two heads as in MindEye1, and an
image embedding that learns from captions, as in BrainCLIP. Every part has a switch: `start`,
`fusion`, `projector`, `text_branch`, `cross_rec`, `loss`, the weights, `routing`, `detail_target`.
`semantic_rois: not_low` is every voxel that is not early. A closed form alone is a training of rate
next to 0.

Axis letters: B images, N trials, V voxels, H hidden, T tokens, D embedding width, W width of detail
tokens, X class token and scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmri2clip import decoders
from fmri2clip.decoders.batches import Batch, Decoded, Phase, TrainingData
from fmri2clip.decoders.brainmclip_plus.closed_forms import ClosedForms
from fmri2clip.decoders.brainmclip_plus.config import Config
from fmri2clip.decoders.brainmclip_plus.networks import Residual, Run
from fmri2clip.decoders.parts.compared_tokens import Components
from fmri2clip.decoders.parts.contrast import contrastive
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.left_out_ridge import standardise
from fmri2clip.decoders.parts.mixco import Mixing, draw_mixing
from fmri2clip.decoders.parts.routing import check_groups, count_rows, route_data
from fmri2clip.decoders.parts.token_alignment import align
from fmri2clip.decoders.parts.token_basis import TokenBasis

__all__ = ["CITATION", "Config", "Decoder"]

CITATION = (
    "after T. Xia, Z. Ma, X. Wang, Q. Liu, X. He, T. Liu, Y. Ren, 'BrainMCLIP: Brain Image "
    "Decoding with Multi-Layer feature Fusion of CLIP', arXiv:2510.19332, 2025."
)
SCORES = {stream: f"{stream}_components_IP" for stream in ("semantic", "detail", "text")}
DETAIL_CLASS = "detail_class_IW"


class Decoder(decoders.Decoder):
    """Closed forms of two streams (buffers), and a network that adds to them."""

    detail_rows: Tensor
    semantic_rows: Tensor

    targets = (*decoders.Decoder.targets, *SCORES.values(), DETAIL_CLASS)

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        *,
        n_detail: int,
        n_semantic: int,
        n_patches: int,
        n_text_tokens: int,
        width_detail: int,
        n_components: int,
    ) -> None:
        """n_detail, n_semantic: voxels of a stream; n_text_tokens: 0 without a text branch;
        n_components: of the tokens of a stream.
        """
        super().__init__()
        self.config = config
        self.sizes = {
            "n_detail": n_detail,
            "n_semantic": n_semantic,
            "n_patches": n_patches,
            "n_text_tokens": n_text_tokens,
            "width_detail": width_detail,
            "n_components": n_components,
        }
        tokens = {"detail": (n_patches, width_detail), "semantic": (n_patches, width_D)}
        if n_text_tokens:
            tokens["text"] = (n_text_tokens, width_D)
        self.bases = nn.ModuleDict(
            {stream: TokenBasis(n_components, *shape) for stream, shape in tokens.items()}
        )
        # X of each stream; fused tokens are final-layer tokens.
        self.widths = {stream: shape[1] + n_components for stream, shape in tokens.items()}
        self.widths["fused"] = self.widths["semantic"]
        for stream, width in self.widths.items():
            self.register_buffer(f"mean_{stream}_X", torch.zeros(width))
            self.register_buffer(f"deviation_{stream}_X", torch.ones(width))
        # Buffers, so that a saved model knows its voxels; the numbers here only hold their places.
        self.register_buffer("detail_rows", torch.arange(n_detail))
        self.register_buffer("semantic_rows", torch.arange(n_semantic))
        voxels = {"detail": n_detail, "semantic": n_semantic}
        self.closed_forms: ClosedForms | None = None
        if config.start == "ridge":
            stacked = config.fusion == "stacked"
            self.closed_forms = ClosedForms(voxels, self.widths, n_components, stacked)
        # What the network is trained on (N, numbers and voxels); meanwhile betas are such rows.
        self._inputs: Tensor | None = None
        self._reads_numbers = False
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self._build(config, voxels)

    def _build(self, c: Config, voxels: Mapping[str, int]) -> Residual:
        inputs = dict(voxels)
        if c.start == "ridge":
            semantic = self.widths["semantic"] + self.widths.get("text", 0)
            inputs = {"detail": self.widths["detail"], "semantic": semantic}
        codes: dict[str, tuple[str, ...]] = dict.fromkeys(self.widths, ("semantic",))
        codes["detail"] = ("detail",)
        if c.fusion != "semantic_only":
            codes["fused"] = ("detail", "semantic")
        return Residual(
            inputs=inputs,
            hidden=c.hidden,
            blocks=c.blocks,
            dropout=(c.dropout_in, c.dropout_res),
            widths=self.widths,
            codes=codes,
            projected=self._found if c.projector else (),
            voxels=voxels if c.cross_rec != "none" else {},
        )

    @property
    def _found(self) -> tuple[str, ...]:
        """Streams that pictures and captions are found by."""
        return ("fused", "text") if "text" in self.widths else ("fused",)

    @classmethod
    def select_targets(cls, config: Config) -> tuple[str, ...]:
        """Cached arrays of these settings."""
        text = (SCORES["text"],) if config.text_branch else ()
        pooled = decoders.Decoder.targets
        return (*pooled, SCORES["semantic"], DETAIL_CLASS, SCORES["detail"], *text)

    @classmethod
    def check_run(
        cls, config: Config, subjects: Sequence[str], groups: Iterable[str], where: str
    ) -> None:
        """The ROI groups of both streams must be keys of params `rois`."""
        check_groups(config.rois(), groups, where)

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Voxels of the streams by `routing`, and tokens and components of the CLIP cache.

        Of disjoint sets those of seed 0, of which another has a few more or less.
        """
        (single,) = data
        target = single.bases[config.detail_target].components_PTW
        return {
            **count_rows(route_data(config, single, seed=0)),
            "n_patches": target.shape[1],
            "n_text_tokens": len(single.bases["text"].mean_TW) if config.text_branch else 0,
            "width_detail": target.shape[2],
            "n_components": target.shape[0],
        }

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the voxels of each stream, and its closed forms.

        Raises ValueError for an ROI group that is empty for the subject or absent.
        """
        (single,) = data
        rows = route_data(config, single, seed)
        sizes = cls.expected_sizes(config, data) | count_rows(rows)
        width_D = single.image_embedding_ID.shape[1]
        decoder = cls(config, single.betas_NV.shape[1], width_D, seed, **sizes)
        decoder.detail_rows.copy_(torch.from_numpy(rows[0]))
        decoder.semantic_rows.copy_(torch.from_numpy(rows[1]))
        for stream in decoder.bases:
            kind = config.detail_target if stream == "detail" else stream
            decoder.bases[stream] = TokenBasis.of(single.bases[kind])
        true = decoder._true(
            single.image_embedding_ID, single.mean_text_ID, single.features, single.betas_NV.device
        )
        for stream, y_IX in true.items():
            mean_X, deviation_X = standardise([y_IX[~single.is_validation_I]])
            decoder.get_buffer(f"mean_{stream}_X").copy_(mean_X)
            decoder.get_buffer(f"deviation_{stream}_X").copy_(deviation_X)
        if decoder.closed_forms is not None:
            y = {s: decoder._standardise(s, y_IX) for s, y_IX in true.items()}
            z_NZ = decoder.closed_forms.fit(single, y, decoder._rows)
            decoder._inputs = torch.cat([z_NZ, single.betas_NV], 1)
        return decoder

    @property
    def _rows(self) -> dict[str, Tensor]:
        """Voxels of each stream."""
        return {"detail": self.detail_rows, "semantic": self.semantic_rows}

    def _basis(self, stream: str) -> TokenBasis:
        found = self.bases["semantic" if stream == "fused" else stream]
        assert isinstance(found, TokenBasis)
        return found

    def _true(
        self,
        image_BD: Tensor,
        text_BD: Tensor,
        features: Mapping[str, Tensor],
        device: torch.device,
    ) -> dict[str, Tensor]:
        """Class token and scores of the streams, (B, X) each, as they are in the cache."""
        first = {"semantic": image_BD, "detail": features[DETAIL_CLASS], "text": text_BD}
        true = {
            s: torch.cat([first[s].to(device).float(), features[SCORES[s]].to(device).float()], 1)
            for s in self.bases
        }
        if self.config.detail_target == "semantic":
            true["detail"] = true["semantic"]
        return true | {"fused": true["semantic"]}

    def _standardise(self, stream: str, x_BX: Tensor) -> Tensor:
        mean_X = self.get_buffer(f"mean_{stream}_X")
        return (x_BX - mean_X) / self.get_buffer(f"deviation_{stream}_X")

    def _restore(self, stream: str, x_BX: Tensor) -> Tensor:
        """Numbers as they are in the cache."""
        deviation_X = self.get_buffer(f"deviation_{stream}_X")
        return x_BX.float() * deviation_X + self.get_buffer(f"mean_{stream}_X")

    def phases(self, data: Sequence[TrainingData]) -> Iterator[Phase]:
        """One, on what the closed forms predict of training trials, if there are any."""
        if self._inputs is not None:
            data = [replace(data[0], betas_NV=self._inputs)]
            self._inputs = None
            self._reads_numbers = True
        try:
            yield Phase("", list(data), self.config)
        finally:
            self._reads_numbers = False

    def _read(self, betas_BV: Tensor) -> Tensor:
        """Numbers of the closed forms, then voxels."""
        if self._reads_numbers or self.closed_forms is None:
            return betas_BV
        voxels = {s: betas_BV[:, rows] for s, rows in self._rows.items()}
        return torch.cat([self.closed_forms(voxels), betas_BV], 1)

    def _run(self, read_BX: Tensor) -> Run:
        """From what `_read` gives."""
        n_numbers = 0 if self.closed_forms is None else sum(self.closed_forms.widths.values())
        betas_BV = read_BX[:, n_numbers:]
        voxels = {s: betas_BV[:, rows] for s, rows in self._rows.items()}
        if self.closed_forms is None:
            z = {s: read_BX.new_zeros(len(read_BX), n) for s, n in self.widths.items()}
            codes = self.network.encode(voxels)
        else:
            z = self.closed_forms.split(read_BX[:, :n_numbers])
            semantic = torch.cat([z[s] for s in self.closed_forms.read_semantic], 1)
            codes = self.network.encode({"detail": z["detail"], "semantic": semantic})
        y, p = self.network(z, codes)
        return Run(y=y, p={s: p.get(s, y[s]) for s in self._found}, codes=codes, voxels=voxels)

    def loss(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L, see the head of this file.

        epoch: counted in fractions, for the schedules.
        """
        c = self.config
        progress = epoch / c.max_epochs
        read_BX = self._read(batch.betas_BV)
        mixing = None
        # Mixed images serve the contrast of the global term only; without it none are drawn. What
        # closed forms predict of a mixture is the mixture of what they predict.
        if c.loss != "fine" and progress < c.mixco_epochs:
            mixing = draw_mixing(len(read_BX), c.mixco_beta, c.mixco_share, read_BX.device)
            read_BX = mixing.apply(read_BX)
        # Each process decodes its share of the rows; the contrast needs the tokens of all.
        shares = Shares([len(read_BX)])
        run = self._run(shares.take(0, read_BX))
        y = {s: shares.gather(x).float() for s, x in run.y.items()}
        p = {s: shares.gather(x).float() for s, x in run.p.items()}
        assert batch.mean_text_BD is not None, "batches of training data have them"
        device = read_BX.device
        true = self._true(batch.image_embedding_BD, batch.mean_text_BD, batch.features, device)
        rows = _unmixed(mixing, len(read_BX), device)
        terms = {
            f"{s}_regression_loss": c.w_regression
            * _mse(y[s][rows], self._standardise(s, true[s])[rows])
            for s in y
        }
        for s in self._found:
            found = Components(self._basis(s), self._restore(s, p[s]))
            aligned = align(found, Components(self._basis(s), true[s]), c, mixing, progress)
            for name, term in aligned.items():
                terms[f"{s}_{name}_loss"] = getattr(c, f"w_{s}") * term
        if c.w_image_text:
            terms["image_text_loss"] = c.w_image_text * self._contrast_text(p, batch, rows)
        return terms | self._reconstruct(run.codes, run.voxels, shares)

    def _contrast_text(self, p: Mapping[str, Tensor], batch: Batch, rows: Tensor) -> Tensor:
        """Contrast of the image embedding with the captions' mean, of unmixed images."""
        if not len(rows):
            return p["fused"].sum() * 0  # a zero with a gradient, and not NaN
        assert batch.mean_text_BD is not None
        id_B = batch.image_id_B[rows]
        image_BD = self._embed("fused", p["fused"])[rows]
        text_BD = batch.mean_text_BD[rows]
        return contrastive(image_BD, text_BD, self.config.nce_tau, id_B[:, None] == id_B)

    def _reconstruct(
        self, codes: Mapping[str, Tensor], voxels: Mapping[str, Tensor], shares: Shares
    ) -> dict[str, Tensor]:
        """Weighted Cross-Reconstruction: both fMRI decoders on their own and the other code."""
        c = self.config
        terms = {}
        other = {"detail": "semantic", "semantic": "detail"}
        for stream, decode in self.network.voxel_decoders.items():
            kinds = {"rec": (stream, c.beta_rec)}
            if c.cross_rec == "self_cross":
                kinds["cross"] = (other[stream], c.beta_cross)
            for kind, (code, weight) in kinds.items():
                error_B = (decode(codes[code]).float() - voxels[stream]).square().mean(1)
                terms[f"{kind}_{stream}_loss"] = weight * shares.gather(error_B).mean()
        return terms

    def _embed(self, stream: str, x_BX: Tensor) -> Tensor:
        """Unit-norm class token of standardised numbers."""
        n_scores = len(self._basis(stream).gram_PP)
        return F.normalize(self._restore(stream, x_BX)[:, :-n_scores], dim=1)

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Image and text embedding, unit norm, of each row."""
        return self._offer(self._run(self._read(betas_IV)).p)

    def _offer(self, p: Mapping[str, Tensor]) -> Decoded:
        decoded = Decoded(embedding_ID=self._embed("fused", p["fused"]))
        if "text" in p:
            decoded.text_embedding_ID = self._embed("text", p["text"])
        return decoded

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """predict, with regressed tokens of every stream, and `projected`: those that pictures are
        found by. In the scale of the cache; not normalised.
        """
        run = self._run(self._read(betas_IV))
        decoded = self._offer(run.p)
        for stream, x_IX in run.y.items():
            whole_ITW = self._basis(stream).read_all(self._restore(stream, x_IX))
            # A caption's tokens have no class token: the embedding stands in front of them.
            decoded.tokens[stream] = whole_ITW[:, 1:] if stream == "text" else whole_ITW
        projected_IX = self._restore("fused", run.p["fused"])
        decoded.tokens["projected"] = self._basis("fused").read_all(projected_IX)
        return decoded

    def n_parameters(self) -> dict[str, int]:
        """Trained by gradients; deployed: with the closed forms, without fMRI decoders."""
        trained = sum(value.numel() for value in self.parameters())
        spare = sum(value.numel() for value in self.network.voxel_decoders.parameters())
        maps = 0 if self.closed_forms is None else self.closed_forms.n_parameters()
        return {"trained": trained, "deployed": trained - spare + maps}

    def facts(self, subject: str) -> Mapping[str, float]:
        """Share of its numbers' variance that each closed form explains of left-out pictures."""
        ridges = {} if self.closed_forms is None else self.closed_forms.ridges
        return {
            f"closed_form.explained_{s}": float(ridge.explained_Q.mean())
            for s, ridge in ridges.items()
        }


def _unmixed(mixing: Mixing | None, n: int, device: torch.device) -> Tensor:
    """Rows that one true picture belongs to."""
    if mixing is None:
        return torch.arange(n, device=device)
    return (~mixing.mixed_B).nonzero()[:, 0]


def _mse(x_BX: Tensor, y_BX: Tensor) -> Tensor:
    """Mean squared error; 0 without any row, and not NaN."""
    return (x_BX - y_BX).square().sum() / max(x_BX.numel(), 1)
