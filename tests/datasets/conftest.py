"""Fixtures of the tests of datasets: a local S3 service, started once for each test process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.datasets.s3_service import Service


@pytest.fixture
def serve_s3() -> Iterator[Callable[..., Service]]:
    """serve_s3(folder=None, bucket="natural-scenes-dataset") -> Service, closed after the test;
    see s3_service.py.
    """
    from tests.datasets.s3_service import s3_service  # moto takes a moment to import

    with ExitStack() as stack:

        def serve(folder: Path | None = None, bucket: str = "natural-scenes-dataset") -> Service:
            return stack.enter_context(s3_service(folder, bucket))

        yield serve
