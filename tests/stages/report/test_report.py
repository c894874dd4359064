"""The whole report on a small made-up project (conftest.py): what it shows, how long it is, and
that it fails cleanly.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import read_predictions, read_scores, write_predictions
from fmri2clip.metrics.statistics import paired_difference
from fmri2clip.stages.report import overview, pictures
from fmri2clip.stages.report.differences import compare_all
from fmri2clip.stages.report.inputs import read_curve, read_inputs
from fmri2clip.stages.report.scores import make_scores
from fmri2clip.stages.report.write import make_digest
from fmri2clip.tracking.content import Trained, list_files

SUBJECTS = ("subj01", "subj02", "subj05")
IMAGE = "retrieval.image_given_brain.top1"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
VOID = ("meta", "img", "br", "link")


class Page(HTMLParser):
    """What a page holds; `words` are those outside of folds, `rows` those of tables there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[dict[str, str]] = []
        self.ids: set[str] = set()
        self.open: list[str] = []
        self.words = 0
        self.rows = 0
        self.tables = 0
        self.empty = 0
        self.feed(text)
        assert not self.open, "every tag is closed"

    @property
    def folded(self) -> bool:
        return "details" in self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids.add(found.get("id", ""))
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag == "img" or found.get("role") == "img":
            self.pictures.append({"alt": found.get("alt") or found.get("aria-label", ""), **found})
        self.tables += tag == "table" and not self.folded
        self.rows += tag == "tr" and not self.folded
        self.cell = ""
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("circle", "path", "line", "use", "polyline", "polygon"):
            return
        assert self.open.pop() == tag
        self.empty += tag in ("td", "th") and self.cell.strip() in ("", "-")

    def handle_data(self, data: str) -> None:
        self.cell = getattr(self, "cell", "") + data
        if not {"style", "script", "details"} & set(self.open):
            self.words += len(data.split())


def list_pages(project: Any) -> dict[str, str]:
    folder = project.root / "reports/html"
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.html")}


def test_pages_need_nothing_else_and_their_links_lead_somewhere(project: Any) -> None:
    pages = list_pages(project)
    assert set(pages) == {
        "index.html", "methods.html", "claims.html",
        *(f"subjects/{subject}.html" for subject in SUBJECTS),
    }  # fmt: skip
    for name, text in pages.items():
        page = Page(text)
        assert "url(" not in text
        for link in page.links:
            if link.startswith("data:image/webp;base64,"):
                assert base64.b64decode(link.split(",")[1])[8:12] == b"WEBP"
            elif link.startswith("#"):
                assert link[1:] in page.ids
            else:
                target = (project.root / "reports/html" / name).parent / link
                is_made = not link.endswith((".json", ".yaml", ".lock"))
                assert target.resolve().exists() or not is_made, link
        assert all(picture["alt"] for picture in page.pictures)


def test_pages_stay_short(pictured_report: tuple[Any, str, str]) -> None:
    _, text, _ = pictured_report
    page = Page(text)
    assert page.words <= 3500
    assert page.tables <= 12
    assert page.rows <= 110
    assert page.empty <= 0.02 * page.rows
    assert len(text) <= 1_500_000


def test_the_page_and_the_grid_go_to_mlflow(pictured_report: tuple[Any, str, str]) -> None:
    made, page, _ = pictured_report
    run = Trained(run="ridge", params=made.params, paths=Paths(made.root))
    files = list_files(run, with_report=True)
    assert files["report/index.html"].read_text(encoding="utf-8") == page
    assert files["pictures.png"].read_bytes().startswith(b"\x89PNG")


def test_texts_from_data_are_escaped(pictured_report: tuple[Any, str, str]) -> None:
    _, page, summary = pictured_report
    assert "<boat>" not in page
    assert "&lt;boat&gt; &amp; friends" in page
    assert "ridge&lt;i&gt;|x" in page and "ridge<i>\\|x" in summary


@pytest.mark.parametrize("name", ["page", "summary"])
def test_a_reader_is_told_what_this_is(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name)
    for words in (
        "simulated (development world, seed 1): says nothing about brains",
        "one training seed",
        "nothing here is a verdict",
        "no brain: mean of training",
        "nearest training response copied",
        "in the style of BrainCLIP",
        "noise-free",
    ):
        assert words in text
    for verdict in (" wins", " beats", " better", " significant"):
        assert verdict not in re.sub(r"data:[^\"]+|<style>.*</style>", "", text, flags=re.DOTALL)


def test_no_dates_and_no_machine(page: str, summary: str, project: Any) -> None:
    for text in (page, summary):
        assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", re.sub(r"base64,[^\"]+", "", text))
        assert str(project.root) not in text


def test_score_and_interval_come_from_metrics(project: Any, summary: str, page: str) -> None:
    tree = json.loads((project.root / "data/scores/ridge.json").read_text())
    found = tree["retrieval"]["image_given_brain"]
    value, low, high = (100 * found[key] for key in ("top1", "top1_ci95_low", "top1_ci95_high"))
    interval = f"[{low:.1f},{SPACE}{high:.1f}]"
    assert f"| ridge | {value:.1f}{SPACE}{interval} |" in summary
    assert f"<b>{value:.1f}</b> <span>{interval}</span>" in page
    own = tree["subjects"]["subj02"]["retrieval"]["image_given_brain"]["top1"]
    page = project.read("html/subjects/subj02.html")
    assert f"<b>{100 * own:.1f}</b>" in page
    assert "<td>high</td><td>600</td><td></td>" in page, "a noise ceiling that nobody knows"


def test_every_picture_stands_in_a_table_with_its_rank(project: Any, page: str) -> None:
    table = pd.read_csv(project.root / "reports/html/pictures.csv")
    assert 'href="pictures.csv"' in page
    stored = read_predictions(project.root / "data/predictions/ridge.h5", group="subj02")
    rows = table[(table["decoder"] == "ridge") & (table["subject"] == "subj02")]
    assert rows["picture"].tolist() == stored["nsd_id_I"].tolist()
    assert set(rows["of"]) == {len(stored["nsd_id_I"])}
    column = stored["metric_M"].tolist().index("retrieval_all.image_given_brain.top1")
    is_first_I = (rows["rank"] == 1).to_numpy()
    assert 0 < is_first_I.sum() < len(rows)
    assert np.array_equal(is_first_I, stored["score_IM"][:, column] == 1)
    assert np.array_equal(is_first_I, (rows["found_1"] == rows["picture"]).to_numpy())


def test_difference_is_that_of_a_direct_call(project: Any, page: str) -> None:
    shared = project.root / "data/clip/mini/shared.h5"
    runs = [
        read_scores(project.root / f"data/predictions/{run}.h5", shared)
        for run in ("brainclip", "ridge")
    ]
    found = paired_difference([(runs[0], runs[1])], IMAGE, 50, 0)
    entries = json.loads(project.read("differences.json"))["decoding"]
    (entry,) = [entry for entry in entries if entry["title"] == "brainclip - ridge"]
    assert entry["metrics"][IMAGE]["value"] == pytest.approx(found.estimate.value, abs=1e-6)
    assert entry["metrics"][IMAGE]["n_subjects"] == 2, "of the subjects that both have"
    ends = (100 * x for x in (found.estimate.value, found.estimate.low, found.estimate.high))
    value, low, high = (f"{x:+.1f}".replace("-", MINUS) for x in ends)
    assert f"{value}{SPACE}[{low},{SPACE}{high}] points" in page


def test_digest_on_the_page_is_that_of_dvc_lock(project: Any, page: str) -> None:
    """DVC records the MD5 of the file in dvc.lock."""
    content = (project.root / "reports/digest.json").read_bytes()
    assert hashlib.md5(content).hexdigest()[:12] in page
    assert set(json.loads(content)) == {"code", "params", "results"}


@pytest.mark.parametrize(
    "part", ["runs", "references", "rois", "hierarchy", "further", "plans", "studies"]
)
def test_digest_follows_whatever_the_pages_show(project: Any, part: str) -> None:
    inputs = read_inputs(project.params, project.paths)
    changed = dataclasses.replace(inputs, **{part: {**getattr(inputs, part), "new": {"x": 1}}})
    assert make_digest(changed)["results"] != make_digest(inputs)["results"]


def test_digest_follows_curves(project: Any) -> None:
    inputs = read_inputs(project.params, project.paths)
    curve = inputs.curves["ridge"].assign(val_mean=0.5)
    changed = dataclasses.replace(inputs, curves={**inputs.curves, "ridge": curve})
    assert make_digest(changed)["results"] != make_digest(inputs)["results"]


def test_second_report_is_equal_and_clears_what_is_old(fresh: Any) -> None:
    fresh.write()
    folder = fresh.root / "reports"

    def read() -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes()
                for p in folder.rglob("*") if p.is_file()}  # fmt: skip

    before = read()
    for name in ("figures/gone.png", "html/studies/gone.html"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"old")
    fresh.write()
    assert read() == before


def test_real_pictures_are_not_shown(fresh: Any) -> None:
    dataset = dataclasses.replace(fresh.params.dataset, source="s3")
    fresh.params = dataclasses.replace(fresh.params, dataset=dataset)
    page, summary = fresh.write()
    assert "terms forbid" in page and "Natural Scenes Dataset: measured" in page
    assert "simulated" not in summary
    assert not [link for link in Page(page).links if link.startswith("data:")]


def test_what_was_painted_is_shown_of_real_data(pictured: Any) -> None:
    dataset = dataclasses.replace(pictured.params.dataset, source="s3")
    pictured.params = dataclasses.replace(pictured.params, dataset=dataset)
    page, _ = pictured.write()
    alts = [picture["alt"] for picture in Page(page).pictures]
    assert any("seen picture" in alt and "not shown" in alt for alt in alts)
    assert any("painted by brainclip" in alt for alt in alts)


def test_training_pictures_of_a_library_are_not_shown_of_real_data(pictured: Any) -> None:
    entries = pictured.params.reconstructions
    library = dataclasses.replace(entries["brainclip"], reads="library")
    dataset = dataclasses.replace(pictured.params.dataset, source="s3")
    reconstructions = {**entries, "brainclip": library}
    for is_real in (False, True):
        changed = {"dataset": dataset} if is_real else {}
        params = dataclasses.replace(pictured.params, reconstructions=reconstructions, **changed)
        grid = pictures.make_grid(read_inputs(params, pictured.paths), "subj01")
        assert grid is not None
        place = [name for name, _ in grid.columns].index("brainclip")
        assert {bool(tiles[place].uri) for _, tiles in grid.rows} == {not is_real}
        assert all(tiles[place + 1].uri for _, tiles in grid.rows)


def test_without_a_brain_is_the_mean_training_picture(pictured: Any) -> None:
    """Not what was trained on permuted pairs, which stands first in params."""
    inputs = read_inputs(pictured.params, pictured.paths)
    cards = overview.make_cards(inputs, make_scores(inputs), compare_all(inputs))
    (card,) = (card for card in cards if "PixCorr" in card.cell.metric.title)
    numbers = inputs.pictures["null_mean"][inputs.protocol]["pixcorr"]
    assert f"without a brain {numbers:.2f}" in card.context


@pytest.mark.parametrize(
    "missing",
    [
        "data/scores/ridge.json",
        "data/curves/ridge.csv",
        "data/scores/reference_mini.json",
        "data/roi_counts/subj02.json",
        "data/predictions/brainclip.h5",
        "data/predictions/reference_mini.h5",
        "models/ridge/subj01/inputs.safetensors",
    ],
)
def test_missing_input_is_named_and_nothing_is_written(fresh: Any, missing: str) -> None:
    (fresh.root / missing).unlink()
    with pytest.raises(ValueError, match=re.escape(missing.rsplit("/", 1)[1])):
        fresh.write()
    assert not (fresh.root / "reports").exists()


def test_scores_of_other_embeddings_are_refused(fresh: Any) -> None:
    path = fresh.root / "data/predictions/ridge.h5"
    groups = {name: dict(read_predictions(path, group=name)) for name in SUBJECTS}
    groups["subj01"]["embedding_ID"] = groups["subj01"]["embedding_ID"][::-1]
    write_predictions(path, groups)
    with pytest.raises(ValueError, match="do not belong"):
        fresh.write()


def test_broken_json_and_curve(fresh: Any) -> None:
    (fresh.root / "data/roi_counts/subj01.json").write_text("{")
    with pytest.raises(ValueError, match=r"subj01\.json is not valid JSON"):
        fresh.write()
    (fresh.root / "curve.csv").write_text("epoch,val_mean\n0,0.5\n")
    with pytest.raises(ValueError, match="subject and epoch are needed"):
        read_curve(fresh.root / "curve.csv")


def test_what_cannot_be_failed_is_not_printed(fresh: Any) -> None:
    path = fresh.root / "data/scores/brainclip.json"
    tree = json.loads(path.read_text())
    score = f"{100 * tree['unseen']['zero_shot']['only']['top1']:.1f}{SPACE}["
    said = "brainclip, among the categories that its training left out: "
    tree["unseen"]["noise_free"]["zero_shot"]["only"]["top1_ci95_low"] = 0.6
    path.write_text(json.dumps(tree))
    page, _ = fresh.write()
    assert f"{said}{score}" in page
    tree["unseen"]["noise_free"]["zero_shot"]["only"]["top1_ci95_low"] = 0.2
    path.write_text(json.dumps(tree))
    page, _ = fresh.write()
    assert f"{said}not testable here, chance 50.0 %" in page


def test_grid_shows_quantiles_of_the_mean_pixcorr(pictured_report: tuple[Any, str, str]) -> None:
    project, page, _ = pictured_report
    shared = project.root / "data/clip/mini/shared.h5"
    by_name = {
        name: read_scores(project.root / f"data/picture_scores/{name}.h5", shared)["subj01"]
        for name in ("ridge<i>|x", "brainclip")
    }
    pixcorr = np.stack([s.per_image["strict-v1.pixcorr"][0] for s in by_name.values()])
    best = np.argsort(pixcorr.mean(axis=0))[round(0.95 * 19)]
    nsd_id = by_name["brainclip"].nsd_id_I[best]
    seen = [p["alt"] for p in Page(page).pictures if p["alt"].startswith("seen picture")]
    assert seen[0] == f"seen picture, NSD id {nsd_id}"
    painted = [p["alt"] for p in Page(page).pictures if p["alt"].startswith("painted by brainclip")]
    assert painted[0] == f"painted by brainclip, PixCorr {pixcorr[1, best]:.2f}".replace("-", MINUS)
