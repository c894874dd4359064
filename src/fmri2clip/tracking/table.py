"""The page that `make mlflow` opens: the experiment's table, with the columns that matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from fmri2clip.artefacts.headline import PAINTED, SCORES
from fmri2clip.tracking.store import opened, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEW = "scores"
PORT = 5000
PATIENCE = 120.0  # seconds until the server must answer
NAME = "attributes.`Run Name`"
METRICS = [f"metrics.`test/{name}`" for name in (*SCORES, *PAINTED)]
# What MLflow's page keeps of a table that somebody has arranged. Without it the page shows no score
# at all, without the kind an overview of language models.
STATE = {
    "selectedColumns": ["attributes.`Duration`", *METRICS],
    "columnOrder": [NAME, *METRICS],
    "columnWidths": {NAME: 240, **dict.fromkeys(METRICS, 135)},
    "searchFilter": "",
    "orderByKey": "attributes.start_time",  # rows are nested in this order only
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
}


def arrange(client: MlflowClient, store: str) -> str:
    """Keep the arrangement in the experiment; returns the page's place on a server."""
    client.set_experiment_tag(store, "mlflow.experimentKind", "custom_model_development")
    client.set_experiment_tag(store, f"mlflow.sharedViewState.{VIEW}", json.dumps(STATE))
    query = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return f"/#/experiments/{store}/runs?{query}"


def show(root: Path, experiment: str, port: int = PORT) -> None:
    """Open the experiment's table in a browser; of a local store until Ctrl-C ends the server."""
    with opened(root, experiment) as (client, store):
        place = arrange(client, store)
    uri = tracking_uri(root)
    if uri.startswith("http"):
        _open(f"{uri.rstrip('/')}{place}")
        return
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    # Its background jobs serve language models.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command += ["--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, env=environment) as server:
        try:
            if _answers(address, server):
                _open(f"{address}{place}")
            server.wait()
        except KeyboardInterrupt:
            server.terminate()
    if server.returncode > 0:
        raise ValueError(
            f"the MLflow server ended; is port {port} taken? Try make mlflow PORT=5001"
        )


def _answers(address: str, server: subprocess.Popen[bytes]) -> bool:
    """Whether the server has begun to answer; False if it ends, or is silent for too long."""
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return True
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    return False


def _open(url: str) -> None:
    print(f"the table of runs: {url}", flush=True)
    webbrowser.open(url)
