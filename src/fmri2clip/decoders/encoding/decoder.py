"""Encoding model with a Gaussian likelihood: pictures are identified by the responses they evoke.

    b_n = W f + m + e_n,   e_n ~ N(0, S_n)          mean of n trials of one picture; f: its image
                                                    embedding and components of its tokens
    S_n = S_model + S_trial / n
    log p(b | j)                                    of every picture j of a gallery: identification
    f   ~ N(mu, C)  =>  E[f | b] = mu + C W^T (W C W^T + S_n)^-1 (b - m - W mu)
    w_j ~ exp(log p(b | j) / T)                     posterior over a library of pictures

W has one penalty a voxel (Kay et al. 2008, Nature 452:352, identify by such a model; Naselaris et
al. 2009, Neuron 63:902, add the prior, and a library of pictures as one). S_trial is the covariance
of trials within pictures (denominator trials - pictures); S_model what left-out residuals of
training pictures, means of their trials, have beyond S_trial over their number, where it is more.
Both are low rank plus diagonal, with ranks and shrinkage by held-out likelihood
(solvers/low_rank.py): 15,724 voxels need no matrix of their square.

What is decoded: the embedding is E[f | b] and the library's weighted mean, added as unit vectors
with a weight that validation images choose; captions likewise, E[f | b] mapped by ridge. Categories
come from E[f | b] mapped by ridge, x, and the library, with base rates and deviations of labels:

    t_c = sigmoid(logit(base_c) + s (x_c - base_c) / deviation_c)
    p_c = (1 - eps) sum_j w_j label_jc + eps t_c

s, T and eps by the log-loss of validation images. t stands in the place of the base rate alone: a
few thousand pictures are thin among all that features tell apart, so those whose responses are most
alike share layout and colour before they share categories (docs/tried.md). Prior, maps and base
rates are those of training pictures and of others in the library, which need no responses. Library
pictures of the subject's own training enter with the responses that fits without them predict.
Semantic tokens are E[f | b], read back from components.

Letters: I images, N trials, J pictures of a gallery or library, V voxels, F features, R axes, D
embedding width, P components, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fmri2clip import decoders
from fmri2clip.core.params import NO_LIBRARY
from fmri2clip.decoders.batches import Basis, Decoded, TrainingData
from fmri2clip.decoders.encoding.config import Config
from fmri2clip.decoders.encoding.features import SCORES, Gallery, read_features, weigh
from fmri2clip.decoders.encoding.library import (
    LEAST,
    Library,
    find_own,
    find_top1,
    log_loss,
    tell,
)
from fmri2clip.decoders.encoding.noise import LEAST_CONTRASTS, fit_noise, measure_explained
from fmri2clip.decoders.parts.token_basis import TokenBasis
from fmri2clip.solvers import blocked_ridge
from fmri2clip.solvers.low_rank import LowRank

__all__ = ["CITATION", "Config", "Decoder"]

CITATION = (
    "K. N. Kay, T. Naselaris, R. J. Prenger, J. L. Gallant, 'Identifying natural images from human "
    "brain activity', Nature 452, 352, 2008; T. Naselaris et al., 'Bayesian reconstruction of "
    "natural images from human brain activity', Neuron 63, 902, 2009."
)
MAP_ALPHAS = tuple(10.0**k for k in range(-3, 5))  # of ridge from features to captions and labels
SLOPES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # s of the categories
MIXES = (0.0, 0.25, 0.5, 1.0, 2.0)  # weights of the library's mean beside E[f | b]


# Features, mean captions (zeros where there is none), labels, and whether these are known.
_Known = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Turned:
    """What decodes means of so many trials, derived from the buffers."""

    n_repeats: int
    noise: LowRank
    gain_FV: Tensor  # E[f | b] = mu + gain (b - m - W mu)
    gallery: Gallery | None  # of the library


class Decoder(decoders.Decoder):
    """Features to voxels, noise of means of 1, 2 and 3 trials, prior, library: all buffers."""

    weight_FV: Tensor
    mean_V: Tensor
    alpha_V: Tensor
    explained_V: Tensor
    prior_mean_F: Tensor
    prior_FF: Tensor
    diagonal_2V: Tensor  # of S_model and of S_trial
    factor_2VR: Tensor
    text_FD: Tensor
    text_D: Tensor
    label_FC: Tensor
    label_C: Tensor
    base_C: Tensor
    slope: Tensor  # s
    mix_2: Tensor  # weights of the library in image and text embedding

    targets = (*decoders.Decoder.targets, *SCORES)
    closed_form = True

    def __init__(
        self,
        config: Config,
        n_voxels: int,
        width_D: int,
        seed: int,
        *,
        n_classes: int,
        n_patches: int,
        n_components: int,
        n_library: int,
    ) -> None:
        """n_patches: tokens but the class token; n_library: pictures of the library, 0 for none."""
        super().__init__()
        self.config = config
        self.seed = seed
        self.width_D = width_D
        self.n_components = n_components
        self.sizes = {
            "n_classes": n_classes,
            "n_patches": n_patches,
            "n_components": n_components,
            "n_library": n_library,
        }
        n_features = width_D + 2 * n_components
        shapes = {
            "weight_FV": (n_features, n_voxels),
            "mean_V": (n_voxels,),
            "alpha_V": (n_voxels,),
            "explained_V": (n_voxels,),
            "prior_mean_F": (n_features,),
            "prior_FF": (n_features, n_features),
            "diagonal_2V": (2, n_voxels),
            "factor_2VR": (2, n_voxels, config.max_rank),
            "text_FD": (n_features, width_D),
            "text_D": (width_D,),
            "label_FC": (n_features, n_classes),
            "label_C": (n_classes,),
            "base_C": (n_classes,),
            "slope": (),
            "mix_2": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.diagonal_2V.fill_(1.0)  # a noise, until there is a fitted one
        self.base_C.fill_(0.5)
        self.basis = TokenBasis(n_components, n_patches, width_D)
        self.library = Library(n_library, n_voxels, width_D, n_classes) if n_library else None
        self._turned: Turned | None = None

    @classmethod
    def least_repeats(cls, config: Config) -> int:
        """The noise of a trial is learned from them."""
        return LEAST_CONTRASTS

    @classmethod
    def expected_sizes(cls, config: Config, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Categories, patches, components that are used, and pictures of the library.

        Raises ValueError for data without labels or library, and where the cache has fewer
        components.
        """
        (single,) = data
        n_components, n_patches, _ = single.bases["semantic"].components_PTW.shape
        if config.components > n_components:
            raise ValueError(
                f"components is {config.components}, but the CLIP cache has {n_components} of a "
                "stream; lower components, or raise token_components of the clip"
            )
        if single.labels_IC is None:
            raise ValueError(
                f"the data of {single.subject} have no category labels; leave this run out, or add "
                "labels (docs/own_data.md)"
            )
        if (single.library is None) != (config.library == NO_LIBRARY):
            raise ValueError(
                f"library is {config.library}, but the data of {single.subject} have "
                f"{'no' if single.library is None else 'a'} library; run cache_library, or set "
                f"library to {NO_LIBRARY}"
            )
        return {
            "n_classes": single.labels_IC.shape[1],
            "n_patches": n_patches,
            "n_components": config.components,
            "n_library": 0 if single.library is None else len(single.library.nsd_id_J),
        }

    def fit(self, data: TrainingData) -> dict[str, float]:
        """From training images; validation images choose s, T, eps and the library's weights."""
        c = self.config
        whole = data.bases["semantic"]
        few = Basis(whole.mean_TW, whole.components_PTW[: self.n_components])
        self.basis = TokenBasis.of(few).to(data.betas_NV.device)
        train_I = ~data.is_validation_I
        feature_IF = read_features(self._named(data), self.n_components, self.basis.n_tokens)
        x_IF = feature_IF[train_I]
        mean_IV = data.mean_betas_IV[train_I]
        alphas = torch.logspace(c.log10_alpha_min, c.log10_alpha_max, c.n_alphas).tolist()
        n_voxels = mean_IV.shape[1]
        ridge = blocked_ridge.fit(x_IF, mean_IV, alphas, [1] * n_voxels)
        self.weight_FV.copy_(ridge.weight_VQ)
        self.mean_V.copy_(ridge.bias_Q)
        self.alpha_V.copy_(ridge.alpha_Q)
        residual_IV = mean_IV - ridge.left_out_IQ
        self.explained_V.copy_(measure_explained(mean_IV, residual_IV))
        for k, found in enumerate(fit_noise(data, residual_IV, c.max_rank, self.seed)):
            self.diagonal_2V[k] = found.diagonal_V
            self.factor_2VR[k, :, : found.n_axes] = found.factor_VR
        row = {
            "explained": float(self.explained_V.mean()),
            "model_axes": float((self.factor_2VR[0].abs().sum(0) > 0).sum()),
            "trial_axes": float((self.factor_2VR[1].abs().sum(0) > 0).sum()),
        }
        self._turned = None
        assert data.labels_IC is not None
        is_labelled_I = torch.ones(len(x_IF), dtype=torch.bool, device=x_IF.device)
        known = [(x_IF, data.mean_text_ID[train_I], data.labels_IC[train_I], is_labelled_I)]
        if self.library is not None:
            response_IV = feature_IF @ self.weight_FV + self.mean_V
            response_IV[train_I] = ridge.left_out_IQ
            known.append(self._fill_library(data, response_IV))
        self._learn_pictures(known)
        return row | self._choose(data)

    def _fill_library(self, data: TrainingData, response_IV: Tensor) -> _Known:
        """Put the pictures into the library; returns what is known of those of others.

        response_IV: expected of the subject's own pictures, by fits without them.
        """
        assert self.library is not None and data.library is not None
        pictures = data.library
        named = {"image_embedding_ID": pictures.image_embedding_JD, **pictures.features}
        feature_JF = read_features(named, self.n_components, self.basis.n_tokens)
        row_J = find_own(pictures, data)
        own_J = row_J >= 0
        response_JV = feature_JF @ self.weight_FV + self.mean_V
        response_JV[own_J] = response_IV[row_J[own_J]]
        open_J = ~(own_J & data.is_validation_I[row_J])
        self.library.fill(pictures, response_JV, open_J)
        rest = (pictures.mean_text_JD, pictures.labels_JC, pictures.is_labelled_J)
        text_JD, labels_JC, is_labelled_J = (array[~own_J] for array in rest)
        return feature_JF[~own_J], text_JD, labels_JC, is_labelled_J

    def _learn_pictures(self, known: Sequence[_Known]) -> None:
        """Prior, and maps of features to captions and categories: they need no responses."""
        x_IF, text_ID, labels_IC, labelled_I = (
            torch.cat(part) for part in zip(*known, strict=True)
        )
        self.prior_mean_F.copy_(x_IF.mean(0))
        centred_IF = x_IF - x_IF.mean(0)
        self.prior_FF.copy_(centred_IF.T @ centred_IF / (len(x_IF) - 1))
        told_I = text_ID.abs().sum(1) > 0
        text = blocked_ridge.fit(x_IF[told_I], text_ID[told_I], MAP_ALPHAS, [self.width_D])
        self.text_FD.copy_(text.weight_VQ)
        self.text_D.copy_(text.bias_Q)
        label_IC = labels_IC[labelled_I].float()
        blocks = [1] * label_IC.shape[1]
        label = blocked_ridge.fit(x_IF[labelled_I], label_IC, MAP_ALPHAS, blocks)
        self.label_FC.copy_(label.weight_VQ)
        self.label_C.copy_(label.bias_Q)
        # Half a count more on either side: no category is impossible, or certain.
        self.base_C.copy_((label_IC.sum(0) + 0.5) / (len(label_IC) + 1))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # What is derived from the buffers stays where they were.
        self._turned = None
        return super()._apply(fn, recurse)

    def noise(self, n_repeats: int) -> LowRank:
        """S_n."""
        model, trial = (
            LowRank(diagonal_V=d_V, factor_VR=f_VR[:, f_VR.abs().amax(0) > 0])
            for d_V, f_VR in zip(self.diagonal_2V, self.factor_2VR, strict=True)
        )
        return model.plus(trial, 1 / n_repeats)

    def _turn(self, n_repeats: int) -> Turned:
        """Kept for the number of trials that was asked for last."""
        if self._turned is None or self._turned.n_repeats != n_repeats:
            noise = self.noise(n_repeats)
            solved_FV = noise.solve(self.weight_FV)
            gram_FF = solved_FV @ self.weight_FV.T
            # (C^-1 + G)^-1 = (I + C G)^-1 C, without the inverse of C.
            identity_FF = torch.eye(len(gram_FF), device=gram_FF.device)
            inner_FF = torch.linalg.solve(identity_FF + self.prior_FF @ gram_FF, self.prior_FF)
            self._turned = Turned(
                n_repeats=n_repeats,
                noise=noise,
                gain_FV=inner_FF @ solved_FV,
                gallery=None if self.library is None else self.library.gallery(noise),
            )
        return self._turned

    def _posterior(self, betas_IV: Tensor, turned: Turned) -> Tensor:
        """E[f | b], (I, F)."""
        expected_V = self.mean_V + self.prior_mean_F @ self.weight_FV
        return self.prior_mean_F + (betas_IV - expected_V) @ turned.gain_FV.T

    def identify(
        self, betas_IV: Tensor, features: Mapping[str, Tensor], n_repeats: int = 1
    ) -> Tensor:
        """log p(b | j) (I, J), up to a constant, of pictures by their features: image_embedding_ID
        and the components of semantic and detail tokens.
        """
        with self.inference():
            return weigh(betas_IV, self.respond(features), self._turn(n_repeats).noise)

    def respond(self, features: Mapping[str, Tensor]) -> Tensor:
        """W f + m, (J, V)."""
        with self.inference():
            feature_JF = read_features(features, self.n_components, self.basis.n_tokens)
            return feature_JF @ self.weight_FV + self.mean_V

    def recall(self, betas_IV: Tensor, n_repeats: int = 1) -> tuple[Tensor, Tensor] | None:
        """w (I, J) and the ids of the library's pictures (J)."""
        with self.inference():
            gallery = self._turn(n_repeats).gallery
            if self.library is None or gallery is None:
                return None
            return self.library.posterior(betas_IV, gallery), self.library.nsd_id_J

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """Image and text embedding, and log odds of the categories."""
        turned = self._turn(n_repeats)
        return self._decode(betas_IV, self._posterior(betas_IV, turned), turned)

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """predict, with semantic tokens (I, T, D): E[f | b], nothing renormalised."""
        turned = self._turn(n_repeats)
        feature_IF = self._posterior(betas_IV, turned)
        decoded = self._decode(betas_IV, feature_IF, turned)
        scores_IP = feature_IF[:, self.width_D : self.width_D + self.n_components]
        scores_IP = scores_IP * self.basis.n_tokens**0.5
        class_I1D = feature_IF[:, None, : self.width_D]
        decoded.tokens["semantic"] = torch.cat([class_I1D, self.basis.read(scores_IP)], 1)
        return decoded

    def _decode(self, betas_IV: Tensor, feature_IF: Tensor, turned: Turned) -> Decoded:
        own = {
            "image": feature_IF[:, : self.width_D],
            "text": feature_IF @ self.text_FD + self.text_D,
        }
        told_IC = self._tell(feature_IF, self.slope)
        if self.library is None or turned.gallery is None:
            image_ID, text_ID, p_IC = own["image"], own["text"], told_IC
        else:
            weight_IJ = self.library.posterior(betas_IV, turned.gallery)
            image_ID, text_ID = (
                F.normalize(own[kind], dim=1) + mix * F.normalize(mean_ID, dim=1)
                for kind, mix, mean_ID in zip(
                    own, self.mix_2, self.library.average(weight_IJ), strict=True
                )
            )
            p_IC = self.library.probabilities(weight_IJ, told_IC)
        return Decoded(
            embedding_ID=image_ID,
            text_embedding_ID=text_ID,
            logits_IC=torch.logit(p_IC, eps=LEAST),
        )

    def _tell(self, feature_IF: Tensor, slope: Tensor) -> Tensor:
        return tell(feature_IF @ self.label_FC + self.label_C, self.base_C, slope)

    def _choose(self, data: TrainingData) -> dict[str, float]:
        """s, T and eps, then the weights of the library, by validation images."""
        assert data.labels_IC is not None
        rows_I = data.is_validation_I
        betas_IV = data.mean_betas_IV[rows_I]
        label_IC = data.labels_IC[rows_I].float()
        turned = self._turn(data.n_repeats)
        feature_IF = self._posterior(betas_IV, turned)
        told = {slope: self._tell(feature_IF, torch.tensor(slope)) for slope in SLOPES}
        if self.library is None or turned.gallery is None:
            loss, slope = min(
                (log_loss(told_IC, label_IC), slope) for slope, told_IC in told.items()
            )
            self.slope.fill_(slope)
            return {"slope": slope, "log_loss": loss}
        log_IJ = self.library.log_likelihood(betas_IV, turned.gallery)
        loss, slope = self.library.choose(log_IJ, told, label_IC)
        self.slope.fill_(slope)
        true = {"image": data.image_embedding_ID, "text": data.mean_text_ID}
        scores: list[list[float]] = []
        for mix in MIXES:
            self.mix_2.fill_(mix)
            decoded = self.predict(betas_IV, data.subject, data.n_repeats)
            pairs = ((decoded.embedding_ID, "image"), (decoded.text_embedding_ID, "text"))
            scores.append([find_top1(found, true[kind], rows_I) for found, kind in pairs])
        best_2 = torch.tensor(scores).argmax(0)
        self.mix_2.copy_(torch.tensor(MIXES)[best_2])
        return {
            "slope": slope,
            "temperature": float(self.library.temperature),
            "eps": float(self.library.eps),
            "log_loss": loss,
            "image_mix": float(self.mix_2[0]),
            "text_mix": float(self.mix_2[1]),
        }

    def _named(self, data: TrainingData) -> dict[str, Tensor]:
        return {"image_embedding_ID": data.image_embedding_ID, **data.features}

    def n_parameters(self) -> dict[str, int]:
        """Weights, noise and prior; the library and the components are data."""
        skipped = ("basis.", "library.")
        n = sum(v.numel() for name, v in self.named_buffers() if not name.startswith(skipped))
        return {"trained": n, "deployed": n}

    def facts(self, subject: str) -> Mapping[str, float]:
        """What it explains of the responses of training pictures that it did not see."""
        return {"encoding.explained": float(self.explained_V.mean())}
