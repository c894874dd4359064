"""Features of every picture and caption that the decoders use, computed once.

Files are data/clip/<clip>/train/<subject>.h5 with the pictures that only this subject sees, and
shared.h5 with those that all subjects see, the test set. Features are written block by block and a
killed job goes on at the next block. A file that holds what would be computed is left alone, so a
subject more costs the time of its own pictures.

Letters: I images, K captions (the first five of each picture), C categories, P prompts, D
embedding, T tokens, W width, U text tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fmri2clip.artefacts.clip_cache import open_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip import encoder, tokens
from fmri2clip.core import resume, store
from fmri2clip.core.ahead import ahead
from fmri2clip.core.closure import code_digest
from fmri2clip.core.params import Clip, Dataset, Labels
from fmri2clip.datasets.interface import Annotations, Pictures
from fmri2clip.datasets.pictures import open_pictures

Array = NDArray[Any]
BLOCK = 1024  # pictures or captions between two saves, at most
BLOCK_BYTES = 2**28  # of float32 features in memory, at most
SHARED = "shared"  # name of the part that all subjects see


def cache_clip(
    paths: Paths,
    clip_name: str,
    clip: Clip,
    subjects: Sequence[str],
    dataset: Dataset,
    labels: Labels,
    device: str = "cpu",
    threads: int = 1,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Write the features of the subjects' pictures in the sessions of `dataset`.

    Training and test pictures are written apart. device: cpu or cuda; threads: for resizing
    and, on the CPU, for the model. Raises ValueError for files of the tree that are missing or
    broken and for a CLIP model that cannot be loaded.
    """
    torch.set_num_threads(threads)
    pictures = open_pictures(paths.raw, dataset, labels)
    parts = {s: pictures.seen([s])["train"] for s in subjects}
    parts[SHARED] = pictures.seen(subjects)["shared"]
    notes = {name: pictures.annotations(ids) for name, ids in parts.items()}
    model = encoder.load(clip, device)
    # Low-level features are taken from block 1, whether or not its tokens are cached.
    model.check_blocks([*clip.blocks, 1] if clip.low_level else clip.blocks)
    if clip.tokens:
        model.check_targets()
    outputs = {s: paths.clip_train(clip_name, s) for s in subjects}
    outputs[SHARED] = paths.clip_shared(clip_name)
    for path in sorted(outputs[SHARED].parent.glob("train/*.h5")):
        if path not in outputs.values():
            path.unlink()
    # Components are found from these features and change none of them.
    cached = replace(clip, token_components=1, components_from=())
    settings = (cached, model.weights_sha256, code_digest(__name__), threads, device)
    prompts = _embed_prompts(model, clip, notes[SHARED].category_C)
    for name, part in notes.items():
        # Training must not know which categories only the test images have, nor a subject's file
        # what other subjects see.
        present_C: Array = np.any(part.labels_IC, axis=0)
        if name == SHARED:
            present_C = _list_candidates(present_C, [n for s, n in notes.items() if s != SHARED])
        key = _make_key(settings, pictures, part, present_C)
        stage = f"cache_clip/{clip_name}/{name}"
        if resume.is_made(stage, key, outputs[name], root=resume_root):
            print(f"{outputs[name]} holds these features already")
            continue
        folder = resume.resume_dir(stage, key, root=resume_root)
        attrs = _describe_model(clip_name, model)
        common = {**prompts, "present_C": present_C}
        with _open(outputs[name], part, common, attrs, model, folder / "blocks") as stream:
            label = f"{clip_name}: {name}"
            _fill_pictures(stream, pictures, part.nsd_id_I, model, threads, f"{label} pictures")
            _fill_captions(stream, part.caption_K, model, f"{label} captions")
            if clip.tokens and part.caption_K:
                _fill_text_tokens(stream, part, model, f"{label} caption tokens")
        resume.remove(folder, root=resume_root)
        resume.record_made(stage, key, outputs[name], root=resume_root)


def _list_candidates(test_C: Array, training: Sequence[Annotations]) -> Array:
    """Categories that scoring asks for: all that occur anywhere; those of the test pictures alone
    where no training picture shows any of them, as then the question is about new ones (GOD).
    """
    train_C = np.any([part.labels_IC.any(axis=0) for part in training], axis=0)
    is_apart = test_C.any() and not (test_C & train_C).any()
    candidates: Array = test_C if is_apart else test_C | train_C
    return candidates


def _make_key(
    settings: tuple[Any, ...], pictures: Pictures, part: Annotations, present_C: Array
) -> str:
    """Digest of everything that decides the features of a file, the pictures included.

    Reading the pictures once more takes seconds, where encoding takes minutes to days.
    """
    digest = hashlib.sha256()
    for _, images_IHWC in pictures.iterate(part.nsd_id_I, BLOCK):
        digest.update(np.ascontiguousarray(images_IHWC).data)
    for array in (part.nsd_id_I, part.caption_image_K, part.labels_IC, part.area_IC, present_C):
        digest.update(np.ascontiguousarray(array).data)
    digest.update("\0".join(part.caption_K).encode())
    return resume.digest(*settings, digest.hexdigest())


def _describe_model(clip_name: str, model: encoder.Encoder) -> dict[str, str | int]:
    """Attributes of both files."""
    attrs: dict[str, str | int] = {
        "clip": clip_name,
        "model": model.clip.model,
        "image_size": model.image_size,
        "weights_sha256": model.weights_sha256,
    }
    return attrs | (tokens.describe(model.clip) if model.clip.tokens else {})


def _embed_prompts(
    model: encoder.Encoder, clip: Clip, category_C: Sequence[str]
) -> dict[str, Array | list[str]]:
    """What all files say of the categories: names, and embeddings of the prompts."""
    names = list(category_C)
    prompts = [prompt.format(category=name) for prompt in clip.prompts for name in names]
    shape = (len(clip.prompts), len(names), model.width_D)
    return {
        "category_C": names,
        "prompt_P": list(clip.prompts),
        "prompt_embedding_PCD": (
            model.texts(prompts).reshape(shape) if names else np.zeros(shape, np.float32)
        ),
    }


def _open(
    path: Path,
    part: Annotations,
    common: Mapping[str, Array | list[str]],
    attrs: Mapping[str, str | int],
    model: encoder.Encoder,
    partial: Path,
) -> store.Stream:
    names = ("nsd_id_I", "caption_K", "caption_image_K", "labels_IC", "area_IC", "n_objects_I")
    sizes = {"I": len(part.nsd_id_I), "K": len(part.caption_K), "D": model.width_D}
    if model.clip.blocks or model.clip.tokens or model.clip.low_level:
        sizes |= dict(zip("TW", model.token_shape(), strict=True))
    streamed = [*_picture_features(model.clip), "text_embedding_KD"]
    if model.clip.tokens and part.caption_K:
        sizes["U"] = model.model.context_length
        streamed.append(tokens.TEXT)
    fixed = {name: getattr(part, name) for name in names} | dict(common)
    return open_cache(path, fixed=fixed, sizes=sizes, names=streamed, attrs=attrs, partial=partial)


def _picture_features(clip: Clip) -> list[str]:
    """Names of what is computed from the pictures themselves."""
    blocks = [f"block_{b}_ITW" for b in clip.blocks]
    low = (tokens.LOW_CLS, tokens.LOW_MEAN) if clip.low_level else ()
    return ["image_embedding_ID", *low, *blocks, *(tokens.image_names(clip) if clip.tokens else ())]


def _fill_pictures(
    stream: store.Stream,
    pictures: Pictures,
    ids: Array,
    model: encoder.Encoder,
    threads: int,
    label: str,
) -> None:
    """All features of pictures, from the first picture that any of them lacks."""
    names = _picture_features(model.clip)
    start = stream.rows_done(*names)
    step = _block_size(stream, names, model.clip.batch_size)
    blocks = pictures.iterate(ids, step, start)
    # Pictures are read and resized in a thread of their own, while the model reads the last ones.
    resized = ((position, model.resize(images, threads)) for position, images in blocks)
    with tqdm(total=len(ids), initial=start, desc=label, unit="image") as bar:
        for position, images in ahead(resized):
            clip = model.clip
            features = model.features(
                images, clip.blocks, targets=clip.tokens, low_level=clip.low_level
            )
            for name in names:
                stream.write(name, position, features[name])
            bar.update(len(images))


def _fill_captions(
    stream: store.Stream, captions: Sequence[str], model: encoder.Encoder, label: str
) -> None:
    """Embedding of each caption; equal captions of a block are encoded once."""
    start = stream.rows_done("text_embedding_KD")
    with tqdm(total=len(captions), initial=start, desc=label, unit="caption") as bar:
        for position in range(start, len(captions), BLOCK):
            # Sorted and without repeats; row_K puts each embedding back to all of its captions.
            texts, row_K = np.unique(
                np.array(captions[position : position + BLOCK], dtype=object), return_inverse=True
            )
            stream.write("text_embedding_KD", position, model.texts(texts.tolist())[row_K])
            bar.update(len(row_K))


def _fill_text_tokens(
    stream: store.Stream, part: Annotations, model: encoder.Encoder, label: str
) -> None:
    """Text tokens of the first caption of each picture, from the first one that lacks them."""
    first_I = np.unique(part.caption_image_K, return_index=True)[1]
    texts = [part.caption_K[k] for k in first_I]
    start = stream.rows_done(tokens.TEXT)
    step = _block_size(stream, [tokens.TEXT], model.clip.batch_size)
    with tqdm(total=len(texts), initial=start, desc=label, unit="caption") as bar:
        for position in range(start, len(texts), step):
            block = texts[position : position + step]
            stream.write(tokens.TEXT, position, model.text_tokens(block))
            bar.update(len(block))


def _block_size(stream: store.Stream, names: Sequence[str], batch: int) -> int:
    """Rows in a block of these arrays, a multiple of the batch: BLOCK and BLOCK_BYTES at most."""
    bytes_I = 4 * sum(int(np.prod(stream.shapes[name][1:])) for name in names)
    # One batch at least, even if it takes more than BLOCK_BYTES.
    return max(1, min(BLOCK, BLOCK_BYTES // bytes_I) // batch) * batch
