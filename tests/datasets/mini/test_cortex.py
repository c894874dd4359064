"""Simulated cortex: what each area reads, how noisy it is, and that labels and captions never reach
it.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from fmri2clip.core.params import World
from fmri2clip.datasets.mini import cortex, filters, network
from fmri2clip.datasets.mini.scenes import render_many
from fmri2clip.datasets.mini.volume import Volume, make_volume
from fmri2clip.datasets.nsd import layout

N_IMAGES = 250
IMAGES = np.stack([scene.image for scene in render_many(3, range(N_IMAGES), threads=1)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the right shape with random weights: its code is as good as any for what is
    tested here.
    """
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    torch.manual_seed(0)
    save_file(network.CortexNetwork(5).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def volume() -> Volume:
    return make_volume("subj01", 1)


def simulate(
    weights: Path, volume: Volume, n_sessions: int = 1, **world: object
) -> cortex.SubjectSimulation:
    rng = np.random.default_rng(0)
    image_N = np.concatenate(
        [rng.permutation(np.repeat(np.arange(N_IMAGES), 3)) for _ in range(n_sessions)]
    )
    return cortex.simulate_subject(
        IMAGES, image_N, volume, World(network=str(weights), **world), "subj01"
    )


def test_sessions_have_the_size_and_repeat(weights: Path, volume: Volume) -> None:
    first, again = (list(simulate(weights, volume, 2).sessions()) for _ in range(2))
    assert [s.shape for s in first] == [(750, int(volume.brainmask.sum()))] * 2
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert 0.1 < np.median(np.abs(first[0])) < 10  # percent signal change


def test_ncsnr_is_what_was_drawn(weights: Path, volume: Volume) -> None:
    """Variance over repetitions gives back the signal-to-noise ratio, up to drift and
    adaptation.
    """
    simulation = simulate(weights, volume)
    betas = next(simulation.sessions())
    z = (betas - betas.mean(axis=0)) / betas.std(axis=0)
    repeats = np.stack([z[simulation.image_N == i] for i in range(N_IMAGES)])
    noise = repeats.var(axis=1, ddof=1).mean(axis=0)
    found = np.sqrt(np.maximum(1 - noise, 0) / noise)
    inside = volume.nsdgeneral[volume.brainmask]
    assert np.corrcoef(found[inside], simulation.ncsnr_V[inside])[0, 1] > 0.8
    assert np.median(found[inside]) == pytest.approx(cortex.NCSNR_MEDIANS["subj01"], abs=0.05)


def test_noise_is_correlated_between_neighbours_and_within_runs(volume: Volume) -> None:
    patterns = np.random.default_rng(1).normal(size=(6, int(volume.brainmask.sum()))) / np.sqrt(6)
    noise = cortex._noise(np.random.default_rng(0), volume.brainmask, patterns)
    assert noise.std() == pytest.approx(1, abs=0.05)
    lag = [np.mean(noise[t] * noise[t + 1]) for t in range(749)]
    borders = np.cumsum(cortex.RUN_LENGTHS)[:-1] - 1
    assert np.mean(np.delete(lag, borders)) == pytest.approx(cortex.AUTOCORRELATION, abs=0.03)
    assert abs(np.mean(np.array(lag)[borders])) < 0.1
    order = np.flatnonzero(volume.brainmask.ravel())
    along_z = np.flatnonzero(np.diff(order) == 1)
    near = np.mean(noise[:, along_z] * noise[:, along_z + 1])
    far = np.mean(noise[:, ::7] * np.roll(noise[:, ::7], 150, axis=1))
    assert near > far + 0.2


def test_flat_hierarchy_gives_every_seeing_voxel_the_same_mixture(
    weights: Path, volume: Volume
) -> None:
    graded, flat = (cortex._Voxels(volume, np.random.default_rng(0), flat=f) for f in (False, True))
    shares = flat.mixture()
    for share in shares.values():
        assert len(np.unique(share[flat.sees])) == 1
    graded_shares = graded.mixture()
    v1 = np.isin(graded.prf, (1, 2))
    assert (graded_shares["early"][v1] == 1).all() and (
        graded_shares["category"][graded.is_category] == 1
    ).all()
    total = sum(graded_shares.values())
    np.testing.assert_allclose(total[graded.sees], 1)
    assert (total[~graded.sees] == 0).all()
    assert not np.allclose(
        simulate(weights, volume).signal_IV, simulate(weights, volume, hierarchy="flat").signal_IV
    )


def test_receptive_fields_are_contralateral_and_grow(volume: Volume) -> None:
    voxels = cortex._Voxels(volume, np.random.default_rng(0), flat=False)
    assert voxels.centre_V2[voxels.left, 0].mean() > 0.5 > voxels.centre_V2[~voxels.left, 0].mean()
    upper = np.isin(voxels.prf, (1, 3, 5))
    assert voxels.centre_V2[upper, 1].mean() < 0.5  # rows count downwards
    assert list(cortex.FIELD_SIZE.values()) == sorted(cortex.FIELD_SIZE.values())
    window = voxels.windows(16, np.full(voxels.n, 0.1))
    np.testing.assert_allclose(window.sum(axis=1), 1)


def test_voxels_outside_visual_cortex_see_nothing(weights: Path, volume: Volume) -> None:
    simulation = simulate(weights, volume)
    outside = (volume.rois["streams"] <= 0)[volume.brainmask] & ~cortex._Voxels(
        volume, np.random.default_rng(0), flat=False
    ).sees
    assert outside.any() and (simulation.ncsnr_V[outside] == 0).all()


def test_noise_free_is_the_expected_first_presentation(weights: Path, volume: Volume) -> None:
    """Betas of many sessions average to the noise-free response of the same image, apart from
    adaptation.
    """
    simulation = simulate(weights, volume, n_sessions=8)
    inside = volume.nsdgeneral[volume.brainmask]
    betas = np.concatenate([s[:, inside] for s in simulation.sessions()])
    mean = np.stack([betas[simulation.image_N == i].mean(axis=0) for i in range(N_IMAGES)])
    r = [
        np.corrcoef(mean[:, v], simulation.noise_free_IV[:, v])[0, 1]
        for v in range(0, inside.sum(), 25)
    ]
    assert np.median(r) > 0.7


def test_cortex_imports_neither_clip_nor_labels_nor_captions() -> None:
    """Among the project's modules the cortex knows geometry, file constants, its filters and its
    network only.
    """
    allowed = {
        f"fmri2clip.{name}"
        for name in (
            "datasets.mini",
            "datasets.mini.network",
            "datasets.mini.volume",
            "datasets.nsd",
            "core.params",
        )
    }
    for module in (cortex, filters, network):
        nodes = [
            n
            for n in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(n, ast.ImportFrom)
        ]
        assert {n.module for n in nodes if (n.module or "").startswith("fmri2clip")} <= allowed
        assert "open_clip" not in inspect.getsource(module)


def test_early_maps_find_orientation_and_colour() -> None:
    """A grating drives the channel of its own orientation and wavelength; a red field drives red,
    not green.
    """
    column = np.arange(64)
    for k in range(filters.N_ORIENTATIONS):
        angle = np.pi * k / filters.N_ORIENTATIONS
        wave = np.cos(
            2 * np.pi * (column[None] * np.cos(angle) + column[:, None] * np.sin(angle)) / 8
        )
        grating = np.repeat((127 + 100 * wave)[None, :, :, None], 3, axis=3).astype(np.uint8)
        maps = filters._maps(grating)[0].mean(axis=(1, 2))
        assert maps[: 3 * filters.N_ORIENTATIONS].argmax() == filters.N_ORIENTATIONS + k
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    opponent = filters._maps(red)[0, -filters.N_OPPONENT :].mean(axis=(1, 2))
    assert opponent[2] > 0.5 and opponent[3] == 0


def test_pooling_is_a_block_mean() -> None:
    maps = gaussian_filter(np.random.default_rng(0).normal(size=(2, 64, 64)), (0, 1, 1))
    pooled = filters._pool(maps)
    assert pooled[1, 3, 5] == pytest.approx(maps[1, 12:16, 20:24].mean())


def test_repetitions_count_from_one() -> None:
    assert cortex._repetition(np.array([4, 2, 4, 4, 2, 9])).tolist() == [1, 1, 2, 3, 2, 1]


def test_a_missing_network_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make asset NAME=cortex"):
        network.load_network(tmp_path / "no.safetensors")


def test_pictures_of_other_sizes_are_resampled() -> None:
    big = np.random.default_rng(0).integers(0, 255, (2, 100, 100, 3), dtype=np.uint8)
    assert network.to_float(big).shape == (2, 3, 64, 64)
    assert len(layout.SUBJECTS) == len(cortex.NCSNR_MEDIANS)
