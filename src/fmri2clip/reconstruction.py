"""Pictures of test images from decoded features, from true features (the reference), or from none
(a null).

What a brain gives is calibrated on validation images first (calibration.py). A candidate is never
compared with the stimulus: `select_by_brain`, the only way to choose one, sees the decoded
embedding and the candidates. A file that already holds the pictures asked for is left as it is.

Letters: I rows (an image seen by two subjects is two rows), N candidates, H W C height, width and
channels of a picture, D embedding width, T tokens, W token width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip import calibration, generation, generators, params, resume, store
from fmri2clip.datasets.nsd import stimuli
from fmri2clip.decoders import TOKEN_TARGETS
from fmri2clip.evaluation import Model, decode, load_model, read_streams, required, select_voxels
from fmri2clip.generators import Conditioning
from fmri2clip.metrics.retrieval import centre
from fmri2clip.metrics.scoring import find_rows
from fmri2clip.params import MEAN_IMAGE, TARGET, Clip, Params, Reconstruction
from fmri2clip.testset import average_repeats, read_test_betas
from fmri2clip.training.cached import read_target

Array = NDArray[Any]
EMBEDDING, TEXT = "embedding", "text"
FIELDS = {
    EMBEDDING: "embedding_ID",
    TEXT: "text_tokens_IUW",
}  # of Conditioning; image tokens otherwise
MEAN_IMAGES = 2000  # training pictures behind the mean picture, at most


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where the inputs are: NSD tree, ROI files, CLIP caches, models."""

    raw: Path
    rois: Path
    clip: Path
    models: Path


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one subject's brain gives for some test images, in ascending order of their ids.

    query_ID: centred decoded embedding, norm 1; mean_D: mean embedding of the training images. Both
    only where candidates are to be chosen.
    """

    nsd_id_I: NDArray[np.int64]
    features: Mapping[str, Array]  # by the field names of Conditioning
    query_ID: Array | None = None
    mean_D: Array | None = None


class Studio:
    """The generator in use: kept for the next reconstruction, replaced by another, as a real
    one fills a GPU.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.key: tuple[str, Any] | None = None
        self.generator: generators.Generator | None = None

    def load(self, family: str, config: Any) -> generators.Generator:
        """The generator of these settings. Raises ValueError as generators.load does."""
        if self.generator is None or self.key != (family, config):
            self.generator = None  # frees its memory first
            self.generator, self.key = (
                generators.load(family, config, self.device),
                (family, config),
            )
        return self.generator


def reconstruct_all(settings: Params, files: Files, folder: Path, device: str = "cpu") -> None:
    """Write <folder>/<name>.h5 of every entry of `reconstructions`, and delete what no entry names.

    Each generator is loaded once, and only if some of its pictures are not there yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.stem not in settings.reconstructions:
            path.unlink()
    studio = Studio(device)
    for name, _ in sorted(settings.reconstructions.items(), key=lambda item: item[1].generator):
        reconstruct(name, settings, files, folder / f"{name}.h5", device, studio)


def reconstruct(
    name: str,
    settings: Params,
    files: Files,
    path: Path,
    device: str = "cpu",
    studio: Studio | None = None,
) -> None:
    """Write the pictures of `reconstructions.<name>` (kind 'reconstructions').

    Rows are subjects in order of the run, test images in order of their ids; pictures that are the
    same for all subjects (true features, mean image) stand there once, without subject_I. Raises
    ValueError as generators do.
    """
    entry = settings.reconstructions[name]
    if entry.source == MEAN_IMAGE:
        write_mean_image(settings, files, path)
        return
    family = find_family(settings, entry)
    config = params.generator_config(
        settings, entry.generator, generators.load_family(family).Config
    )
    clip = settings.clips[find_clip(settings, entry)]
    found, rows = read_features(settings, entry, files)
    features = {key: np.concatenate([d.features[key] for d in found]) for key in found[0].features}
    conditioning = Conditioning(clip_model=clip.model, **features)
    seed_IN = generators.draw_seeds(entry.seed, rows["nsd_id_I"], entry.n_candidates)
    chooses = entry.selection == "brain"
    key = make_key(entry, config, conditioning, seed_IN, rows, found if chooses else ())
    if is_made(path, key):
        print(f"{path} holds these pictures already")
        return
    generator = (studio or Studio(device)).load(family, config)
    select = select_by_brain(found, _load_embedding(clip, device)) if chooses else None
    partial, attrs = resume.resume_dir(f"reconstruct/{name}", key), {**asdict(entry), "key": key}
    generation.write_pictures(
        path, generator, conditioning, seed_IN, rows, partial, attrs, name, select=select
    )
    resume.remove(partial)


def read_features(
    settings: Params, entry: Reconstruction, files: Files
) -> tuple[list[Decoded], dict[str, Any]]:
    """Features of each subject (of all at once for true features) and the rows of the file, one
    after the other.
    """
    if entry.source == TARGET:
        target = read_targets(settings, entry, files, find_clip(settings, entry))
        return [target], {"nsd_id_I": target.nsd_id_I}
    subjects = settings.runs[entry.source].subjects
    found = [decode_subject(settings, entry, files, subject) for subject in subjects]
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


def decode_subject(settings: Params, entry: Reconstruction, files: Files, subject: str) -> Decoded:
    """Features that one subject's brain gives, calibrated on its validation images.

    Raises ValueError for a stream that the decoder does not predict.
    """
    model = load_model(files.models / entry.source, subject)
    rows_V = select_voxels(model, files.rois / "voxels" / f"{subject}.h5")
    betas = read_test_betas(files.rois / "test" / f"{subject}.h5", rows_V)
    rows = first_images(betas.nsd_id_I, settings.pictures.n_images)
    kinds = [entry.reads] + [TEXT] * entry.text + [EMBEDDING] * (entry.selection == "brain")
    decoded = decode_kinds(entry.source, model, subject, betas.mean_IV[rows], kinds)
    fitted = calibration.shift(model.inputs, entry.reads)
    if model.split["validation"]:
        validation_IV, true_ID = read_validation(
            settings.runs[entry.source].clip, model, files, subject, rows_V
        )
        known = decode_kinds(entry.source, model, subject, validation_IV, [entry.reads])[
            entry.reads
        ]
        fitted = calibration.fit(model.inputs, entry.reads, known, true_ID)
    calibrated: dict[str, Array] = {entry.reads: fitted.apply(decoded[entry.reads])}
    if entry.text:
        calibrated[TEXT] = calibration.shift(model.inputs, TEXT).apply(decoded[TEXT])
    features = {FIELDS.get(kind, "tokens_ITW"): array for kind, array in calibrated.items()}
    if entry.selection == "none":
        return Decoded(nsd_id_I=betas.nsd_id_I[rows], features=features)
    return Decoded(
        nsd_id_I=betas.nsd_id_I[rows],
        features=features,
        query_ID=centre(decoded[EMBEDDING], required(model, "mean_predicted_image_D")),
        mean_D=required(model, "mean_image_D"),
    )


def decode_kinds(
    run: str, model: Model, subject: str, betas_IV: Array, kinds: list[str]
) -> dict[str, Array]:
    """Kind -> what the decoder predicts: 'embedding' (I, D), or a stream of tokens (I, T, W).

    Raises ValueError for a kind that it does not predict.
    """
    found: dict[str, Array] = dict(
        read_streams(model, subject, betas_IV, [kind for kind in kinds if kind != EMBEDDING])
    )
    if (
        EMBEDDING in kinds
        and (embedding_ID := decode(model, subject, betas_IV).get("embedding_ID")) is not None
    ):
        found[EMBEDDING] = embedding_ID
    for kind in kinds:
        if kind not in found:
            raise ValueError(
                f"run {run} predicts no {kind}; reconstruct another run, or let it read what this "
                "one predicts"
            )
    return found


def read_validation(
    clip_name: str, model: Model, files: Files, subject: str, rows_V: Array
) -> tuple[NDArray[np.float32], Array]:
    """Mean patterns (I, V) and true embeddings (I, D) of the subject's validation images."""
    train = store.read(files.rois / "train" / f"{subject}.h5", "betas", ["betas_NV", "nsd_id_N"])
    trials_N = np.isin(train["nsd_id_N"], np.asarray(model.split["validation"]))
    mean_IV, nsd_id_I = average_repeats(
        train["betas_NV"][trials_N][:, rows_V], train["nsd_id_N"][trials_N]
    )
    path = files.clip / clip_name / "train.h5"
    cached = store.read(path, "clip", ["nsd_id_I", "image_embedding_ID"])
    return mean_IV, cached["image_embedding_ID"][find_rows(cached["nsd_id_I"], nsd_id_I, str(path))]


def read_targets(settings: Params, entry: Reconstruction, files: Files, clip_name: str) -> Decoded:
    """True features of the first test images of every subject."""
    shared = files.clip / clip_name / "shared.h5"
    wanted = set()
    for subject in settings.subjects:
        ids = np.unique(
            store.read(files.rois / "test" / f"{subject}.h5", "betas", ["nsd_id_N"])["nsd_id_N"]
        )
        wanted |= set(ids[first_images(ids, settings.pictures.n_images)].tolist())
    nsd_id_I = np.array(sorted(wanted), dtype=np.int64)
    row_I = find_rows(store.read(shared, "clip", ["nsd_id_I"])["nsd_id_I"], nsd_id_I, str(shared))
    names = {"embedding_ID": "image_embedding_ID"}
    if entry.reads != EMBEDDING:
        names = {"tokens_ITW": TOKEN_TARGETS[entry.reads]}
    if entry.text:
        names["text_tokens_IUW"] = TOKEN_TARGETS[TEXT]
    features = {key: read_target(shared, target)[1][row_I] for key, target in names.items()}
    return Decoded(nsd_id_I=nsd_id_I, features=features)


def select_by_brain(
    found: list[Decoded], embed: Callable[[NDArray[np.uint8]], Array]
) -> generation.Select:
    """Of each image's candidates the one whose embedding is nearest to the decoded one, by centred
    cosine.

    embed: pictures (I, H, W, C) to CLIP embeddings (I, D). Both sides are centred as in retrieval:
    the decoded embedding by the mean prediction, the candidates by the mean training image.
    """
    query_ID = np.concatenate([d.query_ID for d in found if d.query_ID is not None])
    mean_ID = np.concatenate(
        [np.tile(d.mean_D, (len(d.nsd_id_I), 1)) for d in found if d.mean_D is not None]
    )

    def select(rows: slice, image_INHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
        n, n_candidates = image_INHWC.shape[:2]
        embedded_IND = embed(image_INHWC.reshape(-1, *image_INHWC.shape[2:])).reshape(
            n, n_candidates, -1
        )
        shifted_IND = embedded_IND.astype(np.float64) - mean_ID[rows][:, None]
        cosine_IN = np.einsum("ind,id->in", shifted_IND, query_ID[rows]) / np.linalg.norm(
            shifted_IND, axis=2
        )
        return np.argmax(cosine_IN, axis=1)

    return select


def _load_embedding(clip: Clip, device: str) -> Callable[[NDArray[np.uint8]], Array]:
    """Pictures to CLIP embeddings; imported here because a CLIP model is needed for a choice
    only.
    """
    from fmri2clip.clip import encoder

    return encoder.load(clip, device).images


def write_mean_image(settings: Params, files: Files, path: Path) -> None:
    """The mean of at most MEAN_IMAGES training pictures, evenly taken, for every test image."""
    test, training = set(), set()
    for subject in settings.subjects:
        read = [
            np.unique(
                store.read(files.rois / part / f"{subject}.h5", "betas", ["nsd_id_N"])["nsd_id_N"]
            )
            for part in ("test", "train")
        ]
        test |= set(read[0][first_images(read[0], settings.pictures.n_images)].tolist())
        training |= set(read[1].tolist())
    ids = np.array(sorted(training))[:: max(1, -(-len(training) // MEAN_IMAGES))]
    total = sum(
        block.sum(axis=0, dtype=np.int64)
        for _, block in stimuli.iterate_images(files.raw, ids, 200)
    )
    mean_HWC = np.rint(total / len(ids)).astype(np.uint8)
    nsd_id_I = np.array(sorted(test), dtype=np.int64)
    image_INHWC = np.broadcast_to(mean_HWC, (len(nsd_id_I), 1, *mean_HWC.shape))
    arrays = {
        "nsd_id_I": nsd_id_I,
        "seed_IN": np.zeros((len(nsd_id_I), 1), np.int64),
        "image_INHWC": image_INHWC,
    }
    store.write(
        path, "reconstructions", arrays, {"source": MEAN_IMAGE, "n_training_pictures": len(ids)}
    )


def make_key(
    entry: Reconstruction, config: Any, conditioning: Conditioning, seed_IN: Array, rows: Mapping[str, Any],
    selecting: Sequence[Decoded] = (),
) -> str:  # fmt: skip
    """sha256 of all that decides the pictures: features, seeds, rows, generator with its files,
    selection, code.

    selecting: the decoded embeddings that choose among candidates.
    """
    places = [getattr(config, name, "") for name in ("path", "adapter")]  # hub names, or folders
    folders = [Path(place) for place in places if place and Path(place).is_dir()]
    queries = [
        array.tobytes() for d in selecting for array in (d.query_ID, d.mean_D) if array is not None
    ]
    parts = (
        repr(entry), repr(config), generation.digest(conditioning), seed_IN.tolist(), rows["nsd_id_I"].tolist(),
        list(rows.get("subject_I", ())), [hash_files(folder) for folder in folders],
        [hashlib.sha256(query).hexdigest() for query in queries],
        resume.code_digest("generation.py", "reconstruction.py", "clip/encoder.py", *(
            str(file.relative_to(resume.SOURCE)) for file in sorted((resume.SOURCE / "generators").glob("*.py"))
        )),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def hash_files(folder: Path) -> str:
    """sha256 of the names and contents of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as stream:
            found.update(
                str(file.relative_to(folder)).encode()
                + hashlib.file_digest(stream, "sha256").digest()
            )
    return found.hexdigest()


def is_made(path: Path, key: str) -> bool:
    """True if the file holds the pictures of this key."""
    try:
        return bool(store.read(path, "reconstructions", ["nsd_id_I"]).attrs.get("key") == key)
    except ValueError:
        return False
