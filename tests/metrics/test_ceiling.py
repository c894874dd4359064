"""The noise ceiling against what the true responses reach, with equal and unequal repeats."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import r2_score

from fmri2clip.metrics.ceiling import average_inverse, find_ceiling

N = 4000


@pytest.mark.parametrize("chances", [(0, 0, 1), (0.25, 0.25, 0.5), (0.6, 0.3, 0.1)])
def test_the_ceiling_is_what_the_true_response_reaches(
    rng: np.random.Generator, chances: tuple[float, ...]
) -> None:
    """Of a signal of deviation 0.7 in trials with noise of deviation 1; chances of a picture to
    have one trial, two, three.
    """
    n_I = rng.choice([1, 2, 3], N, p=chances)
    clean_I = 0.7 * rng.standard_normal(N)
    measured_I = [c + rng.standard_normal(n).mean() for c, n in zip(clean_I, n_I, strict=True)]
    ceiling = find_ceiling(0.7, average_inverse(Counter(n_I.tolist())))
    assert ceiling == pytest.approx(r2_score(measured_I, clean_I), abs=0.02)


def test_equal_repeats_give_their_inverse_to_the_last_bit() -> None:
    for n_pictures in (60, 982, 999, 1000):
        assert average_inverse({1: 0, 2: 0, 3: n_pictures}) == 1 / 3
