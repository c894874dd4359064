"""Checks of params.yaml that reach beyond one section: does every name that it mentions exist?"""

from __future__ import annotations

from fmri2clip import decoders
from fmri2clip.datasets.nsd import layout, roi_groups
from fmri2clip.params import Params, Run, decoder_config, run_split
from fmri2clip.strict import check_known


def validate(params: Params, where: str = "params.yaml") -> None:
    """Check what refers to something else: subjects, sessions, ROIs, and what each run names and overrides.

    Loads every decoder that a run names. Raises ValueError at the first mistake.
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


def _check_terms(params: Params, where: str) -> None:
    if not params.dataset.accept_terms:
        raise ValueError(
            f"{where}: dataset.source is s3, but dataset.accept_terms is false; NSD may be used for research and "
            f"education only, under the terms at {layout.TERMS_URL}. Read them, and if you accept them, set "
            "dataset.accept_terms: true. Nothing is downloaded before"
        )


def _check_sessions(params: Params, where: str) -> None:
    wanted = params.dataset.sessions
    released = {subject: layout.released_sessions(subject) for subject in params.subjects}
    if isinstance(wanted, int) and wanted > min(released.values(), default=wanted):
        found = ", ".join(f"{subject} {n}" for subject, n in released.items())
        raise ValueError(
            f"{where}: dataset.sessions is {wanted}, but NSD has fewer of some subjects ({found}); take a smaller "
            "number, or 'released' for all that each subject has"
        )


def _validate_run(params: Params, name: str, where: str) -> None:
    run, key = params.runs[name], f"runs.{name}"
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
    for group in config.rois() if hasattr(config, "rois") else ():
        check_known(group, params.rois, where, f"{key}: detail_rois or semantic_rois", "a key of rois")
    if any("_tokens_" in target for target in decoders.find_targets(module, config)):
        _check_tokens(params, run, where, key)


def _check_prompt(params: Params, run: Run, where: str) -> None:
    n_prompts = len(params.clips[run.clip].prompts)
    if params.evaluation.prompt >= n_prompts:
        allowed = f"0 to {n_prompts - 1}, as clips.{run.clip} has {n_prompts} prompts"
        raise ValueError(f"{where}: evaluation.prompt is {params.evaluation.prompt}, expected {allowed}")


def _check_tokens(params: Params, run: Run, where: str, key: str) -> None:
    if not params.clips[run.clip].tokens:
        raise ValueError(
            f"{where}: {key} learns tokens that clip {run.clip} does not cache; set clips.{run.clip}.tokens to true "
            f"and name clips.{run.clip}.detail_layers"
        )
