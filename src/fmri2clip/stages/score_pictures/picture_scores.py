"""Measure all reconstructions of test images, subject by subject, under every protocol asked for.

Each file of pictures gives a tree of numbers with intervals (as metrics.json of a run) and scores
of single images, by the names <protocol>.<metric>. What cannot be measured stands in the record
with its reason.

Letters: I images, V voxels, H W C height, width and channels of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.reconstructions import list_subjects, read_pictures
from fmri2clip.artefacts.scores import pack_scores, write_predictions
from fmri2clip.artefacts.stimuli import TEST, TRAIN, map_images
from fmri2clip.artefacts.trials import average_repeats, list_images, read_betas, read_voxels
from fmri2clip.clip import encoder
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Clip, Params
from fmri2clip.metrics.pictures import networks_torchvision, small_alexnet
from fmri2clip.metrics.pictures.brain_correlation import PREFIX as BRAIN_PREFIX
from fmri2clip.metrics.pictures.brain_correlation import (
    BrainCorrelation,
    EncodingModel,
    Measured,
    fit_encoding,
)
from fmri2clip.metrics.pictures.evaluator import Evaluator, SubjectEvaluation
from fmri2clip.metrics.pictures.networks import Network, from_encoder
from fmri2clip.metrics.pictures.protocols import Protocol, find_protocol
from fmri2clip.metrics.pictures.resizing import PictureSet
from fmri2clip.metrics.statistics import Scores
from fmri2clip.metrics.summary import summarise

Array = NDArray[Any]
STIMULUS = "stimulus"  # row of what the stimuli themselves score through the brain: a ceiling
# OpenAI's own file, whose address holds its hash
CLIP_SHA256 = {
    "ViT-L-14-quickgelu/openai": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
}


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks by slot; missing: slot -> why there is none."""

    networks: Mapping[str, Network]
    missing: Mapping[str, str]

    @property
    def classifier(self) -> Network | None:
        """What brain correlation reads, or None."""
        return self.networks.get("alexnet")


@dataclass(frozen=True, kw_only=True)
class Brain:
    """Test patterns of one subject, its regions, and its encoding model.

    The model was fitted on the subject's training images; reason: why there is none. missing:
    metric -> why the subject lacks it.
    """

    measured: Measured
    model: EncodingModel | None
    reason: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)


def score_pictures(
    settings: Params,
    paths: Paths,
    device: str = "cpu",
    pictures: Mapping[str, Path] | None = None,
) -> None:
    """Write numbers and scores of single pictures of every reconstruction, and of `stimulus`.

    pictures: name -> file of reconstructions; those of the parameters if not given. Raises
    ValueError if files do not belong together.
    """
    if pictures is None:
        pictures = {name: paths.reconstructions(name) for name in settings.reconstructions}
    protocols = [find_protocol(name) for name in settings.pictures.protocols]
    networks = {protocol.name: load_networks(settings, protocol, device) for protocol in protocols}
    threads = settings.compute.threads
    measures_brain = any(protocol.brain for protocol in protocols)
    runs: dict[str, dict[str, Scores]] = {name: {} for name in pictures}
    record: dict[str, Any] = {}
    for subject in settings.subjects:
        given = read_all(pictures, subject, find_images(settings, paths, subject))
        if not given:
            continue
        # Files may hold pictures of different images: the stimuli of all are read once.
        ids = np.unique(np.concatenate([made.nsd_id_I for made in given.values()]))
        seen = PictureSet(nsd_id_I=ids, images_IHWC=map_images(paths.stimuli(TEST), ids))
        # One encoding model, on the first protocol's classifier, serves every protocol.
        classifier = networks[protocols[0].name].classifier if measures_brain else None
        brain = read_brain(settings, paths, subject, classifier, device)
        found: dict[str, list[Scores]] = {name: [] for name in given}
        for protocol in protocols:
            evaluations = measure(protocol, seen, given, networks[protocol.name], brain, threads)
            for name, evaluation in evaluations.items():
                found[name].append(prefix(evaluation.scores(), protocol.name))
                facts = evaluation.record()
                if protocol.brain and brain.model:
                    facts["missing"] |= brain.missing
                record.setdefault(protocol.name, {}).setdefault(name, {})[subject] = facts
        for protocol in protocols if brain.model else ():
            found.setdefault(STIMULUS, []).extend(score_stimuli(protocol, seen, brain))
        for name, parts in found.items():
            runs.setdefault(name, {})[subject] = join(parts)
    n_bootstrap = settings.evaluation.n_bootstrap
    for name, run in runs.items():
        tree = summarise(run, n_bootstrap, settings.evaluation.seed)
        write_json(paths.picture_metrics(name), tree)
        packed = {subject: pack_scores(one) for subject, one in run.items()}
        write_predictions(paths.picture_scores(name), packed)
    write_json(
        paths.picture_metrics("record"),
        {protocol: condense(entries) for protocol, entries in record.items()},
    )


def find_images(settings: Params, paths: Paths, subject: str) -> NDArray[np.int64]:
    """Ids of the subject's test images that are reconstructed."""
    return list_images(paths.test_betas(subject))[: settings.pictures.n_images or None]


def read_all(
    pictures: Mapping[str, Path], subject: str, nsd_id_I: NDArray[np.int64]
) -> dict[str, PictureSet]:
    """Name -> pictures of this subject's images, from every file that has some of it, or of all."""
    found = {}
    for name, path in pictures.items():
        # A file without subjects holds what is the same for all: true features, the mean picture.
        subjects = list_subjects(path)
        if subjects and subject not in subjects:
            continue
        ids_I, images_IHWC = read_pictures(path, subject)
        rows_I = np.isin(ids_I, nsd_id_I)
        found[name] = PictureSet(nsd_id_I=ids_I[rows_I], images_IHWC=images_IHWC[rows_I])
    return found


def score_stimuli(protocol: Protocol, seen: PictureSet, brain: Brain) -> list[Scores]:
    """Brain correlation of the stimuli, which no reconstruction is expected to exceed."""
    if not protocol.brain or brain.model is None:
        return []
    r = BrainCorrelation(model=brain.model, measured=brain.measured).score(seen)
    weight_I = np.ones(len(seen.nsd_id_I))
    per_image = {name: (np.nan_to_num(r_I), weight_I) for name, r_I in r.items()}
    return [prefix(Scores(nsd_id_I=seen.nsd_id_I, per_image=per_image), protocol.name)]


def load_networks(settings: Params, protocol: Protocol, device: str) -> Networks:
    """A protocol's networks: stand-ins where the parameters name them, else the published ones."""
    wanted = settings.pictures
    networks: dict[str, Network] = {}
    missing: dict[str, str] = {}
    # A stand-in replaces AlexNet only; the other slots stay empty, with the reason in the record.
    if wanted.classifier:
        networks["alexnet"] = small_alexnet.load(Path(wanted.classifier), device)
        reason = (
            f"pictures.classifier ({wanted.classifier}) stands in for AlexNet alone; there is no "
            "stand-in for this"
        )
        missing = {
            metric.slot: reason
            for metric in protocol.networks
            if metric.slot not in ("alexnet", "clip")
        }
    else:
        local = find_copies(Path(wanted.weights)) if wanted.weights else {}
        tags = [metric.weights for metric in protocol.networks]
        local = {tag: path for tag, path in local.items() if tag in tags}
        networks, missing = networks_torchvision.load_networks(
            protocol, local, download=wanted.download, device=device
        )
    tag = next(metric.weights for metric in protocol.networks if metric.slot == "clip")
    if wanted.clip:
        networks["clip"] = load_clip(settings.clips[wanted.clip], tag, device)
    else:
        missing["clip"] = "pictures.clip names no entry of clips"
    return Networks(networks=networks, missing=missing)


def load_clip(clip: Clip, tag: str, device: str) -> Network:
    """A CLIP model in the slot `clip`, in fp32 whatever the cache's precision."""
    model = _load_encoder(replace(clip, precision="fp32"), device)
    # A copy on disk bears another tag than the published weights: it is known by its hash.
    is_published = (
        f"{clip.model}/{clip.pretrained}" == tag or model.weights_sha256 == CLIP_SHA256.get(tag)
    )
    return from_encoder(model, stand_in=not is_published, weights=tag if is_published else "")


@cache
def _load_encoder(clip: Clip, device: str) -> encoder.Encoder:
    return encoder.load(clip, device)


def find_copies(folder: Path) -> dict[str, str]:
    """Weights tag -> path, of the published weights that lie in a folder by their own names."""
    if not folder.is_dir():
        raise ValueError(
            f"pictures.weights is {str(folder)!r}, no folder; name one, or '' for torch's hub cache"
        )
    tags = networks_torchvision.SOURCES
    paths = {tag: folder / networks_torchvision.find_url(tag).rsplit("/", 1)[-1] for tag in tags}
    return {tag: str(path) for tag, path in paths.items() if path.is_file()}


def read_brain(
    settings: Params,
    paths: Paths,
    subject: str,
    classifier: Network | None,
    device: str = "cpu",
) -> Brain:
    """Patterns of the test images, all voxels, and an encoding model.

    Regions are the ROI groups of params.yaml.
    """
    voxels = read_voxels(paths.voxels(subject), ["roi_VG", "roi_names_G"])
    names = [str(name) for name in voxels["roi_names_G"]]
    members = {group: voxels["roi_VG"][:, names.index(f"group/{group}")] for group in settings.rois}
    # A correlation across the voxels of a region needs two of them.
    regions = {group: member_V for group, member_V in members.items() if member_V.sum() > 1}
    missing = {
        f"{BRAIN_PREFIX}.{group}": f"{member_V.sum()} voxels, a correlation across them needs 2"
        for group, member_V in members.items()
        if group not in regions
    }
    test = read_betas(paths.test_betas(subject), ["betas_NV", "nsd_id_N"])
    mean_IV, nsd_id_I = average_repeats(test["betas_NV"], test["nsd_id_N"])
    model: EncodingModel | None = None
    reason = ""
    if not settings.pictures.brain:
        reason = "pictures.brain is false"
    elif classifier is None:
        reason = "no classifier could be loaded to fit an encoding model on"
    else:
        train = read_betas(paths.train_betas(subject), ["betas_NV", "nsd_id_N"])
        betas_IV, training_I = average_repeats(train["betas_NV"], train["nsd_id_N"])
        images = PictureSet(
            nsd_id_I=training_I, images_IHWC=map_images(paths.stimuli(TRAIN), training_I)
        )
        seed = settings.evaluation.seed
        model = fit_encoding(classifier, images, betas_IV, seed=seed, device=device)
    return Brain(
        measured=Measured(nsd_id_I=nsd_id_I, betas_IV=mean_IV, regions=regions),
        model=model,
        reason=reason,
        missing=missing,
    )


def measure(
    protocol: Protocol,
    seen: PictureSet,
    given: Mapping[str, PictureSet],
    networks: Networks,
    brain: Brain,
    threads: int = 1,
) -> dict[str, SubjectEvaluation]:
    """Every set of pictures of one subject under one protocol."""
    correlation = (
        BrainCorrelation(model=brain.model, measured=brain.measured) if brain.model else None
    )
    # Sets of the same images share an evaluator, and with it the features of the stimuli.
    evaluators: dict[bytes, Evaluator] = {}
    found = {}
    for name, made in given.items():
        key = np.sort(made.nsd_id_I).tobytes()
        if key not in evaluators:
            stimuli_I = seen.select(np.sort(made.nsd_id_I), "the stimuli")
            evaluators[key] = Evaluator(
                protocol,
                stimuli_I,
                networks.networks,
                networks.missing,
                correlation,
                brain.reason,
                threads,
            )
        found[name] = evaluators[key].score(made)
    return found


def prefix(scores: Scores, protocol: str) -> Scores:
    """The same scores by the names <protocol>.<metric>."""
    return Scores(
        nsd_id_I=scores.nsd_id_I,
        per_image={f"{protocol}.{k}": v for k, v in scores.per_image.items()},
    )


def join(parts: Sequence[Scores]) -> Scores:
    """Scores of the same images side by side."""
    assert all(np.array_equal(part.nsd_id_I, parts[0].nsd_id_I) for part in parts), (
        "scores of different images"
    )
    return Scores(
        nsd_id_I=parts[0].nsd_id_I,
        per_image={k: v for part in parts for k, v in part.per_image.items()},
    )


def condense(entries: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What all records of a protocol share, and for each reconstruction what could not be measured.

    entries: reconstruction -> subject -> record.
    """
    first = next(iter(next(iter(entries.values())).values()))
    shared = {key: value for key, value in first.items() if key not in ("missing", "n_images")}
    shared["networks"] = {
        slot: facts for slot, facts in first["networks"].items() if slot != "brain"
    }
    shared["n_images"] = {
        name: {subject: one["n_images"] for subject, one in subjects.items()}
        for name, subjects in entries.items()
    }
    shared["missing"] = {
        name: join_reasons({subject: one["missing"] for subject, one in subjects.items()})
        for name, subjects in entries.items()
    }
    brains = {
        subject: one["networks"]["brain"]
        for subjects in entries.values()
        for subject, one in subjects.items()
        if "brain" in one["networks"]
    }
    if brains:
        facts = ("layers", "alpha", "cv_error", "n_training_images")
        shared["brain"] = {
            subject: {name: brain[name] for name in facts} for subject, brain in brains.items()
        }
    return shared


def join_reasons(missing: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Metric -> why there is no mean over subjects: what all say, else each subject's reason.

    missing: subject -> metric -> reason.
    """
    joined = {}
    for metric in dict.fromkeys(name for reasons in missing.values() for name in reasons):
        reasons = {subject: by[metric] for subject, by in missing.items() if metric in by}
        if len(reasons) == len(missing) and len(set(reasons.values())) == 1:
            joined[metric] = next(iter(reasons.values()))
        else:
            joined[metric] = "; ".join(f"{subject}: {why}" for subject, why in reasons.items())
    return joined
