"""Decoders, one file a method. The file's name is the decoder's name; nothing else registers it.

A decoder file defines `CITATION`, `Config` (frozen dataclass, optimiser settings included) and
`Decoder`, a module:

    Decoder(config, n_voxels, width_D, seed)   n_voxels: int; a mapping subject -> int where per_subject is False
    targets: tuple[str, ...]                   cached CLIP arrays (names of the clip file) that training needs
    per_subject: bool                          one model a subject, or one for all; the latter trains on MixedBatch
    trains_alone(config) -> bool               optional static method, where per_subject is False: one model for each
                                               subject after all, by the code of the shared one (a
                                               baseline)
    select_targets(config) -> tuple[str, ...]  optional static method: the targets where they depend
    on the settings;
                                               'a_ITD|b_ITW' is the first of them that the clip file
                                               has
    from_data(config, data, seed) -> Decoder   optional class method: builds from a list of TrainingData what n_voxels
                                               and width_D do not determine; the further keywords of
                                               the constructor stand in `sizes`, arrays (such as a
                                               choice of voxels) are buffers
    sizes: dict[str, Any]                      optional, with from_data; what YAML can hold
    fit(data) -> dict of numbers               closed form decoders only; the row of the curve
    loss(batch, epoch) -> dict of terms        gradient decoders only; their sum is minimised, epoch counts fractions
    decode(betas_IV, subject) -> Decoded       inference on z-scored betas, mean of repeats; no tokens
    decode_tokens(betas_IV, subject)           optional: decode with `tokens`; large, so called for blocks of images
    phases(data) -> iterable of Phase          optional: trainings one after the other, instead of one on all data;
                                               the decoder freezes and frees its weights between two
                                               of them
    facts(subject) -> dict of numbers          optional: constants for metrics.json, by dotted name
    n_parameters() -> {"trained", "deployed"}

Axis letters: N trials, I images, V voxels, D embedding width, K captions, C categories, T tokens, W
token width, B images of a batch, S subjects.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


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
    features: dict[str, Tensor] = field(
        default_factory=dict
    )  # further targets by cached name, rows are images
    groups: dict[str, Tensor] = field(
        default_factory=dict
    )  # ROI group -> bool, members among V; stays on the CPU
    rois: dict[str, Tensor] = field(
        default_factory=dict
    )  # every ROI of the voxel file -> bool among V; on the CPU
    ncsnr_V: Tensor | None = None  # signal over noise deviation, from training trials
    labels_IC: Tensor | None = None  # bool, category visible in the picture

    def to(self, device: str) -> TrainingData:
        """The same data on another device."""
        moved = {
            f.name: v.to(device) for f in fields(self) if hasattr(v := getattr(self, f.name), "to")
        }
        return replace(
            self,
            **moved,
            features={name: value.to(device) for name, value in self.features.items()},
        )

    @cached_property
    def mean_betas_IV(self) -> Tensor:
        """Mean over the repeats of each image."""
        return _mean_by(self.betas_NV, self.image_N, len(self.nsd_id_I))

    @cached_property
    def mean_text_ID(self) -> Tensor:
        """Mean of the caption embeddings of each image, back on the unit sphere."""
        mean_ID = _mean_by(self.text_embedding_KD, self.caption_image_K, len(self.nsd_id_I))
        return mean_ID / mean_ID.norm(dim=1, keepdim=True)


def _mean_by(values: Tensor, group: Tensor, n: int) -> Tensor:
    """Mean of the rows of each of n groups."""
    sums = values.new_zeros((n, values.shape[1])).index_add_(0, group, values)
    return sums / group.bincount(minlength=n).to(values.dtype)[:, None]


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
    """One training step of a model for several subjects: images of each of them, subjects in
    order of their names.
    """

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
    tokens: dict[str, Tensor] = field(
        default_factory=dict
    )  # by the names of TOKEN_TARGETS, (I, T, W) each


# What predicted tokens are compared with, by stream: arrays of the clip file ('|': the first that
# it has). A stream of fewer tokens than its target is compared with the target's first ones.
TOKEN_TARGETS = {
    "fused": "semantic_tokens_ITD",
    "semantic": "semantic_tokens_ITD",
    "detail": "detail_tokens_ITD|detail_tokens_ITW",
    "text": "text_tokens_IUD",
}


def names() -> list[str]:
    """Names of all decoders: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_decoder(name: str) -> ModuleType:
    """Module of a decoder; only its own file is imported.

    Raises ValueError if no such decoder exists.
    """
    if name not in names():
        hint = get_close_matches(name, names(), 1)
        guess = f" (did you mean {hint[0]}?)" if hint else ""
        raise ValueError(
            f"decoder {name!r} does not exist{guess}; choose from {', '.join(names())}"
        )
    return importlib.import_module(f"{__name__}.{name}")


def find_targets(module: ModuleType, config: Any) -> tuple[str, ...]:
    """Cached CLIP arrays that training a decoder with these settings needs."""
    select = getattr(module.Decoder, "select_targets", None)
    targets: tuple[str, ...] = select(config) if select else module.Decoder.targets
    return targets


def trains_alone(module: ModuleType, config: Any) -> bool:
    """True if each subject has a model of its own."""
    return bool(
        module.Decoder.per_subject
        or getattr(module.Decoder, "trains_alone", lambda config: False)(config)
    )


def build(module: ModuleType, config: Any, data: Sequence[TrainingData], seed: int) -> Any:
    """An untrained decoder for these subjects.

    Raises ValueError if the data do not fit the settings.
    """
    if hasattr(module.Decoder, "from_data"):
        return module.Decoder.from_data(config, data, seed)
    sizes = {d.subject: d.betas_NV.shape[1] for d in data}
    n_voxels = sizes[data[0].subject] if module.Decoder.per_subject else sizes
    return module.Decoder(config, n_voxels, data[0].image_embedding_ID.shape[1], seed)


def save(folder: Path, decoder: Any, config: dict[str, Any]) -> None:
    """Write weights.safetensors and config.yaml into a folder that is not yet visible under its
    final name.

    `config` must hold decoder (name), n_voxels, width_D, seed and config (the resolved Config as a
    mapping); the `sizes` of a decoder that has them are added.
    """
    from ruamel.yaml import YAML
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()
    }
    save_file(state, folder / "weights.safetensors")
    if hasattr(decoder, "sizes"):
        config = {**config, "sizes": dict(decoder.sizes)}
    yaml = YAML()
    yaml.default_flow_style = False
    with (folder / "config.yaml").open("w") as file:
        yaml.dump(config, file)


def load(folder: Path, device: str = "cpu") -> tuple[Any, dict[str, Any]]:
    """Trained decoder and the content of its config.yaml; needs nothing but the folder.

    Raises ValueError if the folder is not a complete model.
    """
    from ruamel.yaml import YAML
    from safetensors.torch import load_file

    for name in ("config.yaml", "weights.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is not a trained model: it has no {name}; run the train stage (dvc "
                "repro train)"
            )
    config = YAML(typ="safe").load((folder / "config.yaml").read_text())
    module = load_decoder(config["decoder"])
    settings, sizes = module.Config(**config["config"]), config.get("sizes", {})
    decoder = module.Decoder(
        settings, config["n_voxels"], config["width_D"], config["seed"], **sizes
    )
    decoder.load_state_dict(load_file(folder / "weights.safetensors"))
    return decoder.to(device).eval(), config
