"""One MLflow run for each trained run, with one below it for each subject.

A run is found again by the digest of its weights and the name of its variant. It is written whole,
by one process at a time; what is on record stays as it is.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fmri2clip.core.files import sha256_file
from fmri2clip.tracking.content import (
    DEFAULT,
    Point,
    Trained,
    find_key,
    list_counts,
    list_data,
    list_files,
    list_settings,
    list_tags,
    read_curve,
    read_last,
    read_scores,
)
from fmri2clip.tracking.store import connect, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Unix seconds at which the training of each model began and ended, of those that were trained.
Times = Mapping[str, tuple[float, float]]
FILES = "artifacts_sha256"  # tag: what they were when they were logged
PARENT = "mlflow.parentRunId"
FINISHED = "FINISHED"


def find_or_create(
    trained: Trained, variant: str, times: Times, root: Path | None = None
) -> tuple[str, bool]:
    """Id of the MLflow run of a trained run, and whether it is new.

    times: empty for a run that DVC restored; it is tagged so, and has no duration.
    """
    key = find_key(trained, variant)
    with opened(root, trained.params.tracking.experiment) as (client, store):
        for run in _search(client, store, key):
            if run.info.status == FINISHED:
                return str(run.info.run_id), False
            # Begun by a process that was killed: only the holder of the lock may think so.
            for own in [*_search(client, store, {PARENT: run.info.run_id}), run]:
                client.delete_run(own.info.run_id)
        return _create(client, store, trained, key, times), True


def add_scores(
    trained: Trained, variant: str, with_report: bool, root: Path | None = None
) -> str | None:
    """Add what later stages have made of a run that is on record: test scores and artifacts.

    Returns its id; None if it is not on record, `sync` creates it then.
    """
    client = connect(root)
    run, below = _find(client, trained, variant)
    if run is None:
        return None
    _log_new(client, run, read_scores(trained))
    for child in below:
        _log_new(client, child, read_scores(trained, child.info.run_name or ""))
    _log_files(client, run, list_files(trained, with_report))
    return str(run.info.run_id)


def find_children(client: MlflowClient, trained: Trained, variant: str) -> dict[str, str]:
    """Name -> id of the runs below the one of a trained run; none if it is not on record."""
    _, below = _find(client, trained, variant)
    return {child.info.run_name or "": child.info.run_id for child in below}


def _find(client: MlflowClient, trained: Trained, variant: str) -> tuple[Run | None, list[Run]]:
    """The finished run and those below it."""
    experiment = client.get_experiment_by_name(trained.params.tracking.experiment)
    if experiment is None:
        return None, []
    store = experiment.experiment_id
    for run in _search(client, store, find_key(trained, variant)):
        if run.info.status == FINISHED:
            return run, _search(client, store, {PARENT: run.info.run_id})
    return None, []


def _search(client: MlflowClient, store: str, tags: Mapping[str, str]) -> list[Run]:
    """Runs with these tags, the newest first."""
    query = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    return list(client.search_runs([store], " and ".join(query)))


def _create(
    client: MlflowClient, store: str, trained: Trained, key: Mapping[str, str], times: Times
) -> str:
    variant = key["variant"]
    common = {**list_tags(trained, variant), **key, "restored": str(not times).lower()}
    name = trained.run if variant == DEFAULT else f"{trained.run} ({variant})"
    span = (min(t[0] for t in times.values()), max(t[1] for t in times.values())) if times else None
    run_id = _begin(client, store, name, common, span)
    _log_settings(client, run_id, list_settings(trained))
    _log_data(client, run_id, list_data(trained))
    # A model for all subjects has the curve; each of them has scores of its own.
    for child in dict.fromkeys([*trained.models, *trained.subjects]):
        tags = {"run": trained.run, "variant": variant, PARENT: run_id}
        own = _begin(client, store, child, tags, times.get(child))
        if child in trained.models:
            _log_settings(client, own, list_counts(trained.models[child]))
            _log_data(client, own, list_data(trained, child))
            _log_points(client, own, read_curve(trained.paths.curve(trained.run), child))
        _finish(client, own, times.get(child))
    _log_points(client, run_id, [(name, value, 0) for name, value in read_last(trained).items()])
    _finish(client, run_id, span)
    return run_id


def _begin(
    client: MlflowClient,
    store: str,
    name: str,
    tags: Mapping[str, str],
    span: tuple[float, float] | None,
) -> str:
    start = int(1000 * span[0]) if span else None
    return str(client.create_run(store, start, dict(tags), name).info.run_id)


def _finish(client: MlflowClient, run_id: str, span: tuple[float, float] | None) -> None:
    if span:
        client.set_terminated(run_id, end_time=int(1000 * span[1]))
    else:
        # Without an end MLflow shows no duration.
        client.update_run(run_id, status=FINISHED)


def _log_settings(client: MlflowClient, run_id: str, settings: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(name, value) for name, value in settings.items()]
    for i in range(0, len(entries), 100):  # MLflow takes at most 100 params a call
        client.log_batch(run_id, params=entries[i : i + 100])


def _log_data(client: MlflowClient, run_id: str, data: Iterable[Mapping[str, str]]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = [InputTag("mlflow.data.context", "training")]
    inputs = [DatasetInput(Dataset(**fields), context) for fields in data]
    client.log_inputs(run_id, inputs)


def _log_new(client: MlflowClient, run: Run, metrics: Mapping[str, float]) -> None:
    known = run.data.metrics
    new = [(name, value, 0) for name, value in metrics.items() if known.get(name) != value]
    _log_points(client, run.info.run_id, new)


def _log_points(client: MlflowClient, run_id: str, points: Iterable[Point]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(name, value, now, step) for name, value, step in points]
    for i in range(0, len(entries), 1000):  # and at most 1000 metrics
        client.log_batch(run_id, metrics=entries[i : i + 1000])


def _log_files(client: MlflowClient, run: Run, files: Mapping[str, Path]) -> None:
    """Log the artifacts, unless they are on record as they are."""
    lines = [f"{name} {sha256_file(path)}\n" for name, path in files.items()]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    if run.data.tags.get(FILES) == digest:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, Path(folder) / name)
        client.log_artifacts(run.info.run_id, folder)
    client.set_tag(run.info.run_id, FILES, digest)
