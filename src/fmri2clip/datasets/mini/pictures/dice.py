"""Random draws one number at a time, fast enough to draw whole pictures with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
BLOCK = 256  # uniform numbers that are drawn at once


class Dice:
    """A stream of draws that is a function of its key, whatever other streams draw.

    Everything comes from uniform numbers, so a draw costs well below a microsecond.
    """

    def __init__(self, *key: int) -> None:
        self._rng = np.random.default_rng(key)
        self._numbers: list[float] = []

    def random(self) -> float:
        """Uniform in [0, 1)."""
        if not self._numbers:
            self._numbers = self._rng.random(BLOCK).tolist()
        return self._numbers.pop()

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def normal(self, mean: float, deviation: float) -> float:
        """Bell-shaped (sum of three uniform numbers), at most three deviations from the mean."""
        total = self.random() + self.random() + self.random()
        return mean + 2.0 * deviation * (total - 1.5)

    def integer(self, low: int, high: int) -> int:
        """Uniform integer from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def sign(self) -> float:
        """1.0 or -1.0."""
        return 1.0 if self.random() < 0.5 else -1.0

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[int(len(items) * self.random())]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """Index k with probability proportional to cumulative[k] - cumulative[k - 1]."""
        place = bisect_right(cumulative, self.random() * cumulative[-1])
        return min(place, len(cumulative) - 1)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order."""
        order = sorted((self.random(), k) for k in range(len(items)))
        return [items[k] for _, k in order]
