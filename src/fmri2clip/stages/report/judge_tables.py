"""Tables of one score looked at in several ways: by similarity, by number of trials, by size of the
gallery; and average precision by category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmri2clip.metrics.decoding.retrieval import SIZES
from fmri2clip.stages.report.document import Block, Cell, Details, Row, Score, Table
from fmri2clip.stages.report.inputs import Inputs, RunResult, Tree
from fmri2clip.stages.report.labels import label_data, label_seeds
from fmri2clip.stages.report.scores import lookup, read_score

TOP1 = "image_given_brain.top1"
TRIALS: Mapping[str, str] = {
    f"{place}retrieval.{direction}.top1": f"{title}, {words}"
    for direction, title in (
        ("image_given_brain", "image given brain"),
        ("text_given_brain", "text given brain"),
    )
    for place, words in (("trials.1.", "1 trial"), ("trials.2.", "2"), ("", "all"))
}
GALLERIES: Mapping[str, str] = {
    **{f"retrieval_sizes.{n}.{TOP1}": f"of {n}" for n in SIZES},
    f"retrieval_hard.{TOP1}": "nearest images",
}
SIMILARITIES: Mapping[str, str] = {
    f"judge.{similarity}.retrieval_all.{direction}.{score}": f"{title}, {words} {similarity}"
    for direction, title in (
        ("image_given_brain", "image given brain"),
        ("brain_given_image", "brain given image"),
        ("text_given_brain", "text given brain"),
    )
    for score, words in (("top1", "top-1 by"), ("bits", "bits by"))
    for similarity in ("cosine", "channel")
}


def make_judge_tables(inputs: Inputs, clip: str, n_images: int) -> list[Block]:
    """Of the decoders of embeddings of one CLIP model: trials, galleries and, where the judge was
    fitted, similarities; of all decoders, categories.
    """
    runs = [result for result in inputs.runs.values() if result.run.clip == clip]
    blocks: list[Block] = []
    for title, metrics, words in (
        ("By number of trials", TRIALS, "Mean of the first so many trials of each test image. "),
        (
            "By size of the gallery: image given brain, top-1",
            GALLERIES,
            "Expectation over all galleries of so many test images; beside it the nearest images "
            "by true embedding. ",
        ),
        (
            "By similarity, among all test images",
            SIMILARITIES,
            "Of a second fit, without the images of the judge. `channel`: pointwise mutual "
            "information under a joint Gaussian of prediction and target, fitted to what it "
            "predicts for those. Bits: log2 of the number of images, plus log2 of what the softmax "
            "gives to the right one. ",
        ),
    ):
        table = _make_table(inputs, runs, title, metrics, words, n_images)
        blocks += [table] if table else []
    categories = _make_categories(inputs, runs, n_images)
    if categories:
        blocks.append(Details("Average precision by category", (categories,)))
    return blocks


def _make_table(
    inputs: Inputs,
    runs: Sequence[RunResult],
    title: str,
    metrics: Mapping[str, str],
    words: str,
    n_images: int,
) -> Table | None:
    """None where no run has one of the metrics, or all have one of them at most."""
    there = [m for m in metrics if any(lookup(r.metrics, m) is not None for r in runs)]
    scored = [r for r in runs if any(lookup(r.metrics, m) is not None for m in there)]
    if len(there) < 2:
        return None
    rows = [Row((f"`{r.name}`", *(_cell(r.metrics, m) for m in there)), "result") for r in scored]
    return Table(
        title=title,
        columns=("run", *(metrics[m] for m in there)),
        rows=tuple(rows),
        label=f"{label_data(inputs.params)}, {n_images} test images. {words}In brackets the 95 % "
        f"bootstrap interval over images. {label_seeds(inputs.params, runs)}.",
    )


def _cell(tree: Tree, metric: str) -> Cell:
    """In percent; information in bits."""
    score = read_score(tree, metric)
    if score is None:
        return "-"
    if not metric.endswith(".bits"):
        return score
    return Score(score.value / 100, score.low / 100, score.high / 100, digits=2)


def _make_categories(inputs: Inputs, runs: Sequence[RunResult], n_images: int) -> Table | None:
    """Rows by number of positives, most first; None where no run has scored categories."""
    trees: dict[str, Tree] = {}
    for result in runs:
        node = result.metrics.get("classification", {}).get("by_category")
        if node:
            trees[result.name] = node
    if not trees:
        return None
    counts = {name: leaf["n_positive"] for tree in trees.values() for name, leaf in tree.items()}
    rows = []
    for name, n_positive in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        cells = [
            f"{100 * tree[name]['average_precision']:.1f}" if name in tree else "-"
            for tree in trees.values()
        ]
        rows.append(Row((name, f"{n_positive:g}", f"{100 * n_positive / n_images:.1f}", *cells)))
    return Table(
        title="Average precision by category (%)",
        columns=("category", "positives", "share (%)", *(f"`{name}`" for name in trees)),
        rows=tuple(rows),
        label=f"{label_data(inputs.params)}, {n_images} test images; mean over subjects. The share "
        "is what a guess scores in many images; few positives lift average precision above it. "
        "Categories with fewer than 5 positives are listed here and not averaged in mAP.",
    )
