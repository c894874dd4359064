from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides
from mlflow import MlflowClient
from ruamel.yaml import YAML

from fmri2clip.metrics.statistics import Scores
from fmri2clip.studies import experiments, plan, results
from pipeline import study as pipeline_study

ROOT = Path(__file__).parents[2]
STUDY = """
question: Does alpha matter?
answer: {compare: image - both, metric: zero_shot.chance, above: It does., below: No., neither: No.}
budget: a minute
budget_minutes: 1
targets: [evaluate@brainclip]
base:
- "runs.brainclip.subjects=[subj01]"
variants:
  both: [decoders.brainclip.alpha=0.5]
  image: [decoders.brainclip.alpha=1.0]
  again: [++decoders.brainclip.alpha=0.5]
seeds: {keys: [runs.brainclip.seed], values: [0, 1]}
compare:
- {title: image - both, a: [image], run_a: brainclip, b: [both], run_b: brainclip}
metrics: [retrieval.image_given_brain.top1, zero_shot.chance]
"""
SMALL = STUDY.replace("[0, 1]", "[0]")
POLL_S = 3  # a look at the queue takes a second of a core, which the experiments need


def write_study(folder: Path, text: str = STUDY) -> plan.Study:
    path = folder / "alpha.yaml"
    path.write_text(text)
    return plan.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question", "qestion", "did you mean question"),
        ("a: [image]", "a: [imgae]", "compare or x names the variant 'imgae'"),
        ("run_b: brainclip", "run_b: ridge", "which no target evaluates"),
        ("a: [image]", "a: [image, both]", "give as many"),
        ("compare: image - both", "compare: both", "answer.compare is 'both'.*image - both"),
        ("metric: zero_shot.chance", "metric: auc", "answer.metric is 'auc'"),
        ("above: It does.", "abov: It does.", "did you mean above"),
        ("budget_minutes: 1", "budget_minutes: 400", "at most 40"),
        ("values: [0, 1]", "values: [0, 0]", "each once"),
        (
            "budget: a minute",
            "budget: a minute\nsame_pictures: false",
            "cannot be paired with each other",
        ),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_study(tmp_path, STUDY.replace(old, new))


def test_subjects_restrict_the_data_and_every_run(tmp_path: Path) -> None:
    text = STUDY.replace("variants:", "subjects: [subj02, subj05]\nvariants:").replace(
        "[subj01]", "[subj05]"
    )
    study = write_study(tmp_path, text)
    contents = list(plan.plan(study, ROOT / "params.yaml").values())
    for content in contents:
        runs = {name: list(run["subjects"]) for name, run in content["runs"].items()}
        assert list(content["subjects"]) == ["subj02", "subj05"]
        assert runs.pop("brainclip") == ["subj05"], "the study's own overrides come later"
        assert all(subjects == ["subj02", "subj05"] for subjects in runs.values())


def test_an_unknown_study_names_the_known_ones(tmp_path: Path) -> None:
    write_study(tmp_path)
    with pytest.raises(ValueError, match="no study 'beta'; choose from alpha"):
        plan.load(tmp_path / "beta.yaml")


def test_plan_resolves_every_variant_and_seed(tmp_path: Path) -> None:
    planned = plan.plan(write_study(tmp_path), ROOT / "params.yaml")
    assert [e.name for e in planned] == [
        f"alpha-{v}-s{s}" for v in ("both", "image", "again") for s in (0, 1)
    ]
    content = {e.name: params for e, params in planned.items()}["alpha-image-s1"]
    assert (
        content["runs"]["brainclip"]["subjects"] == ["subj01"]
        and content["runs"]["brainclip"]["seed"] == 1
    )
    assert (
        content["decoders"]["brainclip"]["alpha"] == 1.0
        and "alpha variant image" in content["note"]
    )


def test_a_later_seed_has_the_parameters_that_dvc_gives_it(tmp_path: Path) -> None:
    planned = plan.plan(write_study(tmp_path), ROOT / "params.yaml")
    (experiment,) = (e for e in planned if e.name == "alpha-image-s1")
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, list(experiment.overrides))
    assert planned[experiment] == YAML(typ="safe").load(path.read_text())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("decoders.brainclip.alhpa=1.0", "alhpa"),
        ("++decoders.brainclip.alhpa=1.0", "'image'.*alhpa is not a field"),
        ("~runs.brainclip", "runs"),
    ],
)
def test_plan_refuses_a_bad_override(tmp_path: Path, new: str, message: str) -> None:
    study = write_study(tmp_path, STUDY.replace("decoders.brainclip.alpha=1.0", new))
    with pytest.raises(ValueError, match=message):
        plan.plan(study, ROOT / "params.yaml")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_studies_of_the_repository_are_valid(path: Path) -> None:
    """Every override of every study gives parameters that the pipeline accepts."""
    assert plan.plan(plan.load(path), ROOT / "params.yaml")


def make_results(
    study: plan.Study, score: Callable[[str, int], float]
) -> dict[tuple[str, int], results.Result]:
    """By variant and seed; score: what every image of subj01 has there, but for noise."""
    found = {}
    for experiment, content in plan.plan(study, ROOT / "params.yaml").items():
        key = (experiment.variant, experiment.seed)
        rng = np.random.default_rng(experiment.seed)
        score_I = score(*key) + 0.1 * rng.standard_normal(200)
        metric = "retrieval.image_given_brain.top1"
        scores = Scores(nsd_id_I=np.arange(200), per_image={metric: (score_I, np.ones(200))})
        found[key] = results.Result(
            params=content,
            metrics={"brainclip": {"zero_shot.chance": 0.25}},
            scores={"brainclip": {"subj01": scores}},
        )
    return found


def test_summary_averages_seeds_and_pairs_runs(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    levels = {"both": 0.5, "image": 0.6, "again": 0.5}
    found_results = make_results(study, lambda variant, seed: levels[variant] + 0.1 * seed)
    summary = results.summarise(study, found_results, "digest")
    scores = summary["variants"]["both"]["runs"]["brainclip"]
    noise = np.mean([np.random.default_rng(s).standard_normal(200).mean() for s in (0, 1)])
    assert scores["retrieval.image_given_brain.top1"]["value"] == pytest.approx(
        0.55 + 0.1 * noise, abs=1e-6
    )
    assert scores["zero_shot.chance"] == {"value": 0.25}
    (comparison,) = summary["comparisons"]
    found = comparison["metrics"]["retrieval.image_given_brain.top1"]
    assert found["value"] == pytest.approx(0.1) and found["low"] == pytest.approx(0.1)
    assert summary["variants"]["image"]["params"] == {"decoders.brainclip.alpha": 1.0}
    assert (
        summary["params"]["runs.brainclip.subjects"] == ["subj01"]
        and "note" not in summary["params"]
    )
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_score_that_a_subject_lacks_has_no_mean(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    found_results = make_results(study, lambda variant, seed: 0.5)
    for found in found_results.values():
        found.scores["brainclip"]["subj02"] = Scores(nsd_id_I=np.arange(200))
    summary = results.summarise(study, found_results, "digest")
    assert set(summary["variants"]["both"]["runs"]["brainclip"]) == {"zero_shot.chance"}
    (comparison,) = summary["comparisons"]
    assert comparison["metrics"]["retrieval.image_given_brain.top1"]["n_subjects"] == 1


@pytest.mark.parametrize(("margin", "shown"), [(0.09, False), (0.11, True)])
def test_no_difference_is_shown_by_an_interval_within_the_margin(
    tmp_path: Path, margin: float, shown: bool
) -> None:
    """The difference here is 0.1, for every image."""
    study = write_study(tmp_path, STUDY + f"equivalence: {margin}\n")
    levels = {"both": 0.5, "image": 0.6, "again": 0.5}
    found_results = make_results(study, lambda variant, seed: levels[variant])
    (comparison,) = results.summarise(study, found_results, "digest")["comparisons"]
    found = comparison["metrics"]["retrieval.image_given_brain.top1"]
    assert found["equivalent"] is shown and found["margin"] == margin
    assert found["limits90"] == pytest.approx([0.1, 0.1])


def test_only_scored_subjects_count(tmp_path: Path) -> None:
    tree = {"x": {"n": 4.0}, "subjects": {"subj01": {"x": {"n": 1.0}}, "subj02": {"x": {"n": 7.0}}}}
    assert results.average_subjects(tree, ("subj02",)) == {"x.n": 7.0}
    assert results.average_subjects(tree, ("subj01", "subj02")) == {"x.n": 4.0}
    assert results.average_subjects(tree, ())["x.n"] == 4.0
    tree["subjects"]["subj02"]["y"] = 3.0  # of one subject alone
    for order in (("subj01", "subj02"), ("subj02", "subj01")):
        assert results.average_subjects(tree, order) == {"x.n": 4.0}
    study = write_study(tmp_path, STUDY.replace("variants:", "scored: [subj01]\nvariants:"))
    assert study.scored == ("subj01",)


STAGE = """
import json, os, sys
from pathlib import Path
import numpy as np
from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import write_predictions
from fmri2clip.core import params
from fmri2clip.tracking import record
what, run = sys.argv[1:]
p = params.load()
seed, alpha = p.runs[run].seed, p.decoders["brainclip"]["alpha"]
paths, folder = Paths(), Path("models") / run / "subj01"
for path in (paths.curve(run), paths.metrics(run)):
    path.parent.mkdir(parents=True, exist_ok=True)
if what == "clip":
    emb, n = np.eye(4, dtype=np.float16), 4
    write_cache(Path("data/clip/mini/shared.h5"), {
        "nsd_id_I": np.arange(n), "image_embedding_ID": emb, "text_embedding_KD": emb, "caption_K": list("abcd"),
        "caption_image_K": np.arange(n, dtype=np.int32), "labels_IC": np.eye(4, 2, dtype=bool),
        "area_IC": np.ones((4, 2), np.float32), "n_objects_I": np.ones(4, np.int16), "category_C": ["cat", "dog"],
        "present_C": np.ones(2, bool), "prompt_P": ["{category}"], "prompt_embedding_PCD": emb[None, :2]})
if what == "train":
    print("executed")
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(f"{seed} {alpha}".encode())
    about = dict(run=run, width_D=1, decoder="brainclip", clip="mini", voxels="all", seed=seed, config={"alpha": alpha}, split={},
        digests={"subj01": {"betas": "b"}}, n_voxels=1, n_training_images={"subj01": 1},
        n_validation_images={"subj01": 1}, parameters={})
    (folder / "config.yaml").write_text(json.dumps(about))
    paths.curve(run).write_text("subject,epoch,loss\\nsubj01,0,1.0\\n")
    record.log_training(p, run, {"subj01": (1.0, 2.0)}, paths)
    with open(os.environ["EXECUTED"], "a") as log:
        log.write(os.environ["DVC_EXP_NAME"] + "\\n")
if what == "evaluate":
    if alpha == 0.25:
        sys.exit("alpha of a quarter is refused")
    score = np.array([[alpha], [alpha], [seed], [seed]], np.float32)
    arrays = {"nsd_id_I": np.arange(4), "metric_M": ["retrieval.image_given_brain.top1"], "score_IM": score,
              "score_weight_IM": np.ones((4, 1), np.float32)}
    write_predictions(Path("data/predictions") / f"{run}.h5", {"subj01": arrays})
    found = {"zero_shot": {"chance": 0.5, "top1": alpha}, "subjects": {"subj01": {"x": alpha}}}
    paths.metrics(run).write_text(json.dumps(found))
"""  # noqa: E501
DVC_YAML = """
stages:
  clip:
    cmd: python stage.py clip brainclip
    deps: [stage.py]
    outs: [data/clip/mini/shared.h5]
  train:
    foreach: ${runs}
    do:
      cmd: python stage.py train ${key}
      deps: [stage.py]
      params: ["runs.${key}", decoders.brainclip]
      outs: ["models/${key}", "data/curves/${key}.csv"]
  evaluate:
    foreach: ${runs}
    do:
      cmd: python stage.py evaluate ${key}
      deps: ["models/${key}", stage.py, data/clip/mini/shared.h5]
      params: ["runs.${key}", decoders.brainclip]
      outs: ["data/predictions/${key}.h5", "data/scores/${key}.json"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A throw-away DVC project with our params.yaml and stages that take no time."""
    root = tmp_path / "project"
    (root / "studies").mkdir(parents=True)
    write_study(root / "studies", SMALL)
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "stage.py").write_text(dedent(STAGE))
    (root / ".gitignore").write_text("/models\n/data\n/mlflow.db*\n/mlruns\n/reports/studies\n")
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}")
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed.txt"))
    for command in (
        "git init -q",
        "dvc init -q",
        "git add -A",
        # Of its own: DVC commits an experiment under the name that git knows.
        "git config user.name x",
        "git config user.email x@y",
        "git commit -qm start",
    ):
        program = (
            [sys.executable, "-m", *command.split()]
            if command.startswith("dvc")
            else command.split()
        )
        subprocess.run(program, cwd=root, check=True)
    return root


@pytest.mark.slow
def test_a_study_runs_reuses_and_reports_failures(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = pipeline_study.run_study(project, "alpha", poll_s=POLL_S)
    summary = json.loads(out.read_text())
    both = summary["variants"]["both"]["runs"]["brainclip"]
    assert (
        both["retrieval.image_given_brain.top1"]["value"] == 0.25
        and both["zero_shot.chance"]["value"] == 0.5
    )
    difference = summary["comparisons"][0]["metrics"]["retrieval.image_given_brain.top1"]
    assert difference["value"] == 0.25 and difference["n_subjects"] == 1

    executed = (tmp_path / "executed.txt").read_text().splitlines()
    assert executed == [
        "alpha-both-s0",
        "alpha-image-s0",
    ]  # `again` was restored from the run cache
    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlflow.db")
    store = client.get_experiment_by_name("fmri2clip").experiment_id
    runs = client.search_runs([store], "tags.decoder = 'brainclip'")
    restored = {run.data.tags["variant"]: run.data.tags["restored"] for run in runs}
    assert restored == {
        "alpha-both-s0": "false",
        "alpha-image-s0": "false",
        "alpha-again-s0": "true",
    }
    assert sorted(run.data.metrics["test/category_top1"] for run in runs) == [50.0, 50.0, 100.0]
    alphas = {run.data.tags["variant"]: run.data.params["config.alpha"] for run in runs}
    assert alphas["alpha-both-s0"] == "0.5" and alphas["alpha-image-s0"] == "1.0"

    capsys.readouterr()
    before = out.read_bytes()
    assert pipeline_study.run_study(project, "alpha", poll_s=POLL_S).read_bytes() == before
    assert capsys.readouterr().out.count(": reused") == 3
    assert (tmp_path / "executed.txt").read_text().splitlines() == executed
    status = subprocess.run(
        ["git", "status", "--short"], cwd=project, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""

    (project / "studies" / "alpha.yaml").write_text(SMALL.replace("alpha=1.0", "alpha=0.25"))
    with pytest.raises(
        ValueError, match=r"alpha-image-s0 failed:(.|\n)*alpha of a quarter is refused"
    ):
        pipeline_study.run_study(project, "alpha", poll_s=POLL_S)


def test_queue_status_reads_what_dvc_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = """\
        Task     Name           Created       Status
        e42d5c6  study-a-s0     07:49 AM      Queued
        c63b062  study-a-s0     07:49 AM      Failed
        827d96f  study-b-s0     Nov 20, 2026  Success
        0aa3b55  study-c-s0     Nov 20, 2026  Running

        Worker status: 1 active, 0 idle
        """
    monkeypatch.setattr(experiments, "_dvc", lambda root, *arguments: dedent(table))
    assert experiments.queue_status(tmp_path) == (
        {"study-a-s0": "Queued", "study-b-s0": "Success", "study-c-s0": "Running"},
        1,
    )
    process = subprocess.Popen(["true"])
    note = tmp_path / ".dvc" / "tmp" / "exps" / "run" / "0aa3b55ff" / "0aa3b55ff.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"pid": os.getpid()}))
    assert experiments.queue_status(tmp_path)[0]["study-c-s0"] == "Running"
    process.wait()
    note.write_text(json.dumps({"pid": process.pid}))
    assert experiments.queue_status(tmp_path)[0]["study-c-s0"] == "Killed"


@pytest.mark.parametrize(("n_failures", "is_read"), [(4, True), (5, False)])
def test_a_queue_that_cannot_be_read_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_failures: int, is_read: bool
) -> None:
    """As while DVC writes the file of a running experiment; a fifth time it is an error."""
    answers = iter([*[ValueError("Expecting value: line 1 column 1")] * n_failures, ""])

    def answer(root: Path, *arguments: str) -> str:
        found = next(answers)
        if isinstance(found, ValueError):
            raise found
        return found

    monkeypatch.setattr(experiments, "_dvc", answer)
    monkeypatch.setattr(experiments, "LOOK_S", 0.0)
    if is_read:
        assert experiments.queue_status(tmp_path) == ({}, 0)
    else:
        with pytest.raises(ValueError, match="Expecting value"):
            experiments.queue_status(tmp_path)


def test_a_worker_is_started_where_tasks_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(
        [
            ({"a": "Queued", "b": "Queued"}, 0),
            ({"a": "Running", "b": "Queued"}, 1),  # one of two has gone
            ({"a": "Running", "b": "Running"}, 2),
            ({"a": "Running", "b": "Success"}, 1),  # nothing to do for a second
            ({"a": "Success", "b": "Success"}, 0),
        ]
    )
    started: list[tuple[Path, int]] = []
    monkeypatch.setattr(experiments, "queue_status", lambda root: next(states))
    monkeypatch.setattr(experiments, "_start_workers", lambda *given: started.append(given))
    said: list[str] = []
    experiments.run_queue(Path(), ["a", "b"], said.append, poll_s=0, jobs=3)
    assert started == [(Path(), 3)] * 2
    assert said == [
        "a: running (1 waiting)",
        "b: running (0 waiting)",
        "b: success (0 waiting)",
        "a: success (0 waiting)",
    ]


def test_a_killed_experiment_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC calls it running for ever, beside others that do run."""
    states = iter(
        [
            ({"a": "Killed", "b": "Running"}, 1),
            ({"a": "Failed", "b": "Running"}, 1),
            ({"a": "Failed", "b": "Success"}, 1),
        ]
    )
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(experiments, "queue_status", lambda root: next(states))
    monkeypatch.setattr(experiments, "_dvc", lambda root, *given: called.append(given))
    experiments.run_queue(Path(), ["a", "b"], lambda text: None, poll_s=0)
    assert called == [("queue", "kill", "--force", "a")]
    assert next(states, None) is None


def test_code_that_git_does_not_track_is_named(tmp_path: Path) -> None:
    """The copies that experiments run in lack it; what git ignores is nobody's code."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for name in ("src/own/decoder.py", "pipeline/a.py", "src/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    subprocess.run(["git", "add", "pipeline"], cwd=tmp_path, check=True)
    with pytest.raises(ValueError, match=r"not track src/own/decoder\.py; .*`git add src/own/dec"):
        experiments.check_tracked(tmp_path)
    subprocess.run(["git", "add", "src"], cwd=tmp_path, check=True)
    experiments.check_tracked(tmp_path)


def test_a_worker_does_not_hold_what_its_starter_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker lives on; reading a pipe that it inherited would last as long as it does."""
    called: list[dict[str, Any]] = []

    def run(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        called.append(settings)
        return subprocess.CompletedProcess(command, 0 if len(called) == 1 else 3)

    monkeypatch.setattr(subprocess, "run", run)
    experiments._start_workers(tmp_path, 1)
    assert called[0]["stdout"] == called[0]["stderr"] == subprocess.DEVNULL
    with pytest.raises(ValueError, match="dvc queue start failed"):
        experiments._start_workers(tmp_path, 1)


def test_worlds_are_resampled_and_their_figures_kept(tmp_path: Path) -> None:
    """Each variant is a world: value by world, p, and limits for every number of comparisons."""
    text = STUDY.replace("evaluate@brainclip]", "evaluate@brainclip, describe_data]")
    text = text.replace("a: [image]", "a: [both, image]").replace("b: [both]", "b: [both, image]")
    text = text.replace("variants:", "same_pictures: false\nmeasure_world: true\nvariants:")
    text = text.replace("run_b: brainclip", "run_b: other").replace(
        "targets: [", "targets: [evaluate@other, "
    )
    study = write_study(tmp_path, text)
    metric = "retrieval.image_given_brain.top1"
    found_results = {}
    for k, variant in enumerate(study.variants):
        for seed in study.seeds.values:
            rng = np.random.default_rng((k, seed))
            base_I = rng.standard_normal(200)
            runs = {
                name: {
                    "subj01": Scores(
                        nsd_id_I=np.arange(200), per_image={metric: (base_I + up, np.ones(200))}
                    )
                }
                for name, up in (("brainclip", 0.1 * (k + 1)), ("other", 0.0))
            }
            found_results[variant, seed] = results.Result(
                params={
                    "evaluation": {"n_bootstrap": 200, "seed": 0},
                    "primary": {"outcomes": dict.fromkeys("abcd")},
                },
                metrics={"brainclip": {}, "other": {}},
                scores=runs,
                world={"noise.costs": {"value": float(k)}},
            )
    summary = results.summarise(study, found_results, "digest")
    found = summary["comparisons"][0]["metrics"][metric]
    assert found["worlds"]["image"]["value"] == pytest.approx(0.2)
    assert found["value"] == pytest.approx(0.15) and found["same_sign"] and found["p"] < 0.01
    assert set(found["limits"]) == {"1", "2", "3", "4"}
    assert [found["low"], found["high"]] == found["limits"]["1"] == pytest.approx([0.1, 0.2])
    assert summary["variants"]["image"]["world"] == {"noise.costs": {"value": 1.0}}
    for result in found_results.values():
        result.params["primary"]["outcomes"] = {}
    summary = results.summarise(study, found_results, "digest")
    assert set(summary["comparisons"][0]["metrics"][metric]["limits"]) == {"1"}
    with pytest.raises(ValueError, match="describe_data is not among the targets"):
        write_study(tmp_path, text.replace(", describe_data", ""))
    with pytest.raises(ValueError, match="which is not asked over several worlds"):
        write_study(tmp_path, text + "\nequivalence: 0.01\n")
