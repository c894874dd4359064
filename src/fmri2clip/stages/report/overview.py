"""The first screen: four cards, three panels of dots, four sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fmri2clip.core.params import MEAN_IMAGE, World
from fmri2clip.core.params import TARGET as TRUE_FEATURES
from fmri2clip.stages.report.boards import describe_run
from fmri2clip.stages.report.brain import list_encoding
from fmri2clip.stages.report.catalogue import Cell
from fmri2clip.stages.report.charts import DotChart, Dots, Mark, Rule, chart_dots, to_score
from fmri2clip.stages.report.differences import Differences, Paired
from fmri2clip.stages.report.inputs import Inputs, Tree, list_worlds, say_worlds
from fmri2clip.stages.report.scores import CAPTION, IMAGE, MAP, TITLES, Scores
from fmri2clip.stages.report.studies import Study

TARGET = TITLES["reference.target"]
PRIOR = TITLES["null.prior"]
NO_BRAIN = "without a brain"  # in the place of chance, where that is no number of its own
CEILING = "CLIP's own features"  # of the seen picture, in the place of decoded ones
CONTROLS = ("hierarchy", "captions", "noise", "subjects")  # switches of a simulated world


@dataclass(frozen=True)
class Versus:
    """The best decoder less the best baseline."""

    decoder: str
    baseline: str
    cell: Cell
    paired: Paired

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies above or below 0, else 0."""
        low, high = self.cell.limits or (0.0, 0.0)
        return (low > 0) - (high < 0)


@dataclass(frozen=True)
class Card:
    """One thing that decoders are asked for."""

    title: str
    best: str
    kind: str  # decoder or baseline
    cell: Cell
    context: str  # chance, references
    versus: Versus | None


def list_tasks(inputs: Inputs) -> dict[str, str]:
    """Metric -> what it asks for, of the four cards."""
    n_way = inputs.params.evaluation.n_way
    return {
        IMAGE: f"Finding the seen picture among {n_way}",
        CAPTION: f"Finding its caption among {n_way}",
        f"{inputs.protocol}.pixcorr": "Painting it (correlation of pixels)",
        MAP: "Naming what is in it (mAP)",
    }


def make_cards(inputs: Inputs, scores: Scores, differences: Differences) -> list[Card]:
    """A card for each task that anything was scored on."""
    cards = []
    for metric, title in list_tasks(inputs).items():
        best = scores.best(metric, "decoder", "baseline")
        if best is not None:
            cell = scores.cell(best, metric)
            assert cell is not None
            versus = compare_best(scores, differences, metric)
            context = _say_context(inputs, scores, metric)
            cards.append(Card(title, best, scores.kinds[best], cell, context, versus))
    return cards


def compare_best(
    scores: Scores, differences: Differences, metric: str, decoder: str | None = None
) -> Versus | None:
    """A decoder, or the best of them, less the best baseline; None where one of both is missing."""
    decoder = decoder or scores.best(metric, "decoder")
    baseline = scores.best(metric, "baseline")
    if decoder is None or baseline is None:
        return None
    found = differences.get(decoder, baseline, metric)
    if found is None:
        return None
    cell = scores.metric(metric).show(found.score, signed=True)
    return Versus(decoder, baseline, cell, found)


def _say_context(inputs: Inputs, scores: Scores, metric: str) -> str:
    """Chance and what is known of the ends of the scale."""
    if metric == MAP:
        rows = {PRIOR: NO_BRAIN, TARGET: CEILING}
    elif metric.endswith("pixcorr"):
        entries = reversed(list(inputs.params.reconstructions.items()))
        names = {entry.source: name for name, entry in entries}
        rows = {
            names.get(MEAN_IMAGE, ""): NO_BRAIN,
            names.get(TRUE_FEATURES, ""): CEILING,
        }
    else:
        rows = {TARGET: CEILING} if metric == CAPTION else {}
    said = [
        f"{words} {cell.number}"
        for row, words in rows.items()
        if (cell := scores.cell(row, metric))
    ]
    chance = scores.metric(metric).chance
    if chance:
        said.insert(0, f"chance {chance:.1f}")
    return ", ".join(said)


def make_panels(inputs: Inputs, scores: Scores) -> list[DotChart]:
    """Three panels: pictures, captions, categories; a mark a subject."""
    panels = []
    for metric in (IMAGE, CAPTION, MAP):
        rows = make_dots(inputs, scores, metric)
        if rows:
            title = scores.metric(metric).title
            panels.append(chart_dots(f"{title}, %", rows, make_rules(scores, metric)))
    return panels


def make_dots(inputs: Inputs, scores: Scores, metric: str, limit: int = 7) -> list[Dots]:
    """Decoders and baselines with the best scores, in the order of params, with a mark for each
    subject.
    """
    shapes = {subject: place for place, subject in enumerate(inputs.params.subjects)}
    names = scores.rows(metric, "decoder", "baseline")
    shown = scores.sort(names, metric)[:limit]
    rows = []
    for row in (name for name in names if name in shown):
        cell = scores.cell(row, metric)
        assert cell is not None
        marks = []
        for subject in scores.subjects(row, metric):
            own = scores.cell(row, metric, subject)
            assert own is not None
            marks.append(Mark(own.value, shapes[subject]))
        rows.append(Dots(label=row, cell=cell, marks=marks, tone=scores.kinds[row]))
    return rows


def make_rules(scores: Scores, metric: str) -> list[Rule]:
    """Chance, or what is reached without a brain; the best of them on responses without noise; what
    CLIP's own features reach.
    """
    found = scores.metric(metric)
    rules = []
    prior = scores.cell(PRIOR, metric)
    if found.chance:
        rules.append(Rule(found.chance, f"chance {found.chance:.1f}", "chance"))
    elif prior:
        rules.append(Rule(prior.value, f"{NO_BRAIN} {prior.number}", "chance"))
    best = scores.best(metric, "decoder", "baseline")
    free = scores.cell(f"{best}, noise-free", metric)
    if free:
        label = f"{best}, noise-free {free.number}"
        rules.append(Rule(free.value, label, "reference"))
    true = scores.cell(TARGET, metric)
    if true and metric != IMAGE:
        rules.append(Rule(true.value, f"{CEILING} {true.number}", "target"))
    return rules


def make_sentences(
    inputs: Inputs, scores: Scores, differences: Differences, pages: Sequence[Study]
) -> list[str]:
    """How sure the numbers are, and one on each task."""
    said = [
        _describe(inputs, scores, differences, metric, words)
        for metric, words in _list_words(inputs).items()
    ]
    said = [sentence for sentence in said if sentence]
    return [describe_certainty(inputs), *said, *describe_similarity(pages)]


def describe_similarity(pages: Sequence[Study]) -> list[str]:
    """What studies found by another similarity than the cosine of this page."""
    return [
        f"Pictures are found by cosine here. {page.answer}"
        for page in pages
        if page.cell and page.cell.signed and page.cell.metric.name.startswith("judge.channel.")
    ]


def _describe(
    inputs: Inputs, scores: Scores, differences: Differences, metric: str, words: str
) -> str:
    """Which decoders do better at a task than the best baseline, and which worse; '' for none."""
    rows = scores.sort(scores.rows(metric, "decoder"), metric)
    if metric.endswith("pixcorr"):
        rows = _pick_painted(inputs, rows)
    by_sign: dict[int, list[str]] = {1: [], -1: [], 0: []}
    baseline = ""
    for row in rows:
        versus = compare_best(scores, differences, metric, row)
        if versus:
            note = describe_run(inputs, row)
            shown = f"{versus.cell}; {note}" if note else str(versus.cell)
            by_sign[versus.sign].append(f"{row} ({shown})")
            baseline = versus.baseline
    if not baseline:
        return ""
    parts = {1: "Clearly higher", -1: "Clearly lower", 0: "No clear difference"}
    found = [f"{parts[sign]}: {_join(items)}" for sign, items in by_sign.items() if items]
    said = f"{words}, against the best baseline, {baseline}. {'. '.join(found)}."
    foretells = ", how well a picture's features foretell the response"
    return said + "".join(
        f" By another way to search{foretells if row in list_encoding(inputs) else ''}, "
        f"{row} finds {cell} %."
        for row in rows
        if (cell := scores.cell(row, f"own.{metric}"))
    )


def _pick_painted(inputs: Inputs, rows: Sequence[str]) -> list[str]:
    """Of reconstructions, best first, the best one of each run."""
    best: dict[str, str] = {}
    for row in rows:
        best.setdefault(inputs.params.reconstructions[row].source, row)
    return list(best.values())


def _list_words(inputs: Inputs) -> Mapping[str, str]:
    return {
        IMAGE: "Finding pictures",
        CAPTION: "Finding captions",
        f"{inputs.protocol}.pixcorr": "Painting",
        MAP: "Naming",
    }


def _join(items: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def describe_certainty(inputs: Inputs) -> str:
    """What an interval here speaks about."""
    seeds = sorted({inputs.params.runs[name].seed for name in inputs.runs})
    training = "one training seed" if len(seeds) == 1 else f"training seeds {seeds}"
    where = "one simulated world" if inputs.is_simulated else "one data set"
    n = len(inputs.params.subjects)
    return (
        f"How sure: intervals (95 %) say how much other test pictures would change a number; "
        f"clearly: the interval of the difference excludes 0, uncorrected. It is {where}, "
        f"{training} and {n} subject{'s' if n > 1 else ''}, so nothing here is a verdict."
    )


def make_chip(inputs: Inputs, *pages: Tree) -> Mapping[str, str]:
    """Where the data of these studies, or without any those of the runs, are from: a word, and what
    that means.
    """
    params = inputs.params
    if not inputs.is_simulated:
        return {"tone": "real", "text": f"{inputs.data}: measured"}
    plain = asdict(World())
    own = {f"world.{name}": value for name, value in asdict(params.world).items()}
    worlds = [page["params"] for page in pages] or [own]
    switched = dict.fromkeys(
        f", {name} {world[key]}"
        for world in worlds
        for name in CONTROLS
        if world.get(key := f"world.{name}", plain[name]) != plain[name]
    )
    seeds = {seed for page in pages for seed in list_worlds(page)} or {params.world.seed}
    world = f"{say_worlds(params, sorted(seeds))}{''.join(switched)}"
    text = f"simulated ({world}): says nothing about brains"
    return {"tone": "simulated", "text": text}


def make_primary(inputs: Inputs, scores: Scores, cards: Sequence[Card]) -> dict[str, Any]:
    """The four paired differences: primary outcomes with their verdicts where they were run, else
    those of the cards.
    """
    judged = inputs.further.get("primary", {})
    rows = []
    verdicts = {}
    for name, found in judged.items():
        if "value" in found:
            metric = scores.metric(found["metric"])
            label = f"{name.replace('_', ' ')}: {metric.title}"
            marks = [Mark(metric.scale * w["value"], 0) for w in found["worlds"].values()]
            cell = metric.show(to_score(found), signed=True)
            rows.append(Dots(label=label, cell=cell, marks=marks))
            verdicts[label] = found["verdict"]
    if rows:
        return {"charts": _chart_by_unit("Primary outcomes", rows), "verdicts": verdicts}
    for card in cards:
        if card.versus:
            metric = card.cell.metric
            label = f"{metric.title}: {card.versus.decoder} less {card.versus.baseline}"
            marks = [
                Mark(metric.scale * value, inputs.params.subjects.index(subject))
                for subject, value in card.versus.paired.per_subject.items()
            ]
            rows.append(Dots(label=label, cell=card.versus.cell, marks=marks))
    return {"charts": _chart_by_unit("Differences to the best baseline", rows), "verdicts": {}}


def _chart_by_unit(title: str, rows: Sequence[Dots]) -> list[DotChart]:
    """Numbers of different units stand on different axes."""
    units = dict.fromkeys(row.cell.metric.points for row in rows)
    return [
        chart_dots(
            f"{title} ({unit})",
            [r for r in rows if r.cell.metric.points == unit],
            [Rule(0.0, "", "chance")],
        )
        for unit in units
    ]
