"""Which brain-decoded test images a report shows, and what each of them retrieved.

Cases are chosen by rule: test images are ordered by the rank of the true picture in the whole test
set (equal ranks: by NSD id), and the images at fixed places of that order are shown. Nobody picks
them.

Letters: I test images, K captions, D embedding width.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmri2clip.figures import plots
from fmri2clip.metrics.decoding.retrieval import similarity
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.report.document import Case, Picture

PLACES = (("best", 0.0), ("median", 0.5), ("worst", 1.0))
N_PER_PLACE = 2
N_RETRIEVED = 5
N_CAPTIONS = 3
THUMBNAIL = 128  # pixels a side at most
Floats = NDArray[np.floating]
Load = Callable[[int], NDArray[np.uint8] | None]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """One subject's predictions against the test pictures and captions.

    image_II: similarity of brain pattern (row) and picture; text_IK: of brain pattern and caption.
    caption_image_K: row in I of each caption's picture.
    """

    nsd_id_I: NDArray[np.int64]
    image_II: Floats
    text_IK: Floats
    caption_K: Sequence[str]
    caption_image_K: NDArray[np.integer]


def rank_true(similarity_II: Floats) -> NDArray[np.int64]:
    """1-based rank of the picture that was seen; pictures exactly as similar count as ahead of
    it.
    """
    own_I1 = np.diagonal(similarity_II)[:, None]
    return (similarity_II >= own_I1).sum(axis=1)


def choose_cases(rank_I: NDArray[np.int64], nsd_id_I: NDArray[np.int64]) -> list[tuple[str, int]]:
    """(place, row) of N_PER_PLACE neighbouring images at each of PLACES in the order of rank, then
    NSD id.
    """
    order = np.lexsort((nsd_id_I, rank_I))
    n_places = min(N_PER_PLACE, len(order))
    chosen: dict[int, str] = {}
    for place, quantile in PLACES:
        start = round(quantile * (len(order) - n_places))
        for position in range(start, start + n_places):
            chosen.setdefault(int(order[position]), place)
    return [(place, row) for row, place in chosen.items()]


def compare(
    embedding_ID: Floats,
    text_embedding_ID: Floats | None,
    image_ID: Floats,
    text_KD: Floats,
    means: Mapping[str, Floats],
) -> tuple[Floats, Floats]:
    """image_II and text_IK by the centred cosine of the metrics: every side by its own training
    mean.

    text_embedding_ID: None where a decoder has no second embedding; captions are then searched with
    embedding_ID.
    """
    brain_ID = centre(embedding_ID, means["mean_predicted_image_D"])
    image_II = similarity(brain_ID, centre(image_ID, means["mean_image_D"]))
    if text_embedding_ID is not None:
        brain_ID = centre(text_embedding_ID, means["mean_predicted_text_D"])
    return image_II, similarity(brain_ID, centre(text_KD, means["mean_text_D"]))


def make_cases(retrieval: Retrieval, load: Load, title: str) -> list[Case]:
    """load: NSD id -> picture (H, W, 3) uint8, or None where it may not be shown."""
    rank_I = rank_true(retrieval.image_II)
    return [
        _make_case(
            retrieval,
            row,
            f"{title}, {place}: true picture at rank {rank_I[row]} of {len(rank_I)}",
            load,
        )
        for place, row in choose_cases(rank_I, retrieval.nsd_id_I)
    ]


def _make_case(retrieval: Retrieval, row: int, heading: str, load: Load) -> Case:
    nearest = np.argsort(-retrieval.image_II[row], kind="stable")[:N_RETRIEVED]
    captions = np.argsort(-retrieval.text_IK[row], kind="stable")[:N_CAPTIONS]
    return Case(
        heading=heading,
        stimulus=_make_picture(retrieval, row, "seen", load),
        retrieved=tuple(
            _make_picture(
                retrieval,
                int(other),
                f"{place}{' (hit)' if other == row else ''}",
                load,
                other == row,
            )
            for place, other in enumerate(nearest, start=1)
        ),
        captions=tuple(
            (retrieval.caption_K[k], bool(retrieval.caption_image_K[k] == row)) for k in captions
        ),
    )


def _make_picture(
    retrieval: Retrieval, row: int, title: str, load: Load, marked: bool = False
) -> Picture:
    nsd_id = int(retrieval.nsd_id_I[row])
    picture = load(nsd_id)
    return Picture(
        b"" if picture is None else encode_picture(picture),
        title,
        (f"nsd_id {nsd_id}",),
        bool(marked),
    )


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a picture (H, W, 3), reduced to at most THUMBNAIL pixels a side; smaller ones
    stay as they are.
    """
    image = Image.fromarray(picture)
    if max(image.size) > THUMBNAIL:
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def make_strips(cases: Sequence[Case]) -> list[plots.Strip]:
    """The cases as rows of one figure."""
    strips = []
    for case in cases:
        pictures = (case.stimulus, *case.retrieved)
        strips.append(
            plots.Strip(
                heading=case.heading,
                pictures=[_decode_picture(picture.png) for picture in pictures],
                titles=[", ".join((picture.title, *picture.lines)) for picture in pictures],
                marked=[picture.marked for picture in pictures],
                notes=[f"{'= ' if own else ''}{text}" for text, own in case.captions],
            )
        )
    return strips


def fit_line(text: str, width: int = 120) -> str:
    """The text cut at a word to at most `width` characters."""
    return textwrap.shorten(text, width, placeholder=" ...")


def _decode_picture(png: bytes) -> NDArray[np.uint8]:
    if not png:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 230, dtype=np.uint8)
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))
