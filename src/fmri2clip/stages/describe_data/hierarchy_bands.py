"""Does the simulated brain have a hierarchy? Early against category voxels, matched on ncsnr.

Definitions: docs/preregistered.md. Letters: I images, V voxels, D embedding width, C categories, F
features of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmri2clip.stages.describe_data.regression import (
    Bools,
    Floats,
    column_r2,
    explained,
    precision_above_chance,
    predict,
    split_rows,
)

CALIPER = 0.05  # largest difference in ncsnr of a matched pair
MOST_PAIRS = 300
N_DRAWS = 5
N_BOOTSTRAP = 500
AREAS = ("low", "high")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is known of the pictures of one subject.

    caption_ID: mean of five embeddings; colour_IF: 4 x 4 mean Lab; edges_IF: 8 x 8 Sobel magnitude;
    object_IF: position and size of the largest object.
    """

    caption_ID: Floats
    label_IC: Bools
    colour_IF: Floats
    edges_IF: Floats
    object_IF: Floats


@dataclass(frozen=True, kw_only=True)
class Brain:
    """One subject's voxels.

    mean_IV: of three trials; clean_IV: without noise, None if nobody knows; ncsnr_V: of training
    trials; is_low_V: in prf-visualrois and in no floc area; is_high_V: the other way round.
    """

    mean_IV: Floats
    clean_IV: Floats | None
    ncsnr_V: Floats
    is_low_V: Bools
    is_high_V: Bools


def match_pairs(brain: Brain, rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:
    """Equally many low and high voxels, one to one: in random order, each low voxel takes the
    nearest free high voxel within CALIPER.
    """
    low = rng.permutation(np.flatnonzero(brain.is_low_V & np.isfinite(brain.ncsnr_V)))
    high = np.flatnonzero(brain.is_high_V & np.isfinite(brain.ncsnr_V))
    free = np.ones(len(high), dtype=bool)
    pairs: list[tuple[int, int]] = []
    for voxel in low:
        if len(pairs) == MOST_PAIRS:
            break
        gap = np.where(free, np.abs(brain.ncsnr_V[high] - brain.ncsnr_V[voxel]), np.inf)
        nearest = int(gap.argmin()) if len(gap) else -1
        if nearest >= 0 and gap[nearest] <= CALIPER:
            pairs.append((int(voxel), int(high[nearest])))
            free[nearest] = False
    if not pairs:
        raise ValueError("no early voxel has a category voxel of the same ncsnr; loosen CALIPER")
    first, second = np.array(pairs).T
    return {"low": first, "high": second}


def measure_hierarchy(
    pictures: Pictures, brain: Brain, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0, number: int = 0
) -> dict[str, dict[str, Floats]]:
    """For low and for high: every measure of one subject, the mean over draws, (R + 1): first of
    the scored images, then of R resamples of them.

    text, labels, colour, edges, pixels: from 3-trial means; position: R2 of place and size of the
    largest object, for print. text_encoding, labels_encoding: noise-free, the other way round; they
    have no resamples. number: of the subject, whose resamples are its own.
    """
    found: dict[str, dict[str, list[Floats]]] = {area: {} for area in AREAS}
    _, scored = split_rows(len(brain.mean_IV), seed)
    weight_RJ = resample(len(scored), n_bootstrap, np.random.default_rng((seed, number)))
    for draw in range(N_DRAWS):
        pairs = match_pairs(brain, np.random.default_rng((seed, draw)))
        for area in AREAS:
            scores = _measure(pictures, brain, pairs[area], weight_RJ, seed)
            for name, value_R in scores.items():
                found[area].setdefault(name, []).append(value_R)
    return {
        area: {name: np.mean(values, axis=0) for name, values in scores.items()}
        for area, scores in found.items()
    }


def compare(low_R: Floats, high_R: Floats) -> tuple[float, float]:
    """low over high, and its upper bound: the 97.5th percentile over resamples."""
    ratio_R = low_R / high_R
    upper = float(np.percentile(ratio_R[1:], 97.5)) if len(ratio_R) > 1 else float(ratio_R[0])
    return float(ratio_R[0]), upper


def resample(n_images: int, n_bootstrap: int, rng: np.random.Generator) -> Floats:
    """Weights (R + 1, J): a row of ones, then how often each image is drawn in each resample."""
    drawn_RJ = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    return np.concatenate([np.ones((1, n_images)), drawn_RJ])


def _measure(
    pictures: Pictures,
    brain: Brain,
    voxels: NDArray[np.intp],
    weight_RJ: Floats,
    seed: int,
) -> dict[str, Floats]:
    fit, scored = split_rows(len(brain.mean_IV), seed)
    targets = {
        "text": pictures.caption_ID,
        "labels": pictures.label_IC.astype(np.float64),
        "colour": _standardise(pictures.colour_IF, fit),
        "edges": _standardise(pictures.edges_IF, fit),
        "position": _standardise(pictures.object_IF, fit),
    }
    seen_IV = brain.mean_IV[:, voxels]
    # One decomposition serves all targets, as each has a penalty of its own.
    together = np.concatenate([y[fit] for y in targets.values()], axis=1)
    predicted = predict(seen_IV[fit], together, seen_IV[scored])
    edges = np.cumsum([y.shape[1] for y in targets.values()])[:-1]
    parts = dict(zip(targets, np.split(predicted, edges, axis=1), strict=True))
    scores: dict[str, Floats] = {}
    for name in ("text", "colour", "edges", "position"):
        mean_M = targets[name][fit].mean(axis=0)
        error_J, spread_J = explained(targets[name][scored], parts[name], mean_M)
        scores[name] = 1 - (weight_RJ @ error_J) / (weight_RJ @ spread_J)
    scores["labels"] = precision_above_chance(pictures.label_IC[scored], parts["labels"], weight_RJ)
    scores["pixels"] = (scores["colour"] + scores["edges"]) / 2
    if brain.clean_IV is None:
        return scores
    clean_IV = brain.clean_IV[:, voxels]
    for name in ("text", "labels"):
        x = targets[name]
        told = predict(x[fit], clean_IV[fit], x[scored])
        r2_V = column_r2(clean_IV[scored], told, clean_IV[fit].mean(axis=0))
        scores[f"{name}_encoding"] = r2_V.mean(keepdims=True)
    return scores


def _standardise(values_IF: Floats, fit: NDArray[np.intp]) -> Floats:
    deviation_F = values_IF[fit].std(axis=0)
    kept_F = deviation_F > 1e-9
    z_IF: Floats = (values_IF - values_IF[fit].mean(axis=0))[:, kept_F] / deviation_F[kept_F]
    return z_IF


def explain_areas(
    blocks: Sequence[Floats],
    targets: Mapping[str, Floats],
    brain: Brain,
    n_components: int = 256,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """R2 of noise-free matched voxels, low and high, from each block's features and each target.

    blocks: (I, F) each: class token and 4 x 4 grid of patch tokens. targets: name -> (I, F),
    treated alike. All are reduced to the same number of components of the fit images.
    """
    assert brain.clean_IV is not None, "only a simulated tree has noise-free responses"
    from sklearn.decomposition import PCA

    fit, scored = split_rows(len(brain.clean_IV), seed)
    features = {f"block{k}": x for k, x in enumerate(blocks, start=1)} | dict(targets)
    pairs = [match_pairs(brain, np.random.default_rng((seed, d))) for d in range(N_DRAWS)]
    every = np.unique(np.concatenate([p[area] for p in pairs for area in AREAS]))
    clean_IV = brain.clean_IV[:, every]
    found: dict[str, dict[str, float]] = {area: {} for area in AREAS}
    for name, x_IF in features.items():
        n = min(n_components, x_IF.shape[1], len(fit) - 1)
        pca = PCA(n, svd_solver="randomized", random_state=seed)
        z_IP = pca.fit(x_IF[fit]).transform(x_IF)
        told = predict(z_IP[fit], clean_IV[fit], z_IP[scored])
        r2_V = column_r2(clean_IV[scored], told, clean_IV[fit].mean(axis=0))
        for area in AREAS:
            columns = [np.searchsorted(every, p[area]) for p in pairs]
            found[area][name] = float(np.mean([r2_V[c].mean() for c in columns]))
    return found
