"""Section on reconstructed pictures: numbers, differences, choice of rows, nulls kept apart,
published rows.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmri2clip.artefacts.scores import read_scores
from fmri2clip.core.params import Reconstruction
from fmri2clip.figures.grid import Column, draw_grid
from fmri2clip.metrics.pictures.protocols import PROTOCOLS
from fmri2clip.metrics.statistics import paired_difference
from fmri2clip.stages.report import (
    inputs,
    picture_grid,
    picture_overview,
    published_pictures,
    reconstructed,
)
from fmri2clip.stages.report.protocol_words import describe_difference, describe_protocol

ODD = "ridge<i>|x"  # a name that HTML and Markdown must escape
CLIP = "image_given_reconstruction"
MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def read_table(summary: str, title: str) -> tuple[list[str], dict[str, list[str]]]:
    """Column titles, and first cell -> cells of a Markdown table."""
    after = summary[summary.index(f"**{title}") :]
    lines = [split_cells(line) for line in after.split("\n\n")[1].splitlines()]
    return lines[0], {line[0]: line for line in lines[2:]}


def print_number(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", MINUS)


def test_table_holds_the_numbers_of_the_json(pictured_report: tuple[Any, str, str]) -> None:
    project, _, summary = pictured_report
    titles, rows = read_table(summary, "Reconstructed pictures, protocol strict-v1")
    names = {"brainclip": "`brainclip`", ODD: "`ridge<i>\\|x`", "null_permuted": "`null_permuted`"}
    columns = {
        "PixCorr": ("strict-v1.pixcorr", 1, 3),
        "AlexNet(2), two-way (%)": ("strict-v1.alexnet2.image_given_reconstruction", 100, 1),
        "SwAV distance (lower is better)": ("strict-v1.swav", 1, 3),
        "brain correlation, `low`": ("strict-v1.brain_correlation.low", 1, 3),
    }
    for name, shown in names.items():
        tree = json.loads((project.root / f"data/picture_scores/{name}.json").read_text())
        for title, (metric, scale, digits) in columns.items():
            *path, leaf = metric.split(".")
            node = tree
            for key in path:
                node = node[key]
            parts = (scale * node[leaf + end] for end in ("", "_ci95_low", "_ci95_high"))
            value, low, high = (print_number(part, digits) for part in parts)
            assert rows[shown][titles.index(title)] == f"{value} [{low},{SPACE}{high}]"
    assert rows["`brainclip`"][1] == f"2{SPACE}of{SPACE}3"
    assert (
        list(rows).index("**Nulls**")
        < list(rows).index("**Decoders**")
        < list(rows).index("**References**")
    )
    assert (
        list(rows).index("`null_mean`")
        < list(rows).index("**Decoders**")
        < list(rows).index("`brainclip`")
    )


def test_stimulus_is_a_reference_of_the_main_protocol(pictured: Any) -> None:
    _, before = pictured.write()
    tree = json.loads((pictured.root / "data/picture_scores/reference_pooled.json").read_text())

    def prune(node: dict[str, Any]) -> dict[str, Any]:
        brain = {
            name: value for name, value in node["strict-v1"].items() if name == "brain_correlation"
        }
        return {"strict-v1": brain}

    subjects = {subject: prune(branch) for subject, branch in tree["subjects"].items()}
    pictured.write_json("data/picture_scores/stimulus.json", {**prune(tree), "subjects": subjects})
    page, summary = pictured.write()
    titles, rows = read_table(summary, "Reconstructed pictures, protocol strict-v1")
    shown = dict(zip(titles, rows["`stimulus`"], strict=True))
    assert list(rows)[-2:] == ["`reference_pooled`", "`stimulus`"]
    for title in titles[2:]:
        is_brain = title.startswith("brain")
        assert shown[title] == (
            rows["`reference_pooled`"][titles.index(title)] if is_brain else "-"
        )
    _, others = read_table(summary, "Reconstructed pictures, protocol mindeye-2023")
    assert "`stimulus`" not in others
    kept = [line for line in summary.splitlines() if line not in before.splitlines()]
    assert sum(line.startswith("| `stimulus`") for line in kept) == 1
    assert not any("Missing" in line for line in kept), "the rest of the section is as without it"
    assert "the ceiling of these columns" in re.sub(r"\s+", " ", summary)
    assert "`stimulus`" not in before and page.count("<code>stimulus</code>") > 3


def test_missing_metrics_are_named_with_their_reason_once(
    pictured_report: tuple[Any, str, str],
) -> None:
    _, _, summary = pictured_report
    titles, rows = read_table(summary, "Reconstructed pictures, protocol strict-v1")
    for row in ("`brainclip`", "`null_mean`"):
        assert rows[row][titles.index("Inception, two-way (%)")] == "missing"
    flat = re.sub(r"\s+", " ", summary)
    reason = (
        "Missing: Inception, two-way (%), EffNet-B distance (lower is better): "
        "pictures.classifier (assets/x)"
    )
    assert flat.count(reason) == 2, "once below the table of each protocol"
    titles, rows = read_table(summary, "Reconstructed pictures, protocol mindeye-2023")
    assert rows["`null_mean`"][titles.index("PixCorr")] == "missing"
    assert not any("brain" in title for title in titles)
    assert "Missing: PixCorr of `null_mean`: undefined for 20 images." in flat


def test_protocol_and_stand_ins_stand_above(pictured_report: tuple[Any, str, str]) -> None:
    flat = re.sub(r"\s+", " ", pictured_report[2])
    for words in (
        "AlexNet: small AlexNet of classifier, a stand-in; SwAV: swav_800ep_pretrain.",
        "Images a subject: 20, the first by NSD id. Candidates an image: 1, no selection.",
        "Versions: torch 2.0.0, numpy 1.9.",
        "chance 50 %",
        "Numbers under equal names differ from those of `strict-v1`",
        "Training seed ridge 3, brainclip 3, ridge_permuted 4;",
    ):
        assert words in flat


def test_a_network_that_measures_its_own_pictures_is_named(pictured: Any) -> None:
    def say(clip: str = "mini", clip_model: str = "mini-clip", selection: str = "none") -> str:
        params = pictured.params
        entry = dataclasses.replace(params.reconstructions["brainclip"], selection=selection)
        changed = dataclasses.replace(
            params,
            generators={"mini": {"family": "tokens", "clip_model": clip_model}},
            reconstructions={**params.reconstructions, "brainclip": entry},
            pictures=dataclasses.replace(params.pictures, clip=clip),
        )
        made = {
            name: SimpleNamespace(name=name, entry=entry, kind=inputs.find_kind(changed, name))
            for name, entry in changed.reconstructions.items()
        }
        record = json.loads((pictured.root / "data/picture_scores/record.json").read_text())[
            "strict-v1"
        ]
        record["networks"] |= {"clip": {"name": "mini-clip", "stand_in": True}}
        given: Any = SimpleNamespace(
            params=changed, pictures=made, picture_record={"strict-v1": record}
        )
        return describe_protocol(given, "strict-v1")

    words = (
        "measured by the network that decoders are trained towards and that the generator is "
        "conditioned on"
    )
    assert f"{words}, so read the other networks beside it." in say()
    assert f"{words} (and that chose among candidates), so" in say(selection="brain")
    for said in (say(clip=""), say(clip_model="another")):
        assert "conditioned on" not in said


def test_difference_is_that_of_a_direct_call(pictured_report: tuple[Any, str, str]) -> None:
    project, _, summary = pictured_report
    titles, rows = read_table(summary, "Reconstructed pictures, paired differences")
    shared = project.root / "data/clip/mini/shared.h5"
    runs = {
        n: read_scores(project.root / f"data/picture_scores/{n}.h5", shared)
        for n in (ODD, "brainclip")
    }
    shown = rows[f"`ridge<i>\\|x` {MINUS} `brainclip`"]
    columns = {
        "CLIP, two-way (points)": ("strict-v1.clip.image_given_reconstruction", 100, 1),
        "PixCorr": ("strict-v1.pixcorr", 1, 3),
        "SwAV distance (lower is better)": ("strict-v1.swav", 1, 3),
    }
    for title, (metric, scale, digits) in columns.items():
        found = paired_difference([(runs[ODD], runs["brainclip"])], metric, 50, 0)
        parts = (scale * getattr(found.estimate, key) for key in ("value", "low", "high"))
        value, low, high = (print_number(part, digits, "+") for part in parts)
        cell = f"{value} [{low},{SPACE}{high}] {found.n_positive}/2"
        assert shown[titles.index(title)] == cell
    swav = shown[titles.index("SwAV distance (lower is better)")]
    assert swav.startswith("+") and swav.endswith(" 0/2"), "a larger distance is worse"
    decoders, nulls = ("`ridge<i>\\|x`", "`brainclip`"), ("`null_permuted`", "`null_mean`")
    assert list(rows)[1:] == [f"{name} {MINUS} {null}" for null in nulls for name in decoders]
    assert "Pairs may differ in features read, generator, candidates and selection" in re.sub(
        r"\s+", " ", summary
    )


def test_rows_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    score_I = rng.integers(0, 3, 30) / 2
    tie_I = rng.integers(0, 4, 30) / 4
    nsd_id_I = rng.permutation(100)[:30]
    order = sorted(range(30), key=lambda i: (score_I[i], tie_I[i], nsd_id_I[i]))
    expected = [(q, order[round(q * 29)]) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert picture_grid.choose_rows(score_I, tie_I, nsd_id_I) == expected
    assert picture_grid.choose_rows(score_I[:1], tie_I[:1], nsd_id_I[:1]) == [(0.05, 0)]


def test_grid_shows_the_same_images_in_every_column(
    pictured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        picture_grid, "draw_grid", lambda *given: drawn.append(given) or draw_grid(*given)
    )
    page, summary = pictured.write()
    (columns, labels, _) = drawn[0]
    assert [column.title for column in columns] == [
        *("stimulus", "reference_pooled", ODD, "brainclip", "null_permuted", "null_mean"),
    ]
    assert [column.heading for column in columns] == [
        "seen",
        "references",
        "decoders",
        "",
        "nulls",
        "",
    ]
    scores = read_scores(
        pictured.root / f"data/picture_scores/{ODD}.h5", pictured.root / "data/clip/mini/shared.h5"
    )
    one = scores["subj01"]
    keys = [
        one.per_image[f"strict-v1.{m}"][0] for m in ("clip.image_given_reconstruction", "pixcorr")
    ]
    order = sorted(range(20), key=lambda i: (keys[0][i], keys[1][i], one.nsd_id_I[i]))
    ids = [int(one.nsd_id_I[order[round(q * 19)]]) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert [int(label.rsplit(" ", 1)[1]) for label in labels] == ids
    assert labels[0].startswith("5 %")
    nsd_id_I, images_IHWC = picture_grid.read_pictures(
        pictured.root / "data/reconstructions/brainclip.h5", "subj01"
    )
    for row, nsd_id in enumerate(ids):
        np.testing.assert_array_equal(
            columns[3].pictures[row], images_IHWC[list(nsd_id_I).index(nsd_id)]
        )
    assert (pictured.root / "reports/figures/reconstructions_subj01.png").is_file()
    assert "figures/reconstructions_subj01.png" in summary
    assert "side by side" in page


def test_names_are_escaped(pictured_report: tuple[Any, str, str]) -> None:
    _, page, summary = pictured_report
    assert "ridge<i>" not in page and "ridge&lt;i&gt;|x" in page
    for block in re.findall(r"(?:^\|.*\n)+", summary, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_nulls_stand_where_pictures_are_spoken_of_only(
    pictured_report: tuple[Any, str, str],
) -> None:
    sections = pictured_report[2].split("\n## ")
    named = [section.splitlines()[0] for section in sections if "permuted" in section]
    assert named == ["At a glance", "Reconstructed pictures"]
    assert "run `ridge_permuted`, trained on permuted pairs" in pictured_report[2]


def test_overview_sets_the_first_decoder_beside_reference_and_null(
    pictured_report: tuple[Any, str, str],
) -> None:
    project, _, summary = pictured_report
    overview = re.sub(r"\s+", " ", summary.split("## At a glance")[1].split("\n## ")[0])

    def say(name: str, n: int) -> str:
        tree = json.loads((project.root / f"data/picture_scores/{name}.json").read_text())[
            "strict-v1"
        ]
        parts = []
        for node, leaf, scale, digits in ((tree["clip"], CLIP, 100, 1), (tree, "pixcorr", 1, 3)):
            ends = (scale * node[leaf + end] for end in ("", "_ci95_low", "_ci95_high"))
            value, low, high = (print_number(end, digits) for end in ends)
            parts.append(f"{value}{' %' if scale == 100 else ''} [{low}, {high}]")
        return f"(n = {n}) CLIP, two-way {parts[0]} and PixCorr {parts[1]}"

    for words in (
        f"protocol `strict-v1`: `ridge<i>|x` {say(ODD, 3)}, against",
        f"the reference from true features `reference_pooled` {say('reference_pooled', 3)}",
        f"and the null trained on permuted pairs `null_permuted` {say('null_permuted', 3)}.",
    ):
        assert words in overview
    assert "seed of the generator's noise 0" in overview


def test_overview_chooses_reference_and_null_of_the_decoder() -> None:
    def make(name: str, kind: str, **entry: Any) -> Any:
        return SimpleNamespace(
            name=name, kind=kind, entry=Reconstruction(**{"generator": "g", "source": "x", **entry})
        )

    decoder = make("d", "decoder", reads="fused")
    others = [
        make("mean", "null", source="mean_image"),
        make("pooled", "reference", source="target"),
        make("tokens", "reference", source="target", reads="semantic"),
        make("elsewhere", "reference", source="target", reads="fused", generator="h"),
    ]
    given: Any = SimpleNamespace(pictures={result.name: result for result in others})
    reference, null = (
        picture_overview.find_reference(given, decoder),
        picture_overview.find_null(given, decoder),
    )
    assert reference and null and (reference.name, null.name) == ("tokens", "mean")
    given.pictures["permuted"] = make("permuted", "null", source="shuffled")
    assert picture_overview.find_null(given, decoder).name == "permuted"
    assert picture_overview.find_reference(given, make("d", "decoder")).name == "pooled"
    assert picture_overview.find_reference(given, make("d", "decoder", generator="k")) is None


def test_only_nulls_are_no_report(pictured: Any) -> None:
    split = dataclasses.replace(pictured.params.split, permute=True)
    pictured.params = dataclasses.replace(pictured.params, split=split)
    with pytest.raises(ValueError, match="no decoder to report"):
        pictured.write()


@pytest.mark.parametrize(
    "missing",
    [
        "data/picture_scores/brainclip.json",
        "data/picture_scores/record.json",
        "data/picture_scores/brainclip.h5",
        "data/reconstructions/null_mean.h5",
    ],
)
def test_missing_file_is_named(pictured: Any, missing: str) -> None:
    (pictured.root / missing).unlink()
    with pytest.raises(ValueError, match=re.escape(Path(missing).name)):
        pictured.write()


def test_protocol_without_record_is_named(pictured: Any) -> None:
    pictured.write_json("data/picture_scores/record.json", {"strict-v1": {}})
    with pytest.raises(ValueError, match="no protocol mindeye-2023"):
        pictured.write()


def test_without_reconstructions_the_section_is_left_out(page: str, summary: str) -> None:
    assert "Reconstructed pictures" not in page
    assert "## Reconstructed" not in summary


def test_real_stimuli_are_withheld(pictured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        picture_grid, "draw_grid", lambda *given: drawn.append(given) or draw_grid(*given)
    )
    dataset = dataclasses.replace(pictured.params.dataset, source="s3")
    pictured.params = dataclasses.replace(pictured.params, dataset=dataset)
    _, summary = pictured.write()
    assert all(picture is picture_grid.WITHHELD for picture in drawn[0][0][0].pictures)
    assert "stimuli are grey" in summary
    flat = re.sub(r"\s+(> )?", " ", summary)
    assert (
        "where pictures are reconstructed these and the mean training picture, not the pictures "
        "that" in flat
    )
    assert (
        "Trained models see test images only in `evaluate`, `inspect_tokens`, `reconstruct`" in flat
    )
    assert "the papers' own test sets" in flat


def test_kinds_follow_source_and_split(pictured: Any) -> None:
    kinds = {
        name: inputs.find_kind(pictured.params, name) for name in pictured.params.reconstructions
    }
    assert kinds == {
        ODD: "decoder",
        "brainclip": "decoder",
        "reference_pooled": "reference",
        "null_permuted": "null",
        "null_mean": "null",
    }


def test_introduction_speaks_of_what_is_there() -> None:
    def say(*results: tuple[str, str, int]) -> str:
        pictures = {
            f"r{k}": SimpleNamespace(
                kind=kind, entry=SimpleNamespace(source=source, n_candidates=n)
            )
            for k, (kind, source, n) in enumerate(results)
        }
        given: Any = SimpleNamespace(pictures=pictures)
        return reconstructed.introduce(given)

    decoder, mean, permuted = (
        ("decoder", "ridge", 1),
        ("null", "mean_image", 1),
        ("null", "ridge_permuted", 1),
    )
    reference = ("reference", "target", 1)
    assert "Nulls" not in say(decoder) and "References" not in say(decoder)
    assert "the mean training picture." in say(decoder, mean) and "permuted" not in say(
        decoder, mean
    )
    assert "mean" not in say(decoder, permuted)
    assert "the mean training picture; decoders trained on permuted pairs" in say(mean, permuted)
    assert "painted from the true features, one candidate: what they lack" in say(
        decoder, reference
    )
    assert "ceiling" not in say(decoder, reference)
    assert "no ceiling for the best of several" in say(("decoder", "ridge", 8), reference)


def test_published_rows_stand_apart(pictured_report: tuple[Any, str, str]) -> None:
    table = published_pictures.make_published_table(simulated=True)
    rows = {row.cells[0]: row.cells for row in table.rows if row.kind != "heading"}
    assert rows["MindEye2 (ICML 2024)"][3:] == (
        "0.322",
        "0.431",
        "96.1",
        "98.6",
        "95.4",
        "93.0",
        "0.619",
        "0.344",
    )
    assert len(rows) == 11
    for words in (
        "Published elsewhere, not reproduced here",
        "982 shared images",
        "not comparable with the",
    ):
        assert words in re.sub(r"\s+", " ", pictured_report[2])


def test_published_rows_beside_real_data() -> None:
    label = published_pictures.make_published_table(simulated=False).label
    assert "the papers' own test sets (982 or 1,000 images)" in label
    assert "simulated" not in label and "another test set" not in label


def test_difference_of_protocols_names_what_differs() -> None:
    strict, mindeye = PROTOCOLS["strict-v1"], PROTOCOLS["mindeye-2023"]
    said = describe_difference(strict, mindeye)
    assert (
        "antialiased resizing (no; there: yes)" in said
        and "credit of a tie (none; there: half)" in said
    )
    assert "weights" not in said, "equal in both"
    assert "8 bits" not in said, "equal in both"
    bits = "what resizing does to the 8 bits of a stored picture (kept; there: not rounded again)"
    assert bits in describe_difference(strict, PROTOCOLS["braindiffuser-2023"])
    assert "EfficientNet_B1_Weights.IMAGENET1K_V1" in describe_difference(
        strict, PROTOCOLS["braindiffuser-2023"]
    )
    assert describe_difference(strict, strict) == "`strict-v1` measures as `strict-v1` does."


def test_grid_is_enlarged_without_smoothing(tmp_path: Path) -> None:
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[0, 0] = picture[1, 1] = (255, 0, 0)
    columns = [
        Column(title=f"a_{k}$x$", pictures=[picture] * 2, heading="seen" if k == 0 else "")
        for k in range(3)
    ]
    first = draw_grid(columns, ["5 %", "95 %"], tmp_path / "a.png").read_bytes()
    assert first == draw_grid(columns, ["5 %", "95 %"], tmp_path / "b.png").read_bytes()
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    between = (shown[..., 0] > 0) & (shown[..., 0] < 255) & (shown[..., 1:].max(axis=-1) == 0)
    assert ((shown == (255, 0, 0)).all(axis=-1)).sum() > 10_000
    assert not between.any(), "no colour between red and black"
