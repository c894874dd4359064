"""Categories and clusters that a run's training left out: scores, chance, and whether the task can
be failed at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from fmri2clip.core.params import Params
from fmri2clip.metrics.statistics import is_testable
from fmri2clip.stages.report.document import Block, Cell, Paragraph, Row, Table, Verdict
from fmri2clip.stages.report.inputs import Inputs, RunResult, Tree
from fmri2clip.stages.report.labels import label_data, label_seeds
from fmri2clip.stages.report.scores import DIRECTIONS, lookup, read_score

NOT_TESTABLE = "not testable here"
CANDIDATES = {"only": "unseen categories only", "all": "all categories"}


def make_unseen(inputs: Inputs) -> list[Block]:
    """Tables of what was left out of training, or a sentence that no run leaves anything out."""
    runs = [result for result in inputs.runs.values() if result.metrics.get("unseen")]
    if not runs:
        return [
            Paragraph(
                "No run of this report leaves categories or clusters out of training "
                "(`split.unseen_folds` and"
                " `split.holdout_clusters` are 0), so nothing is claimed about unseen categories: "
                "every category of the"
                " test images also occurs in training.",
                "missing",
            )
        ]
    tables = [_make_category_table(inputs, runs), _make_cluster_table(inputs, runs)]
    return [table for table in tables if table is not None]


def describe_left_out(params: Params, result: RunResult) -> str:
    """What the run's split leaves out of training, in words."""
    split = result.run.split
    folds = split.get("unseen_folds", params.split.unseen_folds)
    fold = split.get("unseen_fold", params.split.unseen_fold)
    clusters = split.get("holdout_clusters", params.split.holdout_clusters)
    parts = []
    if folds:
        control = split.get("unseen_control", params.split.unseen_control)
        parts.append(
            f"as many random images as fold {fold} of {folds}"
            if control
            else f"categories of fold {fold} of {folds}"
        )
    if clusters:
        parts.append(
            f"{split.get('holdout_fraction', params.split.holdout_fraction):.0%} of {clusters} "
            "clusters"
        )
    return ", ".join(parts) or "nothing"


def _make_category_table(inputs: Inputs, runs: list[RunResult]) -> Table | None:
    asked = [
        result
        for result in runs
        if lookup(result.metrics["unseen"], "zero_shot.only.top1") is not None
    ]
    if not asked:
        return None
    rows = []
    for result in asked:
        for key, words in CANDIDATES.items():
            rows.append(Row(_category_cells(inputs.params, result, key, words)))
    return Table(
        title="Zero-shot choice of a category that training left out (%)",
        columns=(
            "run",
            "left out of training",
            "candidates",
            "top-1",
            "chance",
            "noise-free top-1",
            "images",
            "verdict",
        ),
        rows=tuple(rows),
        label=(
            f"{label_data(inputs.params)}. Test images whose dominant category was left out; mean "
            "over subjects."
            f" {label_seeds(inputs.params, asked)}. Where even the noise-free responses do not "
            "beat chance with their"
            f" whole interval, no score is printed: {NOT_TESTABLE}."
        ),
        n_text_columns=3,
    )


def _category_cells(params: Params, result: RunResult, key: str, words: str) -> tuple[Cell, ...]:
    branch: Tree = result.metrics["unseen"].get("zero_shot", {}).get(key, {})
    noise_free: Tree = (
        result.metrics["unseen"].get("noise_free", {}).get("zero_shot", {}).get(key, {})
    )
    chance = lookup(branch, "chance")
    score = read_score(branch, "top1")
    ceiling = read_score(noise_free, "top1")
    n_images = lookup(branch, "n_images")
    verdict = judge(branch, noise_free)
    shown: Cell = "-" if score is None or verdict.word == NOT_TESTABLE else score
    numbers: tuple[Cell, ...] = (
        shown,
        "-" if chance is None else f"{100 * chance:.1f}",
        "-" if ceiling is None else ceiling,
        "-" if n_images is None else f"{n_images:g}",
    )
    return f"`{result.name}`", describe_left_out(params, result), words, *numbers, verdict


def judge(branch: Mapping[str, float], noise_free: Mapping[str, float]) -> Verdict:
    """'above chance' when the whole interval is; 'not testable here' when noise-free responses do
    not beat chance.
    """
    chance = lookup(branch, "chance")
    low = lookup(branch, "top1_ci95_low")
    if chance is None or low is None:
        return Verdict("not scored")
    if noise_free and not is_testable(noise_free, "top1", chance):
        return Verdict(NOT_TESTABLE)
    beyond = "" if noise_free else " (no noise-free reference)"
    return (
        Verdict(f"above chance{beyond}", "good")
        if low > chance
        else Verdict(f"not above chance{beyond}", "bad")
    )


def _make_cluster_table(inputs: Inputs, runs: list[RunResult]) -> Table | None:
    metrics = {f"retrieval.{name}.top1": f"{label} top-1" for name, label in DIRECTIONS.items()}
    asked = [
        result
        for result in runs
        if lookup(result.metrics["unseen"], "retrieval.image_given_brain.top1") is not None
    ]
    if not asked:
        return None
    rows = []
    for result in asked:
        for words, tree in (
            ("held-out clusters", result.metrics["unseen"]),
            ("all", result.metrics),
        ):
            cells = [read_score(tree, metric) or "-" for metric in metrics]
            rows.append(
                Row((f"`{result.name}`", describe_left_out(inputs.params, result), words, *cells))
            )
    return Table(
        title="Retrieval of test images from clusters that training left out (%)",
        columns=("run", "left out of training", "queries", *metrics.values()),
        rows=tuple(rows),
        label=(
            f"{label_data(inputs.params)}. {inputs.params.evaluation.n_way}-way, galleries drawn "
            "from the whole test"
            f" set. {label_seeds(inputs.params, asked)}."
        ),
        n_text_columns=3,
    )
