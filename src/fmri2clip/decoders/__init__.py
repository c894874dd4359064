"""Decoders, one folder a method, whose name is the decoder's; nothing else registers it.

`decoders/<name>/decoder.py` defines `CITATION`, `Config` (a frozen dataclass, optimiser settings
included) and `Decoder`, a subclass of `decoders.Decoder` below, whose docstrings are the contract.
What several decoders are made of lies in `parts/`; what training hands to them in `batches.py`.

Axis letters: N trials, I images, V voxels, D embedding width, K captions, C categories, T tokens, W
token width, B images of a batch, S subjects.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor, nn

from fmri2clip.core.strict import suggest
from fmri2clip.decoders.batches import Decoded, Phase, TrainingData


class Decoder(nn.Module):
    """What every decoder is: built from data, trained, and able to decode betas.

    A subclass has the constructor `(config, n_voxels, width_D, seed, **sizes)` and implements
    `predict`, and either `fit` (closed_form = True) or `loss`. Everything else has a default here.
    """

    config: Any

    targets: tuple[str, ...] = ("image_embedding_ID", "text_embedding_KD")
    """Cached CLIP arrays, by name, that training needs with some settings or other."""

    per_subject: bool = True
    """One model a subject, or one for all.

    The latter gets a mapping subject -> int as n_voxels, and MixedBatch.
    """

    closed_form: bool = False
    """True: `fit` solves for the weights at once. False: `loss` is minimised by the trainer."""

    sizes: Mapping[str, Any] | None = None
    """Further keywords of the constructor, which the data decide.

    Kept in config.yaml, so what YAML can hold.
    """

    subjects: tuple[str, ...] = ()
    """Subjects of a model that serves several."""

    roi_names: tuple[str, ...] = ()
    """ROIs whose share of attention can be read (clip_mused)."""

    # Before training

    @classmethod
    def select_targets(cls, config: Any) -> tuple[str, ...]:
        """The targets with these settings; 'a_ITD|b_ITW' is the first that the file has."""
        return cls.targets

    @classmethod
    def trains_alone(cls, config: Any) -> bool:
        """True if each subject has a model of its own, by nature or by a setting."""
        return cls.per_subject

    @classmethod
    def first_sessions(cls, config: Any, subject: str) -> int:
        """How many of a subject's sessions to train on; 0 for all that the split leaves."""
        return 0

    @classmethod
    def least_repeats(cls, config: Any) -> int:
        """Trials more than pictures that a subject must have among those that train."""
        return 0

    @classmethod
    def check_run(
        cls, config: Any, subjects: Sequence[str], groups: Iterable[str], where: str
    ) -> None:
        """Raise ValueError where the settings name subjects or ROI groups that the run lacks."""

    @classmethod
    def from_data(cls, config: Any, data: Sequence[TrainingData], seed: int) -> Self:
        """An untrained decoder for these subjects.

        Override it for what n_voxels, width_D and expected_sizes do not determine: arrays (such as
        a choice of voxels) are buffers. Raises ValueError if the data do not fit the settings.
        """
        sizes = {d.subject: d.betas_NV.shape[1] for d in data}
        n_voxels = sizes[data[0].subject] if cls.per_subject else sizes
        width_D = data[0].image_embedding_ID.shape[1]
        return cls(config, n_voxels, width_D, seed, **cls.expected_sizes(config, data))

    @classmethod
    def expected_sizes(cls, config: Any, data: Sequence[TrainingData]) -> dict[str, Any]:
        """Further keywords of the constructor: what data of these shapes decide.

        from_data passes them, and `make plan` counts weights with them before there are any data:
        then `data` are on torch's meta device, with shapes and no content, but for `groups`, `rois`
        and `ncsnr_V`.
        """
        return {}

    # Training

    def fit(self, data: TrainingData) -> dict[str, float]:
        """Solve for the weights; returns numbers for the row of the curve. Closed form only."""
        raise NotImplementedError(f"{type(self).__module__} is trained by gradients")

    def loss(self, batch: Any, epoch: float) -> dict[str, Tensor]:
        """Named terms, whose sum is minimised. Gradients only.

        epoch: counted in fractions, for schedules.
        """
        raise NotImplementedError(f"{type(self).__module__} is trained in closed form")

    def phases(self, data: Sequence[TrainingData]) -> Iterator[Phase]:
        """Trainings one after the other; between two, the decoder freezes and frees its weights."""
        yield Phase("", list(data), self.config)

    # Decoding

    def predict(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """What `decode` returns, for a module that is in evaluation mode and needs no gradients."""
        raise NotImplementedError(f"{type(self).__module__} has no predict")

    def predict_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """What `decode_tokens` returns; without tokens unless a decoder overrides it."""
        return self.predict(betas_IV, subject, n_repeats)

    def decode(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """What the decoder offers for each row of z-scored betas; no tokens.

        n_repeats: how many trials each row is the mean of.
        """
        with self.inference():
            return self.predict(betas_IV, subject, n_repeats)

    def decode_tokens(self, betas_IV: Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        """decode, with all streams of tokens that the decoder offers.

        They are large, so it is called for blocks of images.
        """
        with self.inference():
            return self.predict_tokens(betas_IV, subject, n_repeats)

    def identify(
        self, betas_IV: Tensor, features: Mapping[str, Tensor], n_repeats: int = 1
    ) -> Tensor | None:
        """Log-likelihood (queries x gallery) of pictures' features; None without a density."""
        return None

    @property
    def has_likelihood(self) -> bool:
        """Whether identify gives any."""
        return type(self).identify is not Decoder.identify

    def respond(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Responses (pictures x voxels) that are expected of pictures, of their features as in
        identify; None without an encoding model.
        """
        return None

    def recall(self, betas_IV: Tensor, n_repeats: int = 1) -> tuple[Tensor, Tensor] | None:
        """Posterior weights (queries x pictures) of a library, and the ids of its pictures, those
        of no NSD picture negative; None without a library.
        """
        return None

    def heldout(self) -> Mapping[str, Tensor]:
        """Predictions for training images that their weights have not seen; none by default."""
        return {}

    @property
    def offers_tokens(self) -> bool:
        """Whether decode_tokens gives any stream of tokens."""
        return type(self).predict_tokens is not Decoder.predict_tokens

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluation mode without gradients; afterwards the mode is what it was."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    # Subject tokens, of a decoder that has them

    @property
    def n_tokens(self) -> int:
        """Subject tokens whose outputs and attention can be read."""
        return 0

    @property
    def knows_subject(self) -> bool:
        """Whether anything behind a subject's input differs between subjects and can be swapped."""
        return False

    def decode_as(self, betas_IV: Tensor, subject: str, token_subject: str) -> Decoded:
        """decode with the tokens of another subject; the input map stays the subject's own."""
        raise NotImplementedError(f"{type(self).__module__} knows no subjects")

    def read_tokens(self, betas_IV: Tensor, subject: str) -> dict[str, Tensor]:
        """Outputs of the tokens by name, (I, W) each."""
        raise NotImplementedError(f"{type(self).__module__} has no subject tokens")

    def read_attention(self, betas_IV: Tensor, subject: str, rollout: bool = False) -> Tensor:
        """Attention (I, T, R) of the tokens over roi_names; rollout: through all layers."""
        raise NotImplementedError(f"{type(self).__module__} has no subject tokens")

    # What it states about itself

    def n_parameters(self) -> dict[str, int]:
        """Numbers that are trained, and those that decoding needs (deployed)."""
        n = sum(value.numel() for value in (*self.parameters(), *self.buffers()))
        return {"trained": n, "deployed": n}

    def facts(self, subject: str) -> Mapping[str, float]:
        """Constants for metrics.json, by dotted name."""
        return {}


def names() -> list[str]:
    """Names of all decoders: the folders here that hold a decoder.py."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/decoder.py"))


def load_decoder(name: str) -> ModuleType:
    """Module of a decoder, with CITATION, Config and Decoder; only its own folder is imported.

    Raises ValueError if no such decoder exists.
    """
    if name not in names():
        raise ValueError(
            f"decoder {name!r} does not exist{suggest(name, names())}; choose from "
            f"{', '.join(names())}"
        )
    return importlib.import_module(f"{__name__}.{name}.decoder")
