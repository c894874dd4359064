"""Checks of params.yaml that reach beyond one section: does every name that it mentions exist?"""

from __future__ import annotations

from fmri2clip import decoders, generators
from fmri2clip.core.params import (
    MEAN_IMAGE,
    TARGET,
    Params,
    Run,
    decoder_config,
    generator_config,
    run_split,
)
from fmri2clip.core.strict import check_known
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import roi_groups
from fmri2clip.metrics.pictures.protocols import PROTOCOLS

RESERVED = ("stimulus", "record")  # files beside those of reconstructions


def validate(params: Params, where: str = "params.yaml") -> None:
    """Check what refers to something else.

    That is subjects, sessions, ROIs, and what each run names and overrides. Loads every decoder
    that a run names. Raises ValueError at the first mistake.
    """
    for subject in params.subjects:
        check_known(subject, layout.SUBJECTS, where, "subjects")
    check_known(params.dataset.preparation, layout.PREPARATIONS, where, "dataset.preparation")
    if params.dataset.source == "s3":
        _check_terms(params, where)
        _check_sessions(params, where)
    try:
        roi_groups.parse_groups(params.rois)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
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
    targets = module.Decoder.select_targets(config)
    if any("_tokens_" in target or "_components_" in target for target in targets):
        _check_tokens(params, run, where, key)
    _check_low_level(params, run, targets, where, key)


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
    generator_config(params, name, generators.load_family(family).Config, where)


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


def _validate_pictures(params: Params, where: str) -> None:
    for protocol in params.pictures.protocols:
        check_known(protocol, PROTOCOLS, where, "pictures.protocols")
    if params.pictures.clip:
        check_known(params.pictures.clip, params.clips, where, "pictures.clip")
