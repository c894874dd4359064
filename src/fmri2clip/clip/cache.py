"""Features of every picture and caption that the decoders use, computed once: data/clip/<clip>/{train,shared}.h5.

`train` holds the pictures that only one subject sees, `shared` those that all subjects see: the test set. Features are
written block by block and a killed job goes on at the next block; both files appear together at the end.
Letters: I images, K captions (the first five of each picture), C categories, P prompts, D embedding, T tokens, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fmri2clip import resume, store
from fmri2clip.clip import encoder
from fmri2clip.datasets.nsd import coco, design, layout, stimuli
from fmri2clip.params import Clip, Dataset, Labels

Array = NDArray[Any]
BLOCK = 1024  # pictures or captions between two saves, at most
BLOCK_BYTES = 2**28  # of float32 tokens in memory, at most


def cache_clip(
    root: Path,
    clip_name: str,
    clip: Clip,
    subjects: Sequence[str],
    dataset: Dataset,
    labels: Labels,
    train_path: Path,
    shared_path: Path,
    device: str = "cpu",
    threads: int = 1,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Write the features of the subjects' pictures in the sessions of `dataset`, training and test pictures apart.

    root: NSD tree; device: cpu or cuda; threads: for resizing and, on the CPU, for the model. Raises ValueError for
    files of the tree that are missing or broken and for a CLIP model that cannot be loaded.
    """
    torch.set_num_threads(threads)
    parts = {name: _annotate(root, ids, labels) for name, ids in list_pictures(root, subjects, dataset).items()}
    model = encoder.load(clip, device)
    model.check_blocks(clip.blocks)
    common = _describe_categories(model, clip, parts)
    attrs: dict[str, str | int] = {
        "clip": clip_name,
        "model": clip.model,
        "image_size": model.image_size,
        "weights_sha256": model.weights_sha256,
    }
    inputs = resume.fingerprint([layout.stimuli_path(root), layout.annotations_dir(root)])
    code = resume.code_digest("clip/cache.py", "clip/encoder.py", "datasets/nsd/coco.py", "store.py")
    key = (clip, list(subjects), dataclasses.asdict(dataset), labels, inputs, code, threads, device)
    folder = resume.resume_dir(f"cache_clip/{clip_name}", *key, root=resume_root)
    paths = {"train": train_path, "shared": shared_path}
    streams = [_open(paths[name], part, common, attrs, model, folder / name) for name, part in parts.items()]
    for (name, part), stream in zip(parts.items(), streams, strict=True):
        _fill_pictures(stream, root, part.nsd_id_I, model, threads, f"{clip_name}: {name} pictures")
        _fill_captions(stream, part.caption_K, model, f"{clip_name}: {name} captions")
    for stream in streams:  # only now: a file that is closed would be lost if the job were killed before the other one
        stream.close()
    resume.remove(folder, root=resume_root)


def list_pictures(root: Path, subjects: Sequence[str], dataset: Dataset) -> dict[str, Array]:
    """Sorted nsd_ids that the subjects see in the sessions used: 'train' (not shared) and 'shared' (the test set)."""
    planned = design.load_design(root)
    trials = [design.list_trials(planned, subject, dataset.sessions) for subject in subjects]
    return {
        name: np.unique(np.concatenate([design.list_images(t, shared=shared) for t in trials]))
        for name, shared in (("train", False), ("shared", True))
    }


def _annotate(root: Path, ids: Array, labels: Labels) -> coco.Annotations:
    return coco.load_annotations(root, ids, min_area=labels.min_area)


def _describe_categories(
    model: encoder.Encoder, clip: Clip, parts: Mapping[str, coco.Annotations]
) -> dict[str, Array | list[str]]:
    """What both files say of the 80 categories: names, which occur at all, and the embedding of each prompt."""
    names = list(coco.CATEGORY_NAMES)
    prompts = [prompt.format(category=name) for prompt in clip.prompts for name in names]
    return {
        "category_C": names,
        "present_C": np.any([part.labels_IC.any(axis=0) for part in parts.values()], axis=0),
        "prompt_P": list(clip.prompts),
        "prompt_embedding_PCD": model.texts(prompts).reshape(len(clip.prompts), len(names), -1),
    }


def _open(
    path: Path,
    part: coco.Annotations,
    common: Mapping[str, Array | list[str]],
    attrs: Mapping[str, str | int],
    model: encoder.Encoder,
    partial: Path,
) -> store.Stream:
    names = ("nsd_id_I", "caption_K", "caption_image_K", "labels_IC", "area_IC", "n_objects_I")
    sizes = {"I": len(part.nsd_id_I), "K": len(part.caption_K), "D": model.width_D}
    if model.clip.blocks:
        sizes |= dict(zip("TW", model.token_shape(), strict=True))
    streamed = ["image_embedding_ID", "text_embedding_KD", *(f"block_{b}_ITW" for b in model.clip.blocks)]
    fixed = {name: getattr(part, name) for name in names} | dict(common)
    return store.open_stream(path, "clip", fixed=fixed, sizes=sizes, names=streamed, attrs=attrs, partial=partial)


def _fill_pictures(
    stream: store.Stream, root: Path, ids: Array, model: encoder.Encoder, threads: int, label: str
) -> None:
    """Pooled embeddings and block tokens, from the first picture that any of them lacks."""
    names = [name for name in stream.shapes if name.endswith(("_ID", "_ITW"))]
    start, step = stream.rows_done(*names), _block_size(model)
    blocks = stimuli.iterate_images(root, ids, step, start)
    resized = ((position, model.resize(images, threads)) for position, images in blocks)
    with _ahead(resized) as ready, tqdm(total=len(ids), initial=start, desc=label, unit="image") as bar:
        for position, images in ready:
            embedding_ID, tokens = model.features(images, model.clip.blocks)
            stream.write("image_embedding_ID", position, embedding_ID)
            for block, tokens_ITW in tokens.items():
                stream.write(f"block_{block}_ITW", position, tokens_ITW)
            bar.update(len(images))


def _fill_captions(stream: store.Stream, captions: Sequence[str], model: encoder.Encoder, label: str) -> None:
    """Embedding of each caption; equal captions of a block are encoded once."""
    start = stream.rows_done("text_embedding_KD")
    with tqdm(total=len(captions), initial=start, desc=label, unit="caption") as bar:
        for position in range(start, len(captions), BLOCK):
            texts, row_K = np.unique(np.array(captions[position : position + BLOCK], dtype=object), return_inverse=True)
            stream.write("text_embedding_KD", position, model.texts(texts.tolist())[row_K])
            bar.update(len(row_K))


def _block_size(model: encoder.Encoder) -> int:
    """Pictures in a block: a multiple of the batch, within BLOCK pictures and BLOCK_BYTES of tokens where possible."""
    batch, blocks = model.clip.batch_size, len(model.clip.blocks)
    bytes_I = 4 * blocks * int(np.prod(model.token_shape())) if blocks else 1
    return max(1, min(BLOCK, BLOCK_BYTES // bytes_I) // batch) * batch


@contextmanager
def _ahead(items: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """The same items, the next one always in the making in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as pool:

        def take() -> Iterator[Any]:
            coming = pool.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item

        yield take()
