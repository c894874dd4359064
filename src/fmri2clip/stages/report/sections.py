"""Sections of the report.

Each function turns what was read into blocks; missing inputs become sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fmri2clip.figures import plots
from fmri2clip.metrics.statistics import Difference
from fmri2clip.stages.report import (
    differences,
    judge_tables,
    pictures,
    results,
    retrieved,
    texts,
    unseen,
)
from fmri2clip.stages.report.document import (
    Block,
    Bullets,
    Figure,
    Gallery,
    Paragraph,
    Row,
    Section,
    Table,
)
from fmri2clip.stages.report.inputs import Inputs, RunResult
from fmri2clip.stages.report.labels import is_simulated, label_data, label_seeds
from fmri2clip.stages.report.picture_overview import make_picture_overview
from fmri2clip.stages.report.scores import READOUTS, TOKENS, chance, headline, lookup, read_score

NO_PAIRS = "No two runs share a subject: there is nothing to compare."


def make_overview(
    inputs: Inputs, found: differences.Pairs, n_images: int, figures_dir: Path
) -> Section:
    """Headline numbers of every run beside their strongest rival, as a figure and in words."""
    metrics = headline(inputs.params.evaluation)
    blocks: list[Block] = [texts.make_notice(inputs.params)]
    for clip in inputs.references:
        panels, chances = results.collect_points(inputs, clip, metrics, n_images)
        path = plots.draw_intervals(panels, chances, figures_dir / f"scores_{clip}.png")
        runs = [result for result in inputs.runs.values() if result.run.clip == clip]
        blocks.append(
            Figure(
                path,
                f"Scores of decoders, baselines and references with CLIP model {clip}",
                _caption(inputs, runs, clip, n_images),
            )
        )
    said = tuple(describe_pair(pair, found[pair], metrics) for pair in choose_pairs(inputs, found))
    label = (
        f"Paired differences in points with 95 % intervals. {label_data(inputs.params)}."
        f" {label_seeds(inputs.params, inputs.runs.values())}."
    )
    blocks += (
        [Bullets(said), Paragraph(label, "label")] if said else [Paragraph(NO_PAIRS, "missing")]
    )
    blocks += make_picture_overview(inputs)
    return Section("overview", "At a glance", blocks)


def _caption(inputs: Inputs, runs: list[RunResult], clip: str, n_images: int) -> str:
    return (
        "Filled: decoders; hollow: baselines, nulls and references; whiskers: 95 % intervals over "
        "images; dashed:"
        f" chance. CLIP model `{clip}`, mean over subjects, {n_images} test images. "
        f"{label_data(inputs.params)}."
        f" {label_seeds(inputs.params, runs)}."
    )


def choose_pairs(inputs: Inputs, found: differences.Pairs) -> list[tuple[str, str]]:
    """Pairs for the overview; the section on differences has all.

    Decoders of embeddings with each other and with the baseline, the first run of each; of those
    trained on labels, the first of params.yaml with each other one.
    """
    first: dict[str, str] = {}
    for name, result in inputs.runs.items():
        first.setdefault(result.run.decoder, name)
    repeated = {name for name, result in inputs.runs.items() if first[result.run.decoder] != name}
    labelled = [
        name
        for name, r in inputs.runs.items()
        if lookup(r.metrics, "classification.hamming") is not None
    ]
    chosen = []
    for a, b in found:
        if a in labelled and b in labelled:
            chosen += [(a, b)] if labelled[0] in (a, b) else []
        elif a not in labelled and b not in labelled and not repeated & {a, b}:
            chosen.append((a, b))
    return chosen


def describe_pair(
    pair: tuple[str, str], found: Mapping[str, Difference], metrics: Mapping[str, str]
) -> str:
    """One sentence on a pair of runs: every difference with its interval."""
    said = []
    for name, difference in found.items():
        score = differences.to_score(
            difference.estimate.value, difference.estimate.low, difference.estimate.high
        )
        said.append(f"{metrics[name]} {score.text()} {score.interval()}")
    n_subjects = max((difference.n_subjects for difference in found.values()), default=0)
    return (
        f"`{pair[0]}` less `{pair[1]}` (points, n = {n_subjects} subjects): "
        f"{', '.join(said) or 'no metric in common'}."
    )


def make_runs_table(inputs: Inputs) -> Table:
    """What was trained: one row a run."""
    rows = []
    for result in inputs.runs.values():
        run = result.run
        metrics = result.metrics
        trained, deployed = (
            lookup(metrics, f"parameters.{key}") for key in ("trained", "deployed")
        )
        clip = f"{run.clip} ({inputs.params.clips[run.clip].model})"
        settings = ", ".join(
            f"{key}={value}" for key, value in {**run.overrides, **run.split}.items()
        )
        rows.append(
            Row(
                (
                    f"`{result.name}`",
                    run.decoder,
                    clip,
                    run.voxels,
                    ", ".join(run.subjects),
                    settings or "-",
                    str(run.seed),
                    _count(trained),
                    _count(deployed),
                    "yes" if lookup(metrics, "training.converged") else "not shown",
                )
            )
        )
    return Table(
        title="Runs",
        columns=(
            "run",
            "decoder",
            "CLIP",
            "voxels",
            "subjects",
            "differs from defaults",
            "seed",
            "weights trained",
            "weights deployed",
            "converged",
        ),
        rows=tuple(rows),
        label=f"{label_data(inputs.params)}. Weights: of one model (of all its subjects), mean "
        "over models. Converged: a closed form, or trained at least as long as "
        "benchmarks/convergence.json finds enough for these settings.",
        brief_columns=(0, 1, 2, 3, 4, 6, 7, 9),
        n_text_columns=6,
    )


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def make_results(inputs: Inputs, n_images: int) -> Section:
    """The runs and, for each CLIP model, tables of scores and of tokens."""
    blocks: list[Block] = [make_runs_table(inputs)]
    for clip in inputs.references:
        if len(inputs.references) > 1:
            blocks.append(Paragraph(f"**CLIP model `{clip}`**"))
        blocks += results.make_result_tables(inputs, clip, n_images)
        blocks += judge_tables.make_judge_tables(inputs, clip, n_images)
        blocks += make_tokens(inputs, clip, n_images)
    return Section("scores", "Scores", blocks)


def make_tokens(inputs: Inputs, clip: str, n_images: int) -> list[Block]:
    """Tables of TOKENS and READOUTS for the rows that have any of them; nothing where no run
    has.
    """
    evaluation = inputs.params.evaluation
    protocol = (
        f"Protocol: {evaluation.n_way}-way, {evaluation.n_draws} fixed draws of the test images."
    )
    shares = "Share of the variance of a map that is predicted; 0: the mean of the training folds."
    tables = (
        _make_extra_table(
            inputs, clip, TOKENS, "Detail and semantic tokens (%)", protocol, n_images
        ),
        _make_extra_table(
            inputs, clip, READOUTS, "Read-out of the picture's look (%)", shares, n_images
        ),
    )
    return [table for table in tables if table is not None]


def _make_extra_table(
    inputs: Inputs, clip: str, titles: Mapping[str, str], title: str, protocol: str, n_images: int
) -> Table | None:
    runs = [result for result in inputs.runs.values() if result.run.clip == clip]
    metrics = [
        name for name in titles if any(lookup(result.metrics, name) is not None for result in runs)
    ]
    rows: list[Row] = []
    for heading, trees in results.group_rows(runs, inputs.references[clip]).items():
        kind = "result" if heading == "Decoders" else "context"
        scores = {
            name: [read_score(tree, metric) for metric in metrics] for name, tree in trees.items()
        }
        found = [
            Row((f"`{name}`", *(s or "-" for s in row)), kind)
            for name, row in scores.items()
            if any(row)
        ]
        rows += [Row((heading,), "heading"), *found] if found else []
    if not metrics:
        return None
    if titles is TOKENS:
        level = chance("retrieval.top1", inputs.params.evaluation, n_images, {})
        rows.append(Row(("chance level", *[f"{level:.1f}"] * len(metrics)), "context"))
    return Table(
        title=title,
        columns=("row", *(titles[name] for name in metrics)),
        rows=tuple(rows),
        label=(
            f"{label_data(inputs.params)}, {n_images} test images. {protocol} Mean over subjects, "
            "in brackets the 95 %"
            f" bootstrap interval over images. {label_seeds(inputs.params, runs)}."
        ),
    )


def make_differences(inputs: Inputs, found: differences.Pairs) -> Section:
    """Every pair of runs on every headline metric, for all subjects and for each."""
    if not found:
        return Section("differences", "Paired differences", [Paragraph(NO_PAIRS, "missing")])
    metrics = headline(inputs.params.evaluation)
    label = f"{label_data(inputs.params)}. {label_seeds(inputs.params, inputs.runs.values())}."
    blocks: list[Block] = [
        differences.make_difference_table(found, metrics, len(inputs.params.subjects), label),
        differences.make_subject_table(found, metrics, label),
    ]
    return Section("differences", "Paired differences", blocks)


def make_unseen(inputs: Inputs) -> Section:
    """Scores on categories and clusters that no training image shows."""
    return Section("unseen", "Unseen categories and clusters", unseen.make_unseen(inputs))


def make_curves(inputs: Inputs, figures_dir: Path) -> Section:
    """Validation scores by epoch, drawn to a PNG in `figures_dir`."""
    curves = {name: result.curves for name, result in inputs.runs.items()}
    names = {
        "val_image_top1": "image given brain, top-1",
        "val_text_top1": "text given brain, top-1",
    }
    names |= {"val_map": "mAP"}
    path = plots.draw_curves(curves, names, figures_dir / "curves.png")
    caption = (
        "Scores on the validation images (never test images) by training epoch: top-1 retrieval "
        "among them, and mAP of"
        " decoders of categories; a decoder in closed form is one dot. Training stops on the mean "
        "of what a decoder"
        " offers; a model that subjects share has a line of its own."
        f" {label_data(inputs.params)}. {label_seeds(inputs.params, inputs.runs.values())}."
    )
    return Section(
        "curves",
        "Training",
        [Figure(path, "Validation scores by epoch for each run and subject", caption)],
    )


def make_pictures(inputs: Inputs, load: Callable[[int], object], figures_dir: Path) -> Section:
    """Best, median and worst test images of the first subject of every run."""
    blocks: list[Block] = [
        Paragraph(
            "The test images of a run's first subject are ordered by the rank of the true picture "
            "among all test"
            f" pictures (equal ranks: by NSD id). Shown are the first {pictures.N_PER_PLACE}, the"
            f" {pictures.N_PER_PLACE} in the middle and the last {pictures.N_PER_PLACE} of that "
            "order: a fixed rule, no"
            f" choice. Each row: the picture that was seen, the {pictures.N_RETRIEVED} nearest "
            "test pictures (outlined:"
            f" the seen one), and the {pictures.N_CAPTIONS} best matching captions of all test "
            "captions."
        )
    ]
    if not is_simulated(inputs.params):
        blocks.append(
            Paragraph(
                "NSD's terms forbid passing on its pictures: places are kept, pictures are not "
                "shown.",
                "missing",
            )
        )
    nothing = []
    for name, result in inputs.runs.items():
        gallery = _make_gallery(inputs, name, result, load, figures_dir)
        blocks += [gallery] if gallery else []
        nothing += [] if gallery else [f"`{name}`"]
    if nothing:
        blocks.append(
            Paragraph(
                f"Without an image embedding, so retrieving nothing: {', '.join(nothing)}.",
                "missing",
            )
        )
    return Section("pictures", "Retrieved pictures and captions", blocks)


def _make_gallery(
    inputs: Inputs, name: str, result: RunResult, load: Callable, figures_dir: Path
) -> Gallery | None:
    """Cases of one run; None for a decoder that offers no image embedding."""
    subject = result.run.subjects[0]
    retrieval = retrieved.read_retrieval(inputs, result, subject)
    if retrieval is None:
        return None
    cases = pictures.make_cases(retrieval, load, f"{name}, {subject}")
    path = plots.draw_strips(
        pictures.make_strips(cases), figures_dir / f"pictures_{name}.png", fit=pictures.fit_line
    )
    note = (
        f"`{name}`, {subject}: seen picture first, then the {pictures.N_RETRIEVED} nearest of "
        f"{len(retrieval.nsd_id_I)}"
        f" test pictures. {label_data(inputs.params)}. {label_seeds(inputs.params, [result])}."
    )
    alt = f"Pictures retrieved by {name} for {subject}"
    return Gallery(
        tuple(cases),
        note,
        Figure(path, alt, f"{note} The sign = stands before captions of the seen picture."),
    )
