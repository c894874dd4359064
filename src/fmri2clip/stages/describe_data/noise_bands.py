"""How much of the signal the noise hides, and what an observer could still tell.

Definitions: docs/preregistered.md. Letters: N trials, I images, V voxels, D embedding width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.decoding.retrieval import draw_galleries, nearest_images
from fmri2clip.solvers.observer import Noise, compare_likelihoods, estimate_noise
from fmri2clip.solvers.ranks import centre
from fmri2clip.stages.describe_data.regression import Floats, predict, split_rows

N_LEADING = 10
N_REPEATS = 3
N_WAY = 300
N_DRAWS = 30
N_HARD = 20  # neighbours of a hard gallery
N_FEW = 100  # voxels of an observer who sees only some
N_FOLDS = 5
N_COMPONENTS = 256


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


def find_by_ridge(pattern_IV: Floats, image_ID: Floats, seed: int = 0) -> float:
    """Top-1 of N_WAY images given the brain: ridge to the pooled embedding, centred cosine."""
    fit, scored = split_rows(len(pattern_IV), seed)
    told_JD = predict(pattern_IV[fit], image_ID[fit], pattern_IV[scored])
    mean_D = image_ID[fit].mean(axis=0)
    return find_top1(centre(told_JD, mean_D) @ centre(image_ID[scored], mean_D).T)


def find_top1(similarity_JJ: Floats, seed: int = 0) -> float:
    """Mean top-1 over galleries drawn from the J images; the right one is on the diagonal."""
    n = len(similarity_JJ)
    hits = []
    for member_J in draw_galleries(n, min(N_WAY, n), N_DRAWS, seed).T:
        rows = np.flatnonzero(member_J)
        part = similarity_JJ[np.ix_(rows, rows)]
        hits.append((part.argmax(axis=1) == np.arange(len(rows))).mean())
    return float(np.mean(hits))


def average_first(
    betas_NV: Floats, image_N: NDArray[np.intp], rows: NDArray[np.intp], n: int
) -> Floats:
    """Mean of the first n trials of each of these images (J, V), float32.

    Raises ValueError for an image with fewer.
    """
    order_N = np.argsort(image_N, kind="stable")
    first_J = np.searchsorted(image_N[order_N], rows)
    last_J = np.searchsorted(image_N[order_N], rows, side="right")
    if (last_J - first_J < n).any():
        raise ValueError(f"an image has fewer than {n} trials; extract more sessions")
    trials = [betas_NV[order_N[first_J + k]].astype(np.float32) for k in range(n)]
    mean_JV: Floats = np.mean(trials, axis=0)
    return mean_JV


def observe(
    clean_IV: Floats,
    betas_NV: Floats,
    image_N: NDArray[np.intp],
    image_ID: Floats,
    token_IF: Floats | None,
    seed: int = 0,
) -> dict[str, float]:
    """Top-1 of observers who look for a picture among noise-free patterns, for 1, 2 and 3 trials.

    gaussian: knows the patterns; it estimates the covariance of the noise from the trials of other
    pictures, so one who knew that too would find at least as many. features: knows of a pattern
    what the best linear map from N_COMPONENTS of token_IF says, and takes what is left as noise.
    `few_`: of N_FEW voxels. `_hard`: among the N_HARD pictures of nearest embedding. image_ID: CLIP
    embeddings.
    """
    fit, scored = split_rows(len(clean_IV), seed)
    rng = np.random.default_rng(seed)
    few_V = np.sort(rng.choice(clean_IV.shape[1], min(N_FEW, clean_IV.shape[1]), replace=False))
    others_N = np.isin(image_N, np.setdiff1d(np.arange(len(clean_IV)), scored))
    trials_NV = betas_NV[others_N].astype(np.float32)
    image_id, row_N = np.unique(image_N[others_N], return_inverse=True)
    mean_JV = np.zeros((len(image_id), trials_NV.shape[1]), np.float32)
    np.add.at(mean_JV, row_N, trials_NV)
    mean_JV /= np.bincount(row_N)[:, None]
    noise = estimate_noise(trials_NV, mean_JV[row_N], len(image_id))
    noise_few = estimate_noise(trials_NV[:, few_V], mean_JV[row_N][:, few_V], len(image_id))
    n_hard = min(N_HARD, len(scored) - 1)
    hard_JJ = nearest_images(centre(image_ID[scored], image_ID[fit].mean(axis=0)), n_hard)
    told = predict_patterns(token_IF, clean_IV, fit, scored) if token_IF is not None else None
    found: dict[str, float] = {}
    for n in range(1, N_REPEATS + 1):
        query_JV = average_first(betas_NV, image_N, scored, n)
        seen = {
            "gaussian": (query_JV, clean_IV[scored], noise),
            "few_gaussian": (query_JV[:, few_V], clean_IV[scored][:, few_V], noise_few),
        }
        if told is not None:
            fit_IV, scored_JV = told
            left_IV = average_first(betas_NV, image_N, fit, n)
            # Nothing is subtracted from the degrees of freedom: predictions are held out.
            seen["features"] = (query_JV, scored_JV, estimate_noise(left_IV, fit_IV, 0))
            left_few = estimate_noise(left_IV[:, few_V], fit_IV[:, few_V], 0)
            seen["few_features"] = (query_JV[:, few_V], scored_JV[:, few_V], left_few)
        for name, (pattern_JV, known_JV, known) in seen.items():
            likelihood_JJ = _compare(pattern_JV, known_JV, known)
            found[f"{name}_{n}"] = find_top1(likelihood_JJ)
            among_JJ = np.where(hard_JJ, likelihood_JJ, -np.inf)
            hits_J = among_JJ.argmax(axis=1) == np.arange(len(scored))
            found[f"{name}_{n}_hard"] = float(hits_J.mean())
    return found


def _compare(query_JV: Floats, known_JV: Floats, noise: Noise) -> Floats:
    query = query_JV.astype(np.float32)
    return compare_likelihoods(query, known_JV.astype(np.float32), noise, full=True)


def predict_patterns(
    token_IF: Floats, clean_IV: Floats, fit: NDArray[np.intp], scored: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Noise-free patterns of the fit images, each by a map that did not see it (N_FOLDS), and of
    the scored ones, from principal components of the fit images.
    """
    from sklearn.decomposition import PCA

    n = min(N_COMPONENTS, token_IF.shape[1], len(fit) - 1)
    pca = PCA(n, svd_solver="randomized", random_state=0).fit(token_IF[fit])
    z_IP = pca.transform(token_IF[fit])
    y_IV = clean_IV[fit]
    told_IV = np.empty_like(y_IV)
    fold_I = np.arange(len(fit)) % N_FOLDS
    for fold in range(N_FOLDS):
        out = fold_I == fold
        told_IV[out] = predict(z_IP[~out], y_IV[~out], z_IP[out])
    return told_IV, predict(z_IP, y_IV, pca.transform(token_IF[scored]))
