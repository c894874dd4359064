"""What the simulated early areas see: oriented energy and colour-opponent maps of a picture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache, reduce

import numpy as np
from scipy.signal import oaconvolve

SIDE = 16  # maps are pooled to SIDE x SIDE
WAVELENGTHS = (4.0, 8.0, 16.0)  # pixels of a 64 pixel picture
N_ORIENTATIONS = 4
N_OPPONENT = 6  # light, dark, red, green, blue, yellow
N_CHANNELS = len(WAVELENGTHS) * N_ORIENTATIONS + N_OPPONENT
BLOCK = 20  # pictures whose spectra fit a processor's cache


def early_maps(images_IHWC: np.ndarray, threads: int = 1) -> np.ndarray:
    """Filter maps (I, N_CHANNELS, SIDE, SIDE) float32.

    Energy is the modulus of a complex Gabor response to luminance (Adelson and Bergen 1985);
    opponent channels are half-wave rectified luminance, red-green and blue-yellow differences. The
    number of threads changes no bit.
    """
    blocks = [images_IHWC[i : i + BLOCK] for i in range(0, len(images_IHWC), BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(_maps, blocks)))


def _maps(images_IHWC: np.ndarray) -> np.ndarray:
    rgb = images_IHWC.astype(np.float32) / 255
    luminance = rgb @ np.array((0.2125, 0.7154, 0.0721), dtype=np.float32)
    red_green = rgb[..., 0] - rgb[..., 1]
    blue_yellow = rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2
    centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)
    zoom = images_IHWC.shape[1] / 64
    energy = [energy_IHW for bank in _gabors(zoom) for energy_IHW in _energies(centred, bank)]
    opponent = [
        np.maximum(sign * c, 0)
        for c in (luminance - 0.5, red_green, blue_yellow)
        for sign in (1, -1)
    ]
    return np.stack([_pool(m) for m in (*energy, *opponent)], axis=1).astype(np.float32, copy=False)


def _energies(centred_IHW: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Moduli of the responses to each filter of a bank, (N_ORIENTATIONS, I, H, W); a bank shares
    the spectra.
    """
    reach = bank.shape[-1] // 2
    height, width = centred_IHW.shape[1:]
    full = oaconvolve(centred_IHW[:, None], bank[None], mode="full", axes=(2, 3))
    energies: np.ndarray = np.abs(full[:, :, reach : reach + height, reach : reach + width])
    return energies.swapaxes(0, 1)


@cache
def _gabors(zoom: float) -> list[np.ndarray]:
    """Complex Gabor filters with zero mean: for each wavelength a bank (N_ORIENTATIONS, h, w)."""
    banks = []
    for wavelength in WAVELENGTHS:
        length = wavelength * zoom
        reach = int(np.ceil(length))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        envelope = np.exp(-(x**2 + y**2) / (2 * (0.4 * length) ** 2))
        bank = []
        for k in range(N_ORIENTATIONS):
            angle = np.pi * k / N_ORIENTATIONS
            wave = np.exp(2j * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length)
            gabor = envelope * (wave - (envelope * wave).sum() / envelope.sum())
            bank.append((gabor / np.abs(gabor).sum()).astype(np.complex64))
        banks.append(np.stack(bank))
    return banks


def _pool(map_IHW: np.ndarray) -> np.ndarray:
    """Mean over blocks, (I, SIDE, SIDE); a picture whose side is no multiple of SIDE loses its last
    rows.
    """
    step = map_IHW.shape[1] // SIDE
    kept = map_IHW[:, : SIDE * step, : SIDE * step]
    columns = reduce(np.add, (kept[:, :, k::step] for k in range(step)))
    pooled: np.ndarray = reduce(np.add, (columns[:, k::step] for k in range(step))) / step**2
    return pooled
