"""Galleries: made from a folder of pictures, searched with decoded embeddings.

Letters: I pictures of the gallery, K captions, Q queries, R ranks, D embedding width.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.gallery import read_gallery, write_gallery
from fmri2clip.core import params, store
from fmri2clip.datasets.folder.stock import SUFFIXES, read_picture
from fmri2clip.datasets.folder.volumes import check_ends
from fmri2clip.metrics.decoding.retrieval import similarity
from fmri2clip.use.model import Decoding, Model

if TYPE_CHECKING:
    from fmri2clip.clip.encoder import Encoder

Array = NDArray[Any]
CAPTIONS = "captions.tsv"
THUMBNAIL = 112  # pixels of the longer side


def find_clip(name: str, params_path: Path) -> params.Clip:
    """An entry of `clips` in params.yaml, or MODEL/WEIGHTS in the words of open_clip.

    Raises ValueError for a name that is neither.
    """
    model, _, weights = name.partition("/")
    if weights:
        return params.Clip(model=model, pretrained=weights)
    if not params_path.is_file():
        raise ValueError(
            f"--clip {name} is not MODEL/WEIGHTS of open_clip (such as ViT-L-14-quickgelu/openai), "
            f"and there is no {params_path} that could name it"
        )
    clips = params.load(params_path).clips
    if name not in clips:
        raise ValueError(
            f"--clip {name} is not among the clips of {params_path} ({', '.join(clips)}), nor "
            "MODEL/WEIGHTS of open_clip"
        )
    return clips[name]


def make_gallery(folder: Path, out: Path, name: str, clip: params.Clip) -> int:
    """Write the CLIP features of all pictures below a folder; returns their number.

    Captions come from captions.tsv in the folder, if it is there: columns `file` (as name_I) and
    `caption`, any number of rows a file. Raises ValueError for a folder without pictures, a picture
    that cannot be read, and captions of pictures that are not there.
    """
    # open_clip takes seconds to load; decoding does without.
    from fmri2clip.clip import encoder

    # Names that begin with a dot are other programs' notes.
    paths = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no picture; {', '.join(SUFFIXES)} are read")
    names = [path.relative_to(folder).as_posix() for path in paths]
    captions, caption_image_K = _read_captions(folder / CAPTIONS, names)
    model = encoder.load(clip)
    jpegs: list[bytes] = []
    blocks = [model.images(block_IHWC) for block_IHWC in _read_pictures(paths, model, jpegs)]
    width_D = blocks[0].shape[1]
    write_gallery(
        out,
        {
            "name_I": names,
            "image_embedding_ID": np.concatenate(blocks),
            "caption_K": captions,
            "caption_image_K": caption_image_K,
            "text_embedding_KD": model.texts(captions) if captions else np.zeros((0, width_D)),
        },
        jpegs,
        {
            "clip": name,
            "model": clip.model,
            "image_size": model.image_size,
            "weights_sha256": model.weights_sha256,
        },
    )
    return len(names)


def list_skipped(folder: Path) -> list[str]:
    """A line on files below a folder that a gallery does not take, or none."""
    others = Counter(
        path.suffix.lower() or path.name
        for path in folder.rglob("[!.]*")
        if path.is_file() and path.suffix.lower() not in SUFFIXES and path.name != CAPTIONS
    )
    if not others:
        return []
    found = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()))
    return [f"not read, as no pictures: {found} ({', '.join(SUFFIXES)} are)"]


def _read_captions(path: Path, names: list[str]) -> tuple[list[str], Array]:
    """Captions and the rows of their pictures; none without a file."""
    import pandas as pd

    if not path.is_file():
        return [], np.zeros(0, np.int32)
    table = pd.read_csv(path, sep="\t", dtype=str, quoting=3)
    if list(table) != ["file", "caption"] or table.isna().any(axis=None):
        raise ValueError(f"{path.name} must have the columns file and caption, and no empty cell")
    unknown = sorted(set(table["file"]) - set(names))
    if unknown:
        raise ValueError(f"{path.name} names {unknown[0]}, which is not among the pictures")
    rows = {name: row for row, name in enumerate(names)}
    return table["caption"].tolist(), table["file"].map(rows).to_numpy(np.int32)


def _read_pictures(paths: list[Path], model: Encoder, jpegs: list[bytes]) -> Iterator[Array]:
    """Blocks of pictures at the model's size; their thumbnails are added to `jpegs`."""
    step = model.clip.batch_size
    for start in range(0, len(paths), step):
        block = []
        for path in paths[start : start + step]:
            picture = read_picture(path)
            block.append(model.resize(np.asarray(picture)[None])[0])
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=85)
            jpegs.append(stream.getvalue())
        yield np.stack(block)


def open_gallery(path: Path, model: Model) -> tuple[store.Arrays, list[str]]:
    """A gallery for this model, and lines on what could not be checked.

    Raises ValueError for one of another CLIP.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; name one that `fmri2clip gallery` wrote")
    try:
        check_ends(path)
        gallery = read_gallery(path)
    except ValueError as error:
        said = str(error).split(";")[0]
        raise ValueError(f"{said}; name a file that `fmri2clip gallery` wrote") from None
    theirs = str(gallery.attrs["weights_sha256"])
    ours = str(model.content.clip.get("weights_sha256", ""))
    width_D = gallery["image_embedding_ID"].shape[1]
    if width_D != model.description["width_D"] or ours not in ("", theirs):
        raise ValueError(
            f"{path.name} has features of {gallery.attrs['clip']} ({width_D} numbers, weights "
            f"{theirs[:8]}), the model decodes into {model.description['clip']} "
            f"({model.description['width_D']} numbers, weights {ours[:8] or 'unknown'}); make the "
            "gallery with the model's CLIP"
        )
    if ours:
        return gallery, []
    return gallery, [
        f"the model folder does not say which weights its CLIP had: that {path.name} "
        f"({gallery.attrs['clip']}) has the same is taken on trust"
    ]


def search(
    model: Model, decoding: Decoding, gallery: Mapping[str, Array], top: int
) -> dict[str, tuple[Array, Array]]:
    """'picture' and 'caption' -> rows (Q, R) of the most similar ones, best first, and cosines.

    Both sides are centred by their means over training images, as in the scores of the report. A
    decoder without text embedding searches captions with its embedding. Empty for a decoder without
    embeddings.
    """
    if decoding.embedding is None:
        return {}
    query_QD = model.centre(decoding.embedding)
    target_ID = model.centre_targets(gallery["image_embedding_ID"])
    found = {"picture": _rank(query_QD, target_ID, top)}
    if len(gallery["caption_K"]):
        if decoding.text_embedding is not None:
            query_QD = model.centre(decoding.text_embedding, "text")
        # A text that several pictures share is found once.
        first_K = np.sort(np.unique(gallery["caption_K"], return_index=True)[1])
        target_KD = model.centre_targets(gallery["text_embedding_KD"][first_K], "text")
        order_QR, cosine_QR = _rank(query_QD, target_KD, top)
        found["caption"] = first_K[order_QR], cosine_QR
    return found


def _rank(query_QD: Array, target_ID: Array, top: int) -> tuple[Array, Array]:
    cosine_QI = similarity(query_QD, target_ID)
    # Stable, so that equal ones keep the gallery's order.
    order_QR = np.argsort(-cosine_QI, axis=1, kind="stable")[:, :top]
    return order_QR, np.take_along_axis(cosine_QI, order_QR, axis=1)
