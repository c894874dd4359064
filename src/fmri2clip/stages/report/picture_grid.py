"""The grid of stimuli and reconstructions of one subject: rows chosen by a fixed rule, the same for
every column.

Letters: I test images, H W height and width of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.reconstructions import read_pictures
from fmri2clip.artefacts.scores import read_scores
from fmri2clip.core.rows import find_rows
from fmri2clip.figures.grid import Column, draw_grid
from fmri2clip.metrics.pictures.protocols import DIRECTIONS
from fmri2clip.stages.report.document import Block, Figure, Paragraph
from fmri2clip.stages.report.inputs import Inputs, PictureResult
from fmri2clip.stages.report.labels import is_simulated, label_pictures

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HEADINGS = {
    "reference": "references",
    "decoder": "decoders",
    "null": "nulls",
}  # kind -> heading, in the grid's order
WITHHELD = np.full((8, 8, 3), 230, dtype=np.uint8)
Load = Callable[[int], NDArray[np.uint8] | None]
Floats = NDArray[np.floating]


def choose_rows(
    score_I: Floats, tie_I: Floats, nsd_id_I: NDArray[np.int64]
) -> list[tuple[float, int]]:
    """(quantile, row) of the images at QUANTILES of the score; equal scores are ordered by tie_I,
    then NSD id.

    Where images are so few that quantiles fall on the same one, it is listed once.
    """
    order = np.lexsort((nsd_id_I, tie_I, score_I))
    chosen: dict[int, float] = {}
    for quantile in QUANTILES:
        chosen.setdefault(int(order[round(quantile * (len(order) - 1))]), quantile)
    return [(quantile, row) for row, quantile in chosen.items()]


def make_grid(inputs: Inputs, load: Load, figures_dir: Path) -> list[Block]:
    """The figure of the first subject of params; its rows follow the first decoder (or
    reconstruction) that has it.

    load: NSD id -> picture (H, W, 3) uint8, or None where it may not be shown.
    """
    subject = inputs.params.subjects[0]
    results = [result for result in inputs.pictures.values() if subject in result.tree["subjects"]]
    results.sort(key=lambda result: list(HEADINGS).index(result.kind))
    if not results:
        return [
            Paragraph(f"No picture of {subject} was reconstructed, so no grid is shown.", "missing")
        ]
    first = next((result for result in results if result.kind == "decoder"), results[0])
    metric, nsd_id_I, score_I, pixcorr_I = _read_order(inputs, first, subject)
    rows = choose_rows(score_I, pixcorr_I, nsd_id_I)
    ids = np.array([nsd_id_I[row] for _, row in rows])
    stimuli = [load(int(nsd_id)) for nsd_id in ids]
    columns = [
        Column(
            title="stimulus",
            heading="seen",
            pictures=[WITHHELD if s is None else s for s in stimuli],
        )
    ]
    for place, result in enumerate(results):
        is_first = place == 0 or results[place - 1].kind != result.kind
        heading = HEADINGS[result.kind] if is_first else ""
        columns.append(
            Column(title=result.name, heading=heading, pictures=_read(result, subject, ids))
        )
    labels = [
        f"{100 * q:g} %\nscore {score_I[row]:.2f}\nnsd_id {nsd_id}"
        for (q, row), nsd_id in zip(rows, ids, strict=True)
    ]
    path = draw_grid(columns, labels, figures_dir / f"reconstructions_{subject}.png")
    caption = _caption(inputs, subject, first, metric, len(nsd_id_I))
    return [
        Figure(
            path,
            f"Stimuli of {subject} and their reconstructions by every method, side by side",
            caption,
        )
    ]


def _read_order(
    inputs: Inputs, result: PictureResult, subject: str
) -> tuple[str, NDArray[np.int64], Floats, Floats]:
    """Metric that orders the rows (CLIP, or PixCorr where CLIP was not measured), ids, its scores,
    and PixCorr.
    """
    shared = inputs.paths.clip_shared(next(iter(inputs.references)))
    scores = read_scores(result.scores, shared)[subject]
    protocol = inputs.params.pictures.protocols[0]
    pixcorr = f"{protocol}.pixcorr"
    clip = f"{protocol}.clip.{DIRECTIONS[0]}"
    if pixcorr not in scores.per_image:
        raise ValueError(
            f"{result.scores} has no {pixcorr} of {subject}; run the score_pictures stage again"
        )
    metric = clip if clip in scores.per_image else pixcorr
    return metric, scores.nsd_id_I, scores.per_image[metric][0], scores.per_image[pixcorr][0]


def _read(result: PictureResult, subject: str, ids: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    nsd_id_I, images_IHWC = read_pictures(result.pictures, subject)
    return list(np.asarray(images_IHWC[find_rows(nsd_id_I, ids, str(result.pictures))]))


def _caption(inputs: Inputs, subject: str, first: PictureResult, metric: str, n_images: int) -> str:
    quantiles = ", ".join(f"{100 * quantile:g}" for quantile in QUANTILES)
    ties = (
        "equal ones by NSD id"
        if metric.endswith(".pixcorr")
        else "which ties often: by PixCorr, then NSD id"
    )
    lacking = [
        f"`{name}`"
        for name, result in inputs.pictures.items()
        if subject not in result.tree["subjects"]
    ]
    withheld = (
        ""
        if is_simulated(inputs.params)
        else " NSD's terms forbid passing on its pictures: stimuli are grey."
    )
    absent = f" Without pictures of {subject}: {', '.join(lacking)}." if lacking else ""
    return (
        f"{subject}: the images at the {quantiles} % quantiles of the {n_images} reconstructed "
        "ones, in ascending order"
        f" of `{metric}` of `{first.name}` ({ties}); a fixed rule, no choice. The images are the "
        "same in every column,"
        f" so other columns are not at these quantiles of their own scores.{withheld}{absent} "
        f"{label_pictures(inputs)}"
    )
