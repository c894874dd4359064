"""Responses of the simulated cortex to pictures that no subject saw: the subject's own pictures are
left alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import oaconvolve

from fmri2clip.core.params import World
from fmri2clip.datasets.mini import cortex, filters, network
from fmri2clip.datasets.mini.volume import Volume, make_volume

SUBJECT = "subj01"


def draw(seed: int, n: int) -> np.ndarray:
    """Coloured noise with as much contrast as the seed says, uint8 (n, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 20 * (1 + seed), size=(n, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + rng.normal(0, 15, size=(n, 64, 64, 3))).clip(0, 255).astype(np.uint8)


OWN, PROBES = draw(0, 24), draw(2, 6)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    torch.manual_seed(0)
    save_file(network.CortexNetwork(5).state_dict(), path)
    return World(seed=1, network=str(path))


@pytest.fixture(scope="module")
def volume() -> Volume:
    return make_volume(SUBJECT, 1)


@pytest.fixture(scope="module")
def responses(world: World, volume: Volume) -> np.ndarray:
    """To the probes, beside each other."""
    return cortex.respond(OWN, PROBES, volume, world, SUBJECT)


def test_own_pictures_evoke_the_noise_free_response(world: World, volume: Volume) -> None:
    simulated = cortex.simulate_subject(
        OWN, np.arange(len(OWN)), volume, world, SUBJECT
    ).noise_free_IV
    found = cortex.respond(OWN, OWN[[5, 2]], volume, world, SUBJECT)
    assert found.shape == (2, int(volume.nsdgeneral.sum()))
    np.testing.assert_allclose(found, simulated[[5, 2]], rtol=1e-4, atol=1e-4)
    assert not np.allclose(simulated[5], simulated[2], atol=0.1)


def test_probes_change_nothing_of_each_other(
    world: World, volume: Volume, responses: np.ndarray
) -> None:
    alone = cortex.respond(OWN, PROBES[3:4], volume, world, SUBJECT)
    np.testing.assert_allclose(alone[0], responses[3], rtol=1e-4, atol=1e-4)
    assert not np.allclose(responses[3], responses[4], atol=0.1)


def test_the_own_pictures_set_the_scale(
    world: World, volume: Volume, responses: np.ndarray
) -> None:
    other = cortex.respond(OWN[:12], PROBES, volume, world, SUBJECT)
    assert not np.allclose(other, responses, atol=0.1)


def test_early_maps_have_unit_deviation_over_the_adapted_pictures() -> None:
    maps = filters.early_maps(np.concatenate([OWN, PROBES]), len(OWN)).reshape(
        len(OWN) + len(PROBES), -1, 16, 16
    )
    np.testing.assert_allclose(maps[: len(OWN)].std(axis=(0, 2, 3)), 1, atol=1e-3)
    np.testing.assert_array_equal(filters.early_maps(OWN), filters.early_maps(OWN, len(OWN)))


def test_early_maps_equal_one_filter_after_the_other() -> None:
    """Neither blocks nor threads nor spectra that filters share change a bit."""
    pictures = np.concatenate([OWN, PROBES])
    assert len(pictures) > filters.BLOCK
    rgb = pictures.astype(np.float32) / 255
    luminance = rgb @ np.array((0.2125, 0.7154, 0.0721), dtype=np.float32)
    centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)
    gabors = [gabor for bank in filters._gabors(1.0) for gabor in bank]
    energy = [
        np.abs(oaconvolve(centred, gabor[None], mode="same", axes=(1, 2))) for gabor in gabors
    ]
    red_green, blue_yellow = (
        rgb[..., 0] - rgb[..., 1],
        rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2,
    )
    opponent = [
        np.maximum(sign * c, 0)
        for c in (luminance - 0.5, red_green, blue_yellow)
        for sign in (1, -1)
    ]
    pooled = [m.reshape(len(m), 16, 4, 16, 4).mean(axis=(2, 4)) for m in (*energy, *opponent)]
    maps = np.stack(pooled, axis=1)
    maps /= maps.std(axis=(0, 2, 3), keepdims=True) + 1e-6
    for threads in (1, 2):
        np.testing.assert_array_equal(
            filters.early_maps(pictures, threads=threads), maps.reshape(len(maps), -1)
        )
