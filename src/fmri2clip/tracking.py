"""MLflow as a view of the files: one run for each trained model, found again by its weights.

The only file that imports mlflow, and only when something is recorded. Files are the truth:
`models/<run>/<subject>/`, `reports/runs/<run>/curve.csv` and `metrics.json` hold everything that a
run shows, so `sync_from_files` can create the runs of stages that DVC restored without executing. A
failure here warns and never changes a result.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import functools
import hashlib
import json
import logging
import os
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ruamel.yaml import YAML

from fmri2clip.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

WEIGHTS = "weights.safetensors"
SECTIONS = (
    "dataset",
    "world",
    "norm",
    "labels",
    "evaluation",
)  # of params.yaml, shown beside a model's own settings
KEY = ("run", "subject", "weights_sha256")  # tags that identify a model
P = ParamSpec("P")
T = TypeVar("T")


def never_raises(function: Callable[P, T]) -> Callable[P, T | None]:
    """Turn any failure of `function` into a warning and None: tracking watches, it does not
    touch.
    """

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
    """The project that owns the store: DVC_ROOT, which in a queued experiment is the parent and not
    the temporary copy.

    Without it `root`, else the working directory.
    """
    return Path(os.environ.get("DVC_ROOT") or root or ".").resolve()


def tracking_uri(root: Path | None = None) -> str:
    """MLFLOW_TRACKING_URI if set, else SQLite in the project root: absolute, a relative one
    dies with a queued copy.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root(root)}/mlflow.db"


def init_store(root: Path | None = None, experiment: str = "fmri2clip") -> str:
    """Create the store and the experiment if need be and return the experiment's id.

    One process at a time: two that create the SQLite file at once die in a schema migration. The
    artifact location is given in full because MLflow freezes the working directory of whoever came
    first.
    """
    with _one_at_a_time(root):
        client = _client(root)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return str(found.experiment_id)
        local = tracking_uri(root).startswith("sqlite")
        location = (project_root(root) / "mlruns" / experiment).as_uri() if local else None
        return str(client.create_experiment(experiment, artifact_location=location))


@never_raises
def log_training(
    folder: Path,
    curve: Path,
    params: Params,
    timings: Mapping[str, float] | None = None,
    root: Path | None = None,
) -> str | None:
    """Record one trained model and return its MLflow run id; a model that is on record already is
    not recorded twice.

    folder: models/<run>/<subject>, complete; one without weights (its run has a model for all
    subjects) is passed over. curve: the run's curve.csv; timings: seconds by name, kept nowhere
    else.
    """
    if not (folder / WEIGHTS).is_file():
        return None
    key = model_key(folder) | _dvc("DVC_EXP_NAME")
    run_id = find_run(key, params, root) or _create(folder, curve, params, key, root)
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
    if not (folder / WEIGHTS).is_file():
        return None
    run_id = find_run(model_key(folder) | _dvc("DVC_EXP_NAME"), params, root)
    if run_id is not None:
        client = _client(root)
        _log_new_metrics(
            client, run_id, flatten_metrics(json.loads(metrics.read_text()), folder.name)
        )
        _log_points(client, run_id, _timing_points(timings))
    return run_id


def find_run(tags: Mapping[str, str], params: Params, root: Path | None = None) -> str | None:
    """Id of the newest MLflow run that has all these tags (`model_key` gives those of a model),
    or None.
    """
    store, query = (
        init_store(root, params.tracking.experiment),
        [f"tags.`{name}` = '{tags[name]}'" for name in tags],
    )
    runs = _client(root).search_runs([store], " and ".join(query), max_results=1)
    return str(runs[0].info.run_id) if runs else None


@never_raises
def sync_from_files(
    root: Path, params: Params, files: Path | None = None, exp_name: str = ""
) -> list[str]:
    """Create the MLflow runs that are missing for the models under `files` (default: root) and
    return their ids.

    They are tagged restored=true. Test metrics are added where the store lacks them. exp_name: DVC
    experiment that the files come from; its runs are kept apart from those of equal weights
    elsewhere. Models without a curve are skipped.
    """
    files, created = files or root, []
    for folder in sorted(path.parent for path in files.glob(f"models/*/*/{WEIGHTS}")):
        report = files / "reports" / "runs" / folder.parent.name
        if not (report / "curve.csv").is_file():
            continue
        key = model_key(folder) | ({"dvc.exp.name": exp_name} if exp_name else {})
        run_id = find_run(key, params, root)
        if run_id is None:
            run_id = _create(folder, report / "curve.csv", params, key | {"restored": "true"}, root)
            created.append(run_id)
        if (report / "metrics.json").is_file():
            metrics = json.loads((report / "metrics.json").read_text())
            _log_new_metrics(_client(root), run_id, flatten_metrics(metrics, folder.name))
    return created


def model_key(folder: Path) -> dict[str, str]:
    """Tags that identify the model in models/<run>/<subject>: run, subject, weights_sha256."""
    with (folder / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(zip(KEY, (folder.parent.name, folder.name, digest), strict=True))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def flatten_metrics(metrics: Mapping[str, Any], subject: str) -> dict[str, float]:
    """A subject's part of metrics.json as test/<dotted name>; the whole tree for a model that
    all subjects share.
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


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and tags of a model's config.yaml; the digests of its inputs become tags."""
    config = YAML(typ="safe").load(path.read_text())
    tags = {
        f"input.{name}": str(digest) for name, digest in flatten(config.pop("inputs", {})).items()
    }
    return flatten(config), {"decoder": str(config["decoder"]), "clip": str(config["clip"]), **tags}


def _client(root: Path | None) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(root))


@contextmanager
def _one_at_a_time(root: Path | None) -> Iterator[None]:
    with (project_root(root) / "mlflow.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create(
    folder: Path, curve: Path, params: Params, tags: Mapping[str, str], root: Path | None
) -> str:
    from mlflow.entities import Param

    client, store = _client(root), init_store(root, params.tracking.experiment)
    settings, described = read_config(folder / "config.yaml")
    context = flatten(
        {name: part for name, part in dataclasses.asdict(params).items() if name in SECTIONS}
    )
    tags = {**_origin(), "dataset": params.dataset.source, **described, **tags}
    run_id = str(
        client.create_run(store, run_name=f"{tags['run']}/{tags['subject']}", tags=tags).info.run_id
    )
    entries = [Param(name, str(value)[:6000]) for name, value in (context | settings).items()]
    for i in range(0, len(entries), 100):  # MLflow takes at most 100 params a call
        client.log_batch(run_id, params=entries[i : i + 100])
    rows = read_curve(curve, folder.name)
    _log_points(
        client,
        run_id,
        [(n, v, int(row["epoch"])) for row in rows for n, v in row.items() if n != "epoch"],
    )
    client.set_terminated(run_id)
    return run_id


def _log_new_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    known = client.get_run(run_id).data.metrics
    _log_points(
        client,
        run_id,
        [(name, value, 0) for name, value in metrics.items() if known.get(name) != value],
    )


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
    """What DVC tells its commands, as tags: DVC_EXP_NAME becomes dvc.exp.name; variables not
    set are left out.
    """
    return {
        name.lower().replace("_", ".", 2): os.environ[name]
        for name in variables
        if os.environ.get(name)
    }


def _origin() -> dict[str, str]:
    """Where the files come from: DVC experiment and stage, git commit (under `dvc exp run` the
    baseline).
    """
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    commit = {"git_commit": git.stdout.strip()} if git.returncode == 0 else {}
    return _dvc("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE") | commit
