"""How much of a picture's look can be read out linearly from decoded features.

Neither the decoder nor CLIP was trained on these maps (picture_maps.py). Ridge regression from the
features to each map, cross-fitted: folds over test images, every image predicted by a model that
never saw it, penalty chosen inside the training folds by leave-one-out error (leave_one_out.py).
Score of image i, with z the map z-scored by the training folds; a metric is their mean:

    s_i = 1 - |z_i - zhat_i|^2 / mean over images of |z|^2

So a metric is 1 - SSE / SST against predicting the training mean: 1 is perfect, features without
information score 0 or a little less, never more on average. Scores of single images may be far
below 0. All of it is ours.

Features are z-scored over the test images (no map enters), so that no unit counts more for its
scale, and where there are more features than images they are rotated to their principal axes: ridge
does not depend on the basis, so nothing is lost. Folds depend on the number of images and the seed
only, so two decoders are compared on the same folds.

Letters: I images, F features, K principal axes, M entries of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fmri2clip.solvers.leave_one_out import LeaveOneOutRidge

Floats = NDArray[np.floating]
N_FOLDS = 5
BLOCK = 16_384  # features in float64 at a time
PENALTIES = np.logspace(-4, 4, 9)  # times the mean squared norm of the training features


def score_readout(
    feature_IF: Floats, maps: Mapping[str, Floats], *, n_folds: int = N_FOLDS, seed: int = 0
) -> dict[str, tuple[Floats, Floats]]:
    """Score and weight of each image for every map: `readout.<map>` -> (score_I, weight_I).

    maps: name -> (I, M); a NaN leaves the image out of that map (score NaN, weight 0). A map of
    fewer than 2 n_folds images has no score. Raises ValueError for features that are not finite or
    of another number of images.
    """
    if not np.isfinite(feature_IF).all():
        raise ValueError("decoded features are not finite; look at the model")
    axes_IK = rotate(feature_IF)
    scores: dict[str, tuple[Floats, Floats]] = {}
    same_images: dict[bytes, list[str]] = {}  # asked_I -> maps
    for name, map_IM in maps.items():
        if len(map_IM) != len(feature_IF):
            raise ValueError(
                f"map {name!r} is of {len(map_IM)} images, the features of {len(feature_IF)}; take "
                "the same"
            )
        scores[f"readout.{name}"] = np.full(len(map_IM), np.nan), np.zeros(len(map_IM))
        known_I = np.isfinite(map_IM).all(axis=1)
        same_images.setdefault(known_I.tobytes(), []).append(name)
    # Maps of the same images share their folds, so that each fold is decomposed once for all.
    for asked, names in same_images.items():
        asked_I = np.frombuffer(asked, dtype=bool)
        if asked_I.sum() < 2 * n_folds:
            continue
        targets = [np.asarray(maps[name][asked_I], np.float64) for name in names]
        for name, (error_I, spread_I) in zip(
            names, cross_fit(axes_IK[asked_I], targets, n_folds, seed), strict=True
        ):
            if spread_I.any():
                score_I, weight_I = scores[f"readout.{name}"]
                score_I[asked_I] = 1 - error_I / spread_I.mean()
                weight_I[asked_I] = 1.0
    return scores


def rotate(feature_IF: Floats) -> Floats:
    """Z-scored features but constant ones; on principal axes (I, K <= I) if more than images.

    All tokens of a picture are many features: in float64 there is one block of columns at a time.
    """
    n_images, n_features = feature_IF.shape
    places = [slice(start, start + BLOCK) for start in range(0, n_features, BLOCK)]
    deviations = [np.asarray(feature_IF[:, place], np.float64).std(axis=0) for place in places]
    least = 1e-9 * max(1e-9, max((float(part.max(initial=0.0)) for part in deviations), default=0))
    n_varying = sum(int((part > least).sum()) for part in deviations)
    if n_varying == 0:
        return np.zeros((n_images, 1))
    z_blocks = (
        _z_score(feature_IF[:, place], deviation_B, deviation_B > least)
        for place, deviation_B in zip(places, deviations, strict=True)
    )
    if n_varying <= n_images:
        return np.concatenate(list(z_blocks), axis=1)
    kernel_II = np.zeros((n_images, n_images))
    for z_IB in z_blocks:
        kernel_II += z_IB @ z_IB.T
    value_K, vector_IK = np.linalg.eigh(kernel_II)
    keep_K = value_K > 1e-10 * value_K[-1]
    return vector_IK[:, keep_K] * np.sqrt(value_K[keep_K])


def _z_score(feature_IB: Floats, deviation_B: Floats, varies_B: NDArray[np.bool_]) -> Floats:
    kept_IB = np.asarray(feature_IB, np.float64)[:, varies_B]
    return (kept_IB - kept_IB.mean(axis=0)) / deviation_B[varies_B]


def cross_fit(
    axes_IK: Floats, maps: Sequence[Floats], n_folds: int, seed: int
) -> list[tuple[Floats, Floats]]:
    """Squared error of each image's prediction, and its squared distance from the training mean.

    Both are means over the entries of a map. maps: (I, M) each, all of the images of axes_IK, so
    that the folds and their decompositions serve all of them.
    """
    from sklearn.model_selection import KFold

    found: list[tuple[Floats, Floats]] = [
        (np.zeros(len(axes_IK)), np.zeros(len(axes_IK))) for _ in maps
    ]
    for train, test in KFold(n_folds, shuffle=True, random_state=seed).split(axes_IK):
        centred_IK = axes_IK[train] - axes_IK[train].mean(axis=0)
        # Penalties follow the size of the features, so one grid serves every decoder.
        scale = max(float((centred_IK**2).sum(axis=1).mean()), 1e-12)
        ridge = LeaveOneOutRidge(axes_IK[train], scale * PENALTIES)
        for map_IM, (error_I, spread_I) in zip(maps, found, strict=True):
            mean_M = map_IM[train].mean(axis=0)
            deviation_M = map_IM[train].std(axis=0)
            # An entry that is constant in training stays 0 and adds neither error nor spread.
            z_IM = np.divide(
                map_IM - mean_M, deviation_M, out=np.zeros_like(map_IM), where=deviation_M > 1e-9
            )
            predicted_IM = ridge.predict(z_IM[train], axes_IK[test])
            error_I[test] = ((z_IM[test] - predicted_IM) ** 2).mean(axis=1)
            spread_I[test] = (z_IM[test] ** 2).mean(axis=1)
    return found
