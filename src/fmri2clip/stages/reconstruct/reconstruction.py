"""Pictures of test images from decoded features, from true features, or from none.

True features give the reference, the mean picture is a null; features.py reads what is painted. A
candidate is never compared with the stimulus: who chooses one (selection.py) sees it beside the
decoded embedding, or the measured response. The most likely picture of a decoder's library is
painted by nobody: it stands there as it is. A file that already holds the pictures asked for is
left as it is.

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
from fmri2clip.artefacts.components import read_basis
from fmri2clip.artefacts.model import load_model, select_voxels
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.reconstructions import read_reconstructions, write_reconstructions
from fmri2clip.artefacts.stimuli import TRAIN, iterate_images, read_images
from fmri2clip.artefacts.trials import list_images, read_test_betas
from fmri2clip.core import params, resume
from fmri2clip.core.closure import code_digest
from fmri2clip.core.files import free_name, locked, sha256_file
from fmri2clip.core.params import MEAN_IMAGE, Params, Reconstruction
from fmri2clip.generators import Conditioning
from fmri2clip.stages.reconstruct import generation, selection
from fmri2clip.stages.reconstruct.features import find_clip, first_images, read_features
from fmri2clip.stages.reconstruct.selection import Decoded

Array = NDArray[Any]
LIBRARY = "library"
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


def find_family(settings: Params, entry: Reconstruction) -> str:
    """Name of the generator's family. Raises ValueError if its entry names none."""
    if "family" not in settings.generators[entry.generator]:
        raise ValueError(
            f"generators.{entry.generator}.family is missing; choose from "
            f"{', '.join(generators.names())}"
        )
    return str(settings.generators[entry.generator]["family"])


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
