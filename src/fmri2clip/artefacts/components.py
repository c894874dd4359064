"""Leading components of a CLIP model's tokens, and every training picture's scores on them.

    data/clip/<clip>/components/
        basis.safetensors   <stream>_mean_TW, <stream>_components_PTW, <stream>_explained for the
                            streams semantic, detail and text; without tensors where the clip caches
                            no tokens
        <subject>.h5        scores of the subject's training pictures, and the class tokens of
                            detail, in the order of its CLIP cache

T counts the patch tokens of a picture, or all tokens of a caption: the class token is not among
them, as it is the pooled embedding, which decoders predict as it is. Letters: I images, P
components, T tokens, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core import store
from fmri2clip.core.files import replacing
from fmri2clip.core.schema import Field, Kind

Array = NDArray[Any]
COMPONENTS = Kind(
    "components",
    {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "semantic_components_IP": Field("float32", "score", False),
        "detail_components_IP": Field("float32", "score", False),
        "detail_class_IW": Field("float16", "class token of the detail tokens, norm 1", False),
        "text_components_IP": Field("float32", "score, of the first caption", False),
    },
)
STREAMS = ("semantic", "detail", "text")
PICTURE_STREAMS = ("semantic", "detail")


def write_components(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the scores of one subject; the file appears when it is complete."""
    store.write(path, COMPONENTS, arrays)


def read_components(path: Path) -> store.Arrays:
    """Scores of one subject. Raises ValueError for a file of another kind."""
    return store.read(path, COMPONENTS)


def write_basis(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the components themselves; the file appears when it is complete."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (part,):
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part)


def express_tokens(tokens_ITW: Array, basis: Mapping[str, Array], stream: str) -> Array:
    """Class token of each picture and the scores of its other tokens, (I, W + P) in float32.

    tokens_ITW: of `stream` or of one that predicts the same, class token first.
    """
    tokens_ITW = np.asarray(tokens_ITW, np.float32)
    mean_TW = basis[f"{stream}_mean_TW"]
    components_PTW = basis[f"{stream}_components_PTW"].astype(np.float32)
    flat_IX = (tokens_ITW[:, 1:] - mean_TW).reshape(len(tokens_ITW), -1)
    scores_IP = flat_IX @ components_PTW.reshape(len(components_PTW), -1).T
    expressed: Array = np.concatenate([tokens_ITW[:, 0], scores_IP], axis=1)
    return expressed


def score_streams(named: Mapping[str, Array], basis: Mapping[str, Array]) -> dict[str, Array]:
    """semantic_components_IP and detail_components_IP of pictures, float32.

    named: their tokens (I, T, W) under the names of the CLIP cache.
    """
    found = {}
    for stream in PICTURE_STREAMS:
        name = next(name for name in TOKEN_TARGETS[stream].split("|") if name in named)
        width = named[name].shape[2]
        found[f"{stream}_components_IP"] = express_tokens(named[name], basis, stream)[:, width:]
    return found


def read_basis(path: Path) -> dict[str, Array]:
    """All arrays of the components, by name. Raises ValueError if there is no such file."""
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage components (dvc repro)")
    found: dict[str, Array] = load_file(path)
    return found
