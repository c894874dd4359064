"""What the overview says of reconstructed pictures: the first decoder beside its reference and a
null.
"""

from __future__ import annotations

from fmri2clip.core.params import MEAN_IMAGE
from fmri2clip.metrics.pictures.protocols import DIRECTIONS
from fmri2clip.stages.report.document import Block, Paragraph, Score
from fmri2clip.stages.report.inputs import Inputs, PictureResult
from fmri2clip.stages.report.labels import label_pictures
from fmri2clip.stages.report.picture_tables import Column, find_column, make_cell


def make_picture_overview(inputs: Inputs) -> list[Block]:
    """One sentence with its label; nothing where no decoder's pictures were made."""
    decoder = next(
        (result for result in inputs.pictures.values() if result.kind == "decoder"), None
    )
    if decoder is None:
        return []
    reference = find_reference(inputs, decoder)
    null = find_null(inputs, decoder)
    main = inputs.params.pictures.protocols[0]
    columns = [find_column(f"{main}.{name}") for name in (f"clip.{DIRECTIONS[0]}", "pixcorr")]
    found = [column for column in columns if column]
    rivals = [
        f"{_describe_kind(other)} {_describe_scores(other, found)}"
        for other in (reference, null)
        if other
    ]
    against = f", against {', and '.join(rivals)}" if rivals else ""
    scores = _describe_scores(decoder, found)
    said = f"**Reconstructed pictures**, protocol `{main}`: {scores}{against}."
    label = (
        "Mean over n subjects with 95 % intervals; two-way identification: chance 50 %. "
        f"{label_pictures(inputs)}"
    )
    return [Paragraph(said), Paragraph(label, "label")]


def find_reference(inputs: Inputs, decoder: PictureResult) -> PictureResult | None:
    """The reference through the same generator that reads what the decoder reads, or else is most
    like it.
    """
    entry = decoder.entry

    def differ(result: PictureResult) -> tuple[bool, ...]:
        other = result.entry
        pooled = (other.reads == "embedding") != (entry.reads == "embedding")
        return pooled, other.reads != entry.reads, other.text != entry.text

    found = [
        r
        for r in inputs.pictures.values()
        if r.kind == "reference" and r.entry.generator == entry.generator
    ]
    return min(found, key=differ, default=None)


def find_null(inputs: Inputs, decoder: PictureResult) -> PictureResult | None:
    """The first null trained on permuted pairs, rather through the same generator; else the mean
    picture.
    """

    def differ(result: PictureResult) -> tuple[bool, ...]:
        return result.entry.source == MEAN_IMAGE, result.entry.generator != decoder.entry.generator

    return min((r for r in inputs.pictures.values() if r.kind == "null"), key=differ, default=None)


def _describe_kind(result: PictureResult) -> str:
    if result.kind == "reference":
        return "the reference from true features"
    return (
        "the mean training picture"
        if result.entry.source == MEAN_IMAGE
        else "the null trained on permuted pairs"
    )


def _describe_scores(result: PictureResult, columns: list[Column]) -> str:
    """Name, number of subjects, and scores with their intervals."""
    said = []
    for column in columns:
        cell = make_cell(result.tree, column)
        unit = " %" if column.is_percent else ""
        value = (
            f"{cell.text()}{unit} {cell.interval()}".rstrip()
            if isinstance(cell, Score)
            else str(cell)
        )
        said.append(f"{column.title.removesuffix(' (%)')} {value}")
    return f"`{result.name}` (n = {len(result.tree['subjects'])}) {' and '.join(said)}"
