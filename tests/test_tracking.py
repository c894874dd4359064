from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fmri2clip import tracking
from fmri2clip.core import params as parameters

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="module")
def params() -> parameters.Params:
    return parameters.load(PARAMS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project root with an initialised store, shared because its creation takes seconds; tests
    differ by run name.
    """
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        tracking.init_store(root)
    return root


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def client(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def write_model(files: Path, run: str, weights: bytes = b"weights") -> Path:
    """What train and evaluate leave behind for one model."""
    folder = files / "models" / run / "subj01"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "config.yaml").write_text(
        "decoder: brainclip\nclip: mini\nseed: 3\nconfig:\n  lr: 0.001\n"
        "digests:\n  clip: d1\n  subj01:\n    betas: d2\n"
    )
    report = files / "reports" / "runs" / run
    report.mkdir(parents=True)
    (report / "curve.csv").write_text(
        "subject,epoch,loss,val_mean\nsubj02,0,9,9\nsubj01,0,2,\nsubj01,1,1.5,0.3\n"
    )
    metrics = {
        "retrieval": {"top1": 0.9},
        "subjects": {"subj01": {"retrieval": {"top1": 0.5}, "zero_shot": {"n_images": 12}}},
    }
    (report / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_uri_is_absolute_and_belongs_to_dvc_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/parent/project")
    assert tracking.tracking_uri(tmp_path) == "sqlite:////parent/project/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking.tracking_uri(tmp_path) == "http://server"


def test_training_is_recorded_once(store: Path, params: parameters.Params, tmp_path: Path) -> None:
    folder, curve = write_model(tmp_path, "once"), tmp_path / "reports/runs/once/curve.csv"
    first = tracking.log_training(folder, curve, params, {"train_s": 2.5}, store)
    assert first is not None and first == tracking.log_training(folder, curve, params, None, store)
    run = client(store).get_run(first)
    assert run.info.run_name == "once/subj01" and run.info.status == "FINISHED"
    assert run.data.params["config.lr"] == "0.001" and run.data.params["world.seed"] == str(
        params.world.seed
    )
    assert run.data.metrics == {"loss": 1.5, "val_mean": 0.3, "time/train_s": 2.5}
    expected = {
        "run": "once",
        "subject": "subj01",
        "restored": "false",
        "decoder": "brainclip",
        "dataset": "simulated",
    }
    assert expected.items() <= run.data.tags.items() and run.data.tags["input.subj01.betas"] == "d2"
    assert tracking.model_key(folder).items() <= run.data.tags.items()
    assert [(m.step, m.value) for m in client(store).get_metric_history(first, "loss")] == [
        (0, 2.0),
        (1, 1.5),
    ]


def test_experiments_of_equal_weights_are_apart(
    store: Path, params: parameters.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, curve = write_model(tmp_path, "apart"), tmp_path / "reports/runs/apart/curve.csv"
    monkeypatch.setenv("DVC_ROOT", str(store))
    ids = []
    for name in ("exp-a", "exp-b"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        ids.append(tracking.log_training(folder, curve, params))
    assert ids[0] != ids[1]
    assert tracking.find_run({"run": "apart", "dvc.exp.name": "exp-a"}, params, store) == ids[0]


def test_a_folder_without_weights_is_passed_over(
    store: Path, params: parameters.Params, tmp_path: Path
) -> None:
    assert tracking.log_training(tmp_path, tmp_path / "curve.csv", params, None, store) is None
    assert (
        tracking.log_test_metrics(tmp_path, tmp_path / "metrics.json", params, None, store) is None
    )


def test_artifacts_do_not_lie_in_the_working_directory(store: Path) -> None:
    experiment = client(store).get_experiment_by_name("fmri2clip")
    assert experiment.artifact_location == (store / "mlruns" / "fmri2clip").as_uri()


def test_sync_creates_what_is_missing_and_nothing_twice(
    store: Path, params: parameters.Params, tmp_path: Path
) -> None:
    write_model(tmp_path, "synced")
    (created,) = tracking.sync_from_files(store, params, files=tmp_path) or []
    assert tracking.sync_from_files(store, params, files=tmp_path) == []
    data = client(store).get_run(created).data
    assert data.tags["restored"] == "true"
    assert data.metrics == {
        "loss": 1.5,
        "val_mean": 0.3,
        "test/retrieval.top1": 0.5,
        "test/zero_shot.n_images": 12,
    }


def test_sync_finds_the_run_of_an_executed_training(
    store: Path, params: parameters.Params, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, "executed")
    run_id = tracking.log_training(
        folder, tmp_path / "reports/runs/executed/curve.csv", params, None, store
    )
    assert run_id is not None and tracking.sync_from_files(store, params, files=tmp_path) == []
    data = client(store).get_run(run_id).data
    assert data.tags["restored"] == "false" and data.metrics["test/retrieval.top1"] == 0.5


def test_sync_keeps_a_dvc_experiment_apart(
    store: Path, params: parameters.Params, tmp_path: Path
) -> None:
    write_model(tmp_path, "named")
    (plain,) = tracking.sync_from_files(store, params, files=tmp_path) or []
    (named,) = tracking.sync_from_files(store, params, files=tmp_path, exp_name="study-a-s0") or []
    assert plain != named and client(store).get_run(named).data.tags["dvc.exp.name"] == "study-a-s0"


def test_test_metrics_reach_the_run_of_the_model(
    store: Path, params: parameters.Params, tmp_path: Path
) -> None:
    folder, report = write_model(tmp_path, "scored"), tmp_path / "reports/runs/scored"
    assert tracking.log_test_metrics(folder, report / "metrics.json", params, None, store) is None
    run_id = tracking.log_training(folder, report / "curve.csv", params, None, store)
    assert run_id is not None
    assert (
        tracking.log_test_metrics(
            folder, report / "metrics.json", params, {"evaluate_s": 1.0}, store
        )
        == run_id
    )
    assert client(store).get_run(run_id).data.metrics["test/retrieval.top1"] == 0.5


def test_a_model_of_all_subjects_gets_the_overall_scores() -> None:
    metrics = {"a": {"b": 1, "c": 0.5}, "subjects": {"subj01": {"a": {"b": 2}}}}
    assert tracking.flatten_metrics(metrics, "shared") == {"test/a.b": 1.0, "test/a.c": 0.5}


def test_a_failure_warns(
    params: parameters.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = write_model(tmp_path, "failing"), tmp_path / "reports/runs/failing"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bogus://nowhere")
    for call in (tracking.log_training, tracking.log_test_metrics):
        with pytest.warns(UserWarning, match="not recorded in MLflow"):
            assert call(folder, report / "curve.csv", params, None, tmp_path) is None
    with pytest.raises(ValueError, match=r"the MLflow store bogus://nowhere cannot be used: "):
        tracking.sync_from_files(tmp_path, params)


@pytest.mark.parametrize("is_garbage", [True, False])
def test_a_store_that_cannot_be_used_is_said(
    is_garbage: bool, params: parameters.Params, store: Path, tmp_path: Path
) -> None:
    """Garbage, and the store of a newer MLflow: one line, and the file stays as it is."""
    write_model(tmp_path, "unwritten")
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
        tracking.sync_from_files(tmp_path, params)
    assert "\n" not in str(caught.value) and path.read_bytes() == before


def test_a_dead_lock_holder_costs_seconds(
    store: Path, params: parameters.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps the lock: training goes on, with the usual warning."""
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    folder = write_model(tmp_path, "locked")
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
                curve = tmp_path / "reports/runs/locked/curve.csv"
                assert tracking.log_training(folder, curve, params, None, store) is None
        finally:
            holder.kill()


@pytest.mark.slow
def test_four_at_once_create_each_run_once(params: parameters.Params, tmp_path: Path) -> None:
    """On a store that does not exist yet."""
    for number in range(4):
        write_model(tmp_path, f"run{number}")
    code = (
        "import sys; from pathlib import Path; from fmri2clip import tracking; "
        "from fmri2clip.core import params; tracking.PATIENCE = 60; "
        "tracking.sync_from_files(Path(sys.argv[1]), params.load(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(PARAMS)]
    several = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in several] == [0] * 4
    runs = client(tmp_path).search_runs(["1"])
    assert sorted(run.data.tags["run"] for run in runs) == ["run0", "run1", "run2", "run3"]
    assert all(run.data.metrics["test/retrieval.top1"] == 0.5 for run in runs)
