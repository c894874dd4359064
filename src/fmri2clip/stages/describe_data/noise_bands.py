"""How much of the signal the noise hides, and what an observer could still tell.

Definitions: docs/preregistered.md. Letters: N trials, I images, V voxels, D embedding width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.decoding.retrieval import draw_galleries
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.describe_data.regression import Floats, predict

N_LEADING = 10
N_REPEATS = 3
N_WAY = 300
N_DRAWS = 30


def measure_snr(clean_IV: Floats, betas_NV: Floats, image_N: NDArray[np.intp]) -> Floats:
    """Signal to noise (N_LEADING) of a mean of three trials along the leading components of the
    noise-free patterns.

    betas_NV: trials; image_N: row of clean_IV of each. Noise is what trials of one image differ by.
    """
    centred_IV = clean_IV - clean_IV.mean(axis=0)
    _, size_K, axis_KV = np.linalg.svd(centred_IV, full_matrices=False)
    axes_VK = axis_KV[:N_LEADING].T
    signal_K = size_K[:N_LEADING] ** 2 / (len(clean_IV) - 1)
    on_axes_NK = betas_NV @ axes_VK
    n_I = np.bincount(image_N, minlength=len(clean_IV))
    total_IK = np.zeros((len(clean_IV), N_LEADING))
    np.add.at(total_IK, image_N, on_axes_NK)
    residual_NK = on_axes_NK - (total_IK / np.maximum(n_I, 1)[:, None])[image_N]
    noise_K = (residual_NK**2).sum(axis=0) / (len(betas_NV) - (n_I > 0).sum())
    snr_K: Floats = signal_K / (noise_K / N_REPEATS)
    return snr_K


def find_by_ridge(pattern_IV: Floats, image_ID: Floats, n_scored: int = 500) -> float:
    """Top-1 of N_WAY images given the brain: ridge to the pooled embedding, centred cosine; the
    last n_scored rows are found, the others fitted on.
    """
    fit = slice(0, len(pattern_IV) - n_scored)
    told_JD = predict(pattern_IV[fit], image_ID[fit], pattern_IV[-n_scored:])
    mean_D = image_ID[fit].mean(axis=0)
    return find_top1(centre(told_JD, mean_D) @ centre(image_ID[-n_scored:], mean_D).T)


def find_top1(similarity_JJ: Floats, seed: int = 0) -> float:
    """Mean top-1 over galleries drawn from the J images; the right one is on the diagonal."""
    n = len(similarity_JJ)
    hits = []
    for member_J in draw_galleries(n, min(N_WAY, n), N_DRAWS, seed):
        rows = np.flatnonzero(member_J)
        part = similarity_JJ[np.ix_(rows, rows)]
        hits.append((part.argmax(axis=1) == np.arange(len(rows))).mean())
    return float(np.mean(hits))
