"""Which CLIP blocks resemble early and category areas: RSA and CKA by block and ROI group.

On training images only. metrics/similarity.py defines distances, RSA, its correction and CKA;
voxel_shuffle.py the null. Of each subject a random sample of the training images is taken.
Each draw takes equally many voxels of every group (as many as the smaller of low and high has;
voxels of both are left out of both) and new halves of the trials; scores are averages over draws.
Intervals: bootstrap over images, ranks as in the whole sample, pairs of an image with itself left
out.

The tokens of a block are summarised in three ways (clip/blocks.py); figure, null and band use the
configured one. Features are centred over the images, as the z-scored betas are. RSA against blocks,
CKA between blocks and a shuffle of ROI labels are what others report of BrainMCLIP; how each is
computed here, the contrasts and the band (tree.py) are ours.

Letters: I images, V voxels, H halves of the trials, L blocks, P pairs of images, F features, R
resamples (row 0 is the sample), N trials or shuffles.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TRAIN, iterate_images
from fmri2clip.clip import encoder
from fmri2clip.clip.blocks import summarise_blocks
from fmri2clip.core.files import write_json
from fmri2clip.core.params import Clip
from fmri2clip.core.rows import find_rows
from fmri2clip.datasets.nsd import layout
from fmri2clip.figures import plots
from fmri2clip.metrics import similarity
from fmri2clip.metrics.similarity import rank_pairs
from fmri2clip.stages.hierarchy.inputs import GROUPS, Sample, TooFew, read_sample
from fmri2clip.stages.hierarchy.tree import HierarchyConfig, Result, describe, draw, late_contrasts
from fmri2clip.stages.hierarchy.voxel_shuffle import cluster_groups, shuffle_test

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """By summary: ranks (L, P) of the images' distances in each block, and its U-centred kernels.

    Kernels are (I, I) each.
    """

    rank_LP: Mapping[str, Array]
    kernels: Mapping[str, Sequence[Array]]


def analyse_hierarchy(
    clip_name: str,
    clip: Clip,
    subjects: Sequence[str],
    paths: Paths,
    *,
    config: HierarchyConfig,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Write the numbers as JSON (nested, see tree.py), which it returns, and the figure.

    Data that are too few for it (images shown twice, voxels of a group for itself) leave both
    empty, and a line says why. Raises ValueError for an image that the CLIP cache of the training
    images lacks, and for one of other weights.
    """
    path = paths.hierarchy(clip_name)
    try:
        results = _analyse_all(clip_name, clip, subjects, paths, config, device, threads)
    except TooFew as error:
        print(f"left out: {error}")
        write_json(path, {})
        plots.draw_nothing(f"left out: {error}", path.with_suffix(".png"))
        return {}
    tree = describe(results, config)
    write_json(path, tree)
    draw(results, config.tokens, path.with_suffix(".png"))
    return tree


def _analyse_all(
    clip_name: str,
    clip: Clip,
    subjects: Sequence[str],
    paths: Paths,
    config: HierarchyConfig,
    device: str,
    threads: int,
) -> dict[str, Result]:
    """Scores of each subject; TooFew where one has too little."""
    model = encoder.load(clip, device)
    jobs: dict[str, Future[Result]] = {}
    # Products of matrices this small gain nothing from two threads, subjects side by side do.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for subject in subjects:
            rng = np.random.default_rng((config.seed, _number(subject)))
            sample = read_sample(
                paths.train_betas(subject), paths.voxels(subject), config.n_images, rng
            )
            _check_cache(paths.clip_train(clip_name, subject), sample.nsd_id_I, model)
            batches = iterate_images(paths.stimuli(TRAIN), sample.nsd_id_I, clip.batch_size)
            blocks = compare_images(summarise_blocks(model, batches, threads))
            jobs[subject] = pool.submit(analyse_subject, sample, blocks, config, rng)
    return {subject: job.result() for subject, job in jobs.items()}


def _number(subject: str) -> int:
    """What tells the random numbers of subjects apart: NSD's own number, else of the name."""
    if subject in layout.SUBJECTS:
        return layout.subject_number(subject)
    return zlib.crc32(subject.encode())


def _check_cache(path: Path, nsd_id_I: Array, model: encoder.Encoder) -> None:
    """Refuse images that the CLIP cache does not know, and a cache of other weights."""
    cache = read_cache(path, ["nsd_id_I"])
    if cache.attrs.get("weights_sha256", model.weights_sha256) != model.weights_sha256:
        raise ValueError(
            f"{path} was cached with other weights than {model.clip.pretrained}; run cache_clip "
            "again"
        )
    find_rows(cache["nsd_id_I"], nsd_id_I, f"the CLIP cache {path}")


def compare_images(features: Mapping[str, Sequence[Array]]) -> Blocks:
    """Distances and kernels of the images from features, summary -> (I, F) of every block."""
    return Blocks(
        rank_LP={
            name: np.stack(
                [rank_pairs(similarity.correlation_distances(f - f.mean(axis=0))) for f in by_block]
            )
            for name, by_block in features.items()
        },
        kernels={
            name: [similarity.centre_kernel(f) for f in by_block]
            for name, by_block in features.items()
        },
    )


def analyse_subject(
    sample: Sample, blocks: Blocks, config: HierarchyConfig, rng: np.random.Generator
) -> Result:
    """All scores of one subject."""
    n_matched = min(len(column) for column in sample.columns.values())
    brains, kernels = draw_voxels(sample, n_matched, config.n_draws, rng)
    weight_RI = similarity.resample_images(len(sample.nsd_id_I), config.n_bootstrap, rng)
    reliability = {group: brain.reliability(weight_RI) for group, brain in brains.items()}
    observed, shuffled = shuffle(sample, blocks.rank_LP[config.tokens], config, rng)
    counts = {f"n_voxels_{group}": len(column) for group, column in sample.columns.items()}
    return Result(
        counts={
            "n_images": len(sample.nsd_id_I),
            **counts,
            "n_voxels_both": sample.n_both,
            "n_matched": n_matched,
        },
        reliability={group: float(value_R[0]) for group, value_R in reliability.items()},
        rsa={
            name: correlate(model_LP, brains, reliability, weight_RI)
            for name, model_LP in blocks.rank_LP.items()
        },
        cka={
            name: {group: np.array([kernels[group].cka(k) for k in own]) for group in GROUPS}
            for name, own in blocks.kernels.items()
        },
        block_cka={
            name: np.array([[similarity.debiased_cka(a, b) for b in own] for a in own])
            for name, own in blocks.kernels.items()
        },
        observed=observed,
        shuffled=shuffled,
    )


def draw_voxels(
    sample: Sample, n_voxels: int, n_draws: int, rng: np.random.Generator
) -> tuple[dict[str, similarity.BrainRanks], dict[str, similarity.BrainKernels]]:
    """Ranks and kernels of every group from n_draws draws of n_voxels of its voxels."""
    n_images = len(sample.nsd_id_I)
    brains = {group: similarity.BrainRanks(n_images) for group in GROUPS}
    kernels = {group: similarity.BrainKernels(n_images) for group in GROUPS}
    for _ in range(n_draws):
        # All groups share the halves of a draw, so that they differ in their voxels only.
        pattern_HIV = halve(sample, rng)
        for group in GROUPS:
            drawn_HIV = pattern_HIV[..., np.sort(rng.permutation(sample.columns[group])[:n_voxels])]
            brains[group].add(drawn_HIV)
            kernels[group].add(drawn_HIV)
    return brains, kernels


def correlate(
    model_LP: Array,
    brains: Mapping[str, similarity.BrainRanks],
    reliability: Mapping[str, Array],
    weight_RI: Array,
) -> dict[str, Array]:
    """Corrected RSA (R, L) of every group with the blocks; reliability (R) of every group."""
    mean_RL, variance_RL = similarity.rank_moments(model_LP, weight_RI)
    return {
        group: similarity.correct_attenuation(
            brain.covariances(model_LP, mean_RL, weight_RI),
            reliability[group][:, None],
            variance_RL,
        )
        for group, brain in brains.items()
    }


def halve(sample: Sample, rng: np.random.Generator) -> NDArray[np.float32]:
    """Mean patterns (2, I, V) of new random halves of each image's trials, all voxels."""
    in_b_N = similarity.split_trials(sample.image_N, rng)
    return similarity.half_patterns(sample.betas_NV, sample.image_N, in_b_N)


def shuffle(
    sample: Sample, model_LP: Array, config: HierarchyConfig, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, dict[str, Array]]]:
    """The contrasts on all voxels of low and high, as they are and under both kinds of shuffle.

    One split of the trials serves all.
    """
    column_V = np.concatenate([sample.columns["low"], sample.columns["high"]])
    is_high_V = np.arange(len(column_V)) >= len(sample.columns["low"])
    pattern_HIV = halve(sample, rng)[..., column_V]
    kinds = {
        "clusters": cluster_groups(sample.ijk_V3[column_V], is_high_V, config.block_voxels),
        "voxels": np.arange(len(column_V)),
    }
    shuffled: dict[str, dict[str, Array]] = {}
    for kind, cluster_V in kinds.items():
        observed, shuffled[kind] = shuffle_test(
            pattern_HIV, is_high_V, cluster_V, model_LP, late_contrasts, config.n_permutations, rng
        )
    return observed, shuffled
