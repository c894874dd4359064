"""What metrics are called, their chance levels, and numbers in print."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fmri2clip.core.files import flatten
from fmri2clip.stages.report.catalogue import Catalogue, Metric, Score, print_number

ROOT = Path(__file__).parents[3]
CATALOGUE = Catalogue(
    {"n_way": 300, "n_hard": 21, "n_images": 500, "n_categories": 24, "n_unseen": 6}
)
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("name", "title", "chance"),
    [
        ("retrieval.image_given_brain.top1", "picture found among 300", 100 / 300),
        ("retrieval.text_given_brain.top5", "caption found among 300, first 5", 500 / 300),
        ("retrieval_hard.image_given_brain.top1", "picture found among 21 nearest", 100 / 21),
        ("retrieval_sizes.50.image_given_brain.top1", "picture found among 50", 2.0),
        ("trials.1.zero_shot.top1", "category chosen, of 1 trial", 100 / 24),
        ("judge.channel.retrieval_all.text_given_brain.bits",
         "caption found: information, by channel", 0.0),
        ("unseen.zero_shot.all.top1", "category chosen among all, unseen", 100 / 24),
        ("unseen.zero_shot.only.top1", "category chosen among those left out, unseen", 100 / 6),
        ("unseen.noise_free.zero_shot.only.top1",
         "category chosen among those left out, unseen, noise-free", 100 / 6),
        ("own.retrieval.image_given_brain.top1", "picture found among 300, by its own search",
         100 / 300),
        ("classification.map", "categories named, mAP", None),
        ("classification.auc", "categories, AUC", 50.0),
        ("strict-v1.alexnet2.image_given_reconstruction", "AlexNet(2) of two", 50.0),
        ("strict-v1.clip.reconstruction_given_image", "CLIP of two, the other way round", 50.0),
    ],
)  # fmt: skip
def test_titles_and_chance(name: str, title: str, chance: float | None) -> None:
    metric = CATALOGUE.find(name)
    assert metric.title == title
    assert metric.chance == (None if chance is None else pytest.approx(chance))


def test_chance_of_an_unknown_size_is_unknown() -> None:
    assert Catalogue({"n_categories": 0}).find("zero_shot.top1").chance is None
    assert Catalogue({}).find("unseen.zero_shot.only.top1").chance is None


def test_direction_and_unit() -> None:
    assert not CATALOGUE.find("strict-v1.swav").higher
    assert CATALOGUE.find("strict-v1.swav").scale == 1
    assert not CATALOGUE.find("classification.hamming").higher
    assert CATALOGUE.find("retrieval.image_given_brain.top1").scale == 100
    assert CATALOGUE.find("something.else") == Metric(
        name="something.else", title="something.else", unit="", digits=3
    )


def test_every_metric_of_the_default_run_has_a_title() -> None:
    """Those that have an interval, of runs and of pictures."""
    paths = [*ROOT.glob("reports/runs/*/metrics.json"), *ROOT.glob("reports/pictures/*.json")]
    names = {
        name.removesuffix("_ci95_low")
        for path in paths
        for name in flatten(json.loads(path.read_text()))
        if name.endswith("_ci95_low") and not name.startswith("subjects.")
    }
    assert len(names) > 100
    unknown = {name for name in names if CATALOGUE.find(name).title == name}
    assert {name for name in unknown if "_hard." not in name and "_all." not in name} == set()


def test_numbers_in_print() -> None:
    metric = CATALOGUE.find("retrieval.image_given_brain.top1")
    cell = metric.show(Score(-0.0125, -0.02, 0.0004), signed=True)
    assert (cell.number, cell.interval) == (f"{MINUS}1.2", f"[{MINUS}2.0,{SPACE}+0.0]")
    assert str(metric.show(Score(0.5))) == "50.0"
    assert metric.show(Score(0.5, math.nan, 0.6)).limits is None
    assert print_number(-0.0001, 1) == "0.0"
    assert print_number(1234567, 0) == "1,234,567"
