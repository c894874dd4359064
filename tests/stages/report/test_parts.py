"""Parts of the report by themselves: studies, primary outcomes, areas, cost, methods."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip import decoders
from fmri2clip.artefacts.scores import list_groups, read_predictions, write_predictions
from fmri2clip.artefacts.study import Answer, read_plans
from fmri2clip.artefacts.trials import write_voxels
from fmri2clip.core.params import Outcome, Primary, load
from fmri2clip.stages.report import (
    brain,
    claims,
    cost,
    examples,
    methods,
    overview,
    pictures,
    quality,
    studies,
)
from fmri2clip.stages.report.catalogue import Score
from fmri2clip.stages.report.differences import compare_all
from fmri2clip.stages.report.inputs import Inputs, is_of_data, read_inputs
from fmri2clip.stages.report.scores import Scores, make_scores
from fmri2clip.studies import plan
from tests.stages.report.conftest import copy_inputs

ROOT = Path(__file__).parents[3]
IMAGE = "retrieval.image_given_brain.top1"


def read_report(name: str) -> dict[str, Any]:
    """A file of the default run, from git."""
    return dict(json.loads((ROOT / "reports" / name).read_text()))


def write_flat(path: Path, ijk_V3: np.ndarray, ncsnr_V: np.ndarray) -> None:
    """A voxel file of one ROI that holds all voxels."""
    ones_1V = np.ones((1, len(ijk_V3)), np.float32)
    flat = {f"{name}_SV": ones_1V for name in ("mean", "std")}
    roi = {"roi_VG": np.ones((len(ijk_V3), 1), bool), "roi_names_G": ["group/all"]}
    known = {"ncsnr_V": ncsnr_V, "ncsnr_train_V": ncsnr_V, "invalid_SV": ones_1V < 0}
    write_voxels(path, {"ijk_V3": ijk_V3, **roi, **flat, **known})


@pytest.fixture(scope="module")
def inputs(project: Any) -> Inputs:
    return read_inputs(project.params, project.paths)


@pytest.fixture(scope="module")
def scores(inputs: Inputs) -> Scores:
    return make_scores(inputs)


def make_answer(**changed: str) -> Answer:
    asked = {"metric": IMAGE, "compare": "what brainclip gains"}
    sentences = {"above": "Up: {number}.", "below": "Down: {number}.", "neither": "Open."}
    return Answer(**{**asked, **sentences, **changed})


def test_studies_of_other_data_are_none_of_this_report(
    study: dict[str, Any], inputs: Inputs
) -> None:
    own = dataclasses.replace(inputs.params.dataset, source="folder", folder="data/own")
    params = dataclasses.replace(inputs.params, dataset=own)
    assert is_of_data(study, inputs.params) and not is_of_data(study, params)
    for folder, is_own in (("data/own", True), ("data/other", False)):
        source = {"dataset.source": "folder", "dataset.folder": folder}
        asked = {**study, "params": {**study["params"], **source}}
        assert is_of_data(asked, params) is is_own and not is_of_data(asked, inputs.params)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.09, "Up: +5.0"), (-0.09, -0.01, "Down: "), (-0.01, 0.09, "Open.")],
)
def test_answer_follows_the_interval(
    study: dict[str, Any], inputs: Inputs, scores: Scores, low: float, high: float, said: str
) -> None:
    study["comparisons"][0]["metrics"][IMAGE] |= {"low": low, "high": high}
    plans = {"learning": {"question": "How many?", "answer": make_answer()}}
    given = dataclasses.replace(inputs, studies={"learning": study}, plans=plans)
    (page,) = studies.make_studies(given, scores)
    assert page.question == "How many?"
    assert page.answer.startswith(said)


def test_answer_without_a_comparison_is_seen_from_chance(
    study: dict[str, Any], inputs: Inputs, scores: Scores
) -> None:
    one = make_answer(compare="", variant="n250", run="ridge")
    plans = {"learning": {"question": "How many?", "answer": one}}
    given = dataclasses.replace(inputs, studies={"learning": study}, plans=plans)
    found = study["variants"]["n250"]["runs"]["ridge"][IMAGE]
    for low, said in ((0.06, "Up: 12.5"), (0.04, "Open.")):  # chance is 1 of 20
        found["low"] = low
        (page,) = studies.make_studies(given, scores)
        assert page.answer.startswith(said)


def test_study_without_the_asked_number_says_so(
    study: dict[str, Any], inputs: Inputs, scores: Scores
) -> None:
    plans = {"learning": {"question": "?", "answer": make_answer(compare="another")}}
    given = dataclasses.replace(inputs, studies={"learning": study}, plans=plans)
    assert studies.make_studies(given, scores)[0].answer.startswith("Not answered")


def test_study_page_has_curve_settings_and_short_table(
    study: dict[str, Any], inputs: Inputs, scores: Scores
) -> None:
    study["params"] |= {
        "split.n_validation": 99,
        "runs.extra.decoder": "ridge",
        "norm.stats": "train_only",
    }
    study["comparisons"] = [copy.deepcopy(study["comparisons"][0]) for _ in range(30)]
    given = dataclasses.replace(inputs, studies={"learning": study}, plans={})
    (page,) = studies.make_studies(given, scores)
    forest, curve = page.charts
    assert [line.label for line in curve.lines] == ["ridge", "brainclip"]
    assert list(curve.lines[0].y) == pytest.approx([12.5, 20.0, 35.0])
    assert len(forest.rows) == 24 and len(page.board.rows) == studies.MAX_ROWS
    assert ("split.n_validation", "99", "250") in page.settings
    assert ("run extra", "decoder=ridge", "") in page.settings
    assert not [row for row in page.settings if row[0] == "norm.stats"]


def test_ablations_are_sorted_and_of_a_run_with_itself(
    study: dict[str, Any], inputs: Inputs, scores: Scores
) -> None:
    (between,) = study["comparisons"]
    for title, value in (("small", 0.01), ("large", -0.2)):
        metrics = {IMAGE: {**between["metrics"][IMAGE], "value": value}}
        own = {**between, "title": title, "run_b": "brainclip", "metrics": metrics}
        study["comparisons"].append(own)
    given = dataclasses.replace(inputs, studies={"learning": study})
    (chart,) = studies.make_ablations(given, scores)
    assert [row.label for row in chart.rows] == ["large", "small"]


def test_every_study_declares_an_answer_that_it_has() -> None:
    plans = read_plans(ROOT / "studies")
    assert len(plans) >= 18
    for name, found in plans.items():
        assert isinstance(found["answer"], Answer), name
        plan.load(ROOT / "studies" / f"{name}.yaml")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"compare": ""}, "name compare, or variant and run"),
        ({"variant": "a", "run": "b"}, "name compare, or variant and run"),
        ({"above": "It is {size}."}, "{size} is unknown"),
    ],
)
def test_a_wrong_answer_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_answer(**changed)


def test_verdicts_stand_where_primary_outcomes_were_run(inputs: Inputs, scores: Scores) -> None:
    worlds = {f"world20{i}": {"value": 0.01 * i} for i in (1, 2)}
    found = {"value": 0.015, "low": 0.01, "high": 0.02, "worlds": worlds, "metric": IMAGE}
    primary = {"a_term": {**found, "verdict": "better"}, "b": {"verdict": "not run"}}
    given = dataclasses.replace(inputs, further={"primary": primary})
    shown = overview.make_primary(given, scores, [])
    assert list(shown["verdicts"].values()) == ["better"]
    (chart,) = shown["charts"]
    assert [mark.value for mark in chart.rows[0].marks] == pytest.approx([1.0, 2.0])
    assert overview.make_primary(inputs, scores, [])["verdicts"] == {}


def test_a_score_that_is_another_runs_by_construction_is_shown_once(
    inputs: Inputs, scores: Scores
) -> None:
    given = dataclasses.replace(
        inputs,
        params=dataclasses.replace(
            inputs.params, runs={**inputs.params.runs, "again": inputs.params.runs["ridge"]}
        ),
        runs={**inputs.runs, "again": inputs.runs["ridge"]},
    )
    assert make_scores(given).rows(IMAGE, "decoder", "baseline") == ["ridge", "brainclip"]
    assert scores.best(IMAGE, "decoder", "baseline") == "brainclip"
    brainclip = inputs.params.runs["brainclip"]
    runs = {**inputs.params.runs, "again": brainclip}
    other = dataclasses.replace(given, params=dataclasses.replace(inputs.params, runs=runs))
    # Another decoder that happens to have the same score is no such run.
    names = make_scores(other).rows(IMAGE, "decoder", "baseline")
    assert names == ["ridge", "brainclip", "again"]


def test_panels_show_the_highest_scores(inputs: Inputs, scores: Scores) -> None:
    rows = overview.make_dots(inputs, scores, IMAGE, limit=1)
    assert [row.label for row in rows] == ["brainclip"]


def test_another_way_to_search_is_a_likelihood_of_encoding_models_alone(
    inputs: Inputs, scores: Scores
) -> None:
    found = {**scores.found, ("brainclip", f"own.{IMAGE}", ""): Score(0.5)}
    own = dataclasses.replace(scores, found=found)
    for tree, is_said in (({}, False), ({"encoding": {"r": {}}}, True)):
        runs = {**inputs.runs, "brainclip": {**inputs.runs["brainclip"], **tree}}
        given = dataclasses.replace(inputs, runs=runs)
        said = overview._describe(given, own, compare_all(inputs), IMAGE, "Finding pictures")
        assert "By another way to search" in said and ("foretell" in said) is is_said


def test_unseen_categories_have_the_chance_of_their_study(study: dict[str, Any]) -> None:
    assert studies.count_unseen(study) == 0
    for variant in study["variants"].values():
        variant["runs"]["ridge"]["unseen.zero_shot.only.chance"] = {"value": 0.25}
    assert studies.count_unseen(study) == 4


def test_blocks_attention_and_world_are_those_of_their_files(
    inputs: Inputs, scores: Scores
) -> None:
    tokens = read_report("tokens.json")["clip_mused"]
    world = read_report("world.json")
    further = {"tokens": {"ridge": tokens}, "world": world}
    hierarchy = {"mini": read_report("hierarchy/mini.json")}
    given = dataclasses.replace(inputs, hierarchy=hierarchy, further=further)
    (blocks,) = brain.make_blocks(given)
    early = hierarchy["mini"]["mean"]["rsa"]["patch_mean"]["low"]
    assert blocks.lines[0].y[0] == early["block1"] and len(blocks.lines[0].y) == 8
    assert "highest for early areas at block 1" in brain.describe_blocks(given)[0]
    low, high = brain.make_attention(given)
    shares = [by_token["low"]["V1"] for by_token in tokens["attention"]["last_layer"].values()]
    assert low.rows[0].label == "V1"
    assert low.rows[0].cell.value == pytest.approx(100 * (np.mean(shares) - 1 / 9), abs=1e-6)
    assert low.axis == high.axis
    n_unmet = json.dumps(world["asserted"]).count('"met": 0')
    assert quality.describe_world(given).count(" is ") == n_unmet


def test_ceilings_are_of_the_trials_that_each_test_picture_has() -> None:
    """By NSD's formula, A, B and C pictures with 3, 2 and 1 trials; not of their average number."""
    assert brain.ceiling(1.0, {"test": {"shown": {"1": 0, "2": 0, "3": 60}}}) == 75
    assert brain.ceiling(1.0, {"test": {"shown": {"35": 50}}}) == pytest.approx(100 * 35 / 36)
    a, b, c = 515, 285, 130
    counts = {"test": {"trials": 3 * a + 2 * b + c, "shown": {"1": c, "2": b, "3": a}}}
    inverse = (a / 3 + b / 2 + c / 1) / (a + b + c)
    assert brain.ceiling(0.4, counts) == pytest.approx(100 * 0.16 / (0.16 + inverse))


def test_responses_foretold_stand_beside_their_ceiling(project: Any, tmp_path: Path) -> None:
    fresh = copy_inputs(project, tmp_path)
    params, paths = fresh.params, fresh.paths
    tree = json.loads(paths.metrics("ridge").read_text())
    own = {"r": {"V1": 0.4, "low": 0.3}, "r2": {"V1": 0.16}, "ceiling_r": {"V1": 0.5}}
    tree["encoding"] = {**own, "explained": 0.2}
    tree["subjects"]["subj01"]["encoding"] = {"r": {"V1": 0.6}}
    paths.metrics("ridge").write_text(json.dumps(tree))
    ijk_V3 = np.indices((3, 3, 11)).reshape(3, -1).T.astype(np.int16)
    ones_V = np.ones(len(ijk_V3), np.float32)
    r2_V = 0.75 * (ijk_V3[:, 0] > 0)
    write_flat(paths.voxels("subj01"), ijk_V3, ncsnr_V=ones_V)
    path = paths.predictions("ridge")
    groups = {s: dict(read_predictions(path, None, s)) for s in list_groups(path)}
    groups["subj01"] |= {"ijk_V3": ijk_V3, "foretold_r2_V": r2_V}
    write_predictions(path, groups)
    inputs = read_inputs(params, paths)
    scores = make_scores(inputs)
    (board,) = brain.make_encoding(inputs, scores)
    assert [row.name for row in board.rows] == ["V1", "low"]
    assert [str(cell) for cell in board.rows[0].cells[:3]] == ["0.40", "0.50", "16.0"]
    assert board.rows[1].cells[1] is None
    (of_one,) = brain.make_encoding(inputs, scores, "subj01")
    assert [str(row.cells[0]) for row in of_one.rows] == ["0.60"]
    ceilings, foretold = brain.make_slices(inputs, "subj01")
    assert ceilings["most"] == foretold["most"] == pytest.approx(75)
    assert ceilings["uri"] != foretold["uri"] and "ridge" in foretold["title"]
    assert brain.make_slices(inputs, "subj02") == []


def test_areas_are_shown_of_their_own_voxels_only(inputs: Inputs, scores: Scores) -> None:
    counts = {s: {"nsdgeneral": c["voxels"]["kept"]} for s, c in inputs.rois.items()}
    number = {"image_given_brain": {"value": 0.1, "low": 0.05, "high": 0.2}}
    areas = {"n_voxels": 9, "n_draws": 3, "sizes": counts, "groups": {"V1": number}}
    given = dataclasses.replace(inputs, further={"areas": areas})
    chart = brain.make_areas(given, scores)
    assert chart is not None and chart.rows[0].cell.value == pytest.approx(10)
    areas["sizes"] = {**counts, "subj01": {"nsdgeneral": 1}}
    assert brain.make_areas(given, scores) is None


def test_cost_says_what_was_counted(inputs: Inputs, scores: Scores) -> None:
    board, charts = cost.make_cost(inputs, scores)
    assert board is not None and [row.name for row in board.rows] == ["ridge", "brainclip"]
    assert charts[0].points[0].x == pytest.approx(np.log10(1234))
    counts = inputs.runs["ridge"]["parameters"] | {"per_subject": 10.0, "shared": 90.0}
    runs = {**inputs.runs, "ridge": {**inputs.runs["ridge"], "parameters": counts}}
    several = dataclasses.replace(inputs, runs=runs)
    _, charts = cost.make_cost(several, make_scores(several))
    assert [point.x for point in charts[0].points] == pytest.approx([2.0, np.log10(1234)])
    weights = read_report("parameters.json")
    said = cost.describe_real_size(dataclasses.replace(inputs, further={"weights": weights}))
    assert f"{weights['rows'][0]['deployed'] / 1e6:.0f} million" in said[0]
    assert "71.7 % fewer" in said[1]


def test_rows_stand_at_quantiles_each_once() -> None:
    score_I = np.array([0.5, 0.1, 0.9, 0.1])
    nsd_id_I = np.array([4, 3, 2, 1])
    assert pictures.choose_rows(score_I, nsd_id_I, (1.0, 0.0)) == [(1.0, 2), (0.0, 3)]
    assert pictures.choose_rows(score_I[:1], nsd_id_I[:1], (0.95, 0.5)) == [(0.95, 0)]


def test_rank_counts_pictures_ahead() -> None:
    rng = np.random.default_rng(1)
    image_II = rng.integers(0, 4, size=(30, 30)).astype(float)
    none = np.zeros((30, 0))
    retrieval = examples.Retrieval(
        nsd_id_I=np.arange(30), image_II=image_II, text_IK=none, caption_K=[],
        caption_image_K=np.zeros(0, dtype=int),
    )  # fmt: skip
    for row in range(30):
        ahead = sum(image_II[row, j] >= image_II[row, row] for j in range(30) if j != row)
        assert retrieval.rank_I[row] == ahead + 1


def test_decoders_are_cited_by_known_keys() -> None:
    """A new decoder is called by its name alone until it is given words and a citation."""
    references = methods.read_references(ROOT / "CITATION.cff")
    assert set(methods.CITED) == set(methods.IN_WORDS) <= set(decoders.names())
    assert set(methods.CITED.values()) <= set(references)


def test_methods_text_in_three_forms() -> None:
    references = methods.read_references(ROOT / "CITATION.cff")
    text = "By 5 % of A_B [@liu2025] & <C>.\n\nOf [@platt1999]."
    page = methods.to_html(text, references)
    assert (
        page == "<p>By 5 % of A_B (Liu et al. 2025) &amp; &lt;C&gt;.</p>\n<p>Of (Platt 1999).</p>"
    )
    latex = methods.to_latex(text)
    assert latex.startswith("By 5 \\% of A\\_B \\citep{liu2025} \\& <C>.")
    bibtex = methods.to_bibtex(references)
    assert bibtex.count("@") == len(references)
    assert (
        "@article{liu2025,\n  title = {{BrainCLIP" in bibtex and "pages = {3962--3972}," in bibtex
    )


def test_counts_of_the_methods_text_are_of_every_subject(inputs: Inputs) -> None:
    _, second, _ = inputs.rois
    other = {
        "voxels": {"kept": 9},
        "train": {"images": 12345},
        "test": {"images": 40, "shown": {"2": 40, "3": 0, "4": 1}},
    }
    given = dataclasses.replace(inputs, rois={**inputs.rois, second: other})
    assert methods.count(given) == {
        "n_voxels": "1,700, 9 and 1,702",
        "n_training": "2,500, 12,345 and 2,500",
        "n_tests": "40",
        "n_trials": "4",
    }


def test_chip_says_which_world(inputs: Inputs) -> None:
    params = load(ROOT / "params.yaml")
    for seed, role in ((1, "development"), (201, "reporting")):
        world = dataclasses.replace(params.world, seed=seed, hierarchy="flat")
        given = dataclasses.replace(inputs, params=dataclasses.replace(params, world=world))
        text = overview.make_chip(given)["text"]
        assert text.startswith(f"simulated ({role} world, seed {seed}, hierarchy flat)")


def test_chip_of_studies_says_their_worlds(study: dict[str, Any], inputs: Inputs) -> None:
    primary = dataclasses.replace(inputs.params.primary, worlds=(201, 202, 203))
    given = dataclasses.replace(inputs, params=dataclasses.replace(inputs.params, primary=primary))
    several = copy.deepcopy(study)
    del several["params"]["world.seed"]
    for seed, variant in zip(primary.worlds, several["variants"].values(), strict=True):
        variant["params"] = {"world.seed": seed}
    study["params"]["world.captions"] = "uninformative"
    for pages, said in (
        ([], "development world, seed 1"),
        ([several], "reporting worlds, seeds 201 to 203"),
        ([study], "development world, seed 1, captions uninformative"),
    ):
        text = overview.make_chip(given, *pages)["text"]
        assert text == f"simulated ({said}): says nothing about brains"
    facts = studies.describe_facts(given, several)
    assert facts.startswith("Data: simulated, reporting worlds, seeds 201 to 203.")
    both = overview.make_chip(given, several, study)["text"]
    assert "(development world, seed 1; reporting worlds, seeds 201 to 203," in both


def test_studies_of_another_world_are_none_of_this_report(
    study: dict[str, Any], inputs: Inputs
) -> None:
    other = dataclasses.replace(inputs.params.world, seed=2)
    params = dataclasses.replace(inputs.params, world=other)
    assert is_of_data(study, inputs.params) and not is_of_data(study, params)
    del study["params"]["world.seed"]
    assert is_of_data(study, params)


def test_claims_have_verdicts_of_their_intervals_and_worlds(
    study: dict[str, Any], inputs: Inputs, scores: Scores
) -> None:
    """By hand: who holds, who does not, what the world lacks, and margins."""
    found = {IMAGE: {"value": 0.05, "low": 0.01, "high": 0.09}}
    study["comparisons"][0] |= {"metrics": found}
    runs = study["variants"]["n250"]["runs"]
    for run in runs.values():
        run["training.converged"] = {"value": 1.0}
    outcome = Outcome(study="learning", compare="what brainclip gains", metric=IMAGE)
    primary = Primary(worlds=(201,), outcomes={"gain": outcome})
    params = dataclasses.replace(inputs.params, primary=primary)
    given = dataclasses.replace(inputs, params=params, studies={"learning": study})
    asked = {"paper": "P", "text": "t", "study": "learning", "compare": "what brainclip gains"}
    claim = claims.Claim(**asked, metric=IMAGE)

    def judge(claim: claims.Claim, **interval: float) -> str:
        found[IMAGE] |= interval
        return claims._make_row(given, scores, claim).verdict

    assert judge(claim) == "difference only, development world"
    study["params"]["world.seed"] = 201
    assert judge(claim) == "planted effect recovered"
    assert judge(claim, low=-0.01) == "planted effect not recovered"
    assert (
        judge(dataclasses.replace(claim, says="lower"), high=-0.001) == "planted effect recovered"
    )
    # Ridge has 12.5 %, chance is 1 of 20: a tenth of 7.5 points may be lost.
    no_worse = dataclasses.replace(claim, says="no worse")
    assert judge(no_worse, low=-0.0074) == "no worse"
    assert judge(no_worse, low=-0.0076) == "not shown"
    # Worlds of both signs: nothing higher is shown by them, and nothing worse either.
    assert judge(claim, low=0.01, same_sign=False) == "planted effect not recovered"
    assert judge(no_worse, low=-0.0074) == "no worse"
    found[IMAGE] |= {"same_sign": True}
    assert judge(dataclasses.replace(claim, planted="text.x"), low=0.01) == "not planted"
    given = dataclasses.replace(given, further={"primary": {"gain": {"verdict": "better"}}})
    assert judge(claim) == "planted effect recovered; primary outcome gain: better"
    given = dataclasses.replace(given, further={})
    study["params"]["dataset.source"] = "s3"
    assert judge(claim) == "supported"
    runs["ridge"]["training.converged"]["value"] = 0.5
    assert judge(claim) == "no verdict: not shown to have converged"
    study["params"] |= {"dataset.source": "simulated", "world.seed": 1}
    alone = "difference only, development world; not shown to have converged"
    assert judge(claim) == alone
    assert judge(dataclasses.replace(claim, study="another")) == "not tested"


def test_claims_ask_for_what_their_studies_have() -> None:
    for claim in claims.CLAIMS:
        if claim.study:
            asked = plan.load(ROOT / "studies" / f"{claim.study}.yaml")
            assert claim.compare in {comparison.title for comparison in asked.compare}
            assert claim.metric in asked.metrics
    world = read_report("world.json")
    for claim in claims.CLAIMS:
        assert claims.is_planted(world, claim), claim.planted


def test_numbers_of_the_claims_are_those_of_the_files() -> None:
    """Every number of reports/claims.md stands in a JSON file."""
    text = (ROOT / "reports/claims.md").read_text()
    for row in (line for line in text.splitlines() if line.startswith("| ")):
        name = row.split("|")[2].split(",")[0].strip()
        path = ROOT / f"reports/studies/{name}.json"
        if "not run" in row or "[" not in row or not path.is_file():
            continue
        value = float(
            row.split("|")[3].split("\N{NO-BREAK SPACE}")[0].replace("\N{MINUS SIGN}", "-")
        )
        numbers = [
            100 * metric["value"]
            for comparison in json.loads(path.read_text())["comparisons"]
            for metric in comparison["metrics"].values()
        ]
        assert min(abs(value - number) for number in numbers) <= 0.051
    weights = read_report("parameters.json")
    assert f"{100 * weights['rows'][0]['reduction_mindeye1_vae']:.1f} % fewer" in text
    assert f"{weights['subjects']['clip_mused']['identity']:,} of them" in text


def test_weights_are_claimed_beside_the_basis_that_they_leave_out(inputs: Inputs) -> None:
    weights = read_report("parameters.json")
    given = dataclasses.replace(inputs, further={"weights": weights})
    _, _, counted = claims.list_counted(given)[0]
    assert f"{weights['rows'][0]['basis'] / 1e6:.0f} million fixed numbers" in counted


def test_files_behind_the_page_are_in_the_repository() -> None:
    text = (ROOT / "src/fmri2clip/stages/report/templates/index.html").read_text()
    (listed,) = re.findall(r"Files behind this page: \{% for name in \[([^]]+)\]", text)
    names = re.findall(r'"([^"]+)"', listed)
    assert names and all((ROOT / "reports" / name).is_file() for name in names)


def test_the_methods_text_asks_for_versions_that_are_pinned() -> None:
    template = ROOT / "src/fmri2clip/stages/report/templates/methods.md"
    asked = re.findall(r'versions\.get\("([^"]+)"', template.read_text())
    assert asked and set(asked) <= set(methods.read_versions(ROOT / "requirements.txt"))
