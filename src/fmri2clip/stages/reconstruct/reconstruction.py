"""Pictures of test images from decoded features, from true features, or from none.

True features give the reference, the mean picture is a null. What a brain gives is calibrated on
validation images first (clip/calibration.py). A candidate is never compared with the stimulus: who
chooses one (selection.py) sees it beside the decoded embedding, or the measured response. The most
likely picture of a decoder's library is painted by nobody: it stands there as it is. A file that
already holds the pictures asked for is left as it is.

Letters: I rows (an image seen by two subjects is two rows), N candidates, H W C height, width and
channels of a picture, D embedding width, T tokens, W token width.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip import generators
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
from fmri2clip.artefacts.reconstructions import read_reconstructions, write_reconstructions
from fmri2clip.artefacts.stimuli import TRAIN, iterate_images, read_images
from fmri2clip.artefacts.trials import average_repeats, list_images, read_betas, read_test_betas
from fmri2clip.clip import calibration
from fmri2clip.clip.targets import SEMANTIC_STREAMS, TOKEN_TARGETS
from fmri2clip.core import params, resume
from fmri2clip.core.closure import code_digest
from fmri2clip.core.files import free_name, locked, sha256_file
from fmri2clip.core.params import MEAN_IMAGE, TARGET, Params, Reconstruction
from fmri2clip.core.rows import find_rows
from fmri2clip.decoders import Decoder
from fmri2clip.generators import Conditioning
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.reconstruct import generation, selection
from fmri2clip.stages.reconstruct.selection import Decoded

Array = NDArray[Any]
EMBEDDING = "embedding"
TEXT = "text"
LIBRARY = "library"
# Fields of Conditioning by kind; any other kind is a stream of image tokens.
FIELDS = {EMBEDDING: "embedding_ID", TEXT: "text_tokens_IUW"}
MEAN_IMAGES = 2000  # training pictures behind the mean picture, at most


class LoadedGenerator:
    """The generator in use: kept for the next reconstruction, replaced by another.

    Only one is loaded at a time, as a real one fills a GPU.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.key: tuple[str, Any] | None = None
        self.generator: generators.Generator | None = None

    def load(self, family: str, config: Any) -> generators.Generator:
        """The generator of these settings. Raises ValueError as generators.load does."""
        if self.generator is None or self.key != (family, config):
            self.generator = None  # frees its memory first
            self.generator = generators.load(family, config, self.device)
            self.key = (family, config)
        return self.generator


def reconstruct_all(settings: Params, paths: Paths, device: str = "cpu") -> None:
    """Write the pictures of every entry of `reconstructions`, and move what no entry names to
    data/aside: it may have been painted beforehand, and be in no cache.

    Each generator is loaded once, and only if some of its pictures are not there yet.
    """
    folder = paths.reconstructions_folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.h5")):
        if path.stem not in settings.reconstructions:
            aside = free_name(paths.aside / path.name)
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, aside)
            print(f"{path} is named by no entry of reconstructions: moved to {aside}")
    loaded = LoadedGenerator(device)
    # In order of their generators, so that each is loaded once.
    for name, _ in sorted(settings.reconstructions.items(), key=lambda item: item[1].generator):
        reconstruct(name, settings, paths, device, loaded)


def reconstruct(
    name: str,
    settings: Params,
    paths: Paths,
    device: str = "cpu",
    loaded: LoadedGenerator | None = None,
) -> None:
    """Write the pictures of `reconstructions.<name>` (kind 'reconstructions').

    Rows are subjects in order of the run, test images in order of their ids; pictures that are the
    same for all subjects (true features, mean image) stand there once, without subject_I. Raises
    ValueError as generators do, and while another process paints these pictures.
    """
    entry = settings.reconstructions[name]
    path = paths.reconstructions(name)
    if entry.source == MEAN_IMAGE:
        write_mean_image(settings, paths, path)
        return
    if entry.reads == LIBRARY:
        write_recalled(settings, entry, paths, path)
        return
    family = find_family(settings, entry)
    config = params.generator_config(
        settings, entry.generator, generators.load_family(family).Config
    )
    clip = settings.clips[find_clip(settings, entry)]
    found, rows = read_features(settings, entry, paths)
    features = {key: np.concatenate([d.features[key] for d in found]) for key in found[0].features}
    conditioning = Conditioning(clip_model=clip.model, **features)
    seed_IN = generators.draw_seeds(entry.seed, rows["nsd_id_I"], entry.n_candidates)
    chooses = entry.selection != "none"
    key = make_key(entry, config, conditioning, seed_IN, rows, found if chooses else ())
    lock = resume.RESUME_ROOT / f"reconstruct/{name}.lock"
    with locked(lock, 0, f"another job paints {path}; wait until it is done"):
        # All entries are outputs of one stage, so it runs again when one of them changes: pictures
        # that stay as they are must not be painted, nor their generator loaded, a second time.
        if is_made(path, key):
            print(f"{path} holds these pictures already")
            return
        generator = (loaded or LoadedGenerator(device)).load(family, config)
        select = _load_choice(settings, entry, paths, found, device) if chooses else None
        partial = resume.resume_dir(f"reconstruct/{name}", key)
        attrs = {**asdict(entry), "key": key}
        generation.write_pictures(
            path, generator, conditioning, seed_IN, rows, partial, attrs, name, select=select
        )
        resume.remove(partial)


def _load_choice(
    settings: Params, entry: Reconstruction, paths: Paths, found: list[Decoded], device: str
) -> generation.Select:
    clip_name = find_clip(settings, entry)
    clip = settings.clips[clip_name]
    if entry.selection == "brain":
        return selection.select_by_brain(found, selection.load_embedding(clip, device))
    basis = read_basis(paths.clip_basis(clip_name))
    return selection.select_by_encoding(found, selection.load_features(clip, basis, device))


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


def find_family(settings: Params, entry: Reconstruction) -> str:
    """Name of the generator's family. Raises ValueError if its entry names none."""
    if "family" not in settings.generators[entry.generator]:
        raise ValueError(
            f"generators.{entry.generator}.family is missing; choose from "
            f"{', '.join(generators.names())}"
        )
    return str(settings.generators[entry.generator]["family"])


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
    return model.decoder, betas.first[selection.N_TRIALS]


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


def write_recalled(settings: Params, entry: Reconstruction, paths: Paths, path: Path) -> None:
    """The picture of its library that a decoder finds most likely, for every test image.

    Raises ValueError for a decoder without a library, or with one of other than training pictures.
    """
    ids, names, recalled = [], [], []
    for subject in settings.runs[entry.source].subjects:
        model = load_model(paths.model(entry.source), subject)
        rows_V = select_voxels(model, paths.voxels(subject))
        betas = read_test_betas(paths.test_betas(subject), rows_V)
        rows = first_images(betas.nsd_id_I, settings.pictures.n_images)
        found = model.decoder.recall(torch.from_numpy(betas.mean_IV[rows]), betas.n_repeats)
        best_I = np.full(1, -1) if found is None else found[1][found[0].argmax(1)].numpy()
        if best_I.min() < 0:
            raise ValueError(
                f"run {entry.source} recalls no training pictures of {subject}; reads: library "
                "needs a decoder with library own or all"
            )
        ids.append(betas.nsd_id_I[rows])
        names += [subject] * len(best_I)
        recalled.append(best_I)
    image_IHWC = read_images(paths.stimuli(TRAIN), np.concatenate(recalled))
    arrays: dict[str, Any] = {
        "nsd_id_I": np.concatenate(ids),
        "subject_I": names,
        "seed_IN": np.zeros((len(names), 1), np.int64),
        "image_INHWC": image_IHWC[:, None],
    }
    write_reconstructions(path, arrays, {"source": entry.source, "reads": LIBRARY})


def write_mean_image(settings: Params, paths: Paths, path: Path) -> None:
    """The mean of at most MEAN_IMAGES training pictures, evenly taken, for every test image."""
    test: set[int] = set()
    training: set[int] = set()
    for subject in settings.subjects:
        shown_I = list_images(paths.test_betas(subject))
        test |= set(shown_I[first_images(shown_I, settings.pictures.n_images)].tolist())
        training |= set(list_images(paths.train_betas(subject)).tolist())
    step = max(1, -(-len(training) // MEAN_IMAGES))  # rounded up
    ids = np.array(sorted(training))[::step]
    # Sums of integers are exact, whatever the blocks.
    total = sum(
        block.sum(axis=0, dtype=np.int64)
        for block in iterate_images(paths.stimuli(TRAIN), ids, 200)
    )
    mean_HWC = np.rint(total / len(ids)).astype(np.uint8)
    nsd_id_I = np.array(sorted(test), dtype=np.int64)
    image_INHWC = np.broadcast_to(mean_HWC, (len(nsd_id_I), 1, *mean_HWC.shape))
    arrays = {
        "nsd_id_I": nsd_id_I,
        "seed_IN": np.zeros((len(nsd_id_I), 1), np.int64),
        "image_INHWC": image_INHWC,
    }
    write_reconstructions(path, arrays, {"source": MEAN_IMAGE, "n_training_pictures": len(ids)})


def make_key(
    entry: Reconstruction,
    config: Any,
    conditioning: Conditioning,
    seed_IN: Array,
    rows: Mapping[str, Any],
    selecting: Sequence[Decoded] = (),
) -> str:
    """sha256 of all that decides the pictures.

    These are features, seeds, rows, the generator with its files, selection and code. selecting:
    the decoded embeddings, or responses and decoders, that choose among candidates.
    """
    places = [getattr(config, name, "") for name in ("path", "adapter")]  # hub names, or folders
    folders = [Path(place) for place in places if place and Path(place).is_dir()]
    queries = [
        np.ascontiguousarray(array).tobytes()
        for d in selecting
        for array in (d.query_ID, d.mean_D, d.response_IV)
        if array is not None
    ]
    # Who judges, by all that it knows.
    for d in selecting:
        state = {} if d.judge is None else d.judge.state_dict()
        queries += [state[name].cpu().numpy().tobytes() for name in sorted(state)]
    parts = (
        repr(entry),
        repr(config),
        generation.digest(conditioning),
        seed_IN.tolist(),
        rows["nsd_id_I"].tolist(),
        list(rows.get("subject_I", ())),
        [hash_files(folder) for folder in folders],
        [hashlib.sha256(query).hexdigest() for query in queries],
        code_digest(generation.__name__, selection.__name__),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def hash_files(folder: Path) -> str:
    """sha256 of the names and contents of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        found.update(str(file.relative_to(folder)).encode() + bytes.fromhex(sha256_file(file)))
    return found.hexdigest()


def is_made(path: Path, key: str) -> bool:
    """True if the file holds the pictures of this key."""
    try:
        return bool(read_reconstructions(path, ["nsd_id_I"]).attrs.get("key") == key)
    except ValueError:
        return False
