"""BrainMCLIP-style decoder: low and high visual areas to intermediate and final CLIP layers.

    b_D = E_D(F_D), b_S = E_S(F_S)                   F_D, F_S: voxels of detail and semantic ROIs
    e_D = H_D(b_D), e_S = H_S(b_S), e_T = H_T(b_S)   detail, semantic and text tokens
    e_F = e_S + g * (W_2 gelu(W_1 norm(e_D)))        fused tokens, g = 0 at the start
    L_glob(x) = C(x) + k C(x_0) + c (1 - cos(x_0))   C: BiMixCo, later SoftCLIP, of flat tokens;
                                                     x_0: class token
    L_fine(x) = mean_t (1 - cos(x_t)) + n mean_t InfoNCE_t
    L = sum_x w_x (L_glob(x) + alpha L_fine(x)) + beta_rec L_rec + beta_cross L_cross
    L_rec   = MSE(D_D(b_D), F_D) + MSE(D_S(b_S), F_S)
    L_cross = MSE(D_D(b_S), F_D) + MSE(D_S(b_D), F_S)
              (decoder, R1; source, R2: the two targets change places)

Read in the paper's abstract: that fMRI of functionally distinct areas is aligned with intermediate
and final CLIP layers and fused, Cross-Reconstruction, a multi-granularity loss, no VAE route. Read
in third-party summaries: the ROIs, detail = mean of CLIP layers 11 to 20, the direction of
Cross-Reconstruction. Losses, widths, heads, fusion and schedule were not available to us: they are
our decisions, hence "style". The contrastive recipe is MindEye1's, the trunk that of MindEye1 and
MindBridge. Our own: low-rank heads; a pooled text embedding, predicted by a linear head, which
stands in front of the text tokens as their class token (where the end token of an unknown caption
is, nobody knows); heads that predict the class token and the scores of the other tokens on their
leading components (variant components), from which all tokens are read back; k C(x_0), without
which the pooled embedding, 1 of 65 or 257 tokens, is hardly contrasted; everything but C uses
unmixed images only; the schedule is a warm-up, a constant rate and a fall; targets are cached, so
pictures are not augmented. The text target joins the embedding of a caption drawn at each step to
the tokens of the first caption, which alone are cached: with five captions, 80 % of the draws are
another.

Axis letters: B images, V voxels, H hidden, T image tokens, U text tokens, D embedding width, W
width of detail tokens, P components of tokens, X class token and components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fmri2clip import decoders
from fmri2clip.decoders.batches import Batch, Decoded, TrainingData
from fmri2clip.decoders.brainmclip.config import Config
from fmri2clip.decoders.brainmclip.networks import TwoStreams
from fmri2clip.decoders.parts.compared_tokens import Components, Tokens
from fmri2clip.decoders.parts.distributed import Shares
from fmri2clip.decoders.parts.mixco import draw_mixing
from fmri2clip.decoders.parts.routing import check_groups, count_rows, route_data
from fmri2clip.decoders.parts.token_alignment import align
from fmri2clip.decoders.parts.token_basis import TokenBasis

CITATION = (
    "T. Xia, Z. Ma, X. Wang, Q. Liu, X. He, T. Liu, Y. Ren, 'BrainMCLIP: Brain Image Decoding with "
    "Multi-Layer feature Fusion of CLIP', arXiv:2510.19332, 2025."
)
SEMANTIC = "semantic_tokens_ITD"
DETAIL = "detail_tokens_ITD|detail_tokens_ITW"  # the second where the aggregation is raw
TEXT = "text_tokens_IUD"
POOLED = ("image_embedding_ID", "text_embedding_KD")
# What stands for all tokens but the class token
SCORES = {stream: f"{stream}_components_IP" for stream in ("semantic", "detail", "text")}
DETAIL_CLASS = "detail_class_IW"


class Decoder(decoders.Decoder):
    """Two encoders, token heads, gated fusion, and two fMRI decoders that only training uses."""

    detail_rows: Tensor
    semantic_rows: Tensor
    text_norm: Tensor

    targets = (*POOLED, SEMANTIC, DETAIL, TEXT, *SCORES.values(), DETAIL_CLASS)

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        *,
        n_detail: int,
        n_semantic: int,
        n_image_tokens: int = 1,
        n_text_tokens: int = 0,
        width_detail: int = 0,
        n_components: int = 0,
    ) -> None:
        """The voxels of each stream are buffers, filled by from_data or with a model's weights.

        n_detail, n_semantic: voxels of a stream; n_text_tokens: 0 for a text embedding alone;
        width_detail: 0 = D; n_components: of the tokens of a stream, in the variant of that name.
        """
        super().__init__()
        self.config = config
        self.n_image_tokens = n_image_tokens
        self.n_text_tokens = n_text_tokens
        self.sizes = {
            "n_detail": n_detail,
            "n_semantic": n_semantic,
            "n_image_tokens": n_image_tokens,
            "n_text_tokens": n_text_tokens,
            "width_detail": width_detail or width_D,
            "n_components": n_components,
        }
        # Fixed: no weight of the network, and read by none of its parts.
        self.bases = torch.nn.ModuleDict()
        if n_components:
            tokens = {
                "semantic": (n_image_tokens - 1, width_D),
                "detail": (n_image_tokens - 1, width_detail or width_D),
            }
            if n_text_tokens:
                tokens["text"] = (n_text_tokens, width_D)
            for stream, (n, width) in tokens.items():
                self.bases[stream] = TokenBasis(n_components, n, width)
        # Buffers, so that a saved model knows its voxels; the numbers here only hold their places.
        self.register_buffer("detail_rows", torch.arange(n_detail))
        self.register_buffer("semantic_rows", torch.arange(n_semantic))
        self.register_buffer("text_norm", torch.ones(()))
        # Pooling gives both streams one length, however many voxels their ROIs have.
        voxels = (n_detail, n_semantic)
        if config.voxel_pool:
            voxels = (config.voxel_pool, config.voxel_pool)
        # The first weights depend on the seed alone, and the caller's random numbers go on as if
        # none had been drawn here.
        whole = config.variant == "tokens"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = TwoStreams(
                voxels=voxels,
                hidden=config.hidden,
                blocks=config.blocks,
                dropout=(config.dropout_in, config.dropout_res),
                # A class token and its scores are to the network one token of their joint width.
                n_image_tokens=n_image_tokens if whole else 1,
                n_text_tokens=n_text_tokens * whole if config.text_branch else None,
                rank=config.token_rank if whole else 0,
                widths=((width_detail or width_D) + n_components, width_D + n_components),
                gated=config.fusion == "gated",
                reconstruct=config.cross_rec != "none",
            )

    @classmethod
    def select_targets(cls, config: Config) -> tuple[str, ...]:
        """Cached arrays of these settings; detail tokens also where they are only scored."""
        if config.variant == "components":
            text = (SCORES["text"],) if config.text_branch else ()
            return (*POOLED, SCORES["semantic"], DETAIL_CLASS, SCORES["detail"], *text)
        text = (TEXT,) if config.text_branch and config.variant == "tokens" else ()
        return (*POOLED, SEMANTIC, DETAIL, *text)

    @classmethod
    def check_run(
        cls, config: Config, subjects: Sequence[str], groups: Iterable[str], where: str
    ) -> None:
        """The ROI groups of both streams must be keys of params `rois`."""
        check_groups(config.rois(), groups, where)

    @classmethod
    def from_data(cls, config: Config, data: Sequence[TrainingData], seed: int) -> Decoder:
        """Decoder with the voxels that `routing` gives each stream and the tokens of the targets.

        Raises ValueError for an ROI group that is empty for the subject or absent.
        """
        (single,) = data
        width_D = single.image_embedding_ID.shape[1]
        rows = route_data(config, single, seed)
        sizes = cls.expected_sizes(config, data) | count_rows(rows)
        # A mix adds the two streams number by number, so their tokens must have one width.
        if config.fusion == "mix" and sizes["width_detail"] != width_D:
            raise ValueError(
                f"fusion is 'mix', but detail tokens have width {sizes['width_detail']} and "
                f"semantic tokens {width_D}; choose another fusion, or a clip whose aggregation is "
                "not raw"
            )
        decoder = cls(config, single.betas_NV.shape[1], width_D, seed, **sizes)
        decoder.detail_rows.copy_(torch.from_numpy(rows[0]))
        decoder.semantic_rows.copy_(torch.from_numpy(rows[1]))
        # The start token is the same for all captions, so one of them, or the mean, is its scale.
        if decoder.bases:
            for stream in decoder.bases:
                same = stream == "detail" and config.detail_target == "semantic"
                decoder.bases[stream] = TokenBasis.of(single.bases["semantic" if same else stream])
            if "text" in decoder.bases:
                decoder.text_norm.copy_(single.bases["text"].mean_TW[0].norm())
        elif TEXT in cls.select_targets(config):
            decoder.text_norm.copy_(single.features[TEXT][0, 0].float().norm())
        return decoder

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, int]:
        """Voxels of the streams by `routing`, and tokens of the targets.

        Of disjoint sets those of seed 0, of which another has a few more or less.
        """
        (single,) = data
        n_voxels = count_rows(route_data(config, single, seed=0))
        width_D = single.image_embedding_ID.shape[1]
        if config.variant == "components":
            n_components, n_patches, width_detail = single.bases["detail"].components_PTW.shape
            return {
                **n_voxels,
                "n_image_tokens": 1 + n_patches,
                "n_text_tokens": len(single.bases["text"].mean_TW) if config.text_branch else 0,
                "width_detail": width_D if config.detail_target == "semantic" else width_detail,
                "n_components": n_components,
            }
        _, n_tokens, width_detail = _detail(single.features).shape
        text = TEXT in cls.select_targets(config)
        return {
            **n_voxels,
            "n_image_tokens": 1 if config.variant == "pooled" else n_tokens,
            "n_text_tokens": single.features[TEXT].shape[1] if text else 0,
            "width_detail": width_D if config.detail_target == "semantic" else width_detail,
        }

    def inputs(self, betas_BV: Tensor) -> tuple[Tensor, Tensor]:
        """F_D and F_S: the voxels of each stream, pooled to one length if voxel_pool says so."""
        detail_BV = betas_BV[:, self.detail_rows]
        semantic_BV = betas_BV[:, self.semantic_rows]
        n = self.config.voxel_pool
        if not n:
            return detail_BV, semantic_BV
        detail_BV = F.adaptive_max_pool1d(detail_BV[:, None], n)[:, 0]
        semantic_BV = F.adaptive_max_pool1d(semantic_BV[:, None], n)[:, 0]
        return detail_BV, semantic_BV

    def loss(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        """Weighted terms of L (see the head of this file).

        epoch: counted in fractions, for the schedules.
        """
        c = self.config
        progress = epoch / c.max_epochs
        betas_BV = batch.betas_BV
        mixing = None
        # Mixed images serve the contrast of the global term only; without it none are drawn.
        if c.loss != "fine" and progress < c.mixco_epochs:
            mixing = draw_mixing(len(betas_BV), c.mixco_beta, c.mixco_share, betas_BV.device)
            betas_BV = mixing.apply(betas_BV)
        # Each process decodes its share of the rows; the contrast needs the tokens of all.
        shares = Shares([len(betas_BV)])
        inputs = self.inputs(shares.take(0, betas_BV))
        codes = self.network.encode(inputs)
        predicted = {name: shares.gather(x) for name, x in self.network.predict(codes).items()}
        true = {name: self._wrap(name, x) for name, x in self._true_tokens(batch).items()}
        # One target for both: its norms and cosines are computed once.
        true["fused"] = true["semantic"]
        terms: dict[str, Tensor] = {}
        for stream, x_BTW in predicted.items():
            weight = getattr(c, f"w_{stream}")
            # The class token is contrasted once more on its own (k C(x_0)): it is 1 of 65 or 257
            # tokens, and the contrast of flat tokens hardly sees it.
            aligned = align(self._wrap(stream, x_BTW), true[stream], c, mixing, progress)
            for name, term in aligned.items():
                terms[f"{stream}_{name}_loss"] = weight * term
        return terms | self._reconstruct(inputs, codes, shares)

    def _wrap(self, stream: str, x_BTW: Tensor) -> Tokens | Components:
        """What the network predicts, or its target, with its norms and cosines."""
        name = "semantic" if stream == "fused" else stream
        return Components(self._basis(name), x_BTW[:, 0]) if self.bases else Tokens(x_BTW)

    def _basis(self, name: str) -> TokenBasis:
        basis = self.bases[name]
        assert isinstance(basis, TokenBasis)
        return basis

    def _true_tokens(self, batch: Batch) -> dict[str, Tensor]:
        """Targets of the streams, (B, T, W), or (B, 1, X) for the variant components."""
        if self.bases:
            return self._true_scores(batch)
        n = self.n_image_tokens
        # A single token a stream (the pooled variant) is aimed at the picture's embedding.
        semantic = batch.features[SEMANTIC] if n > 1 else batch.image_embedding_BD[:, None]
        detail = semantic
        if self.config.detail_target == "detail":
            detail = _detail(batch.features)[:, :n]
        # The pooled text embedding stands in front of the text tokens, as their class token.
        text = batch.text_embedding_BD[:, None]
        if self.n_text_tokens:
            text = torch.cat([text, batch.features[TEXT]], 1)
        return {"detail": detail, "semantic": semantic, "fused": semantic, "text": text}

    def _true_scores(self, batch: Batch) -> dict[str, Tensor]:
        """Class token and scores of the streams, (B, 1, X)."""
        class_tokens = {
            "semantic": batch.image_embedding_BD,
            "detail": batch.features[DETAIL_CLASS],
            "text": batch.text_embedding_BD,
        }
        true = {
            stream: torch.cat([class_BW.float(), batch.features[SCORES[stream]]], 1)[:, None]
            for stream, class_BW in class_tokens.items()
            if stream in self.bases
        }
        if self.config.detail_target == "semantic":
            true["detail"] = true["semantic"]
        return true

    def _reconstruct(
        self, inputs: tuple[Tensor, Tensor], codes: tuple[Tensor, Tensor], shares: Shares
    ) -> dict[str, Tensor]:
        """Weighted Cross-Reconstruction: both fMRI decoders on their own and the other code."""
        c = self.config
        if c.cross_rec == "none":
            return {}
        detail_BV, semantic_BV = inputs
        detail_BH, semantic_BH = codes
        rec_detail = _mse(self.network.detail_decoder(detail_BH), detail_BV, shares)
        rec_semantic = _mse(self.network.semantic_decoder(semantic_BH), semantic_BV, shares)
        terms = {
            "rec_detail_loss": c.beta_rec * rec_detail,
            "rec_semantic_loss": c.beta_rec * rec_semantic,
        }
        if c.cross_rec == "self":
            return terms
        # With stop_grad, this term trains the detail decoder and leaves the semantic encoder alone.
        crossed_BH = semantic_BH.detach() if c.stop_grad == "cross_to_semantic" else semantic_BH
        # R1: a decoder always gives its own voxels. R2: the voxels that the code came from.
        true = (detail_BV, semantic_BV) if c.cross_target == "decoder" else (semantic_BV, detail_BV)
        cross_detail = _mse(self.network.detail_decoder(crossed_BH), true[0], shares)
        cross_semantic = _mse(self.network.semantic_decoder(detail_BH), true[1], shares)
        return terms | {
            "cross_detail_loss": c.beta_cross * cross_detail,
            "cross_semantic_loss": c.beta_cross * cross_semantic,
        }

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Class token of the fused tokens and text embedding, unit norm, of each row."""
        return self._predict(betas_IV, 1)

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """predict, with the tokens of every stream in the scale of the cache.

        They are divided by the norm of the class token. Text tokens have no class token: their
        first, the start token, gets the norm that it has in the cache.
        """
        return self._predict(betas_IV, None)

    def _predict(self, betas_IV: Tensor, n: int | None) -> Decoded:
        """n: how many tokens of each stream to predict; None for all."""
        predicted = self.network.predict(self.network.encode(self.inputs(betas_IV)), n)
        if self.bases:
            predicted = {name: self._read(name, x, n) for name, x in predicted.items()}
        text_ITD = predicted.pop("text", None)
        tokens = {name: _in_scale(x_ITW) for name, x_ITW in predicted.items()}
        # Only the gate is trained: a mix is made here, of tokens in the scale of the cache.
        if self.config.fusion != "gated":
            share = self.config.mix_weight if self.config.fusion == "mix" else 0.0
            mixed = tokens["semantic"]
            if share:
                mixed = torch.lerp(mixed, tokens["detail"], share)
            tokens["fused"] = _in_scale(mixed)
        decoded = Decoded(embedding_ID=F.normalize(tokens["fused"][:, 0], dim=1))
        if text_ITD is not None:
            decoded.text_embedding_ID = F.normalize(text_ITD[:, 0].float(), dim=1)
            if text_ITD.shape[1] > 1:
                tokens["text"] = _in_scale(text_ITD[:, 1:]) * self.text_norm
        decoded.tokens = tokens if n is None else {}
        return decoded

    def _read(self, stream: str, x_I1X: Tensor, n: int | None) -> Tensor:
        """All tokens (I, T, W) of a class token and its scores, or the class token alone."""
        basis = self._basis("semantic" if stream == "fused" else stream)
        return x_I1X[..., : -len(basis.gram_PP)] if n == 1 else basis.read_all(x_I1X[:, 0])

    def n_parameters(self) -> dict[str, int]:
        """Trained, and those needed to decode (no fMRI decoders)."""
        sizes = {name: value.numel() for name, value in self.named_parameters()}
        spare = sum(n for name, n in sizes.items() if "_decoder." in name)
        return {"trained": sum(sizes.values()), "deployed": sum(sizes.values()) - spare}


def _detail(features: Mapping[str, Tensor]) -> Tensor:
    """Detail tokens under whichever name the cache has them."""
    return next(features[name] for name in DETAIL.split("|") if name in features)


def _in_scale(x_ITW: Tensor) -> Tensor:
    """float32 tokens over the norm of the first."""
    x_ITW = x_ITW.float()
    return x_ITW / x_ITW[:, :1].norm(dim=2, keepdim=True)


def _mse(x_BV: Tensor, y_BV: Tensor, shares: Shares) -> Tensor:
    """Mean squared error over the rows of all processes."""
    if shares.n_ranks == 1:
        return F.mse_loss(x_BV.float(), y_BV)
    return shares.gather((x_BV.float() - y_BV).square().mean(1)).mean()
