"""z-scores of one session.

z_tv = (beta_tv - mean_v) / std_v (unbiased std), with statistics of the trials that `norm.stats`
names. A voxel without signal in a session gets 0 there, the mean. Letters: T the trials of a
session, V voxels, I the trials among them that are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Voxels at a time, so that the float64 copies of a session stay in the processor's cache.
CHUNK_V = 512


@dataclass(frozen=True, kw_only=True)
class Session:
    """z-scored betas of one session and the statistics behind them, for the same voxels."""

    betas_TV: NDArray[np.float16]
    mean_V: NDArray[np.float64]  # percent signal change
    std_V: NDArray[np.float64]
    invalid_V: NDArray[np.bool_]  # no signal in this session


def cut(n: int, size: int) -> list[slice]:
    """Nearly equal slices of at most `size` (4 or more) that cover n.

    None has length 1 unless n is 1.
    Numpy adds up an array of one column in another order than a wider one, so single columns would
    differ in bytes.
    """
    n_parts = -(-n // size)
    return [
        slice(start, stop)
        for start, stop in pairwise(n * part // n_parts for part in range(n_parts + 1))
    ]


def zscore_session(
    stored_TV: NDArray[Any], used_T: NDArray[np.bool_], scale: float, where: str
) -> Session:
    """z_tv = (beta_tv - mean_v) / std_v, in float16; 0 for voxels without signal.

    stored_TV: numbers of the file, betas times `scale`. used_T: trials behind mean and std, two or
    more. All trials are z-scored with them. where: subject and session. Raises ValueError for an
    outlier that float16 does not hold.
    """
    n_voxels = stored_TV.shape[1]
    betas_TV = np.empty(stored_TV.shape, dtype=np.float16)
    mean_V = np.empty(n_voxels)
    std_V = np.empty(n_voxels)
    invalid_V = np.empty(n_voxels, dtype=bool)
    for part in cut(n_voxels, CHUNK_V):
        used_IV = stored_TV[:, part][used_T]
        # A constant voxel is recognised by what is stored: rounding may leave its std above 0.
        invalid_V[part] = used_IV.max(axis=0) == used_IV.min(axis=0)
        # Cast first: a division of integers would be another one.
        percent_TV = stored_TV[:, part].astype(np.float32) / np.float32(scale)
        percent_TV = percent_TV.astype(np.float64)
        mean_V[part] = percent_TV[used_T].mean(axis=0)
        std_V[part] = np.where(invalid_V[part], 0, percent_TV[used_T].std(axis=0, ddof=1))
        # In place, as a copy would leave the cache; empty voxels are set to 0 at the end, whatever
        # the division made of them.
        percent_TV -= mean_V[part]
        percent_TV /= np.where(invalid_V[part], 1, std_V[part])
        percent_TV[:, invalid_V[part]] = 0
        with np.errstate(over="ignore"):
            betas_TV[:, part] = percent_TV
        if not np.isfinite(betas_TV[:, part]).all():
            t, v = np.argwhere(~np.isfinite(betas_TV[:, part]))[0]
            raise ValueError(
                f"{where}: trial {t + 1} of voxel {part.start + v + 1} has the z-score "
                f"{percent_TV[t, v]:.3g}, float16 holds up to {np.finfo(np.float16).max:.0f}; mend "
                "that beta, or make the voxel NaN in all trials of the session, which takes it as "
                "missing there"
            )
    return Session(betas_TV=betas_TV, mean_V=mean_V, std_V=std_V, invalid_V=invalid_V)
