"""Checks of params.yaml that reach beyond one section: does every name and path that it mentions
exist?
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fmri2clip import decoders, generators
from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip.names import check_names, read_architecture
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.params import (
    GROUPS,
    MEAN_IMAGE,
    NO_LIBRARY,
    OWN,
    TARGET,
    TRAINING_PICTURES,
    Params,
    Reconstruction,
    Run,
    decoder_config,
    generator_config,
    run_library,
    run_split,
)
from fmri2clip.core.strict import build, check_known
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import roi_groups
from fmri2clip.metrics.pictures.protocols import PROTOCOLS
from fmri2clip.stages.check_params.relations import check_relations
from fmri2clip.stages.check_params.sizes import find_clip

CLASSIFIER_WEIGHTS = "model.safetensors"  # of metrics/pictures/small_alexnet.py
RESERVED = ("stimulus", "record")  # files beside those of reconstructions


def validate(params: Params, where: str = "params.yaml") -> None:
    """Check what refers to something else.

    That is subjects, sessions, ROIs, files and folders, and what each run names and overrides.
    Relative paths are of the working directory. Loads every decoder. Raises ValueError at the first
    mistake.
    """
    if params.dataset.source == "folder":
        _check_folder(params, where)
    else:
        _check_nsd(params, where)
    for group in GROUPS:
        if group not in params.rois:
            raise ValueError(
                f"{where}: rois.{group} is missing, which stages ask for beside any other groups; "
                f"name {', '.join(GROUPS)}"
            )
    for name in params.clips:
        _validate_clip(params, name, where)
    for name, library in params.libraries.items():
        check_known(library.clip, params.clips, where, f"libraries.{name}.clip")
        if library.pictures != TRAINING_PICTURES and not Path(library.pictures).is_dir():
            raise ValueError(
                f"{where}: libraries.{name}.pictures is {library.pictures!r}, which is no folder; "
                f"name one, or {TRAINING_PICTURES} for the training pictures of subjects"
            )
    for name, section in params.decoders.items():
        check_known(name, decoders.names(), where, "decoders")
        build(decoders.load_decoder(name).Config, section, where, f"decoders.{name}")
    for name in params.runs:
        _validate_run(params, name, where)
    for name in params.generators:
        _validate_generator(params, name, where)
    for name in (TARGET, MEAN_IMAGE):
        if name in params.runs and params.reconstructions:
            raise ValueError(
                f"{where}: runs.{name}: as a source of reconstructions {name} means no run; rename "
                "the run"
            )
    for name in params.reconstructions:
        _validate_reconstruction(params, name, where)
    _validate_pictures(params, where)
    check_relations(params, where)


def _check_nsd(params: Params, where: str) -> None:
    """Subjects, preparation, sessions or world, and ROIs are some that NSD has."""
    for subject in params.subjects:
        check_known(subject, layout.SUBJECTS, where, "subjects")
    check_known(params.dataset.preparation, layout.PREPARATIONS, where, "dataset.preparation")
    for name, clip in params.clips.items():
        for subject in clip.components_from:
            check_known(subject, layout.SUBJECTS, where, f"clips.{name}.components_from")
    if params.dataset.source == "s3":
        _check_terms(params, where)
        _check_sessions(params, where)
    else:
        _check_world(params, where)
    _check_rois(params, where)


def _check_folder(params: Params, where: str) -> None:
    """What can be said before a folder is read, which check_data does."""
    # Here, so that other sources do without the readers of a folder.
    from fmri2clip.datasets.folder import masks, tables

    for subject in params.subjects:
        if not tables.LABEL.fullmatch(subject):
            raise ValueError(
                f"{where}: subjects has {subject!r}; name them by letters, digits and hyphens, as "
                f"{tables.TRIALS} of the folder does"
            )
    if params.dataset.sessions != "released":
        raise ValueError(
            f"{where}: dataset.sessions is {params.dataset.sessions}, but a folder is read whole; "
            "set released, and leave out of trials.tsv what is not to be read"
        )
    _at(f"{where}: ", lambda: masks.parse_groups(params.rois))


def _check_terms(params: Params, where: str) -> None:
    if not params.dataset.accept_terms:
        raise ValueError(
            f"{where}: dataset.source is s3, but dataset.accept_terms is false; NSD may be used "
            f"for research and education only, under the terms at {layout.TERMS_URL}. Read them, "
            "and if you accept them, set dataset.accept_terms: true. Nothing is downloaded before"
        )


def _check_sessions(params: Params, where: str) -> None:
    wanted = params.dataset.sessions
    released = {subject: layout.released_sessions(subject) for subject in params.subjects}
    if isinstance(wanted, int) and wanted > min(released.values(), default=wanted):
        found = ", ".join(f"{subject} {n}" for subject, n in released.items())
        raise ValueError(
            f"{where}: dataset.sessions is {wanted}, but NSD has fewer of some subjects ({found}); "
            "take a smaller number, or 'released' for all that each subject has"
        )


def _at(key: str, check: Callable[[], object]) -> None:
    """The check, whose ValueError is told where in the file it belongs."""
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{key}{error}") from None


def _check_world(params: Params, where: str) -> None:
    world = params.world
    n_images = layout.TRIALS_PER_SESSION // layout.REPETITIONS * world.n_sessions
    if world.n_shared >= n_images:
        raise ValueError(
            f"{where}: world.n_shared is {world.n_shared}, but a subject sees {n_images} pictures "
            f"in {world.n_sessions} sessions; choose 1 to {n_images - 1}"
        )
    if not Path(world.network).is_file():
        raise ValueError(
            f"{where}: world.network is {world.network!r}, which is no file; restore it with git, "
            "or build it with `make asset NAME=areas`"
        )


def _check_rois(params: Params, where: str) -> None:
    """Spelling of every entry, and masks of the user's own.

    Those are looked for where a subject's folder is there already: before the download it is not.
    """
    _at(f"{where}: ", lambda: roi_groups.parse_groups(params.rois))
    for subject in params.subjects:
        folder = layout.roi_dir(Paths().raw, subject)
        for group, tree in roi_groups.parse_groups(params.rois).items():
            for name in roi_groups.names(tree):
                own = name.partition("/")[0]
                path = folder / f"{own.removeprefix(layout.FILE_PREFIX)}.nii.gz"
                if own.startswith(layout.FILE_PREFIX) and folder.is_dir() and not path.is_file():
                    raise ValueError(
                        f"{where}: rois.{group}: {name!r}: {path} does not exist; put the mask "
                        "there, or remove the entry"
                    )


def _validate_clip(params: Params, name: str, where: str) -> None:
    clip = params.clips[name]
    key = f"{where}: clips.{name}."
    _at(key, lambda: check_names(clip))
    n_blocks = read_architecture(clip)["vision_cfg"].get("layers")
    for field in ("blocks", "detail_layers"):
        numbers = getattr(clip, field)
        if isinstance(n_blocks, int) and max(numbers, default=0) > n_blocks:
            raise ValueError(
                f"{key}{field} is {list(numbers)}, but {clip.model} has {n_blocks} blocks; name 1 "
                f"to {n_blocks}"
            )


def _validate_run(params: Params, name: str, where: str) -> None:
    run = params.runs[name]
    key = f"runs.{name}"
    check_known(run.decoder, decoders.names(), where, f"{key}.decoder")
    check_known(run.decoder, params.decoders, where, f"{key}.decoder", "a section of decoders")
    check_known(run.clip, params.clips, where, f"{key}.clip")
    check_known(run.voxels, params.rois, where, f"{key}.voxels")
    for subject in run.subjects:
        check_known(subject, params.subjects, where, f"{key}.subjects")
    _check_prompt(params, run, where)
    run_split(params, name, where)
    module = decoders.load_decoder(run.decoder)
    config = decoder_config(params, name, module.Config, where)
    module.Decoder.check_run(config, run.subjects, params.rois, f"{where}: {key}")
    _check_library(params, name, where)
    targets = module.Decoder.select_targets(config)
    if any("_tokens_" in target or "_components_" in target for target in targets):
        _check_tokens(params, run, where, key)
    _check_low_level(params, run, targets, where, key)
    _check_captions(params, targets, where, key)


def _check_captions(params: Params, targets: tuple[str, ...], where: str, key: str) -> None:
    """Tokens of captions are no target where a folder has none; an embedding has a stand-in."""
    if params.dataset.source != "folder" or not Path(params.dataset.folder).is_dir():
        return
    from fmri2clip.datasets.folder.tables import CAPTIONS

    path = Path(params.dataset.folder) / CAPTIONS
    words = ("text_tokens", "text_components")
    if any(target.startswith(words) for target in targets) and not path.is_file():
        raise ValueError(
            f"{where}: {key} learns tokens of captions, but {path} does not exist; set text_branch "
            "to false in its overrides, or leave the run out"
        )


def _check_library(params: Params, name: str, where: str) -> None:
    """It exists, and shows nothing that the split leaves out."""
    _at(f"{where}: ", lambda: run_library(params, name))
    _, asked = run_library(params, name)
    split = run_split(params, name)
    if asked not in (OWN, NO_LIBRARY) and (split.unseen_folds or split.holdout_clusters):
        raise ValueError(
            f"{where}: runs.{name} has library {asked}, whose pictures show what its split leaves "
            f"out (unseen_folds, holdout_clusters); set library to {OWN}"
        )


def _check_low_level(
    params: Params, run: Run, targets: tuple[str, ...], where: str, key: str
) -> None:
    """Low-level features of a decoder must be in the cache of its clip."""
    clip = params.clips[run.clip]
    if any(target.startswith("low_") for target in targets) and not clip.low_level:
        raise ValueError(
            f"{where}: {key} is guided by low-level features that clip {run.clip} does not cache; "
            f"set clips.{run.clip}.low_level to true, or w_low to 0"
        )
    if "block_1_ITW" in targets and 1 not in clip.blocks:
        raise ValueError(
            f"{where}: {key} has low_pool flatten, which needs block 1 in clips.{run.clip}.blocks; "
            "add it"
        )


def _check_prompt(params: Params, run: Run, where: str) -> None:
    n_prompts = len(params.clips[run.clip].prompts)
    if params.evaluation.prompt >= n_prompts:
        allowed = f"0 to {n_prompts - 1}, as clips.{run.clip} has {n_prompts} prompts"
        raise ValueError(
            f"{where}: evaluation.prompt is {params.evaluation.prompt}, expected {allowed}"
        )


def _check_tokens(params: Params, run: Run, where: str, key: str) -> None:
    if not params.clips[run.clip].tokens:
        raise ValueError(
            f"{where}: {key} learns tokens that clip {run.clip} does not cache; set "
            f"clips.{run.clip}.tokens to true and name clips.{run.clip}.detail_layers"
        )


def _validate_generator(params: Params, name: str, where: str) -> None:
    family = params.generators[name].get("family", "")
    check_known(str(family), generators.names(), where, f"generators.{name}.family")
    config = generator_config(params, name, generators.load_family(family).Config, where)
    _at(f"{where}: generators.{name}.", config.check_places)


def _validate_reconstruction(params: Params, name: str, where: str) -> None:
    """Source and generator exist, with one CLIP model, and tokens are cached where they are read.

    Whether a decoder predicts a stream of tokens, and a family reads it, is known when they are
    loaded.
    """
    entry = params.reconstructions[name]
    key = f"reconstructions.{name}"
    if name in RESERVED:
        raise ValueError(
            f"{where}: {key}: results of that name are written beside those of reconstructions; "
            "rename it"
        )
    check_known(entry.generator, params.generators, where, f"{key}.generator")
    check_known(
        entry.source,
        (*params.runs, TARGET, MEAN_IMAGE),
        where,
        f"{key}.source",
        "a key of runs or a keyword",
    )
    if entry.source == MEAN_IMAGE:
        return
    if entry.chosen_by:
        _check_judge(params, entry, where, key)
    wanted = params.generators[entry.generator]["clip_model"]
    clips = {clip: section for clip, section in params.clips.items() if section.model == wanted}
    own = params.runs[entry.source].clip if entry.source in params.runs else next(iter(clips), "")
    if own not in clips:
        has = params.clips[own].model if own else "no such clip"
        raise ValueError(
            f"{where}: {key}: generator {entry.generator} reads features of {wanted}, there is "
            f"{has}; choose another generator, or decode to its model"
        )
    if (entry.reads != "embedding" or entry.text) and not clips[own].tokens:
        raise ValueError(
            f"{where}: {key} reads tokens that clip {own} does not cache; set clips.{own}.tokens "
            "to true"
        )
    _check_n_tokens(params, entry, own, f"{where}: {key}")


def _check_n_tokens(params: Params, entry: Reconstruction, clip: str, key: str) -> None:
    """A generator that tells how many tokens it was trained on gets as many."""
    wanted = params.generators[entry.generator].get("n_tokens")
    if wanted is None or entry.reads not in ("semantic", "fused"):
        return
    shape = find_clip(params.clips[clip])
    if not shape.is_known:
        return
    given = shape.arrays[TOKEN_TARGETS["semantic"]][0]
    if wanted != given:
        raise ValueError(
            f"{key} reads {given} tokens of clip {clip}, but generators.{entry.generator}.n_tokens "
            f"is {wanted}; set it to {given}, or choose a generator that was trained on them"
        )


def _check_judge(params: Params, entry: Reconstruction, where: str, key: str) -> None:
    """The run that chooses has the same CLIP model, and every subject that is painted."""
    check_known(entry.chosen_by, params.runs, where, f"{key}.chosen_by")
    judge, source = params.runs[entry.chosen_by], params.runs[entry.source]
    missing = sorted(set(source.subjects) - set(judge.subjects))
    if judge.clip != source.clip or missing:
        raise ValueError(
            f"{where}: {key}: run {entry.chosen_by} cannot choose pictures of {entry.source}; name "
            f"a run of clip {source.clip} and subjects {', '.join(source.subjects)}"
        )


def _validate_pictures(params: Params, where: str) -> None:
    for protocol in params.pictures.protocols:
        check_known(protocol, PROTOCOLS, where, "pictures.protocols")
    if params.pictures.clip:
        check_known(params.pictures.clip, params.clips, where, "pictures.clip")
    classifier = Path(params.pictures.classifier)
    if params.pictures.classifier and not (classifier / CLASSIFIER_WEIGHTS).is_file():
        raise ValueError(
            f"{where}: pictures.classifier is {params.pictures.classifier!r}, a folder without "
            f"{CLASSIFIER_WEIGHTS}; build it with `make asset NAME=classifier`, or set '' for the "
            "published networks"
        )
    if params.pictures.weights and not Path(params.pictures.weights).is_dir():
        raise ValueError(
            f"{where}: pictures.weights is {params.pictures.weights!r}, no folder; name one, or '' "
            "for torch's hub cache"
        )
