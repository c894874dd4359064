"""One item ahead: the next one is in the making, in a thread, while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], initializer: Callable[[], None] | None = None) -> Iterator[T]:
    """The same items in the same order. What their making raises is raised here.

    initializer: called once in the thread, before anything is made there.

    Nothing more is made once the caller stops asking, but for the one item that is on its way.
    """
    source = iter(items)
    end = object()
    with ThreadPoolExecutor(1, initializer=initializer) as pool:
        coming = pool.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, source, end)
            yield item  # type: ignore[misc]
