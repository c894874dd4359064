"""Set-up of all tests: two threads at most, no telemetry, no file in the working tree."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.transfer.s3_service import Service

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before numpy and torch are loaded
os.environ.update(
    DVC_NO_ANALYTICS="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MPLBACKEND="Agg"
)
os.environ.pop("DVC_ROOT", None)  # of a pipeline that started the tests
os.environ.pop("DVC_EXP_NAME", None)

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests.fork_server import fork_server  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


# Files that take longest: they come first, so that no worker is left alone with one at the end.
LONGEST = (
    "test_pipeline.py",
    "test_studies.py",
    "test_cluster.py",
    "test_plan.py",
    "test_gpu_check.py",
    "test_real_size.py",
    "test_fork_server.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first. A file is run by one worker (--dist loadfile), which makes its
    clones and plans once.
    """
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """What imports have made stays to the end: no collection needs to look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(autouse=True)
def _own_mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes to the MLflow store of the checkout, unless it sets its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="session")
def forks() -> Iterator[None]:
    """`call` of test_pipeline.py takes `python` and `dvc` from a fork_server.py that runs."""
    with fork_server() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORKS", str(folder))
        yield


@pytest.fixture
def serve_s3() -> Iterator[Callable[..., Service]]:
    """serve_s3(folder=None, bucket="natural-scenes-dataset") -> Service, closed after the test; see
    s3_service.py.
    """
    from tests.transfer.s3_service import s3_service  # moto takes a moment to import

    with ExitStack() as stack:

        def serve(folder: Path | None = None, bucket: str = "natural-scenes-dataset") -> Service:
            return stack.enter_context(s3_service(folder, bucket))

        yield serve
