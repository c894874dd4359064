"""Sections about the data: voxels and reliability of each subject, and the asserted figures of the
simulated world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmri2clip.stages.report.document import (
    Block,
    Details,
    Figure,
    Paragraph,
    Row,
    Section,
    Table,
    Verdict,
)
from fmri2clip.stages.report.inputs import Inputs, Tree
from fmri2clip.stages.report.labels import is_simulated, label_data
from fmri2clip.stages.report.scores import lookup

COUNTS = {
    "sessions": "sessions",
    "voxels.kept": "voxels in nsdgeneral, kept",
    "voxels.dropped": "voxels dropped: no signal in any session",
    "voxels.filled": "voxels with a session without signal (filled with 0)",
    "train.images": "training images",
    "train.trials": "training trials",
    "test.images": "test images (shared)",
    "test.trials": "test trials",
}
NCSNR = {"median": "median ncsnr, as shipped", "median_train": "median ncsnr, training trials only"}
WORLD_PICTURES = {
    "scenes": (
        "Sample scenes of the simulated world",
        "Sample scenes with their captions, drawn by rule, not picked.",
    ),
    "areas": (
        "Mean responses of areas to pictures with each category",
        "Mean z-scored response of some areas to training pictures that show a category; in "
        "brackets what no label names: faces, printed words, views of a place, bodies.",
    ),
    "ncsnr": (
        "Distribution of ncsnr by region and subject",
        "Simulated noise ceiling signal-to-noise ratio (ncsnr, a ratio of standard deviations, no "
        "unit) by region.",
    ),
}


def make_data(inputs: Inputs) -> Section:
    """Trials, voxels per group and ROI, and median ncsnr, one column a subject."""
    subjects = list(inputs.rois)
    groups = _names(inputs.rois, "groups")
    rows = [Row(("Trials and voxels",), "heading")]
    rows += [_count_row(inputs, title, name.split(".")) for name, title in COUNTS.items()]
    rows.append(Row(("Voxels by group of regions (rois in params.yaml)",), "heading"))
    rows += [_count_row(inputs, f"`{name}`", ["groups", name]) for name in groups]
    rows.append(Row(("Reliability: ncsnr = signal s.d. / noise s.d.",), "heading"))
    for key, title in NCSNR.items():
        rows += [_ncsnr_row(inputs, f"`{group}`: {title}", group, key) for group in groups]
    label = (
        f"{label_data(inputs.params)}, {inputs.params.dataset.preparation}. Statistics: "
        "`norm.stats:"
        f" {inputs.params.norm.stats}`."
    )
    table = Table(
        title="Data of each subject", columns=("", *subjects), rows=tuple(rows), label=label
    )
    return Section("data", "Voxels and reliability", [table, _make_roi_details(inputs, label)])


def _make_roi_details(inputs: Inputs, label: str) -> Details:
    rows = []
    for key, heading in (("rois", "ROIs (inside nsdgeneral)"), ("labels", "Labels of these ROIs")):
        rows.append(Row((heading,), "heading"))
        rows += [_count_row(inputs, f"`{name}`", [key, name]) for name in _names(inputs.rois, key)]
    note = (
        f"{label} Regions overlap, so counts do not add up; 0 is a label that is empty in this "
        "subject."
    )
    table = Table(
        title="Voxels of every ROI and label",
        columns=("", *inputs.rois),
        rows=tuple(rows),
        label=note,
    )
    return Details("Voxels of every ROI and label", (table,))


def _names(rois: Mapping[str, Tree], key: str) -> list[str]:
    return list(dict.fromkeys(name for counts in rois.values() for name in counts.get(key, {})))


def _find(tree: Tree, path: Sequence[str]) -> float | None:
    """Number at a path of keys (ROI names may hold dots, so no dotted name)."""
    for key in path:
        tree = tree.get(key, {})
    return tree if isinstance(tree, (int, float)) else None


def _count_row(inputs: Inputs, title: str, path: Sequence[str]) -> Row:
    values = [_find(counts, path) for counts in inputs.rois.values()]
    return Row((title, *("-" if value is None else f"{value:,}" for value in values)))


def _ncsnr_row(inputs: Inputs, title: str, group: str, key: str) -> Row:
    values = [_find(counts, ["ncsnr", group, key]) for counts in inputs.rois.values()]
    return Row((title, *("-" if value is None else f"{value:.2f}" for value in values)))


def make_world(inputs: Inputs) -> Section:
    """Asserted figures with their bands, further figures, and the pictures of the world."""
    section = Section("world", "The simulated world")
    if not is_simulated(inputs.params):
        section.blocks.append(
            Paragraph("The data are real: there is no simulated world to describe.", "missing")
        )
        if inputs.world is not None:
            label = label_data(inputs.params)
            details = _make_further_details(inputs.world, inputs.params.subjects, label)
            section.blocks.append(details)
        return section
    if inputs.world is None:
        section.blocks.append(
            Paragraph(
                "The figures of the simulated world are missing: run the `describe_data` stage.",
                "missing",
            )
        )
    else:
        section.blocks.extend(
            make_world_tables(inputs.world, inputs.params.subjects, label_data(inputs.params))
        )
    for name, (alt, caption) in WORLD_PICTURES.items():
        if name in inputs.world_pictures:
            section.blocks.append(
                Figure(inputs.world_pictures[name], alt, f"{caption} {label_data(inputs.params)}.")
            )
        else:
            section.blocks.append(
                Paragraph(f"No picture `{name}.png` beside the figures of the world.", "missing")
            )
    return section


def make_world_tables(world: Tree, subjects: Sequence[str], label: str) -> list[Block]:
    """A branch with a value and a band is an asserted figure; every other number is printed as it
    is.
    """
    asserted = [
        _assert_row(node, name) for name, node in _list_leaves(world) if isinstance(node, Mapping)
    ]
    n_failed = sum(verdict.tone == "bad" for *_, verdict in asserted)
    said = f"{len(asserted) - n_failed} of {len(asserted)} asserted figures are in their band."
    columns = ("figure", "value", "band", "verdict")
    return [
        Paragraph(said, "notice" if n_failed else ""),
        Table(
            title="Asserted figures of the world",
            columns=columns,
            rows=tuple(map(Row, asserted)),
            label=f"{label}.",
        ),
        _make_further_details(world, subjects, label),
    ]


def _make_further_details(world: Tree, subjects: Sequence[str], label: str) -> Details:
    """Numbers without a band: one table for those of each subject, one for the others."""
    by_subject = {
        f"{key}.{name}": [
            _format_value(dict(_list_leaves(node.get(subject, {}))).get(name, "-"))
            for subject in subjects
        ]
        for key, node in world.items()
        if isinstance(node, Mapping) and set(node) & set(subjects)
        for name, _ in _list_leaves(next(iter(node.values())))
    }
    known = {name.split(".")[0] for name in by_subject}
    others = [
        (n, v)
        for n, v in _list_leaves(world)
        if n.split(".")[0] not in known and not isinstance(v, Mapping)
    ]
    tables = []
    if by_subject:
        rows = tuple(Row((f"`{name}`", *values)) for name, values in by_subject.items())
        tables.append(
            Table(
                title="Figures of each subject",
                columns=("figure", *subjects),
                rows=rows,
                label=f"{label}.",
            )
        )
    if others:
        rows = tuple(Row((f"`{name}`", _format_value(value))) for name, value in others)
        tables.append(
            Table(
                title="Figures of the world",
                columns=("figure", "value"),
                rows=rows,
                label=f"{label}.",
            )
        )
    return Details("Further figures of the world", tuple(tables))


def _list_leaves(node: Tree, name: str = "") -> list[tuple[str, object]]:
    """(dotted name, value) of every number or text; a branch with a value and a band is one
    leaf.
    """
    if "value" in node and {"low", "high"} & set(node):
        return [(name, node)]
    leaves: list[tuple[str, object]] = []
    for key, child in node.items():
        path = f"{name}.{key}" if name else key
        leaves += _list_leaves(child, path) if isinstance(child, Mapping) else [(path, child)]
    return leaves


def _assert_row(node: Tree, name: str) -> tuple[str, str, str, Verdict]:
    value, low, high = (lookup(node, key) for key in ("value", "low", "high"))
    within = value is not None and (low is None or value >= low) and (high is None or value <= high)
    verdict = Verdict("in band", "good") if within else Verdict("out of band", "bad")
    return (
        f"`{name.removeprefix('asserted.')}`",
        "-" if value is None else _format_value(value),
        _describe_band(low, high),
        verdict,
    )


def _describe_band(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {_format_value(high)}"
    return (
        f"at least {_format_value(low)}"
        if high is None
        else f"{_format_value(low)} to {_format_value(high)}"
    )


def _format_value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return (
            ", ".join(map(_format_value, value)) if isinstance(value, (list, tuple)) else str(value)
        )
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
