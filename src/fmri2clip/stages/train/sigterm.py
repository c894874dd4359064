"""SIGTERM as a request to stop at the next border: clusters send it before a time limit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_received: list[list[int]] = []  # of the block that is open in this process: none, or one list


@contextmanager
def heed_sigterm() -> Iterator[list[int]]:
    """A list that SIGTERM fills, instead of ending the process, while the block runs.

    A block inside of another one has the list of the outer one, so nothing that came between two
    inner blocks is lost. Python lets only the main thread handle signals; elsewhere the signal ends
    the process as ever.
    """
    if _received:
        yield _received[0]
        return
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    _received.append(received)
    try:
        yield received
    finally:
        _received.clear()
        signal.signal(signal.SIGTERM, before)
