"""What the simulated early areas see, against plain filters one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import oaconvolve

from fmri2clip.datasets.mini import filters


def draw_noise(n: int) -> np.ndarray:
    """Coloured noise, coarse and fine, uint8 (n, 64, 64, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(128, 40, size=(n, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + rng.normal(0, 15, size=(n, 64, 64, 3))).clip(0, 255).astype(np.uint8)


def test_early_maps_find_orientation_and_colour() -> None:
    """A grating drives the channel of its own orientation and wavelength; a red field drives red,
    not green.
    """
    column = np.arange(64)
    for k in range(filters.N_ORIENTATIONS):
        angle = np.pi * k / filters.N_ORIENTATIONS
        phase = column[None] * np.cos(angle) + column[:, None] * np.sin(angle)
        wave = np.cos(2 * np.pi * phase / 8)
        grating = np.repeat((127 + 100 * wave)[None, :, :, None], 3, axis=3).astype(np.uint8)
        map_C = filters.early_maps(grating)[0].mean(axis=(1, 2))
        assert map_C[: 3 * filters.N_ORIENTATIONS].argmax() == filters.N_ORIENTATIONS + k
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    opponent = filters.early_maps(red)[0, -filters.N_OPPONENT :].mean(axis=(1, 2))
    assert opponent[2] > 0.5 and opponent[3] == 0


def test_early_maps_equal_one_filter_after_the_other() -> None:
    """Neither blocks nor threads nor spectra that filters share change a bit."""
    pictures = draw_noise(filters.BLOCK + 10)
    rgb = pictures.astype(np.float32) / 255
    luminance = rgb @ np.array((0.2125, 0.7154, 0.0721), dtype=np.float32)
    centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)
    gabors = [gabor for bank in filters._gabors(1.0) for gabor in bank]
    energy = [
        np.abs(oaconvolve(centred, gabor[None], mode="same", axes=(1, 2))) for gabor in gabors
    ]
    red_green = rgb[..., 0] - rgb[..., 1]
    blue_yellow = rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2
    opponent = [
        np.maximum(sign * c, 0)
        for c in (luminance - 0.5, red_green, blue_yellow)
        for sign in (1, -1)
    ]
    pooled = [m.reshape(len(m), 16, 4, 16, 4).mean(axis=(2, 4)) for m in (*energy, *opponent)]
    for threads in (1, 2):
        found = filters.early_maps(pictures, threads=threads)
        np.testing.assert_array_equal(found, np.stack(pooled, axis=1))


def test_pooling_is_a_block_mean() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 64, 64))
    assert filters._pool(maps)[1, 3, 5] == pytest.approx(maps[1, 12:16, 20:24].mean())
