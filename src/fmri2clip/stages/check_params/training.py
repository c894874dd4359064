"""The models of a run, built without memory: weights at full size, and data without content.

Both are on torch's meta device, where tensors have a shape and nothing else, so that a new decoder
is planned like the others.

Letters: N trials, I images, V voxels, D embedding width, K captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmri2clip.core.params import (
    ALL,
    NO_LIBRARY,
    OWN,
    Params,
    decoder_config,
    run_library,
    run_split,
)
from fmri2clip.decoders import load_decoder
from fmri2clip.decoders.batches import Basis, Pictures, TrainingData
from fmri2clip.stages.check_params import sizes
from fmri2clip.stages.check_params.sizes import ClipShape, Subject
from fmri2clip.stages.check_params.steps import (
    META,
    Step,
    estimate_step,
    measure_step,
    without_autocast,
)

POOLED = ("image_embedding_ID", "text_embedding_KD")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a run: a decoder without memory, and data without content."""

    decoder: Any  # None where its constructor needs more keywords than expected_sizes gives
    config: Any
    data: Sequence[TrainingData]  # of its subjects
    n_train: Mapping[str, int]  # subject -> training images, without those for validation
    n_columns: Mapping[str, int]  # subject -> voxels of nsdgeneral, of which it reads a group
    closed_form: bool
    step: Step | None = None  # None in closed form

    @property
    def n_weights(self) -> int | None:
        """Weights that training decides; None if unknown."""
        return None if self.decoder is None else int(self.decoder.n_parameters()["trained"])

    @property
    def state_bytes(self) -> int:
        """Bytes of weights and buffers."""
        if self.decoder is None:
            return 0
        return sum(value.nbytes for value in self.decoder.state_dict().values())

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the weights that have a gradient."""
        if self.decoder is None or self.closed_form:
            return 0
        return sum(p.nbytes for p in self.decoder.parameters() if p.requires_grad)

    @property
    def feature_bytes(self) -> int:
        """Bytes of tokens and other features, which are mapped from the CLIP cache."""
        return sum(value.nbytes for d in self.data for value in d.features.values())


def find_models(
    params: Params,
    run_name: str,
    subjects: Mapping[str, Subject],
    clips: Mapping[str, ClipShape],
    quick: bool = False,
) -> list[Model]:
    """The models of a run: one a subject, or one for all.

    All have the step of the one with most voxels. quick: that step is estimated, not run.
    """
    run = params.runs[run_name]
    module = load_decoder(run.decoder)
    config = decoder_config(params, run_name, module.Config)
    alone = module.Decoder.trains_alone(config)
    groups = [[s] for s in run.subjects] if alone else [sorted(run.subjects)]
    models = [
        make_model(params, run_name, module.Decoder, config, [subjects[s] for s in group], clips)
        for group in groups
    ]
    if models[0].closed_form:
        return models
    largest = max(models, key=lambda model: sum(d.betas_NV.shape[1] for d in model.data))
    measure = estimate_step if quick else measure_step
    step = measure(largest.decoder, config, largest.data)
    return [replace(model, step=step) for model in models]


def make_model(
    params: Params,
    run_name: str,
    kind: Any,
    config: Any,
    subjects: Sequence[Subject],
    clips: Mapping[str, ClipShape],
) -> Model:
    """One model for these subjects. kind: the decoder's class."""
    run = params.runs[run_name]
    clip = clips[run.clip]
    n_validation = run_split(params, run_name).n_validation
    data = [make_data(params, run_name, kind, config, subject, clip) for subject in subjects]
    decoder = build(kind, config, data)
    return Model(
        decoder=decoder,
        config=config,
        data=data,
        n_train={d.subject: max(len(d.nsd_id_I) - n_validation, 1) for d in data},
        n_columns={s.name: s.n_voxels for s in subjects},
        closed_form=kind.closed_form,
    )


def make_data(
    params: Params, run_name: str, kind: Any, config: Any, subject: Subject, clip: ClipShape
) -> TrainingData:
    """Training data of a subject on the meta device; groups, rois and ncsnr_V have content."""
    split = run_split(params, run_name)
    n_sessions = kind.first_sessions(config, subject.name) or split.n_sessions
    if n_sessions:
        dataset = replace(params.dataset, sessions=n_sessions)
        subject = sizes.find_subject(replace(params, dataset=dataset), subject.name)
    n_images = subject.n_train_images
    if split.n_images:
        n_images = min(n_images, split.n_images + split.n_validation)
    n_trials = round(subject.n_train_trials * n_images / subject.n_train_images)
    groups, rois = sizes.find_members(params, subject)
    inside_V = groups[params.runs[run_name].voxels]
    n_voxels = int(inside_V.sum())
    n_captions = sizes.N_CAPTIONS * n_images
    return TrainingData(
        subject=subject.name,
        betas_NV=torch.empty(n_trials, n_voxels, device=META),
        image_N=torch.empty(n_trials, dtype=torch.int64, device=META),
        nsd_id_I=torch.empty(n_images, dtype=torch.int64, device=META),
        image_embedding_ID=torch.empty(n_images, clip.width_D, device=META),
        text_embedding_KD=torch.empty(n_captions, clip.width_D, device=META),
        caption_image_K=torch.empty(n_captions, dtype=torch.int64, device=META),
        caption_K=[],
        is_validation_I=torch.empty(n_images, dtype=torch.bool, device=META),
        features=make_features(kind.select_targets(config), clip, n_images),
        bases={
            name: Basis(
                torch.empty(shape[1:], device=META),
                torch.empty(shape, dtype=torch.float16, device=META),
            )
            for name, shape in clip.bases.items()
        },
        groups={name: torch.from_numpy(member[inside_V]) for name, member in groups.items()},
        rois={name: torch.from_numpy(member[inside_V]) for name, member in rois.items()},
        ncsnr_V=torch.ones(n_voxels),
        labels_IC=torch.empty(n_images, sizes.N_CATEGORIES, dtype=torch.bool, device=META),
        library=make_library(params, run_name, kind.select_targets(config), clip, n_images),
    )


def make_library(
    params: Params, run_name: str, targets: Sequence[str], clip: ClipShape, n_own: int
) -> Pictures | None:
    """The pictures that a model of this run weighs. n_own: training images of the subject."""
    name, asked = run_library(params, run_name)
    if asked == NO_LIBRARY:
        return None
    n = n_own
    if asked == ALL:
        subjects = sizes.find_subjects(params)
        n = sum(subjects[s].n_train_images for s in params.runs[run_name].subjects)
    elif asked != OWN:
        n = sum(1 for path in Path(params.libraries[name].pictures).rglob("*") if path.is_file())
    return Pictures(
        nsd_id_J=torch.empty(n, dtype=torch.int64, device=META),
        image_embedding_JD=torch.empty(n, clip.width_D, device=META),
        mean_text_JD=torch.empty(n, clip.width_D, device=META),
        labels_JC=torch.empty(n, sizes.N_CATEGORIES, dtype=torch.bool, device=META),
        is_labelled_J=torch.empty(n, dtype=torch.bool, device=META),
        features=make_features(targets, clip, n),
    )


def make_features(targets: Sequence[str], clip: ClipShape, n_images: int) -> dict[str, Tensor]:
    """The targets as the CLIP cache has them, float16; of 'a|b' the first that it has. Scores on
    components are float32.
    """
    features = {}
    scores = {f"{name}_components_IP": shape[0] for name, shape in clip.bases.items()}
    for target in targets:
        if target in scores:
            features[target] = torch.empty(n_images, scores[target], device=META)
        if target == "detail_class_IW" and clip.bases:
            width = clip.bases["detail"][2]
            features[target] = torch.empty(n_images, width, dtype=torch.float16, device=META)
        name = next((n for n in target.split("|") if n in clip.arrays), "")
        if name and name not in POOLED:
            shape = (n_images, *clip.arrays[name])
            features[name] = torch.empty(shape, dtype=torch.float16, device=META)
    return features


def build(kind: Any, config: Any, data: Sequence[TrainingData]) -> Any:
    """The decoder at full size without memory; None where expected_sizes does not give all that
    its constructor needs.
    """
    counts = {d.subject: d.betas_NV.shape[1] for d in data}
    n_voxels = counts[data[0].subject] if kind.per_subject else counts
    width_D = data[0].image_embedding_ID.shape[1]
    expected = kind.expected_sizes(config, data)
    try:
        with META:
            return kind(config, n_voxels, width_D, 0, **expected)
    except TypeError:
        return None


def find_streams(model: Model) -> dict[str, int]:
    """Numbers of one image in each stream of tokens that a decoder predicts.

    Where that needs content, those of the tokens that it learns.
    """
    if model.decoder is None or not model.decoder.offers_tokens:
        return {}
    data = model.data[0]
    betas_1V = torch.empty(1, data.betas_NV.shape[1], device=META)
    try:
        with without_autocast():
            tokens = model.decoder.decode_tokens(betas_1V, data.subject).tokens
    except (NotImplementedError, RuntimeError):
        tokens = {name: value[:1] for name, value in data.features.items() if "_tokens_" in name}
    return {stream: value[0].numel() for stream, value in tokens.items()}
