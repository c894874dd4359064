"""MLflow as a view of the files: one run for each trained model, found again by its weights.

The only file that imports mlflow, and only when something is recorded. Files are the truth:
`models/<run>/<subject>/`, `reports/runs/<run>/curve.csv` and `metrics.json` hold everything that a
run shows, so `sync_from_files` can create the runs of stages that DVC restored without executing. A
failure here warns and never changes a result.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import logging
import os
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fmri2clip.artefacts.model import (
    has_weights,
    list_models,
    read_description,
    read_digests,
    weights_sha256,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.files import flatten, locked
from fmri2clip.core.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Of params.yaml, shown beside a model's own settings.
SECTIONS = ("dataset", "world", "norm", "labels", "evaluation")
PATIENCE = 10.0  # seconds for others who create something in the store
KEY = ("run", "subject", "weights_sha256")  # tags that identify a model
P = ParamSpec("P")
T = TypeVar("T")


def never_raises(function: Callable[P, T]) -> Callable[P, T | None]:
    """Turn any failure of `function` into a warning and None: tracking watches, never touches."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"not recorded in MLflow ({function.__name__}): {reason}", stacklevel=2)
            return None

    return guarded


def project_root(root: Path | None = None) -> Path:
    """The project that owns the store.

    DVC_ROOT, which in a queued experiment is the parent and not the temporary copy. Without it
    `root`, else the working directory.
    """
    return Path(os.environ.get("DVC_ROOT") or root or ".").resolve()


def tracking_uri(root: Path | None = None) -> str:
    """MLFLOW_TRACKING_URI if set, else SQLite in the project root.

    The path is absolute: a relative one dies with a queued copy.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root(root)}/mlflow.db"


def init_store(root: Path | None = None, experiment: str = "fmri2clip") -> str:
    """Create the store and the experiment if need be and return the experiment's id.

    One process at a time: two that create the SQLite file at once die in a schema migration. The
    artifact location is given in full because MLflow freezes the working directory of whoever came
    first.
    """
    with _one_at_a_time(root):
        return _open_experiment(_client(root), root, experiment)


@never_raises
def log_training(
    folder: Path,
    curve: Path,
    params: Params,
    timings: Mapping[str, float] | None = None,
    root: Path | None = None,
) -> str | None:
    """Record one trained model and return its MLflow run id; what is on record stays as it is.

    folder: models/<run>/<subject>, complete; one without weights (its run has a model for all
    subjects) is passed over. curve: the run's curve.csv; timings: seconds by name, kept nowhere
    else.
    """
    if not has_weights(folder):
        return None
    key = model_key(folder) | _dvc("DVC_EXP_NAME")
    run_id, _ = _find_or_create(folder, curve, params, key, root)
    client = _client(root)
    client.set_tag(run_id, "restored", "false")
    _log_points(client, run_id, _timing_points(timings))
    return run_id


@never_raises
def log_test_metrics(
    folder: Path,
    metrics: Path,
    params: Params,
    timings: Mapping[str, float] | None = None,
    root: Path | None = None,
) -> str | None:
    """Add the subject's part of metrics.json to the model's MLflow run and return the id.

    None, and nothing recorded, if the folder has no weights or the model no run: `sync_from_files`
    creates that later.
    """
    if not has_weights(folder):
        return None
    run_id = find_run(model_key(folder) | _dvc("DVC_EXP_NAME"), params, root)
    if run_id is not None:
        client = _client(root)
        tree = json.loads(metrics.read_text())
        _log_new_metrics(client, run_id, flatten_metrics(tree, folder.name))
        _log_points(client, run_id, _timing_points(timings))
    return run_id


def find_run(tags: Mapping[str, str], params: Params, root: Path | None = None) -> str | None:
    """Id of the newest MLflow run that has all these tags, or None.

    `model_key` gives the tags of a model.
    """
    return _find(_client(root), init_store(root, params.tracking.experiment), tags)


def sync_from_files(
    root: Path, params: Params, files: Path | None = None, exp_name: str = ""
) -> list[str]:
    """Create the MLflow runs that models under `files` lack and return their ids.

    The runs are tagged restored=true. Test metrics are added where the store lacks them. files: by
    default root. exp_name: DVC experiment that the files come from; its runs are kept apart from
    those of equal weights elsewhere. Models without a curve are skipped. Raises ValueError for a
    store that cannot be used.
    """
    try:
        return _sync(root, params, files or root, exp_name)
    except ValueError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise ValueError(
            f"the MLflow store {tracking_uri(root)} cannot be used: {reason[0]} (move a broken one "
            "aside: runs come back from the files; else set MLFLOW_TRACKING_URI)"
        ) from error


def _sync(root: Path, params: Params, files: Path, exp_name: str) -> list[str]:
    created = []
    runs = sorted(Paths(files).models.glob("*"))
    for folder in [folder for run in runs for folder in list_models(run)]:
        report = files / "reports" / "runs" / folder.parent.name
        if not (report / "curve.csv").is_file():
            continue
        key = model_key(folder) | ({"dvc.exp.name": exp_name} if exp_name else {})
        further = {"restored": "true"}
        run_id, is_new = _find_or_create(folder, report / "curve.csv", params, key, root, further)
        if is_new:
            created.append(run_id)
        if (report / "metrics.json").is_file():
            metrics = json.loads((report / "metrics.json").read_text())
            _log_new_metrics(_client(root), run_id, flatten_metrics(metrics, folder.name))
    return created


def model_key(folder: Path) -> dict[str, str]:
    """Tags that identify the model in models/<run>/<subject>: run, subject, weights_sha256."""
    values = (folder.parent.name, folder.name, weights_sha256(folder))
    return dict(zip(KEY, values, strict=True))


def flatten_metrics(metrics: Mapping[str, Any], subject: str) -> dict[str, float]:
    """A subject's part of metrics.json as test/<dotted name>.

    The whole tree for a model that all subjects share.
    """
    tree = metrics.get("subjects", {}).get(subject) or {
        name: part for name, part in metrics.items() if name != "subjects"
    }
    return {
        f"test/{name}": float(value)
        for name, value in flatten(tree).items()
        if isinstance(value, int | float)
    }


def read_curve(path: Path, subject: str) -> list[dict[str, float]]:
    """Rows of `subject` in curve.csv, empty cells left out."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["subject"] == subject]
    return [
        {name: float(cell) for name, cell in row.items() if name != "subject" and cell}
        for row in rows
    ]


def describe_model(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and tags of a model; the digests of its inputs become tags input.<name>."""
    description = read_description(folder)
    description.pop("digests")
    tags = {f"input.{name}": digest for name, digest in read_digests(folder).items()}
    named = {name: str(description[name]) for name in ("decoder", "clip")}
    return flatten(description), named | tags


def _client(root: Path | None) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # A server that is gone costs seconds; MLflow's own limits add up to many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(root))


def _one_at_a_time(root: Path | None) -> AbstractContextManager[None]:
    """Held while a client is made, too: the first one creates the tables of an SQLite store."""
    import mlflow  # noqa: F401  its import takes seconds, for which nobody should wait

    lock = project_root(root) / "mlflow.db.lock"
    return locked(
        lock,
        PATIENCE,
        f"another process holds {lock} for more than {PATIENCE:.0f} s; end it (`fuser {lock}` "
        "names it), then `make mlflow` adds what is missing",
    )


def _open_experiment(client: MlflowClient, root: Path | None, experiment: str) -> str:
    """Id of the experiment, created if need be. The caller holds the lock."""
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return str(found.experiment_id)
    local = tracking_uri(root).startswith("sqlite")
    location = (project_root(root) / "mlruns" / experiment).as_uri() if local else None
    return str(client.create_experiment(experiment, artifact_location=location))


def _find(client: MlflowClient, store: str, tags: Mapping[str, str]) -> str | None:
    query = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    runs = client.search_runs([store], " and ".join(query), max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _find_or_create(
    folder: Path,
    curve: Path,
    params: Params,
    key: Mapping[str, str],
    root: Path | None,
    further: Mapping[str, str] | None = None,
) -> tuple[str, bool]:
    """Id of the model's run, and whether it is new. key: tags that find it; further: of a new one.

    Looked for and created under one lock: of two processes, the second finds the first one's.
    """
    settings, described = describe_model(folder)
    tags = {**_origin(), "dataset": params.dataset.source, **described, **key, **(further or {})}
    with _one_at_a_time(root):
        client = _client(root)
        store = _open_experiment(client, root, params.tracking.experiment)
        run_id = _find(client, store, key)
        if run_id is not None:
            return run_id, False
        run_name = f"{tags['run']}/{tags['subject']}"
        run_id = str(client.create_run(store, run_name=run_name, tags=tags).info.run_id)
    _fill(client, run_id, read_curve(curve, folder.name), settings, params)
    return run_id, True


def _fill(
    client: MlflowClient,
    run_id: str,
    rows: Sequence[Mapping[str, float]],
    settings: dict[str, Any],
    params: Params,
) -> None:
    """Log settings and curve of a new run, and end it."""
    from mlflow.entities import Param

    sections = dataclasses.asdict(params)
    context = flatten({name: part for name, part in sections.items() if name in SECTIONS})
    entries = [Param(name, str(value)[:6000]) for name, value in (context | settings).items()]
    for i in range(0, len(entries), 100):  # MLflow takes at most 100 params a call
        client.log_batch(run_id, params=entries[i : i + 100])
    points = [
        (name, value, int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name != "epoch"
    ]
    _log_points(client, run_id, points)
    client.set_terminated(run_id)


def _log_new_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    known = client.get_run(run_id).data.metrics
    new = [(name, value, 0) for name, value in metrics.items() if known.get(name) != value]
    _log_points(client, run_id, new)


def _log_points(
    client: MlflowClient, run_id: str, points: Sequence[tuple[str, float, int]]
) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(name, value, now, step) for name, value, step in points]
    for i in range(0, len(entries), 1000):  # and at most 1000 metrics
        client.log_batch(run_id, metrics=entries[i : i + 1000])


def _timing_points(timings: Mapping[str, float] | None) -> list[tuple[str, float, int]]:
    return [(f"time/{name}", seconds, 0) for name, seconds in (timings or {}).items()]


def _dvc(*variables: str) -> dict[str, str]:
    """DVC's variables as tags: DVC_EXP_NAME becomes dvc.exp.name; those not set are left out."""
    return {
        name.lower().replace("_", ".", 2): os.environ[name]
        for name in variables
        if os.environ.get(name)
    }


def _origin() -> dict[str, str]:
    """Where the files come from: DVC experiment and stage, and git commit.

    Under `dvc exp run` the commit is the baseline.
    """
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    commit = {"git_commit": git.stdout.strip()} if git.returncode == 0 else {}
    return _dvc("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE") | commit
