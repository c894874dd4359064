"""A real MLflow server on loopback: the same view through HTTP, and the page that opens."""

from __future__ import annotations

import dataclasses
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fmri2clip.core.params import Tracking
from fmri2clip.tracking import record, table
from tests.tracking.trained_run import load_params, write_run

SETTINGS = {
    "_MLFLOW_SERVER_FILE_STORE": "sqlite:///{root}/mlflow.db",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "file://{root}/artifacts",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
}


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[str]:
    """Address of what `mlflow server` runs, in a thread, with the store that is there already."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value.format(root=store))
        from mlflow.server import app
        from werkzeug.serving import make_server

        serving = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{serving.server_port}"
        # Behind its first answer the server has set MLFLOW_TRACKING_URI to its own store.
        MlflowClient(tracking_uri=address).search_experiments()
        yield address
        serving.shutdown()
        thread.join()


def test_a_server_has_runs_artifacts_and_the_page_that_opens(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    params = dataclasses.replace(load_params("far"), tracking=Tracking(experiment="remote"))
    paths = write_run(tmp_path, "far")
    run_id = record.log_training(params, "far", {"subj01": (5.0, 7.5)}, paths, tmp_path)
    assert run_id is not None and record.log_scores(params, "far", paths, tmp_path) == run_id
    assert record.sync(params, paths, tmp_path) == []
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("remote")
    run = client.get_run(run_id)
    assert (run.info.start_time, run.info.end_time) == (5000, 7500)
    assert run.data.metrics["test/image_top1"] == 55.0
    (child, other) = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    assert {child.info.end_time, other.info.end_time} == {7500, None}
    assert json.loads(
        Path(client.download_artifacts(run_id, "metrics.json", str(tmp_path))).read_text()
    ) == json.loads(paths.metrics("far").read_text())

    opened: list[str] = []
    monkeypatch.setattr(table.webbrowser, "open", opened.append)
    table.show(tmp_path, params.tracking.experiment)
    page, _, place = opened[0].partition("/#")
    assert page == server and place.startswith(f"/experiments/{experiment.experiment_id}/runs?")
    tags = client.get_experiment(experiment.experiment_id).tags
    state = json.loads(tags[f"mlflow.sharedViewState.{table.VIEW}"])
    assert f"viewStateShareKey={table.VIEW}" in place
    assert {"metrics.`test/image_top1`", "metrics.`test/painted_clip`"} <= set(
        state["selectedColumns"]
    )
    with urllib.request.urlopen(f"{server}/health", timeout=5) as answer:
        assert answer.status == 200
