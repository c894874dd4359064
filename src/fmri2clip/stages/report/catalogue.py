"""The catalogue of metrics: what each is called, its unit, digits, direction and chance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
WHAT = {  # a direction in words
    "image_given_brain": "picture found",
    "brain_given_image": "response found",
    "text_given_brain": "caption found",
    "text_given_brain_fixed": "one caption found",
    "image_given_reconstruction": "",
    "reconstruction_given_image": ", the other way round",
}
WHAT_RE = r"(?P<what>\w+)"
TOP = r"top(?P<k>\d)"


class Entry(NamedTuple):
    """What the metrics of a pattern have in common; its groups fill the title.

    of: among how many the right one is found (a key of `Catalogue.sizes`, a group or a number), so
    that chance is one in so many, or k where the pattern has a group k; '0' for a chance of 0. A
    size that is not known gives no chance.
    """

    pattern: str
    title: str
    unit: str = "%"
    digits: int = 1
    of: str = ""
    higher: bool = True


ENTRIES = (
    Entry(rf"retrieval\.{WHAT_RE}\.{TOP}", "{what} among {n_way}", of="n_way"),
    Entry(rf"retrieval_hard\.{WHAT_RE}\.{TOP}", "{what} among {n_hard} nearest", of="n_hard"),
    Entry(rf"retrieval_all\.{WHAT_RE}\.{TOP}", "{what} among all", of="n_images"),
    Entry(rf"retrieval_all\.{WHAT_RE}\.bits", "{what}: information", "bits", 2, of="0"),
    Entry(rf"retrieval_sizes\.(?P<n>\d+)\.{WHAT_RE}\.{TOP}", "{what} among {n}", of="n"),
    Entry(rf"retrieval_tokens\.(?P<s>\w+)\.{WHAT_RE}\.{TOP}", "{what} by {s} tokens", of="n_way"),
    Entry(rf"retrieval_detail\.{WHAT_RE}\.{TOP}", "{what} by detail tokens", of="n_way"),
    Entry(rf"retrieval_text_tokens\.{WHAT_RE}\.{TOP}", "{what} by text tokens", of="n_way"),
    Entry(rf"zero_shot\.{TOP}", "category chosen", of="n_categories"),
    Entry(rf"zero_shot\.all\.{TOP}", "category chosen among all", of="n_categories"),
    Entry(rf"zero_shot\.only\.{TOP}", "category chosen among those left out", of="n_unseen"),
    Entry(rf"zero_shot_text\.{TOP}", "category chosen by text embedding", of="n_categories"),
    Entry(r"classification\.map", "categories named, mAP"),
    Entry(r"classification\.auc", "categories, AUC", of="2"),
    Entry(r"classification\.hamming", "Hamming loss", higher=False),
    Entry(r"readout\.(?P<map>\w+)", "read-out of {map}", of="0"),
    Entry(r"readout_detail\.(?P<map>\w+)", "read-out of {map} from detail tokens", of="0"),
    Entry(r"attention\.(?P<s>\w+)", "attention to early areas, {s}"),
    Entry(r"[\w-]+\.pixcorr", "PixCorr", "r", 2, of="0"),
    Entry(r"[\w-]+\.ssim", "SSIM", "", 2),
    Entry(rf"[\w-]+\.alexnet(?P<n>\d)\.{WHAT_RE}", "AlexNet({n}) of two{what}", of="2"),
    Entry(rf"[\w-]+\.inception\.{WHAT_RE}", "Inception of two{what}", of="2"),
    Entry(rf"[\w-]+\.clip\.{WHAT_RE}", "CLIP of two{what}", of="2"),
    Entry(r"[\w-]+\.effnet", "EfficientNet distance", "", 2, higher=False),
    Entry(r"[\w-]+\.swav", "SwAV distance", "", 2, higher=False),
    Entry(r"[\w-]+\.brain_correlation\.all", "brain correlation", "r", 2, of="0"),
    Entry(r"[\w-]+\.brain_correlation\.(?P<s>\w+)", "brain correlation, {s} areas", "r", 2, of="0"),
    Entry(r"encoding\.r\.(?P<s>.+)", "response foretold, {s}", "r", 2, of="0"),
    Entry(r"encoding\.r2\.(?P<s>.+)", "variance of the response foretold, {s}", of="0"),
    Entry(r"encoding\.ceiling_r\.(?P<s>.+)", "noise ceiling of the correlation, {s}", "r", 2),
    Entry(r"encoding\.ceiling_r2\.(?P<s>.+)", "noise ceiling of the variance, {s}"),
    Entry(r"parameters\.one_subject", "weights that decode one subject", "", 0, higher=False),
    Entry(r"parameters\.(?P<s>\w+)", "weights, {s}", "", 0, higher=False),
    Entry(r"training\.converged", "share shown to have converged"),
)
WRAPPERS = (  # in front of another metric, and what that adds to its title
    (r"reference\.noise_free\.", ", noise-free"),
    (r"unseen\.noise_free\.", ", unseen, noise-free"),
    (r"unseen\.", ", unseen"),
    (r"trials\.(?P<n>\d)\.", ", of {n} trials"),
    (r"judge\.(?P<s>\w+)\.", ", by {s}"),
    (r"own\.", ", by its own search"),
)


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval, as files have it; NaN limits where it has none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric; chance is in the unit that is printed."""

    name: str
    title: str
    unit: str
    digits: int
    higher: bool = True
    chance: float | None = None

    @property
    def scale(self) -> int:
        """100 for a fraction that is printed in percent."""
        return 100 if self.unit == "%" else 1

    @property
    def points(self) -> str:
        """Unit of a difference."""
        return {"%": "points"}.get(self.unit, self.unit)

    def show(self, score: Score, *, signed: bool = False) -> Cell:
        """The score as it is printed; signed for a difference."""
        return Cell(self, score, signed)


@dataclass(frozen=True)
class Cell:
    """A score in print."""

    metric: Metric
    score: Score
    signed: bool = False

    @property
    def value(self) -> float:
        """The number in the unit that is printed."""
        return self.metric.scale * self.score.value

    @property
    def limits(self) -> tuple[float, float] | None:
        """The interval in the unit that is printed."""
        low = self.metric.scale * self.score.low
        high = self.metric.scale * self.score.high
        return None if math.isnan(low) or math.isnan(high) else (low, high)

    @property
    def number(self) -> str:
        """The number alone."""
        return print_number(self.value, self.metric.digits, signed=self.signed)

    @property
    def interval(self) -> str:
        """'[low, high]', or nothing."""
        if self.limits is None:
            return ""
        ends = (print_number(x, self.metric.digits, signed=self.signed) for x in self.limits)
        return f"[{f',{SPACE}'.join(ends)}]"

    def __str__(self) -> str:
        return f"{self.number}{SPACE}{self.interval}".rstrip()


def print_number(value: float, digits: int, *, signed: bool = False) -> str:
    """Fixed digits, a true minus sign, commas between thousands; what rounds to 0 has no minus."""
    value = round(value, digits) + 0.0
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", MINUS)


@dataclass(frozen=True)
class Catalogue:
    """Finds metrics. sizes: numbers that titles and chances need, by name."""

    sizes: Mapping[str, float]

    def find(self, name: str) -> Metric:
        """The metric of a dotted name; one that no entry knows is called by its name."""
        rest = name
        further = ""
        for pattern, words in WRAPPERS:
            if match := re.match(pattern, rest):
                rest = rest[match.end() :]
                further += words.format_map(match.groupdict()).replace("1 trials", "1 trial")
        for entry in ENTRIES:
            if match := re.fullmatch(entry.pattern, rest):
                return self._make(name, entry, match.groupdict(), further)
        return Metric(name=name, title=name, unit="", digits=3)

    def _make(self, name: str, entry: Entry, groups: dict[str, str], further: str) -> Metric:
        sizes = {key: f"{size:g}" for key, size in self.sizes.items()}
        words = {**sizes, **groups}
        if "what" in groups:
            words["what"] = WHAT.get(groups["what"], groups["what"])
        k = int(groups.get("k") or 1)
        title = entry.title.format_map(words) + (f", first {k}" if k > 1 else "")
        size = float(words.get(entry.of) or (entry.of if entry.of.isdigit() else 0))
        chance = min(100.0, 100 * k / size) if size else None
        if entry.of == "0":
            chance = 0.0
        return Metric(
            name=name,
            title=title + further,
            unit=entry.unit,
            digits=entry.digits,
            higher=entry.higher,
            chance=chance,
        )
