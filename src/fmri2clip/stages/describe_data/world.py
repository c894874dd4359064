"""What a tree is like, in figures, and the bands that the simulated world must meet.

Figures are of noise, labels, CLIP and near duplicates. Those that need known truth are computed
where the tree holds noise-free responses, that is, where it was simulated. The bands exist so that
the simulated world can neither be trivial for any method nor hopeless.

Axis letters: I images, V voxels, C categories, F features.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, iterate_images, make_reader
from fmri2clip.artefacts.trials import list_images, read_betas, read_voxels
from fmri2clip.clip.encoder import Encoder
from fmri2clip.core import store
from fmri2clip.solvers.leave_one_out import LeaveOneOutRidge

ALPHAS = 10.0 ** np.arange(0, 8)
N_FIT = 1500  # images that the regressions on noise-free responses are fitted on, at most
N_SCORED = 400  # images that they are scored on, at most
GRID = 4  # tokens are averaged to GRID x GRID places
DUPLICATE_CORRELATION = 0.95
THUMBNAIL = 16  # pixels of a side

# figure: (low, high); figures of the flat control and of worlds without informative captions obey
# the same bands.
BANDS: dict[str, tuple[float, float]] = {
    "label_map_from_betas": (0.2, 0.6),
    "labels_explain_of_high": (0.0, 0.5),
    "best_clip_block_explains_of_high": (0.3, 0.8),
    "ideal_observer_top1": (0.9, 1.0),
}


def describe_world(
    subject_names: Sequence[str],
    paths: Paths,
    clip_paths: Sequence[Path],
    encoder: Encoder,
    noise_free: Mapping[str, store.Arrays | None],
    ideal_observer: Mapping[str, float],
) -> dict:
    """All figures as a nested dictionary of numbers.

    Parameters
    ----------
    subject_names, paths : whose files are described.
    clip_paths : the CLIP cache of the training and of the shared images; only its labels are used.
    encoder : the CLIP whose blocks are compared with the high areas (first subject only: the
        pictures differ, the areas' features do not).
    noise_free : per subject the noise-free responses (betas_IV, nsd_id_I, high_V, low_V), or None
        on a real tree.
    ideal_observer : per subject the 300-way top-1 of an observer who knows the noise-free
        responses.
    """
    label_of = _labels(clip_paths)
    subjects = {name: _subject_figures(name, paths, label_of) for name in subject_names}
    for name, truth in noise_free.items():
        if truth is not None:
            subjects[name]["labels_explain_of_high"] = _labels_explain(truth, label_of)
            subjects[name]["ideal_observer_top1"] = ideal_observer[name]
    first = subject_names[0]
    duplicates = {name: _near_duplicates(name, paths) for name in subject_names}
    figures: dict = {"subjects": subjects, "near_duplicates": duplicates}
    truth = noise_free[first]
    if truth is not None:
        figures["clip_block_explains"] = _blocks_explain(truth, paths, encoder)
        figures["asserted"] = _asserted(subjects, figures["clip_block_explains"]["high"])
    return figures


def _asserted(subjects: Mapping[str, Mapping[str, float]], blocks: Mapping[str, float]) -> dict:
    """Every banded figure (mean over subjects) with its band and whether it is met (1 or 0)."""
    per_subject = [name for name in BANDS if name in next(iter(subjects.values()))]
    values = {
        name: float(np.mean([figures[name] for figures in subjects.values()]))
        for name in per_subject
    }
    values["best_clip_block_explains_of_high"] = max(
        v for name, v in blocks.items() if name.startswith("block")
    )
    return {
        name: {
            "value": round(values[name], 4),
            "low": low,
            "high": high,
            "met": int(low <= values[name] <= high),
        }
        for name, (low, high) in BANDS.items()
    }


def _labels(clip_paths: Sequence[Path]) -> dict[int, np.ndarray]:
    """Label vector of every image, categories of the world only."""
    caches = [read_cache(path, ["nsd_id_I", "labels_IC", "present_C"]) for path in clip_paths]
    present_C = np.any([cache["present_C"] for cache in caches], axis=0)
    return {
        int(image): row[present_C].astype(np.float32)
        for cache in caches
        for image, row in zip(cache["nsd_id_I"], cache["labels_IC"], strict=True)
    }


def image_means(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """nsd_id_I of a betas file and their betas averaged over repetitions, float32."""
    data = read_betas(path, ["betas_NV", "nsd_id_N"])
    nsd_id_I, row_N = np.unique(data["nsd_id_N"], return_inverse=True)
    betas = data["betas_NV"].astype(np.float32)
    order = np.argsort(row_N, kind="stable")
    starts = np.searchsorted(row_N[order], np.arange(len(nsd_id_I)))
    return nsd_id_I, np.add.reduceat(betas[order], starts) / np.bincount(row_N)[:, None]


def _subject_figures(
    subject: str, paths: Paths, label_of: Mapping[int, np.ndarray]
) -> dict[str, float]:
    voxels = read_voxels(
        paths.voxels(subject), ["ncsnr_V", "ncsnr_train_V", "roi_VG", "roi_names_G"]
    )
    ncsnr = {}
    for column_V, name in zip(voxels["roi_VG"].T, map(str, voxels["roi_names_G"]), strict=True):
        if name.startswith("group/"):
            ncsnr[f"ncsnr_median_{name.removeprefix('group/')}"] = float(
                np.nanmedian(voxels["ncsnr_V"][column_V])
            )
    train_ids, train_IV = image_means(paths.train_betas(subject))
    test_ids, test_IV = image_means(paths.test_betas(subject))
    labels_train = np.stack([label_of[int(i)] for i in train_ids])
    labels_test = np.stack([label_of[int(i)] for i in test_ids])
    (scores,) = _ridge(train_IV, [labels_train], test_IV)
    # A category that no test image shows has no average precision.
    shown = labels_test.any(axis=0)
    precisions = [
        average_precision_score(labels_test[:, c], scores[:, c]) for c in np.flatnonzero(shown)
    ]
    mean_ap = float(np.mean(precisions))
    return {
        "n_voxels": len(voxels["ncsnr_V"]),
        **_rounded(ncsnr),
        "label_map_from_betas": round(mean_ap, 4),
        "label_map_by_chance": round(float(labels_test[:, shown].mean()), 4),
    }


def _labels_explain(truth: store.Arrays, label_of: Mapping[int, np.ndarray]) -> float:
    features = np.stack([label_of[int(i)] for i in truth["nsd_id_I"]])
    (explained,) = _held_out_r2(features, truth["betas_IV"][:, truth["high_V"]])
    return explained


def _blocks_explain(
    truth: store.Arrays, paths: Paths, encoder: Encoder
) -> dict[str, dict[str, float]]:
    """Held-out variance of the noise-free high and low areas that CLIP explains.

    block<n>: from the block's patch tokens averaged over the picture, the kind of feature that a
    decoder of pooled embeddings predicts; grid: from the last block's tokens at GRID x GRID places.
    Where the hierarchy is flat, low and high areas are explained alike.
    """
    rows = np.arange(min(len(truth["nsd_id_I"]), N_FIT + N_SCORED))
    read = make_reader(paths.stimuli(TRAIN), paths.stimuli(TEST))
    images = read(truth["nsd_id_I"][rows])
    blocks = range(1, encoder.n_blocks + 1)
    parts = [encoder.blocks(images[i : i + 200], blocks) for i in range(0, len(rows), 200)]
    tokens = {b: np.concatenate([part[b] for part in parts]) for b in blocks}
    features = {f"block{b}": tokens[b][:, 1:].mean(axis=1) for b in blocks} | {
        "grid": _grid(tokens[blocks[-1]])
    }
    areas = {area: truth["betas_IV"][rows][:, truth[f"{area}_V"]] for area in ("high", "low")}
    explained = {
        name: _held_out_r2(feature_IF, *areas.values()) for name, feature_IF in features.items()
    }
    return {
        area: {name: found[a] for name, found in explained.items()} for a, area in enumerate(areas)
    }


def _grid(tokens_ITW: np.ndarray) -> np.ndarray:
    """Patch tokens averaged to GRID x GRID places, flattened to (I, F)."""
    patches = tokens_ITW[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    edges = np.linspace(0, side, GRID + 1).astype(int)
    square = patches.reshape(len(patches), side, side, -1)
    cells = [
        square[:, a:b, c:d].mean(axis=(1, 2))
        for a, b in itertools.pairwise(edges)
        for c, d in itertools.pairwise(edges)
    ]
    return np.concatenate(cells, axis=1)


def _held_out_r2(features_IF: np.ndarray, *targets: np.ndarray) -> list[float]:
    """Variance of each target (I, V) explained in images unseen by the ridge, mean over voxels."""
    n_scored = min(N_SCORED, len(features_IF) // 4)
    fit = slice(0, min(N_FIT, len(features_IF) - n_scored))
    scored = slice(-n_scored, None)
    predictions = _ridge(features_IF[fit], [target[fit] for target in targets], features_IF[scored])
    found = []
    for target_IV, predicted_IV in zip(targets, predictions, strict=True):
        error_V = ((target_IV[scored] - predicted_IV) ** 2).mean(axis=0)
        spread_V = target_IV[scored].var(axis=0)
        varies_V = spread_V > 0
        explained = float(np.mean(1 - error_V[varies_V] / spread_V[varies_V]))
        found.append(round(explained, 4))
    return found


def _ridge(
    x_train: np.ndarray, targets: Sequence[np.ndarray], x_test: np.ndarray
) -> list[np.ndarray]:
    """Ridge prediction of each target: standardised features, penalty by leave-one-out error."""
    mean = x_train.mean(axis=0)
    deviation = x_train.std(axis=0) + 1e-6
    model = LeaveOneOutRidge((x_train - mean) / deviation, ALPHAS)
    return [model.predict(target, (x_test - mean) / deviation) for target in targets]


def _near_duplicates(subject: str, paths: Paths) -> dict[str, float]:
    """Test images that correlate above DUPLICATE_CORRELATION with a training image (thumbnails)."""
    train = _thumbnails(paths.stimuli(TRAIN), list_images(paths.train_betas(subject)))
    test = _thumbnails(paths.stimuli(TEST), list_images(paths.test_betas(subject)))
    nearest = (test @ train.T).max(axis=1)
    return {
        "n_test_images": len(test),
        "n_near_duplicates": int((nearest > DUPLICATE_CORRELATION).sum()),
        "median_nearest_correlation": round(float(np.median(nearest)), 4),
    }


def _thumbnails(stimuli_path: Path, nsd_id_I: np.ndarray) -> np.ndarray:
    """Small pictures as centred unit vectors (I, F)."""
    small = []
    for block in iterate_images(stimuli_path, nsd_id_I, 200):
        images = block.astype(np.float32)
        step = images.shape[1] // THUMBNAIL
        images = images[:, : step * THUMBNAIL, : step * THUMBNAIL]
        small.append(
            images.reshape(len(images), THUMBNAIL, step, THUMBNAIL, step, 3).mean(axis=(2, 4))
        )
    flat = np.concatenate(small).reshape(len(nsd_id_I), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
