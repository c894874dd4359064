"""The MLflow store of a project: where it lies, and one process at a time in it."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fmri2clip.core.files import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 30.0  # seconds for others who write to the store
DESCRIPTION = "mlflow.note.content"  # tag whose text the UI shows
ABOUT = """Decoders from fMRI responses to CLIP embeddings, trained and tested by the DVC pipeline \
of this project.

A row is a training run of params.yaml (`models/<run>`), the rows below it are its subjects. \
Numbers named `test/` are of the sealed test images, in percent (`painted_pixcorr` is a \
correlation), means over the subjects; their 95 % intervals stand in the artifact metrics.json. \
`train/` and `val/` are curves, by epoch. The column *variant* is `default`, or the name of the \
DVC experiment that the run belongs to. Files are the truth: `make mlflow` adds what is missing \
here."""
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


@contextmanager
def named_failures(root: Path | None) -> Iterator[None]:
    """What MLflow raises becomes a ValueError that names the store and says what to do."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise ValueError(
            f"the MLflow store {tracking_uri(root)} cannot be used: {reason[0]} (move a broken one "
            "aside: runs come back from the files; else set MLFLOW_TRACKING_URI)"
        ) from error


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
    """Create the store and the experiment if need be and return the experiment's id."""
    with opened(root, experiment) as (_, store):
        return store


@contextmanager
def opened(root: Path | None, experiment: str) -> Iterator[tuple[MlflowClient, str]]:
    """A client and the id of the experiment, created if need be, for one process at a time.

    Two that create the SQLite file at once die in a schema migration; two that look for a run and
    do not find it would both create it.
    """
    import mlflow  # noqa: F401  its import takes seconds, for which nobody should wait

    lock = project_root(root) / "mlflow.db.lock"
    otherwise = (
        f"another process holds {lock} for more than {PATIENCE:.0f} s; end it (`fuser {lock}` "
        "names it), then `make mlflow` adds what is missing"
    )
    with locked(lock, PATIENCE, otherwise):
        client = connect(root)
        yield client, _open_experiment(client, root, experiment)


def connect(root: Path | None) -> MlflowClient:
    """A client of the store, with MLflow's own chatter and patience reduced."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # A server that is gone costs seconds; MLflow's own limits add up to many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(root))


def _open_experiment(client: MlflowClient, root: Path | None, experiment: str) -> str:
    """Id of the experiment.

    The artifact location is given in full because MLflow freezes the working directory of whoever
    came first.
    """
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        if DESCRIPTION not in found.tags:  # of a store that was made without
            client.set_experiment_tag(found.experiment_id, DESCRIPTION, ABOUT)
        return str(found.experiment_id)
    local = tracking_uri(root).startswith("sqlite")
    location = (project_root(root) / "mlruns" / experiment).as_uri() if local else None
    return str(client.create_experiment(experiment, location, {DESCRIPTION: ABOUT}))
