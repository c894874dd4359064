"""Section about CLIP blocks and visual areas: what the hierarchy stage found, and the sentences
that follow from it.

No sentence is fixed: intervals, p values and the order of the RSA values choose among those below.
The contrasts are defined in hierarchy_tree.py, which also writes the numbers; an interval speaks
about images, p about voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmri2clip.core.params import Hierarchy
from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Details,
    Figure,
    Paragraph,
    Row,
    Score,
    Section,
    Table,
)
from fmri2clip.stages.report.inputs import Inputs, Tree
from fmri2clip.stages.report.labels import label_data
from fmri2clip.stages.report.scores import lookup

GROUPS = ("low", "high", "all")
CONTRASTS = {  # name -> (what it is, digits in print)
    "late_difference": ("RSA of `high` less that of `low`, last block", 3),
    "late_preference": ("the former less the same difference at the first block", 3),
    "peak_gap": ("block of highest RSA, `high` less `low`", 1),
}
SUMMARIES = {
    "patch_mean": "mean of the patch tokens",
    "class_token": "class token",
    "grid": "patch tokens averaged on a coarse grid",
}
ALPHA = 0.05
AT_LAST = {  # by the sign of late_difference
    1: "high areas resemble the last block more than low areas do",
    -1: "low areas resemble the last block more than high areas do",
    0: "that high and low areas differ at the last block is not shown",
}
PREFERENCE = {  # by the sign of late_preference
    1: "high areas prefer late blocks, compared with low areas",
    -1: "low areas prefer late blocks, compared with high areas",
    0: "no preference for late blocks is shown",
}


def make_hierarchy(inputs: Inputs) -> Section:
    """One part per CLIP model, or a sentence that its analysis is missing."""
    section = Section(
        "hierarchy",
        "Which CLIP blocks resemble which areas",
        [_make_method(inputs.params.hierarchy)],
    )
    for clip in inputs.params.clips:
        if clip in inputs.hierarchy:
            section.blocks.extend(make_clip(inputs, clip))
        else:
            missing = (
                f"The hierarchy analysis of CLIP model `{clip}` is missing: run the `hierarchy` "
                "stage."
            )
            section.blocks.append(Paragraph(missing, "missing"))
    return section


def _make_method(config: Hierarchy) -> Paragraph:
    return Paragraph(
        "Training images only. RSA: rank correlation between the distances of pictures in voxel "
        "patterns"
        " (cross-validated over repeats) and in a CLIP block's tokens"
        f" ({SUMMARIES[config.tokens]}), divided by the square root of the reliability of the "
        "voxels' distances. Low,"
        " high and all areas enter with equally many voxels; voxels that are both low and high are "
        "left out of these"
        " two. No decoder reads the result."
    )


def make_clip(inputs: Inputs, clip: str) -> list[Block]:
    """Figure, sentences and tables of one CLIP model."""
    tree = inputs.hierarchy[clip]
    config = inputs.params.hierarchy
    label = (
        f"CLIP model `{clip}`, mean of {tree['mean']['n_subjects']} subjects, at most "
        f"{config.n_images} training images"
        f" each. {label_data(inputs.params)}; seed {config.seed}."
    )
    sentences = (
        *describe_similarity(tree["mean"], config.tokens),
        describe_gap(tree["mean"]),
        describe_shuffles(tree["mean"], config),
        describe_band(tree["band"], config, clip, inputs.params.clips[clip].detail_layers),
    )
    return [
        _make_figure(inputs, clip, label),
        Bullets(sentences),
        make_block_table(
            tree, config.tokens, f"Resemblance of CLIP blocks and areas, {clip}", label
        ),
        _make_contrast_table(tree["mean"], config, clip, label),
        _make_details(tree, config, clip, label),
    ]


def _make_figure(inputs: Inputs, clip: str, label: str) -> Block:
    if clip not in inputs.hierarchy_pictures:
        return Paragraph(
            f"No picture `{clip}.png` beside the numbers of the hierarchy analysis.", "missing"
        )
    alt = (
        f"RSA of low, high and all areas with each block of CLIP model {clip}, and CKA between the "
        "blocks"
    )
    caption = (
        "RSA with each block by subject (bands: 95 % intervals over images), and CKA between "
        f"blocks. {label}"
    )
    return Figure(inputs.hierarchy_pictures[clip], alt, caption)


def describe_similarity(numbers: Tree, tokens: str) -> list[str]:
    """Where each group's RSA is highest; what late_difference and late_preference say together."""
    rsa = {group: list_blocks(numbers["rsa"][tokens][group]) for group in GROUPS}
    peaks = [f"`{group}` at block {_peak(rsa[group])} ({max(rsa[group]):.3f})" for group in GROUPS]
    signs = {name: find_sign(numbers["contrasts"], name) for name in CONTRASTS}
    found = [
        f"`{name}` {'excludes' if signs[name] else 'does not exclude'} 0 "
        f"({_format_interval(numbers, name)})"
        for name in ("late_difference", "late_preference")
    ]
    return [
        f"RSA is highest for {', for '.join(peaks)}.",
        f"{found[0]}, {found[1]}: "
        f"{conclude(signs['late_difference'], signs['late_preference'], rsa)}.",
    ]


def conclude(late: int, preference: int, rsa: dict[str, list[float]]) -> str:
    """late, preference: signs of the two contrasts whose intervals exclude 0, else 0."""
    if not late or preference:
        return f"{AT_LAST[late]}; {PREFERENCE[preference]}"
    ahead, behind = ("high", "low") if late > 0 else ("low", "high")
    n = sum(a > b for a, b in zip(rsa[ahead], rsa[behind], strict=True))
    n_blocks = len(rsa["low"])
    which = "every block" if n == n_blocks else f"{n} of {n_blocks} blocks"
    return f"{ahead} areas fit {which} better; {PREFERENCE[0]}"


def describe_gap(numbers: Tree) -> str:
    """Whether the block of highest RSA differs."""
    places = {1: "later for `high` than for `low`", -1: "earlier for `high` than for `low`"}
    where = places.get(
        find_sign(numbers["contrasts"], "peak_gap"), "not shown to differ between `high` and `low`"
    )
    return (
        f"The block of highest RSA is {where} (`peak_gap` {_format_interval(numbers, 'peak_gap')})."
    )


def describe_shuffles(numbers: Tree, config: Hierarchy) -> str:
    """Contrasts that each kind of shuffle reaches rarely."""
    names = {
        kind: [f"`{name}`" for name in CONTRASTS if numbers["shuffled"][name][f"{kind}_p"] <= ALPHA]
        for kind in ("clusters", "voxels")
    }
    said = {kind: ", ".join(found) or "no contrast" for kind, found in names.items()}
    return (
        f"Against shuffled clusters of about {config.block_voxels} neighbouring voxels, p is at "
        f"most {ALPHA} for"
        f" {said['clusters']}; against the plain shuffle of voxels, which ignores that neighbours "
        "share signal, for"
        f" {said['voxels']}."
    )


def describe_band(band: Tree, config: Hierarchy, clip: str, detail_layers: Sequence[int]) -> str:
    """The suggested band, its rule, and whether the parameters follow it."""
    blocks = range(band["first"], band["last"] + 1)
    configured = ", ".join(map(str, detail_layers)) or "empty"
    same = (
        "the same blocks" if sorted(detail_layers) == list(blocks) else "not the suggested blocks"
    )
    where = (
        f"block {band['first']}"
        if len(blocks) == 1
        else f"blocks {band['first']} to {band['last']}"
    )
    return (
        f"Suggested for the detail tokens: {where}. Rule: the longest run of blocks, the last "
        "block left out, whose"
        f" RSA with all areas is at least {100 * config.band_share:g} % of the best and any two of "
        "which have a CKA of"
        f" at least {config.band_cka:g}. `clips.{clip}.detail_layers` is {configured}: {same}."
    )


def find_sign(tree: Tree, name: str) -> int:
    """1 or -1 where the interval lies above or below 0, else 0."""
    low, high = (lookup(tree, f"{name}_ci95_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return 0
    return (low > 0) - (high < 0)


def list_blocks(tree: Tree) -> list[float]:
    """Values of block1, block2, ... without their intervals."""
    values: list[float] = []
    while f"block{len(values) + 1}" in tree:
        values.append(float(tree[f"block{len(values) + 1}"]))
    return values


def _peak(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__) + 1


def _score(tree: Tree, name: str, digits: int, signed: bool = False) -> Score:
    low, high = (lookup(tree, f"{name}_ci95_{end}") for end in ("low", "high"))
    return Score(
        tree[name],
        math.nan if low is None else low,
        math.nan if high is None else high,
        digits,
        signed,
    )


def _contrast(numbers: Tree, name: str) -> Score:
    return _score(numbers["contrasts"], name, CONTRASTS[name][1], signed=True)


def _format_interval(numbers: Tree, name: str) -> str:
    score = _contrast(numbers, name)
    return f"{score.text()} {score.interval()}".rstrip()


def make_block_table(tree: Tree, tokens: str, title: str, label: str) -> Table:
    """RSA with interval and CKA of every block and group, mean of the subjects."""
    rsa, cka = (tree["mean"][kind][tokens] for kind in ("rsa", "cka"))
    rows = []
    for block in range(1, len(list_blocks(rsa["all"])) + 1):
        name = f"block{block}"
        band = "yes" if tree["band"]["first"] <= block <= tree["band"]["last"] else ""
        scores = (
            *(_score(rsa[g], name, 3) for g in GROUPS),
            *(Score(cka[g][name], digits=3) for g in GROUPS),
        )
        rows.append(Row((str(block), band, *scores)))
    return Table(
        title=title,
        columns=(
            "block",
            "suggested",
            *(f"RSA, `{g}`" for g in GROUPS),
            *(f"CKA, `{g}`" for g in GROUPS),
        ),
        rows=tuple(rows),
        label=f"{label} Tokens: {SUMMARIES[tokens]}. In brackets the 95 % bootstrap interval over "
        "images.",
        n_text_columns=2,
    )


def _make_contrast_table(numbers: Tree, config: Hierarchy, clip: str, label: str) -> Table:
    rows = []
    for name, (words, digits) in CONTRASTS.items():
        shuffled = numbers["shuffled"][name]
        tested = Score(shuffled["observed"], digits=digits, signed=True).text()
        p_values = (f"{shuffled[f'{kind}_p']:.3f}" for kind in ("clusters", "voxels"))
        rows.append(Row((f"`{name}`: {words}", _contrast(numbers, name), tested, *p_values)))
    return Table(
        title=f"Do high areas prefer later blocks than low areas? {clip}",
        columns=(
            "contrast",
            "value",
            "value in the shuffle test",
            "p, clusters shuffled",
            "p, voxels shuffled",
        ),
        rows=tuple(rows),
        label=(
            f"{label} Intervals over images. p: one-sided (high areas prefer later blocks), on all "
            "voxels with one"
            f" split of the repeats; {config.n_permutations} shuffles, so p is at least"
            f" {1 / (config.n_permutations + 1):.3f}; not corrected for the number of contrasts. "
            "Clusters: about"
            f" {config.block_voxels} voxels."
        ),
    )


def _make_details(tree: Tree, config: Hierarchy, clip: str, label: str) -> Details:
    rows = []
    for subject, numbers in tree["subjects"].items():
        counts = [
            f"{numbers[f'n_{key}']:,}" for key in ("images", "voxels_low", "voxels_high", "matched")
        ]
        cells = [
            (_contrast(numbers, c), f"p {numbers['shuffled'][c]['clusters_p']:.3f}")
            for c in CONTRASTS
        ]
        rows.append(Row((subject, *counts, *cells)))
    table = Table(
        title=f"Contrasts of each subject, {clip}",
        columns=(
            "subject",
            "images",
            "voxels low",
            "voxels high",
            "voxels in a draw",
            *(f"`{c}`" for c in CONTRASTS),
        ),
        rows=tuple(rows),
        label=f"{label} p: clusters shuffled.",
    )
    others = [name for name in tree["mean"]["rsa"] if name != config.tokens]
    tables = [
        make_block_table(tree, name, f"Blocks and areas, {clip}: {SUMMARIES[name]}", label)
        for name in others
    ]
    return Details(
        f"{clip}: each subject, and other summaries of a block's tokens", (table, *tables)
    )
