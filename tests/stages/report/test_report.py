"""The whole report on a small made-up project (conftest.py): what it shows, and that it fails
cleanly.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from fmri2clip.artefacts.scores import read_predictions, write_predictions
from fmri2clip.stages.report import pictures, unseen
from fmri2clip.stages.report.inputs import read_curves

SUBJECTS = ("subj01", "subj02", "subj05")


class Page(HTMLParser):
    """Ids, links, pictures and text of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.images += [found] if tag == "img" else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_one_file(page: str) -> None:
    found = Page(page)
    assert not found.open, "every tag is closed"
    assert not found.tags & {"script", "link", "iframe"}
    assert "url(" not in page
    assert set(found.links) == {f"#{name}" for name in found.ids}, (
        "the table of contents names every section"
    )
    for image in found.images:
        assert image["alt"]
        kind, content = image["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")


def test_texts_from_data_are_escaped(page: str) -> None:
    assert "<boat>" not in page
    assert "&lt;boat&gt; &amp; friends" in page


@pytest.mark.parametrize("name", ["page", "summary"])
def test_all_rows_and_honest_sentences(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name)
    for row in (
        "null.prior",
        "baseline.nearest_brain",
        "reference.target",
        "reference.noise_free, ridge",
        "chance level",
    ):
        assert row in text
    for sentence in (
        "It says nothing about brains",
        "BrainCLIP-style",
        "world seed 1",
        "Training seed 3",
        "No study has been",
    ):
        assert re.sub(r"\s+", " ", sentence) in re.sub(r"[\s>]+", " ", text)


def test_no_dates_and_no_machine(page: str, summary: str, project: Any) -> None:
    for text in (page, summary):
        assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", re.sub(r"base64,[^\"]+", "", text))
        assert str(project.root) not in text


def test_score_and_interval_come_from_metrics(project: Any, summary: str) -> None:
    tree = json.loads((project.root / "data/scores/ridge.json").read_text())["retrieval"][
        "image_given_brain"
    ]
    value, low, high = (100 * tree[key] for key in ("top1", "top1_ci95_low", "top1_ci95_high"))
    line = next(line for line in table_lines(summary, "Retrieval, 20-way") if "`ridge`" in line)
    assert f"{value:.1f} [{low:.1f},\N{NO-BREAK SPACE}{high:.1f}]" in line
    assert "3\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}3" in line


def test_difference_is_that_of_the_shared_subjects(project: Any, summary: str) -> None:
    trees = [
        json.loads((project.root / f"data/scores/{r}.json").read_text())
        for r in ("brainclip", "ridge")
    ]
    means = [
        np.mean(
            [tree["subjects"][s]["retrieval"]["image_given_brain"]["top1"] for s in SUBJECTS[:2]]
        )
        for tree in trees
    ]
    line = next(
        line
        for line in table_lines(summary, "Paired differences (points)")
        if "`brainclip`" in line and "`ridge`" in line
    )
    assert f"{100 * (means[0] - means[1]):+.1f} [" in line
    assert "better" not in line and "no worse" not in line


def table_lines(summary: str, title: str) -> list[str]:
    after = summary[summary.index(f"**{title}") :]
    return [line for line in after.split("\n\n")[1].splitlines() if line.startswith("|")]


def test_markdown_tables_are_aligned(summary: str, project: Any) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", summary, flags=re.MULTILINE)
    assert len(blocks) > 6
    for block in blocks:
        lines = block.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", summary):
        assert (project.root / "reports" / link).is_file()


def test_second_report_is_equal_and_clears_old_figures(
    project: Any, page: str, summary: str
) -> None:
    folder = project.root / "reports/figures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "pictures_gone.png").write_bytes(b"old")
    assert project.write() == (page, summary)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [
        path.name for path in (project.root / "reports").iterdir() if path.name.startswith(".")
    ]


def test_studies_and_world_are_shown(
    fresh: Any, study: dict[str, Any], world: dict[str, Any]
) -> None:
    project, tmp_path = fresh, fresh.root
    project.write_json("reports/studies/learning.json", study)
    project.write_json("data/world.json", world)
    (tmp_path / "reports/scenes.png").write_bytes(
        pictures.encode_picture(np.zeros((4, 4, 3), dtype=np.uint8))
    )
    page, summary = project.write()
    assert "How many images does a decoder need?" in page
    assert "out of band" in summary
    assert "1 of 2 asserted figures" in summary
    assert "scenes.png" in summary
    assert "No picture `ncsnr.png`" in summary
    assert "block2" in page
    assert (tmp_path / "reports/figures/study_learning.png").is_file()
    assert any("35.0 [33.0," in line for line in table_lines(summary, "learning: variants"))
    assert any(
        "+5.0 [+1.0," in line for line in table_lines(summary, "learning: paired differences")
    )


def test_real_pictures_are_not_shown(fresh: Any) -> None:
    project = fresh
    project.params = dataclasses.replace(
        project.params, dataset=dataclasses.replace(project.params.dataset, source="s3")
    )
    page, summary = project.write()
    assert "not shown" in page
    assert "forbid" in summary
    assert "simulated world" not in summary.split("## What this is")[0]
    shown = [image for image in Page(page).images if image["alt"] == "seen"]
    assert not shown


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("data/scores/ridge.json", "ridge.json"),
        ("data/curves/ridge.csv", "ridge.csv"),
        ("data/scores/reference_mini.json", "reference_mini.json"),
        ("data/roi_counts/subj02.json", "subj02.json"),
        ("data/predictions/brainclip.h5", "brainclip.h5"),
        ("data/predictions/reference_mini.h5", "reference_mini.h5"),
        ("models/ridge/subj01/inputs.safetensors", "inputs.safetensors"),
    ],
)
def test_missing_input_is_named_and_nothing_is_written(
    fresh: Any, missing: str, named: str
) -> None:
    (fresh.root / missing).unlink()
    with pytest.raises(ValueError, match=re.escape(named)):
        fresh.write()
    assert not list((fresh.root / "reports").rglob("*.*"))


def test_scores_of_other_embeddings_are_refused(fresh: Any) -> None:
    project = fresh
    path = project.root / "data/predictions/ridge.h5"
    groups = {name: dict(read_predictions(path, group=name)) for name in SUBJECTS}
    groups["subj01"]["embedding_ID"] = groups["subj01"]["embedding_ID"][::-1]
    write_predictions(path, groups)
    with pytest.raises(ValueError, match="do not belong"):
        project.write()


def test_broken_json_and_curve(fresh: Any) -> None:
    project, tmp_path = fresh, fresh.root
    (tmp_path / "data/roi_counts/subj01.json").write_text("{")
    with pytest.raises(ValueError, match=r"subj01\.json is not valid JSON"):
        project.write()
    (tmp_path / "curve.csv").write_text("epoch,val_mean\n0,0.5\n")
    with pytest.raises(ValueError, match="subject and epoch are needed"):
        read_curves(tmp_path / "curve.csv")


def test_not_testable_hides_the_score(fresh: Any) -> None:
    path = fresh.root / "data/scores/brainclip.json"
    tree = json.loads(path.read_text())
    tree["unseen"]["noise_free"]["zero_shot"]["only"]["top1_ci95_low"] = 0.2
    path.write_text(json.dumps(tree))
    _, summary = fresh.write()
    lines = [
        line
        for line in table_lines(summary, "Zero-shot choice")
        if "unseen categories only" in line
    ]
    assert len(lines) == 1
    assert unseen.NOT_TESTABLE in lines[0]
    assert f"{100 * tree['unseen']['zero_shot']['only']['top1']:.1f}" not in lines[0].split("|")[4]
