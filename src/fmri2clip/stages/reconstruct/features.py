"""What pictures are painted from: features that a brain gives, calibrated, or true ones.

Calibration is fitted on validation images (clip/calibration.py). Where candidates are to be chosen,
what the choice needs comes along (selection.py); no stimulus is read here.

Letters: I rows (an image seen by two subjects is two rows), D embedding width, T tokens, W token
width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache, read_target
from fmri2clip.artefacts.components import read_basis, read_components
from fmri2clip.artefacts.model import (
    Model,
    decode,
    load_model,
    read_streams,
    required,
    select_voxels,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import average_repeats, list_images, read_betas, read_test_betas
from fmri2clip.clip import calibration
from fmri2clip.clip.targets import SEMANTIC_STREAMS, TOKEN_TARGETS
from fmri2clip.core.params import TARGET, Params, Reconstruction
from fmri2clip.core.rows import find_rows
from fmri2clip.decoders import Decoder
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.reconstruct import selection
from fmri2clip.stages.reconstruct.selection import Decoded

Array = NDArray[Any]
EMBEDDING = "embedding"
TEXT = "text"
# Fields of Conditioning by kind; any other kind is a stream of image tokens.
FIELDS = {EMBEDDING: "embedding_ID", TEXT: "text_tokens_IUW"}


def read_features(
    settings: Params, entry: Reconstruction, paths: Paths
) -> tuple[list[Decoded], dict[str, Any]]:
    """Features of each subject, of all at once for true features, and the rows of the file."""
    if entry.source == TARGET:
        target = read_targets(settings, entry, paths, find_clip(settings, entry))
        return [target], {"nsd_id_I": target.nsd_id_I}
    subjects = settings.runs[entry.source].subjects
    found = [decode_subject(settings, entry, paths, subject) for subject in subjects]
    names = [s for s, d in zip(subjects, found, strict=True) for _ in d.nsd_id_I]
    return found, {"nsd_id_I": np.concatenate([d.nsd_id_I for d in found]), "subject_I": names}


def find_clip(settings: Params, entry: Reconstruction) -> str:
    """Key of the clip whose features are read.

    Raises ValueError if there is none of the generator's model.
    """
    if entry.source in settings.runs:
        return settings.runs[entry.source].clip
    wanted = settings.generators[entry.generator]["clip_model"]
    for name, clip in settings.clips.items():
        if clip.model == wanted:
            return name
    raise ValueError(
        f"generator {entry.generator} reads features of {wanted}, which no entry of clips has; add "
        "one"
    )


def first_images(nsd_id_I: Array, n: int) -> slice:
    """The first n of ids that ascend; all for 0."""
    assert (np.diff(nsd_id_I) > 0).all(), "ids must ascend"
    return slice(0, n or len(nsd_id_I))


def decode_subject(settings: Params, entry: Reconstruction, paths: Paths, subject: str) -> Decoded:
    """Features that one subject's brain gives, calibrated on its validation images.

    Raises ValueError for a stream that the decoder does not predict.
    """
    model = load_model(paths.model(entry.source), subject)
    rows_V = select_voxels(model, paths.voxels(subject))
    betas = read_test_betas(paths.test_betas(subject), rows_V)
    rows = first_images(betas.nsd_id_I, settings.pictures.n_images)
    kinds = [entry.reads] + [TEXT] * entry.text + [EMBEDDING] * (entry.selection == "brain")
    decoded = decode_kinds(
        entry.source, model, subject, betas.mean_IV[rows], betas.n_repeats, kinds
    )
    # A run may have no validation image: then the means are put right, and the size is left alone.
    fitted = calibration.shift(model.inputs, entry.reads)
    if model.split["validation"]:
        clip = settings.runs[entry.source].clip
        mean_IV, n_repeats, nsd_id_I, true_ID = read_validation(clip, model, paths, subject, rows_V)
        known = decode_kinds(entry.source, model, subject, mean_IV, n_repeats, [entry.reads])[
            entry.reads
        ]
        if entry.reads in SEMANTIC_STREAMS:
            scores = read_components(paths.clip_components(clip, subject))
            row_I = find_rows(scores["nsd_id_I"], nsd_id_I, "the components of training images")
            true_IP = scores["semantic_components_IP"][row_I]
            basis = read_basis(paths.clip_basis(clip))
            fitted = calibration.fit_tokens(
                model.inputs, entry.reads, known, true_ID, true_IP, basis
            )
        else:
            fitted = calibration.fit(model.inputs, entry.reads, known, true_ID)
    calibrated: dict[str, Array] = {entry.reads: fitted.apply(decoded[entry.reads])}
    # Text tokens by their means alone: the factor is fitted on true embeddings of images.
    if entry.text:
        calibrated[TEXT] = calibration.shift(model.inputs, TEXT).apply(decoded[TEXT])
    features = {FIELDS.get(kind, "tokens_ITW"): array for kind, array in calibrated.items()}
    # The query of the choice is centred, not calibrated: only its direction counts there.
    if entry.selection == "none":
        return Decoded(nsd_id_I=betas.nsd_id_I[rows], features=features)
    if entry.selection == "encoding":
        judge, response_IV = load_judge(entry.chosen_by, paths, subject)
        return Decoded(
            nsd_id_I=betas.nsd_id_I[rows],
            features=features,
            response_IV=response_IV[rows],
            judge=judge,
        )
    return Decoded(
        nsd_id_I=betas.nsd_id_I[rows],
        features=features,
        query_ID=centre(decoded[EMBEDDING], required(model, "mean_predicted_image_D")),
        mean_D=required(model, "mean_image_D"),
    )


def load_judge(run: str, paths: Paths, subject: str) -> tuple[Decoder, NDArray[np.float32]]:
    """The decoder of a run, and test responses (I, V) in its voxels, means of the first trials.

    Raises ValueError for a decoder that does not say how likely a response is.
    """
    model = load_model(paths.model(run), subject)
    if type(model.decoder).identify is Decoder.identify:
        raise ValueError(
            f"run {run} has no encoding model, so it cannot choose pictures; name a run of encoding"
        )
    rows_V = select_voxels(model, paths.voxels(subject))
    betas = read_test_betas(paths.test_betas(subject), rows_V)
    return model.decoder, betas.first.get(selection.N_TRIALS, betas.mean_IV)


def decode_kinds(
    run: str, model: Model, subject: str, betas_IV: Array, n_repeats: int, kinds: list[str]
) -> dict[str, Array]:
    """Kind -> what the decoder predicts: 'embedding' (I, D), or a stream of tokens (I, T, W).

    n_repeats: trials behind each row of betas_IV. Raises ValueError for a kind that it does not
    predict.
    """
    streams = [kind for kind in kinds if kind != EMBEDDING]
    found = read_streams(model, subject, betas_IV, streams, n_repeats)
    if EMBEDDING in kinds:
        decoded = decode(model, subject, betas_IV, n_repeats)
        if "embedding_ID" in decoded:
            found[EMBEDDING] = decoded["embedding_ID"]
    for kind in kinds:
        if kind not in found:
            raise ValueError(
                f"run {run} predicts no {kind}; reconstruct another run, or let it read what this "
                "one predicts"
            )
    return found


def read_validation(
    clip_name: str, model: Model, paths: Paths, subject: str, rows_V: Array
) -> tuple[NDArray[np.float32], int, NDArray[np.int64], Array]:
    """Mean patterns (I, V), the trials behind one, ids and true embeddings (I, D) of the subject's
    validation images.
    """
    train = read_betas(paths.train_betas(subject), ["betas_NV", "nsd_id_N"])
    trials_N = np.isin(train["nsd_id_N"], np.asarray(model.split["validation"]))
    mean_IV, nsd_id_I = average_repeats(
        train["betas_NV"][trials_N][:, rows_V], train["nsd_id_N"][trials_N]
    )
    path = paths.clip_train(clip_name, subject)
    cached = read_cache(path, ["nsd_id_I", "image_embedding_ID"])
    row_I = find_rows(cached["nsd_id_I"], nsd_id_I, str(path))
    _, n_trials_I = np.unique(train["nsd_id_N"][trials_N], return_counts=True)
    n_repeats = int(np.median(n_trials_I))  # as of test images
    return mean_IV, n_repeats, nsd_id_I, cached["image_embedding_ID"][row_I]


def read_targets(settings: Params, entry: Reconstruction, paths: Paths, clip_name: str) -> Decoded:
    """True features of the first test images of every subject."""
    shared = paths.clip_shared(clip_name)
    wanted = set()
    for subject in settings.subjects:
        ids = list_images(paths.test_betas(subject))
        wanted |= set(ids[first_images(ids, settings.pictures.n_images)].tolist())
    nsd_id_I = np.array(sorted(wanted), dtype=np.int64)
    row_I = find_rows(read_cache(shared, ["nsd_id_I"])["nsd_id_I"], nsd_id_I, str(shared))
    names = {"embedding_ID": "image_embedding_ID"}
    if entry.reads != EMBEDDING:
        names = {"tokens_ITW": TOKEN_TARGETS[entry.reads]}
    if entry.text:
        names["text_tokens_IUW"] = TOKEN_TARGETS[TEXT]
    features = {key: read_target(shared, target)[1][row_I] for key, target in names.items()}
    return Decoded(nsd_id_I=nsd_id_I, features=features)
