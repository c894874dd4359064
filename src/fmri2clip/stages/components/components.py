"""Leading components of a CLIP model's tokens: one basis for all subjects, and scores on it.

A picture has 65 or 257 tokens, 8,000 or 200,000 numbers; a few hundred leading components hold what
decoders can learn of them (the share that they explain stands in the basis). The basis comes from
pictures of the subjects that `components_from` names, so a subject more is projected and changes no
other file. Pictures that a run validates on are among them: a basis knows no brain.

Letters: I images, P components, T tokens, W token width, X flattened tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_cache, read_target
from fmri2clip.artefacts.components import STREAMS, write_basis, write_components
from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.params import Clip
from fmri2clip.solvers.principal_components import find_components

Array = NDArray[Any]
MOST_IMAGES = 3000  # that the basis is found from: its Gram matrix is decomposed in seconds
BLOCK = 256  # images that are projected at a time


def find_token_components(
    paths: Paths, clip_name: str, clip: Clip, subjects: Sequence[str], threads: int = 1
) -> None:
    """Write basis.safetensors and a file of scores for every subject.

    Raises ValueError where the CLIP cache of a subject lacks tokens.
    """
    torch.set_num_threads(threads)
    basis: dict[str, Array] = {}
    streams = list_streams(paths, clip_name, subjects) if clip.tokens else ()
    if clip.tokens:
        for stream in streams:
            parts = [_open(paths, clip_name, s, stream) for s in clip.deciding(subjects)]
            basis |= _find_basis(stream, parts, clip.token_components)
    write_basis(paths.clip_basis(clip_name), basis)
    for subject in subjects:
        names = ["nsd_id_I"]
        arrays: dict[str, Array] = dict(read_cache(paths.clip_train(clip_name, subject), names))
        if clip.tokens:
            for stream in streams:
                tokens_ITW = _open(paths, clip_name, subject, stream)
                arrays[f"{stream}_components_IP"] = project(tokens_ITW, basis, stream)
            detail_ITW = read_target(paths.clip_train(clip_name, subject), TOKEN_TARGETS["detail"])[
                1
            ]
            arrays["detail_class_IW"] = np.asarray(detail_ITW[:, 0])
        write_components(paths.clip_components(clip_name, subject), arrays)


def list_streams(paths: Paths, clip_name: str, subjects: Sequence[str]) -> tuple[str, ...]:
    """Streams that the caches have: no tokens of captions where there are none."""
    caches = [read_cache(paths.clip_train(clip_name, s), ["caption_image_K"]) for s in subjects]
    has_captions = any(len(cache["caption_image_K"]) for cache in caches)
    return tuple(stream for stream in STREAMS if stream != "text" or has_captions)


def _open(paths: Paths, clip_name: str, subject: str, stream: str) -> Array:
    """Tokens (I, T, W) of a subject's pictures, mapped; without the class token."""
    _, tokens_ITW = read_target(paths.clip_train(clip_name, subject), TOKEN_TARGETS[stream])
    return tokens_ITW if stream == "text" else tokens_ITW[:, 1:]


def _find_basis(stream: str, parts: Sequence[Array], n: int) -> dict[str, Array]:
    """Mean, components and the share of variance that they explain, from pictures evenly spaced
    over the parts. Rows of zeros fill up where the pictures have fewer components than n.
    """
    n_all = sum(map(len, parts))
    step = -(-n_all // MOST_IMAGES)  # rounded up
    tokens_ITW = np.concatenate([np.asarray(part[::step]) for part in parts])
    flat_IX = torch.from_numpy(tokens_ITW.reshape(len(tokens_ITW), -1))
    found = find_components(flat_IX, torch.ones(len(flat_IX), dtype=torch.bool), n)
    shape = tokens_ITW.shape[1:]
    components_PX = np.zeros((n, flat_IX.shape[1]), np.float16)
    components_PX[: len(found.components_PX)] = found.components_PX.numpy()
    total = sum(float(block.float().var(0, correction=0).sum()) for block in flat_IX.split(4096, 1))
    explained = float(found.scores_IP.square().sum()) / (len(flat_IX) * total)
    return {
        f"{stream}_mean_TW": found.mean_X.numpy().reshape(shape),
        f"{stream}_components_PTW": components_PX.reshape(n, *shape),
        f"{stream}_explained": np.array([explained], np.float32),
    }


def project(tokens_ITW: Array, basis: dict[str, Array], stream: str) -> Array:
    """Scores (I, P) of tokens on the components of a stream, float32."""
    mean_X = torch.from_numpy(basis[f"{stream}_mean_TW"].reshape(-1))
    components = basis[f"{stream}_components_PTW"]
    components_XP = torch.from_numpy(components.reshape(len(components), -1)).float().T
    scores = []
    for start in range(0, len(tokens_ITW), BLOCK):
        block = np.asarray(tokens_ITW[start : start + BLOCK], np.float32)
        scores.append((torch.from_numpy(block.reshape(len(block), -1)) - mean_X) @ components_XP)
    return torch.cat(scores).numpy()
