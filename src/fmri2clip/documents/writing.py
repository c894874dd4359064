"""Writes the tables of README.md and docs/*.md as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fmri2clip.documents.numbers import Evidence, find
from fmri2clip.documents.tables import (
    CAMPAIGN,
    CONVERGENCE,
    DIFFERENCES,
    PAIRS,
    PRIMARY,
    SCORES,
    STUDIES,
    THEN,
    WORLD,
    Column,
    Pairs,
    Scores,
)


def write_table(words: Sequence[str], evidence: Evidence) -> str:
    """The table that these words of a marker name, as Markdown with a closing newline.

    Raises ValueError for unknown words.
    """
    match words:
        case [name] if name in SCORES:
            return write_scores(SCORES[name], evidence)
        case [name] if name in PAIRS:
            return write_pairs(PAIRS[name], evidence)
        case ["bands"]:
            return write_bands(evidence)
        case ["changed"]:
            return write_changed(evidence)
        case ["convergence"]:
            return write_convergence(evidence)
        case ["primary"]:
            return write_primary(evidence)
        case ["campaign"]:
            return write_campaign(evidence)
        case ["study", name] if name in STUDIES:
            return write_study(name, evidence)
        case ["variants", name, way]:
            return write_variants(name, way, evidence)
    raise ValueError(
        f"table {' '.join(words)!r} is unknown; choose from {', '.join([*SCORES, *PAIRS])}, "
        "bands, campaign, changed, convergence, primary, study NAME or variants NAME METRIC"
    )


def write_scores(table: Scores, evidence: Evidence) -> str:
    """A row for each Row, a number for each Column; '-' where the file has none."""
    rows = []
    for row in table.rows:
        key = [row.key] if row.key else []
        cells = []
        for column in table.columns:
            ways = column.way.split("|")
            numbers = [evidence.number(row.file, *key, way) for way in ways]
            number = next((one for one in numbers if one is not None), None)
            cells.append("-" if number is None else number.format(column.how))
        if set(cells) == {"-"}:
            raise ValueError(f"{row.file} has no number for the row {row.title!r}")
        rows.append([row.title, *cells])
    return format_table([table.corner, *(column.title for column in table.columns)], rows)


def write_bands(evidence: Evidence) -> str:
    """What the simulated world must be like, and what it is like."""
    rows = []
    for key, leaf in _list_bands(evidence.tree(WORLD)["asserted"], ""):
        low, high = (leaf.get(end) for end in ("low", "high"))
        band = f"at most {high}" if low is None else f"at least {low}"
        if low is not None and high is not None:
            band = f"{low} to {high}"
        value = "-" if leaf["value"] is None else f"{leaf['value']:.3f}"
        rows.append([f"`{key}`", value, band, "yes" if leaf["met"] else "**no**"])
    return format_table(["figure", "value", "must be", "met"], rows)


def _list_bands(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, child in tree.items():
        name = f"{path}.{key}" if path else key
        if "met" in child:
            yield name, child
        else:
            yield from _list_bands(child, name)


def write_convergence(evidence: Evidence) -> str:
    """What twice as many epochs gain, and how many are enough."""
    rows = []
    multiples: list[str] = []
    table = evidence.tree(CONVERGENCE)
    for entry in table.values():
        multiples += [m for m in entry["gains"] if m not in multiples]
    for name, entry in table.items():
        cells = []
        for multiple in multiples:
            gain = entry["gains"].get(multiple)
            if gain is None:
                cells.append("-")
                continue
            points, upper, loss = (
                100 * gain[key] for key in ("score", "score_upper", "loss_share")
            )
            cells.append(f"{points:+.1f} ({upper:+.1f}), {loss:.1f} %")
        needed = entry["needed"]
        enough = f"{needed * entry['epochs']} epochs" if needed else "not shown"
        n_seeds = len({trial["seed"] for trial in entry["trials"]})
        rows.append([name, f"{entry['epochs']}", str(n_seeds), *cells, enough])
    doubled = [f"{m} to {2 * int(m)} times" for m in multiples]
    return format_table(["run", "epochs", "seeds", *doubled, "enough"], rows)


def write_primary(evidence: Evidence) -> str:
    """Verdicts of the primary outcomes, in points; in each world; what is not run is left out."""
    rows = []
    for name, row in evidence.tree(PRIMARY).items():
        if "value" not in row:
            rows.append([name, *["-"] * 6, row["verdict"]])
            continue
        value, low, high = (100 * row[key] for key in ("value", "low", "high"))
        worlds = ", ".join(f"{100 * world['value']:+.1f}" for world in row["worlds"].values())
        beside = "-"
        if "not_worse" in row:
            other = row["not_worse"]
            limit, least = (100 * other[key] for key in ("low", "least"))
            beside = f"{limit:+.1f} (at least {least:+.1f})"
        test = row["t_test"]
        test_low, test_high = (100 * test[key] for key in ("low", "high"))
        cells = [
            f"{value:+.1f} [{low:+.1f}, {high:+.1f}]",
            _write_p(row["p"]),
            f"[{test_low:+.1f}, {test_high:+.1f}]",
            _write_p(test["p"]),
            worlds,
            beside,
        ]
        rows.append([name, *cells, row["verdict"]])
    head = [
        "outcome",
        "difference [corrected interval]",
        "p",
        "by a t test",
        "its p",
        "in each world",
        "no worse beside it",
    ]
    return format_table([*head, "verdict"], rows)


def _write_p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.00005 else "below 0.0001"


def write_campaign(evidence: Evidence) -> str:
    """Faults that whole runs were disturbed by, what must hold, and what came out."""
    parts = evidence.tree(CAMPAIGN).values()
    rows = [
        [row["fault"], row["rule"], f"{row['times']:,}", row["outcome"]]
        for part in parts
        for row in part["rows"]
    ]
    return format_table(["fault", "must hold", "times", "outcome"], rows)


def write_study(name: str, evidence: Evidence) -> str:
    """Paired differences of a study, bold where the interval excludes 0, and what it was given."""
    file = f"reports/studies/{name}.json"
    columns, part = STUDIES[name]
    rows = []
    for comparison in evidence.tree(file)["comparisons"]:
        title = comparison["title"]
        if part in title:
            steps = (file, "comparisons", title)
            cells = [_write_difference(evidence, *steps, column) for column in columns]
            rows.append([title, *cells])
    table = format_table(["difference", *(column.title for column in columns)], rows)
    return f"{table}\nStudy `{name}`: {evidence.tree(file)['budget']}.\n"


def _write_difference(evidence: Evidence, file: str, part: str, title: str, column: Column) -> str:
    steps = (part, title, "metrics", column.way)
    number = evidence.number(file, *steps)
    if number is None:
        return "-"
    text = number.format(column.how)
    found = find(evidence.tree(file), *steps)
    is_clear = found.get("low", 0) > 0 or found.get("high", 0) < 0
    text = f"**{text}**" if is_clear else text
    counts = f" {found['n_positive']}/{found['n_subjects']}" if part != "comparisons" else ""
    return f"{text}{counts}"


def write_variants(name: str, way: str, evidence: Evidence) -> str:
    """One metric of a study, in percent: a row for each variant, a column for each run."""
    file = f"reports/studies/{name}.json"
    variants: Mapping[str, Any] = evidence.tree(file)["variants"]
    runs = list(dict.fromkeys(run for variant in variants.values() for run in variant["runs"]))
    rows = []
    for variant in variants:
        numbers = [evidence.number(file, "variants", variant, "runs", one, way) for one in runs]
        rows.append(
            [variant, *("-" if n is None else n.format("percent interval") for n in numbers)]
        )
    return format_table(["variant", *runs], rows)


def write_pairs(pairs: Pairs, evidence: Evidence) -> str:
    """Paired differences of the default runs, bold where the interval excludes 0, and in how many
    subjects the first is the better one.
    """
    rows = []
    for title in pairs.titles:
        steps = (DIFFERENCES, pairs.part, title)
        cells = [_write_difference(evidence, *steps, column) for column in pairs.columns]
        rows.append([title, *cells])
    return format_table(["pair", *(column.title for column in pairs.columns)], rows)


def write_changed(evidence: Evidence) -> str:
    """Differences in world 1 beside those of the development world."""
    rows = []
    for then in THEN:
        steps = (then.part, then.pair, "metrics", then.column.way)
        now = evidence.number(DIFFERENCES, *steps)
        if now is None:
            raise ValueError(f"{DIFFERENCES} has no number under {' / '.join(steps)}")
        rows.append([then.title, then.value, now.format(then.column.how)])
    return format_table(["difference, points", "world 1", "now"], rows)


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
