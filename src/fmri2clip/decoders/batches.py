"""What training hands to decoders, and what decoders hand back.

Axis letters: N trials, I images, V voxels, D embedding width, K captions, C categories, T tokens, W
token width, P components of tokens, B images of a batch, J pictures of a library.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


def _mean_by(values: Tensor, group: Tensor, n: int) -> Tensor:
    """Mean of the rows of each of n groups."""
    sums = values.new_zeros((n, values.shape[1])).index_add_(0, group, values)
    return sums / group.bincount(minlength=n).to(values.dtype)[:, None]


@dataclass(frozen=True)
class Basis:
    """Mean of a stream's tokens and their leading components, orthonormal; on the CPU, without
    class token.
    """

    mean_TW: Tensor
    components_PTW: Tensor  # float16


@dataclass(frozen=True)
class Pictures:
    """Pictures that a decoder may weigh, with what is known of each; no responses.

    nsd_id_J: of pictures that are not NSD's negative. mean_text_JD: unit norm, zeros where a
    picture has no caption; is_labelled_J: its labels are known. features: as in TrainingData.
    """

    nsd_id_J: Tensor
    image_embedding_JD: Tensor  # unit norm
    mean_text_JD: Tensor
    labels_JC: Tensor  # bool
    is_labelled_J: Tensor  # bool
    features: dict[str, Tensor]

    def to(self, device: torch.device | str) -> Pictures:
        """The same pictures on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {n: value.to(device) for n, value in values.items() if isinstance(value, Tensor)}
        features = {name: value.to(device) for name, value in self.features.items()}
        return replace(self, **moved, features=features)


@dataclass
class TrainingData:
    """All that training may see of one subject; tensors of one device, float32 and int64."""

    subject: str
    betas_NV: Tensor  # z-scored single trials
    image_N: Tensor  # row in I of each trial
    nsd_id_I: Tensor
    image_embedding_ID: Tensor  # unit norm
    text_embedding_KD: Tensor  # unit norm
    caption_image_K: Tensor  # row in I of each caption
    caption_K: list[str]
    is_validation_I: Tensor  # bool
    # Further targets by cached name, rows are images; mapped from the file while on the CPU.
    features: dict[str, Tensor] = field(default_factory=dict)
    # Stream (semantic, detail, text) -> what its <stream>_components_IP are scores on.
    bases: dict[str, Basis] = field(default_factory=dict)
    # ROI group -> bool, members among V; stays on the CPU.
    groups: dict[str, Tensor] = field(default_factory=dict)
    # Every ROI of the voxel file -> bool, members among V; stays on the CPU.
    rois: dict[str, Tensor] = field(default_factory=dict)
    ncsnr_V: Tensor | None = None  # signal over noise deviation, from training trials
    labels_IC: Tensor | None = None  # bool, category visible in the picture
    library: Pictures | None = None  # of a run whose decoder asks for one

    def to(self, device: torch.device | str, *, features: bool = True) -> TrainingData:
        """The same data on another device; with features False, these stay where they are."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
        }
        if features:
            moved["features"] = {name: value.to(device) for name, value in self.features.items()}
        if self.library is not None:
            moved["library"] = self.library.to(device)
        return replace(self, **moved)

    @cached_property
    def mean_betas_IV(self) -> Tensor:
        """Mean over the repeats of each image."""
        return _mean_by(self.betas_NV, self.image_N, len(self.nsd_id_I))

    @cached_property
    def n_repeats(self) -> int:
        """Trials behind most rows of mean_betas_IV: their median."""
        return int(torch.bincount(self.image_N).median())

    @cached_property
    def mean_text_ID(self) -> Tensor:
        """Mean of the caption embeddings of each image, back on the unit sphere."""
        mean_ID = _mean_by(self.text_embedding_KD, self.caption_image_K, len(self.nsd_id_I))
        return mean_ID / mean_ID.norm(dim=1, keepdim=True)


@dataclass
class Batch:
    """One training step: images of one subject, one caption each."""

    subject: str
    betas_BV: Tensor
    image_embedding_BD: Tensor
    text_embedding_BD: Tensor
    image_id_B: Tensor  # nsd_id
    text_id_B: Tensor  # equal captions have equal numbers
    features: dict[str, Tensor] = field(default_factory=dict)
    mean_text_BD: Tensor | None = None  # mean of all captions of the image, unit norm
    labels_BC: Tensor | None = None  # float32, 1 where the category is visible


@dataclass
class MixedBatch:
    """One step of a model for several subjects: images of each, subjects in order of names."""

    parts: list[Batch]


@dataclass
class Phase:
    """One of several trainings of a decoder: on which subjects, with which settings."""

    name: str
    data: list[TrainingData]
    config: Any


@dataclass
class Decoded:
    """What a decoder offers for each image; None where it offers nothing."""

    embedding_ID: Tensor | None = None
    text_embedding_ID: Tensor | None = None
    logits_IC: Tensor | None = None
    # By the names of TOKEN_TARGETS, (I, T, W) each.
    tokens: dict[str, Tensor] = field(default_factory=dict)
