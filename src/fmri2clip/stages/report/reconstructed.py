"""Section about reconstructed pictures: what was made, the grid, scores by protocol, differences,
published rows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.params import MEAN_IMAGE, TARGET
from fmri2clip.stages.report.document import Block, Paragraph, Row, Section, Table
from fmri2clip.stages.report.inputs import Inputs, PictureResult
from fmri2clip.stages.report.labels import is_simulated, label_pictures
from fmri2clip.stages.report.picture_differences import make_difference_blocks
from fmri2clip.stages.report.picture_grid import make_grid
from fmri2clip.stages.report.picture_tables import find_weight, group_results, make_protocol_blocks
from fmri2clip.stages.report.published_pictures import make_published_table


def make_reconstructed(
    inputs: Inputs, load: Callable[[int], NDArray[np.uint8] | None], figures_dir: Path
) -> list[Section]:
    """The section, or none where params has no reconstructions.

    load: NSD id -> picture, None where not to be shown.
    """
    if not inputs.pictures:
        return []
    blocks: list[Block] = [
        Paragraph(introduce(inputs)),
        make_list(inputs),
        *make_grid(inputs, load, figures_dir),
    ]
    for protocol in inputs.params.pictures.protocols:
        blocks += make_protocol_blocks(inputs, protocol)
    blocks += [
        *make_difference_blocks(inputs),
        make_published_table(simulated=is_simulated(inputs.params)),
    ]
    return [Section("reconstructions", "Reconstructed pictures", blocks)]


def introduce(inputs: Inputs) -> str:
    """What references and nulls are, of those that are there."""
    found = inputs.pictures.values()
    said = [
        "A generator paints a picture from the CLIP features that a decoder reads out of a brain "
        "pattern."
    ]
    if any(result.kind == "reference" for result in found):
        several = any(
            result.kind == "decoder" and result.entry.n_candidates > 1 for result in found
        )
        said.append(
            "**References** are painted from the true features, one candidate: what they lack is "
            "the generator's doing"
            f"{', but they are no ceiling for the best of several candidates' if several else ''}."
        )
    sources = [result.entry.source for result in found if result.kind == "null"]
    nulls = ["the mean training picture"] if MEAN_IMAGE in sources else []
    if any(source != MEAN_IMAGE for source in sources):
        nulls.append(
            "decoders trained on permuted pairs, which paint plausible pictures of nothing"
        )
    if nulls:
        said.append(f"**Nulls** know nothing of their image: {'; '.join(nulls)}.")
    return " ".join([*said, "No candidate is compared with the stimulus before scoring."])


def make_list(inputs: Inputs) -> Table:
    """What was reconstructed: one row an entry of params."""
    rows: list[Row] = []
    for heading, results in group_results(inputs).items():
        rows.append(Row((heading,), "heading"))
        rows += [Row((f"`{r.name}`", *_describe(inputs, r)), find_weight(r)) for r in results]
    return Table(
        title="Reconstructions",
        columns=("row", "features from", "what is read", "generator", "candidates", "selection"),
        rows=tuple(rows),
        label=label_pictures(inputs),
        n_text_columns=4,
    )


def _describe(inputs: Inputs, result: PictureResult) -> tuple[str, ...]:
    entry = result.entry
    if entry.source == MEAN_IMAGE:
        return "mean training picture", "-", "-", "-", "-"
    source = "true features"
    if entry.source != TARGET:
        permuted = ", trained on permuted pairs" if result.kind == "null" else ""
        source = f"run `{entry.source}`{permuted}"
    reads = f"{entry.reads}{' and text tokens' if entry.text else ''}"
    family = inputs.params.generators.get(entry.generator, {}).get("family", "-")
    return (
        source,
        reads,
        f"`{entry.generator}` ({family})",
        str(entry.n_candidates),
        entry.selection,
    )
