"""Runs on record: one a trained run, one below it a subject, found again, by real MLflow stores."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from fmri2clip.tracking import record
from fmri2clip.tracking import store as tracking_store
from tests.tracking.trained_run import PARAMS, load_params, write, write_run

TIMES = {"subj01": (1000.0, 1060.0), "subj02": (1100.0, 1150.5)}


def client(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def search(root: Path, query: str) -> list[Run]:
    return list(client(root).search_runs(["1"], query))


def children(root: Path, run_id: str) -> dict[str, Run]:
    found = search(root, f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {run.info.run_name: run for run in found}


def test_uri_is_absolute_and_belongs_to_dvc_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/parent/project")
    assert tracking_store.tracking_uri(tmp_path) == "sqlite:////parent/project/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking_store.tracking_uri(tmp_path) == "http://server"


def test_a_training_is_a_run_with_its_subjects_below(store: Path, tmp_path: Path) -> None:
    """Times are those of the training; the mean over subjects stands above the curves."""
    params, paths = load_params("once"), write_run(tmp_path, "once")
    run_id = record.log_training(params, "once", TIMES, paths, store)
    assert run_id and run_id == record.log_training(params, "once", {}, paths, store)
    parent = client(store).get_run(run_id)
    assert parent.info.run_name == "once" and parent.info.status == "FINISHED"
    assert (parent.info.start_time, parent.info.end_time) == (1_000_000, 1_150_500)
    assert parent.data.metrics == {"val/mean": 30.0}
    assert parent.data.params["config.lr"] == "0.001"
    assert parent.data.params["world.seed"] == str(params.world.seed)
    expected = {"run": "once", "variant": "default", "restored": "false", "decoder": "brainclip"}
    assert expected.items() <= parent.data.tags.items()
    assert len(parent.data.tags["mlflow.source.git.commit"]) == 40
    assert "2 subjects, a model each" in parent.data.tags["mlflow.note.content"]
    below = children(store, run_id)
    assert set(below) == {"subj01", "subj02"}
    own = below["subj02"]
    assert (own.info.start_time, own.info.end_time) == (1_100_000, 1_150_500)
    assert own.data.params["n_training_images.subj02"] == "90"
    assert own.data.metrics == {"train/loss": 1.0, "val/loss": 0.35, "val/mean": 30.0}
    history = client(store).get_metric_history(own.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 1.0)]


def test_data_are_inputs_with_their_digests(store: Path, tmp_path: Path) -> None:
    paths = write_run(tmp_path, "fed")
    run_id = record.log_training(load_params("fed"), "fed", TIMES, paths, store)
    inputs = client(store).get_run(run_id or "").inputs.dataset_inputs
    assert {(i.dataset.name, i.dataset.digest) for i in inputs} == {
        (f"NSD simulated subj0{n}", str(n) * 36) for n in (1, 2)
    }
    assert all('"clip": "ccc' in i.dataset.profile for i in inputs)


def test_scores_and_files_come_with_evaluate(store: Path, tmp_path: Path) -> None:
    params, paths = load_params("scored"), write_run(tmp_path, "scored")
    assert record.log_scores(params, "scored", paths, store) is None, "not on record"
    run_id = record.log_training(params, "scored", TIMES, paths, store) or ""
    assert record.log_scores(params, "scored", paths, store) == run_id
    parent = client(store).get_run(run_id)
    assert parent.data.metrics == {"val/mean": 30.0, "test/image_top1": 55.0}
    assert children(store, run_id)["subj02"].data.metrics["test/image_top1"] == 60.0
    folder = store / "mlruns/fmri2clip" / run_id / "artifacts"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()}
    assert found == {"metrics.json", "curve.csv", "config/subj01.yaml", "config/subj02.yaml"}
    assert (folder / "metrics.json").read_bytes() == paths.metrics("scored").read_bytes()


def test_a_model_for_all_has_the_curve_and_its_subjects_have_scores(
    store: Path, tmp_path: Path
) -> None:
    params, paths = load_params("all"), write_run(tmp_path, "all", shared=True)
    (run_id,) = record.sync(params, paths, store)
    below = children(store, run_id)
    assert set(below) == {"shared", "subj01", "subj02"}
    assert set(below["shared"].data.metrics) == {"train/loss", "val/loss", "val/mean"}
    assert below["subj01"].data.metrics == {"test/image_top1": 50.0}
    assert "one model for all" in client(store).get_run(run_id).data.tags["mlflow.note.content"]


def test_sync_creates_what_is_missing_and_nothing_twice(store: Path, tmp_path: Path) -> None:
    """A restored run says so and has no duration; the report comes with it."""
    params, paths = load_params("synced"), write_run(tmp_path, "synced")
    (run_id,) = record.sync(params, paths, store)
    write(paths.reports / "html" / "index.html", "<html>")
    assert record.sync(params, paths, store) == []
    run = client(store).get_run(run_id)
    assert run.data.tags["restored"] == "true" and run.info.end_time is None
    assert run.data.metrics == {"val/mean": 30.0, "test/image_top1": 55.0}
    folder = store / "mlruns/fmri2clip" / run_id / "artifacts"
    assert (folder / "report/index.html").read_text() == "<html>"
    assert len(client(store).get_metric_history(run_id, "test/image_top1")) == 1
    write(paths.metrics("synced"), '{"retrieval": {"image_given_brain": {"top1": 0.7}}}')
    record.sync(params, paths, store)
    assert client(store).get_run(run_id).data.metrics["test/image_top1"] == 70.0


def test_a_dvc_experiment_is_a_variant_that_differs_by_one_parameter(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal weights or not: runs of an experiment are kept apart from those of another."""
    paths = write_run(tmp_path, "varied")
    (plain,) = record.sync(load_params("varied"), paths, store)
    changed = load_params("varied", seed=77)
    (named,) = record.sync(changed, paths, store, variant="study-a-s0")
    monkeypatch.setenv("DVC_EXP_NAME", "study-a-s0")
    assert record.log_training(changed, "varied", TIMES, paths, store) == named != plain
    one, two = (client(store).get_run(run_id).data.params for run_id in (plain, named))
    assert {name for name in one if one[name] != two[name]} == {"world.seed"}
    assert client(store).get_run(named).info.run_name == "varied (study-a-s0)"


def test_what_a_killed_process_began_is_begun_anew(store: Path, tmp_path: Path) -> None:
    params, paths = load_params("killed"), write_run(tmp_path, "killed")
    (run_id,) = record.sync(params, paths, store)
    (child, _) = children(store, run_id).values()
    for own in (run_id, child.info.run_id):
        client(store).update_run(own, status="RUNNING")
    (again,) = record.sync(params, paths, store)
    assert again != run_id and len(children(store, again)) == 2
    assert {run.info.run_id for run in search(store, "tags.run = 'killed'")} == {
        again,
        *(run.info.run_id for run in children(store, again).values()),
    }


def test_a_failure_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, paths = load_params("failing"), write_run(tmp_path, "failing")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bogus://nowhere")
    with pytest.warns(UserWarning, match="not recorded in MLflow"):
        assert record.log_training(params, "failing", TIMES, paths, tmp_path) is None
    with pytest.warns(UserWarning, match="not recorded in MLflow"):
        assert record.log_scores(params, "failing", paths, tmp_path) is None
    with pytest.raises(ValueError, match=r"the MLflow store bogus://nowhere cannot be used: "):
        record.sync(params, paths, tmp_path)


@pytest.mark.parametrize("is_garbage", [True, False])
def test_a_store_that_cannot_be_used_is_said(is_garbage: bool, store: Path, tmp_path: Path) -> None:
    """Garbage, and the store of a newer MLflow: one line, and the file stays as it is."""
    paths = write_run(tmp_path, "unwritten")
    path = tmp_path / "mlflow.db"
    if is_garbage:
        path.write_bytes(b"no database " * 1000)
    else:
        shutil.copy(store / "mlflow.db", path)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = path.read_bytes()
    reason = "file is not a database" if is_garbage else "database schema"
    with pytest.raises(ValueError, match=rf"mlflow\.db cannot be used: .*{reason}") as caught:
        record.sync(load_params("unwritten"), paths, tmp_path)
    assert "\n" not in str(caught.value) and path.read_bytes() == before


def test_a_dead_lock_holder_costs_seconds(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps the lock: training goes on, with the usual warning."""
    monkeypatch.setattr(tracking_store, "PATIENCE", 0.5)
    paths = write_run(tmp_path, "locked")
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(store / "mlflow.db.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            with pytest.warns(UserWarning, match=r"another process holds .*mlflow\.db\.lock"):
                params = load_params("locked")
                assert record.log_training(params, "locked", TIMES, paths, store) is None
        finally:
            holder.kill()


@pytest.mark.slow
def test_four_at_once_create_each_run_once(tmp_path: Path) -> None:
    """On a store that does not exist yet."""
    for run in ("run0", "run1"):
        write_run(tmp_path, run)
    code = (
        "import sys; from pathlib import Path; from fmri2clip.artefacts.paths import Paths; "
        "from fmri2clip.tracking import record, store; "
        "from tests.tracking.trained_run import load_params; store.PATIENCE = 120; "
        "root = Path(sys.argv[1]); "
        "record.sync(load_params('run0', 'run1'), Paths(root), root)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    path = os.pathsep.join(["src", "."])
    environment = {**os.environ, "PYTHONPATH": path}
    several = [subprocess.Popen(command, cwd=PARAMS.parent, env=environment) for _ in range(4)]
    assert [process.wait(300) for process in several] == [0] * 4
    parents = search(tmp_path, "tags.variant = 'default' and tags.restored = 'true'")
    assert sorted(run.data.tags["run"] for run in parents) == ["run0", "run1"]
    assert all(run.data.metrics["test/image_top1"] == 55.0 for run in parents)
    assert len(search(tmp_path, "")) == 6
