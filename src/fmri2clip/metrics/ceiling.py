"""Noise ceiling of responses that are the mean of a picture's trials (Allen et al. 2022).

    ceiling = s^2 / (s^2 + mean over pictures of 1/n)       s: ncsnr; n: trials of a picture

As a bound of Pearson r it is the root of this share. Letters: I pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def average_inverse(n_pictures: Mapping[int, int]) -> float:
    """Mean over pictures of 1/n; n_pictures: trials of a picture -> number of pictures with as
    many.

    1/n to the last bit where all have n, so a share of pictures is divided, not their number.
    """
    n_I = sum(n_pictures.values())
    return sum(n_same / n_I / n_trials for n_trials, n_same in n_pictures.items())


def find_ceiling(ncsnr: Any, inverse: float) -> Any:
    """Share of the variance that is no noise, of a number or an array of them.

    inverse: mean of 1/n over the pictures.
    """
    return ncsnr**2 / (ncsnr**2 + inverse)
