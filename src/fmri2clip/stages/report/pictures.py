"""Pictures of the report: thumbnails, and reconstructions side by side.

Which test images are shown follows a rule: quantiles of a score. Nobody picks them.

Letters: I test images, H W height and width of a picture.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.reconstructions import read_pictures
from fmri2clip.artefacts.scores import read_scores
from fmri2clip.artefacts.stimuli import TEST, read_images
from fmri2clip.core.rows import find_rows
from fmri2clip.stages.report.catalogue import print_number
from fmri2clip.stages.report.inputs import STIMULUS, Inputs

QUANTILES = (0.95, 0.75, 0.5, 0.25, 0.05)
N_SCENES = 6
THUMBNAIL = 96  # pixels a side at most
ORDER = ("reference", "baseline", "decoder", "null")  # of columns
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Tile:
    """A picture on a page: data URI ('' where it may not be shown), what it is, a word below it."""

    uri: str
    alt: str
    caption: str = ""
    is_hit: bool = False


@dataclass(frozen=True)
class Grid:
    """Columns with their kinds; rows with what they are."""

    subject: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, Sequence[Tile]]]


def load_stimuli(inputs: Inputs, ids: Sequence[int]) -> dict[int, str]:
    """NSD id -> data URI; '' for real pictures, which NSD's terms forbid to pass on."""
    if not inputs.is_simulated:
        return dict.fromkeys(ids, "")
    wanted = sorted(set(ids))
    images = read_images(inputs.paths.stimuli(TEST), wanted)
    return {nsd_id: encode(image) for nsd_id, image in zip(wanted, images, strict=True)}


def may_show(inputs: Inputs, name: str) -> bool:
    """Whether a reconstruction may be passed on: one that reads a library is a training picture."""
    return inputs.is_simulated or inputs.params.reconstructions[name].reads != "library"


def encode(picture: NDArray[np.uint8]) -> str:
    """Data URI of a picture (H, W, 3), reduced to at most THUMBNAIL pixels a side."""
    image = Image.fromarray(np.asarray(picture))
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, format="WEBP", quality=82, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def make_grid(
    inputs: Inputs, subject: str, quantiles: Sequence[float] = QUANTILES, *, brief: bool = False
) -> Grid | None:
    """Stimuli and reconstructions of one subject, the images at quantiles of the mean PixCorr of
    the decoders; None without any. brief: one column a decoder.
    """
    names = _choose_columns(inputs, subject)
    if not names:
        return None
    ranked = [n for n in names if inputs.picture_kind(n) in ("decoder", "baseline")] or names
    nsd_id_I, pixcorr = _read_pixcorr(inputs, subject, names)
    names = _shorten(inputs, names) if brief else names
    mean_I = np.mean([pixcorr[name] for name in ranked], axis=0)
    chosen = choose_rows(mean_I, nsd_id_I, quantiles)
    ids = [int(nsd_id_I[row]) for _, row in chosen]
    stimuli = load_stimuli(inputs, ids)
    columns = {name: _read(inputs, name, subject, ids) for name in names}
    rows = []
    for place, (quantile, row) in enumerate(chosen):
        tiles = [Tile(stimuli[ids[place]], f"seen picture, NSD id {ids[place]}", "seen")]
        for name in names:
            score = print_number(float(pixcorr[name][row]), 2)
            alt = f"painted by {name}, PixCorr {score}"
            uri = encode(columns[name][place]) if may_show(inputs, name) else ""
            tiles.append(Tile(uri, alt, score))
        label = "median"
        if quantile != 0.5:
            end = "top" if quantile > 0.5 else "last"
            label = f"{end} {100 * min(quantile, 1 - quantile):.0f} %"
        rows.append((label, tiles))
    kinds = [(name, inputs.picture_kind(name)) for name in names]
    return Grid(subject, [("seen", ""), *kinds], rows)


def _choose_columns(inputs: Inputs, subject: str) -> list[str]:
    """Reconstructions of the subject: one reference, all baselines and decoders, one null."""
    names = [
        name
        for name, tree in inputs.pictures.items()
        if name != STIMULUS and subject in tree["subjects"]
    ]
    names.sort(key=lambda name: ORDER.index(inputs.picture_kind(name)))
    kinds = [inputs.picture_kind(name) for name in names]
    single = ("reference", "null")
    return [
        name
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
        if kind not in single or kind not in kinds[:place]
    ]


def _shorten(inputs: Inputs, names: Sequence[str]) -> list[str]:
    """Without further reconstructions from the same source."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(inputs.params.reconstructions[name].source, name)
    return list(first.values())


def make_scenes(inputs: Inputs) -> list[Tile]:
    """The first test pictures by id with their first captions; none of real data."""
    if not inputs.is_simulated:
        return []
    names = ("nsd_id_I", "caption_K", "caption_image_K")
    shared = read_cache(inputs.paths.clip_shared(inputs.clip), names)
    ids = [int(i) for i in shared["nsd_id_I"][:N_SCENES]]
    uris = load_stimuli(inputs, ids)
    captions = [
        shared["caption_K"][np.flatnonzero(shared["caption_image_K"] == row)[0]]
        for row in range(len(ids))
    ]
    return [
        Tile(uris[nsd_id], f"test picture {nsd_id}: {caption}", caption)
        for nsd_id, caption in zip(ids, captions, strict=True)
    ]


def choose_rows(
    score_I: Floats, nsd_id_I: NDArray[np.int64], quantiles: Sequence[float]
) -> list[tuple[float, int]]:
    """(quantile, row) of the images at these quantiles of the score; equal scores by NSD id.

    Where images are so few that quantiles fall on the same one, it is listed once.
    """
    order = np.lexsort((nsd_id_I, score_I))
    chosen: dict[int, float] = {}
    for quantile in quantiles:
        chosen.setdefault(int(order[round(quantile * (len(order) - 1))]), quantile)
    return [(quantile, row) for row, quantile in chosen.items()]


def _read_pixcorr(
    inputs: Inputs, subject: str, names: Sequence[str]
) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Images and the PixCorr of each of them, 0 where it is undefined, by reconstruction."""
    shared = inputs.paths.clip_shared(inputs.clip)
    metric = f"{inputs.protocol}.pixcorr"
    found = {}
    for name in names:
        path = inputs.paths.picture_scores(name)
        scores = read_scores(path, shared)[subject]
        if metric not in scores.per_image:
            raise ValueError(
                f"{path} has no {metric} of {subject}; run the score_pictures stage again"
            )
        found[name] = np.nan_to_num(scores.per_image[metric][0])
    return scores.nsd_id_I, found


def _read(inputs: Inputs, name: str, subject: str, ids: Sequence[int]) -> NDArray[np.uint8]:
    path = inputs.paths.reconstructions(name)
    nsd_id_I, image_IHWC = read_pictures(path, subject)
    return np.asarray(image_IHWC[find_rows(nsd_id_I, np.array(ids), str(path))])
