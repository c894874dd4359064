"""similarity.py and voxel_shuffle.py: ranks, distances, CKA and shuffles against SciPy, loops and
simulated noise.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist
from scipy.stats import rankdata, spearmanr

from fmri2clip.metrics import similarity
from fmri2clip.stages.hierarchy import voxel_shuffle


def signal(rng: np.random.Generator, n_images: int, n_voxels: int, rank: int = 6) -> np.ndarray:
    return (
        rng.standard_normal((n_images, rank))
        @ rng.standard_normal((rank, n_voxels))
        / np.sqrt(rank)
    )


def measure(
    rng: np.random.Generator, truth_IV: np.ndarray, noise: float, n_repeats: int = 3
) -> tuple:
    """Trials sorted by image, and the row of each trial's image."""
    image_N = np.repeat(np.arange(len(truth_IV)), n_repeats)
    noise_NV = noise * rng.standard_normal((len(image_N), truth_IV.shape[1]))
    return (truth_IV[image_N] + noise_NV).astype(np.float32), image_N


def halves(rng: np.random.Generator, truth_IV: np.ndarray, noise: float) -> np.ndarray:
    betas_NV, image_N = measure(rng, truth_IV, noise)
    return similarity.half_patterns(betas_NV, image_N, similarity.split_trials(image_N, rng))


def noise_free_distances(truth_IV: np.ndarray) -> np.ndarray:
    covariance_II = np.cov(truth_IV, ddof=0) * truth_IV.shape[1]
    distance_II = 1 - covariance_II / np.trace(covariance_II) * len(truth_IV)
    return distance_II[np.triu_indices(len(truth_IV), 1)]


def test_correlation_distances_equal_scipy(rng: np.random.Generator) -> None:
    feature_IF = rng.standard_normal((15, 7)) + 3
    np.testing.assert_allclose(
        similarity.correlation_distances(feature_IF), pdist(feature_IF, "correlation")
    )
    feature_IF[4] = 2.0
    with pytest.raises(ValueError, match="an image has equal values in all its features"):
        similarity.correlation_distances(feature_IF)


def test_ranks_equal_scipy(rng: np.random.Generator) -> None:
    few = rng.integers(0, 5, 300).astype(float)
    for values, tolerance in ((rng.standard_normal(3000), 5e-3), (few, 1e-5)):
        expected = rankdata(values)
        expected = (expected - expected.mean()) / expected.std()
        found = similarity.rank_pairs(values)
        np.testing.assert_allclose(found, expected, atol=tolerance)
        assert np.mean(found * expected) > 1 - 1e-6
    with pytest.raises(ValueError, match="all distances are equal"):
        similarity.rank_pairs(np.ones(10))


def test_halves_share_no_trial_and_average_by_image(rng: np.random.Generator) -> None:
    image_N = np.repeat(np.arange(40), np.resize([2, 3, 4, 5], 40))
    betas_NV = rng.standard_normal((len(image_N), 3)).astype(np.float32)
    in_b_N = similarity.split_trials(image_N, rng)
    pattern_HIV = similarity.half_patterns(betas_NV, image_N, in_b_N)
    larger = []
    for image in range(40):
        in_b = in_b_N[image_N == image]
        assert abs(2 * in_b.sum() - len(in_b)) <= 1
        larger.append(2 * in_b.sum() - len(in_b))
        for half, chosen in enumerate((~in_b, in_b)):
            np.testing.assert_allclose(
                pattern_HIV[half, image], betas_NV[image_N == image][chosen].mean(axis=0), atol=1e-6
            )
    assert {-1, 0, 1} == set(larger), "the odd trial falls to either half"


def test_distances_are_unbiased_by_noise(rng: np.random.Generator) -> None:
    """Mean over many measurements: the cross-validated distance is right, 1 - Pearson of mean
    patterns is not.
    """
    truth_IV = signal(rng, 12, 60)
    expected_P = noise_free_distances(truth_IV)
    estimates, naive = [], []
    for _ in range(300):
        pattern_HIV = halves(rng, truth_IV, noise=2.0)
        estimates.append(np.mean(similarity.cross_validated_distances(pattern_HIV), axis=0))
        naive.append(pdist(pattern_HIV.mean(axis=0), "correlation"))
    error = np.std(estimates, axis=0).max() / np.sqrt(300)
    assert np.abs(np.mean(estimates, axis=0) - expected_P).max() < 5 * error + 0.02
    slope = np.polyfit(pdist(truth_IV, "correlation"), np.mean(naive, axis=0), 1)[0]
    assert np.polyfit(expected_P, np.mean(estimates, axis=0), 1)[0] == pytest.approx(1, abs=0.05)
    assert slope < 0.7, "noise pulls every naive distance towards 1"
    with pytest.raises(ValueError, match="no more than chance"):
        pattern_HIV = np.stack([truth_IV, -truth_IV]).astype(np.float32)
        similarity.cross_validated_distances(pattern_HIV)


def test_rsa_on_the_sample_is_spearman(rng: np.random.Generator) -> None:
    pattern_HIV = halves(rng, signal(rng, 30, 50), noise=1.0)
    model_P = similarity.correlation_distances(rng.standard_normal((30, 8)))
    model_LP = similarity.rank_pairs(model_P)[None]
    brain, ones = similarity.BrainRanks(30), np.ones((1, 30), np.float32)
    brain.add(pattern_HIV)
    a_P, b_P = similarity.cross_validated_distances(pattern_HIV)
    mean_RL, variance_RL = similarity.rank_moments(model_LP, ones)
    expected = (spearmanr(a_P, model_P)[0] + spearmanr(b_P, model_P)[0]) / 2
    reliability = spearmanr(a_P, b_P)[0]
    assert brain.covariances(model_LP, mean_RL, ones)[0, 0] == pytest.approx(expected, abs=1e-4)
    assert brain.reliability(ones)[0] == pytest.approx(reliability, abs=1e-4)
    assert variance_RL[0, 0] == pytest.approx(1, abs=1e-4)
    corrected = similarity.correlate_ranks(
        similarity.rank_pairs(a_P), similarity.rank_pairs(b_P), model_LP
    )
    assert corrected[0] == pytest.approx(expected / np.sqrt(reliability), abs=1e-3)


def test_correction_recovers_the_noise_free_rsa(rng: np.random.Generator) -> None:
    truth_IV = signal(rng, 120, 150)
    model_IF = truth_IV @ rng.standard_normal((150, 5)) + 4 * rng.standard_normal((120, 5))
    model_P = similarity.correlation_distances(model_IF)
    expected = spearmanr(noise_free_distances(truth_IV), model_P)[0]
    brain, ones = similarity.BrainRanks(120), np.ones((1, 120), np.float32)
    for _ in range(6):
        brain.add(halves(rng, truth_IV, noise=2.5))
    model_LP = similarity.rank_pairs(model_P)[None]
    mean_RL, variance_RL = similarity.rank_moments(model_LP, ones)
    raw_RL = brain.covariances(model_LP, mean_RL, ones)
    corrected = similarity.correct_attenuation(
        raw_RL, brain.reliability(ones)[:, None], variance_RL
    )
    assert expected > 0.3 and raw_RL[0, 0] < 0.8 * expected
    assert corrected[0, 0] == pytest.approx(expected, abs=0.04)


def test_resamples_equal_a_loop_over_copies(rng: np.random.Generator) -> None:
    """A resample is a list of copies; every pair of copies of different images counts once."""
    n = 9
    weight_RI = similarity.resample_images(n, 4, rng)
    assert (weight_RI[0] == 1).all() and (weight_RI.sum(axis=1) == n).all()
    value_P = rng.standard_normal(n * (n - 1) // 2)
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, 1)] = value_P
    matrix += matrix.T
    for row, weight_I in enumerate(weight_RI):
        copies = np.repeat(np.arange(n), weight_I.astype(int))
        pairs = [(i, j) for k, i in enumerate(copies) for j in copies[k + 1 :] if i != j]
        expected = np.mean([matrix[i, j] for i, j in pairs])
        found = similarity.pair_means(weight_RI, similarity.put_pairs(value_P, n))[row]
        assert found == pytest.approx(expected, abs=1e-5)


def song_hsic(kernel: np.ndarray, other: np.ndarray) -> float:
    """Unbiased HSIC, eq. 5 of Song et al. (2012), term by term."""
    n = len(kernel)
    k, m = (x - np.diag(np.diag(x)) for x in (kernel, other))
    trace = sum(k[i, j] * m[j, i] for i in range(n) for j in range(n))
    return (trace + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k @ m).sum() / (n - 2)) / (
        n * (n - 3)
    )


def biased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Feature form of Kornblith et al. (2019), eq. 5."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_cka_equals_the_direct_formula(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((12, 5)) + 1, rng.standard_normal((12, 8))
    y[:, :3] += x[:, :3]
    kernels = [similarity.centre_kernel(z) for z in (x, y)]
    hsic = song_hsic(x @ x.T, y @ y.T)
    assert np.vdot(*kernels) / (12 * 9) == pytest.approx(hsic)
    expected = hsic / np.sqrt(song_hsic(x @ x.T, x @ x.T) * song_hsic(y @ y.T, y @ y.T))
    assert similarity.debiased_cka(*kernels) == pytest.approx(expected)
    assert similarity.debiased_cka(kernels[0], kernels[0]) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 4 images"):
        similarity.centre_kernel(x[:3])


def test_cka_of_unrelated_features_is_zero(rng: np.random.Generator) -> None:
    pairs = [(rng.standard_normal((40, 200)), rng.standard_normal((40, 200))) for _ in range(20)]
    debiased = [
        similarity.debiased_cka(*(similarity.centre_kernel(z) for z in pair)) for pair in pairs
    ]
    assert np.mean([biased_cka(*pair) for pair in pairs]) > 0.7
    assert abs(np.mean(debiased)) < 0.05


def test_cka_with_a_brain_survives_noise(rng: np.random.Generator) -> None:
    truth_IV = signal(rng, 150, 80)
    model_IF = truth_IV[:, :20] + 0.5 * rng.standard_normal((150, 20))
    model_II = similarity.centre_kernel(model_IF)
    brain = similarity.BrainKernels(150)
    for _ in range(4):
        brain.add(halves(rng, truth_IV, noise=2.0))
    expected = similarity.debiased_cka(similarity.centre_kernel(truth_IV), model_II)
    noisy = similarity.debiased_cka(
        similarity.centre_kernel(halves(rng, truth_IV, 2.0)[0]), model_II
    )
    assert brain.cka(model_II) == pytest.approx(expected, abs=0.04)
    assert noisy < expected - 0.15


def test_clusters_are_compact_pure_and_equal(rng: np.random.Generator) -> None:
    ijk_V3 = np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    is_high_V = ijk_V3[:, 0] >= 3
    cluster_V = voxel_shuffle.cluster_groups(ijk_V3, is_high_V, 30)
    sizes = np.bincount(cluster_V)
    assert len(sizes) == round(192 / 30) + round(320 / 30) and sizes.max() - sizes.min() <= 6
    for cluster in range(len(sizes)):
        assert len(set(is_high_V[cluster_V == cluster])) == 1
        assert np.ptp(ijk_V3[cluster_V == cluster], axis=0).max() <= 4
    shuffled_NV = voxel_shuffle.shuffle_groups(is_high_V, cluster_V, 50, rng)
    assert len({row.tobytes() for row in shuffled_NV}) > 40
    assert (np.abs(shuffled_NV.sum(axis=1) - 320) <= 60).all()
    for cluster in range(len(sizes)):
        assert (np.ptp(shuffled_NV[:, cluster_V == cluster].astype(int), axis=1) == 0).all()
    with pytest.raises(ValueError, match="block_voxels is 200"):
        voxel_shuffle.cluster_groups(ijk_V3, is_high_V, 200)


def test_p_value_counts_the_observed_labels() -> None:
    assert voxel_shuffle.p_value(2.0, np.array([1.0, 2.0, 3.0])) == pytest.approx(3 / 4)
    assert voxel_shuffle.p_value(9.0, np.zeros(99)) == pytest.approx(0.01)


def late(low_L: np.ndarray, high_L: np.ndarray) -> dict[str, np.ndarray]:
    return {"late": high_L[-1] - low_L[-1]}


def simulate_p_values(rng: np.random.Generator, n_images: int = 30) -> tuple[float, float]:
    """Both halves of one smooth piece of cortex follow the same law: no group is special."""
    shape = (20, 10, 8)
    tuning = rng.standard_normal((8, *shape))
    tuning = gaussian_filter(tuning, (0, 1, 1, 1), mode="wrap").reshape(8, -1)
    feature_IF = rng.standard_normal((n_images, 8))
    truth_IV = feature_IF @ (tuning / tuning.std())
    pattern_HIV = halves(rng, truth_IV, noise=1.0)
    ijk_V3 = np.indices(shape).reshape(3, -1).T
    is_high_V = ijk_V3[:, 0] >= 10
    model_LP = similarity.rank_pairs(similarity.correlation_distances(feature_IF[:, :3]))[None]
    values = []
    for cluster_V in (voxel_shuffle.cluster_groups(ijk_V3, is_high_V, 100), np.arange(len(ijk_V3))):
        observed, shuffled = voxel_shuffle.shuffle_test(
            pattern_HIV, is_high_V, cluster_V, model_LP, late, 39, rng
        )
        values.append(voxel_shuffle.p_value(observed["late"], shuffled["late"]))
    return values[0], values[1]


def test_cluster_null_is_calibrated_and_the_plain_shuffle_is_not(rng: np.random.Generator) -> None:
    p_N2 = np.array([simulate_p_values(rng) for _ in range(40)])
    extreme = ((p_N2 <= 0.1) | (p_N2 >= 0.9)).mean(axis=0)  # 0.225 if p is uniform on its 40 steps
    assert extreme[0] <= 0.4
    assert extreme[1] >= 0.55
    assert 0.35 < p_N2[:, 0].mean() < 0.65
