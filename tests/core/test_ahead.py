from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fmri2clip.core.ahead import ahead


def test_same_items_one_of_them_early() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(4):
            made.append(i)
            yield i

    seen = []
    early = threading.Event()
    for item in ahead(items()):
        seen.append(item)
        # The next one comes into being while this one is looked at.
        while item < 3 and len(made) < item + 2:
            early.wait(0.001)
    assert seen == made == [0, 1, 2, 3]


def test_the_thread_is_prepared_before_it_makes_anything() -> None:
    seen: list[object] = []

    def items() -> Iterator[int]:
        seen.append(threading.get_ident())
        yield 1

    assert list(ahead(items(), lambda: seen.append(threading.get_ident()))) == [1]
    assert len(seen) == 2 and seen[0] == seen[1] != threading.get_ident()


def test_none_is_an_item_and_errors_are_raised_here() -> None:
    def items() -> Iterator[int | None]:
        yield None
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [None]
