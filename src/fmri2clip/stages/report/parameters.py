"""Section about the number of weights of the BrainMCLIP-style network at real size, beside methods
with a VAE route.
"""

from __future__ import annotations

from fmri2clip.stages.report.document import Bullets, Cell, Paragraph, Row, Score, Section, Table
from fmri2clip.stages.report.inputs import Inputs, Tree

PARTS = {
    "encoders": "encoders",
    "image_heads": "image heads",
    "text_head": "text head",
    "fusion": "fusion",
    "decoders": "fMRI decoders",
}
MISSING = (
    "The weights of the network at real size are not counted: run the `count_parameters` stage."
)


def make_weights(inputs: Inputs) -> Section:
    """What is counted, what the counts say, and the table; or a sentence that they are missing."""
    if inputs.weights is None:
        return Section("weights", "Weights", [Paragraph(MISSING, "missing")])
    weights = inputs.weights
    counted = Paragraph(describe_counted(weights["sizes"]))
    said = Paragraph(describe_reduction(weights))
    return Section("weights", "Weights", [counted, said, make_table(weights), make_notes(weights)])


def describe_counted(sizes: Tree) -> str:
    """What the numbers include, and for which data."""
    return (
        "Counted: every trained weight that decoding one subject needs (deployed), and these with "
        "the fMRI decoders,"
        " which only training uses (trained). Frozen CLIP and diffusion models are left out on "
        "both sides. Sizes:"
        f" `brainmclip` for subject 1 of NSD with ViT-L/14: {sizes['n_detail']:,} voxels of the "
        "detail and"
        f" {sizes['n_semantic']:,} of the semantic stream, {sizes['n_image_tokens']} image tokens "
        f"of {sizes['width']},"
        f" {sizes['n_text_tokens']} text tokens. The counts of this report's own models stand in "
        "the table of runs."
    )


def describe_reduction(weights: Tree) -> str:
    """How far the first row is below the references, and which rows reach the paper's share against
    both.
    """
    first = weights["rows"][0]
    rows = [row for row in weights["rows"] if "deployed" in row]
    claim = next(row["reduction"] for row in weights["rows"] if "reduction" in row)
    names = title_references(weights["references"])
    fewer = [f"{_percent(first[key])} fewer than {name}" for key, name in names.items()]
    reached = [f"'{row['name']}'" for row in rows if min(row[key] for key in names) >= claim]
    return (
        f"'{first['name']}' deploys {first['deployed'] / 1e6:.1f} million weights, "
        f"{' and '.join(fewer)}. At least"
        f" {_percent(claim)} fewer than both: {', '.join(reached) or 'no row'} ({len(reached)} of "
        f"{len(rows)} rows)."
        " Heads and width are our choice, so reaching that share reproduces nothing. The "
        "components that the first row's heads predict are "
        f"{first['basis'] / 1e6:.0f} million fixed numbers beside its weights."
    )


def title_references(references: Tree) -> dict[str, str]:
    """Key of a row -> name of the method that its reduction is measured against, with its size."""
    return {
        "reduction_mindeye1_vae": (
            f"MindEye1 with its VAE route ({references['mindeye1_vae'] / 1e9:.2f} B)"
        ),
        "reduction_mindeye2": f"MindEye2 ({references['mindeye2'] / 1e6:,.0f} M)",
    }


def make_table(weights: Tree) -> Table:
    """A row per variant, counts in millions, reductions in percent; the last row is the paper's
    claim.
    """
    names = title_references(weights["references"])
    sizes = " and ".join(names.values())
    columns = (
        "variant",
        "hidden",
        "rank",
        "deployed",
        "trained",
        "fewer than MindEye1, %",
        "fewer than MindEye2, %",
    )
    return Table(
        title="Weights at real size (millions)",
        columns=(*columns, *PARTS.values()),
        rows=tuple(Row(_make_cells(row, tuple(names))) for row in weights["rows"]),
        label=(
            f"Not measured on data: counted from the modules. Deployed weights against {sizes}. "
            "MindEye1: computed from"
            " its public code, three digits; MindEye2: printed in its public notebook."
        ),
        brief_columns=tuple(range(len(columns))),
    )


def make_notes(weights: Tree) -> Bullets:
    """Each note of the table with the rows that it belongs to."""
    names: dict[str, list[str]] = {}
    for row in weights["rows"]:
        if row["note"]:
            names.setdefault(row["note"], []).append(f"'{row['name']}'")
    return Bullets(tuple(f"{', '.join(rows)}: {note}" for note, rows in names.items()))


def _make_cells(row: Tree, reductions: tuple[str, ...]) -> tuple[Cell, ...]:
    if "deployed" not in row:
        return (
            f"{row['name']}: {_percent(row['reduction'])} fewer",
            *["-"] * (4 + len(PARTS) + len(reductions)),
        )
    settings = (row["name"], str(row["hidden"]), row["rank"])
    totals, parts = (
        [_millions(row[key]) for key in keys] for keys in (("deployed", "trained"), PARTS)
    )
    return (*settings, *totals, *(Score(100 * row[key]) for key in reductions), *parts)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"
