"""Whether the data that params.yaml asks for are enough for what it does with them.

Counted from the parameters alone (sizes.py). In the first sessions of a tree, numbers of images are
estimates, so there MARGIN is left to the stage itself, which counts the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fmri2clip.core.params import Params, decoder_config, run_split
from fmri2clip.decoders import load_decoder
from fmri2clip.stages.check_params import sizes
from fmri2clip.stages.check_params.sizes import Subject
from fmri2clip.stages.check_params.training import make_data

MARGIN = 1.1


def check_relations(params: Params, where: str) -> None:
    """Raise ValueError for a key that asks for more images, sessions or voxels than there are.

    Of a simulated NSD, ROIs and components of the decoders are looked at, too: of a real one they
    are known when its files are there.
    """
    if params.dataset.source == "folder" and not Path(params.dataset.folder).is_dir():
        return  # check_data says so
    subjects = sizes.find_subjects(params)
    n_test = min((_most(params, s, s.n_test_images) for s in subjects.values()), default=0)
    scored = params.evaluation
    for key, value, most in (
        ("n_way", scored.n_way, n_test),
        ("n_hard", scored.n_hard, n_test - 1),
    ):
        if value > most:
            raise ValueError(
                f"{where}: evaluation.{key} is {value}, but a subject sees {n_test} test images; "
                f"choose at most {most}"
            )
    if params.dataset.source == "simulated":
        _check_clusters(params, subjects, where)
    for name in params.runs:
        _check_images(params, name, subjects, where)
        if params.dataset.source == "simulated":
            _check_voxels(params, name, subjects, where)


def _most(params: Params, subject: Subject, n_images: int) -> int:
    """Images that the subject sees at most, of which sizes.py gives n_images."""
    if params.dataset.source == "simulated":
        is_exact = subject.n_sessions == params.world.n_sessions
    else:
        is_exact = params.dataset.source == "folder" or subject.n_sessions in sizes.SEEN
    return n_images if is_exact else int(MARGIN * n_images)


def _check_images(params: Params, name: str, subjects: Mapping[str, Subject], where: str) -> None:
    """Sessions, and images for training, validation and the judge."""
    split = run_split(params, name)
    module = load_decoder(params.runs[name].decoder)
    config = decoder_config(params, name, module.Config)
    least_repeats = module.Decoder.least_repeats(config)
    for subject in (subjects[s] for s in params.runs[name].subjects):
        if split.n_sessions > subject.n_sessions:
            raise ValueError(
                f"{where}: split.n_sessions is {split.n_sessions} in run {name}, but "
                f"{subject.name} has {subject.n_sessions} sessions; choose at most as many"
            )
        n_images = _most(params, subject, subject.n_train_images)
        if split.holdout_clusters > n_images:
            raise ValueError(
                f"{where}: split.holdout_clusters is {split.holdout_clusters} in run {name}, but "
                f"{subject.name} has {n_images} training images; choose fewer"
            )
        n_train = n_images - split.n_validation
        least = max(split.n_images, 2, getattr(config, "n_folds", 0))
        if n_train - split.n_judge < least:
            raise ValueError(
                f"{where}: run {name} asks for {least} training images of {subject.name}, but "
                f"{n_images} less split.n_validation ({split.n_validation}) "
                f"and split.n_judge ({split.n_judge}) are {n_train - split.n_judge}; lower "
                "n_validation, n_judge or n_images of split, or n_folds of the decoder"
            )
        # Pictures are drawn, so how many repeats are left is known on average only.
        n_repeats = subject.n_train_trials - subject.n_train_images
        n_used = split.n_images or n_train - split.n_judge
        n_left = round(n_repeats * n_used / n_images)
        if n_left < least_repeats:
            raise ValueError(
                f"{where}: run {name} needs {least_repeats} repeats of training pictures of "
                f"{subject.name}, which has {n_repeats}, but some {n_left} among the {n_used} "
                "that train; lower n_validation or n_judge of split, or leave the run out"
            )


def _check_clusters(params: Params, subjects: Mapping[str, Subject], where: str) -> None:
    """Voxels of low alone and of high alone make two clusters or more of block_voxels."""
    size = params.hierarchy.block_voxels
    for subject in subjects.values():
        members, _ = sizes.find_members(params, subject)
        for group, other in (("low", "high"), ("high", "low")):
            n_voxels = int((members[group] & ~members[other]).sum())
            if round(n_voxels / size) < 2:
                raise ValueError(
                    f"{where}: hierarchy.block_voxels is {size}, but rois.{group} has "
                    f"{n_voxels} voxels of {subject.name} for itself; choose at most "
                    f"{n_voxels // 2}, or a larger group"
                )


def _check_voxels(params: Params, name: str, subjects: Mapping[str, Subject], where: str) -> None:
    """The run's voxels, and what the decoder's settings ask of ROIs and components."""
    run = params.runs[name]
    kind = load_decoder(run.decoder).Decoder
    config = decoder_config(params, name, load_decoder(run.decoder).Config)
    clip = sizes.find_clip(params.clips[run.clip])
    data = [make_data(params, name, kind, config, subjects[s], clip) for s in run.subjects]
    for one in data:
        if not one.betas_NV.shape[1]:
            raise ValueError(
                f"{where}: runs.{name}.voxels: group {run.voxels!r} has no voxel of "
                f"{one.subject}; choose another, or change rois.{run.voxels}"
            )
    together = 1 if kind.trains_alone(config) else len(data)
    if getattr(config, "batch_size", together) < together:
        raise ValueError(
            f"{where}: batch_size is {config.batch_size} in run {name}, which takes images of "
            f"{together} subjects into a batch; choose at least as many"
        )
    try:
        # The sizes of a model of one subject do not depend on who it is.
        kind.expected_sizes(config, data[:together])
    except ValueError as error:
        raise ValueError(f"{where}: run {name}: {error}") from None
