"""The frozen fixture of the reconstruction metrics, 32 pairs, and oracles of the scores written
from their definitions.

Letters: I images, F features, H W C height, width and colours.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

N_PAIRS, SIDE = 32, 256
CONSTANT, COPY, DUPLICATE, ORIGINAL = (
    28,
    29,
    30,
    5,
)  # rows; the stimulus of DUPLICATE is that of ORIGINAL
GREY = (0.2125, 0.7154, 0.0721)


def draw_noise(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Coloured 1/f noise (n, side, side, 3) in [0, 1]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((n, 3, side, side))) / frequency
    noise = np.fft.irfft2(spectrum, s=(side, side))
    noise /= noise.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(0.5 + 0.2 * noise, 0, 1).transpose(0, 2, 3, 1)


def make_pairs(n: int = N_PAIRS, side: int = SIDE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stimuli and reconstructions, float32 (n, side, side, 3): mixed with noise, shifted, blurred,
    unrelated.
    """
    rng = np.random.default_rng(seed)
    seen = draw_noise(rng, n, side)
    other = draw_noise(rng, n, side)
    made = np.empty_like(seen)
    for i in range(n):
        made[i] = (
            0.6 * seen[i] + 0.4 * other[i],
            np.roll(seen[i], (i + 1, 2 * i), axis=(0, 1)),
            gaussian_filter(seen[i], (1 + i / 4, 1 + i / 4, 0)),
            other[i],
        )[i % 4]
    if n == N_PAIRS:
        made[CONSTANT], made[COPY], seen[DUPLICATE] = 0.3, seen[COPY], seen[ORIGINAL]
    return seen.astype(np.float32), made.astype(np.float32)


def make_features(n: int = N_PAIRS, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, width) of stimuli and reconstructions, whose rows differ in strength: directions
    disagree.
    """
    rng = np.random.default_rng(1)
    seen = rng.standard_normal((n, width))
    seen[DUPLICATE % n] = seen[ORIGINAL]
    made = (
        rng.uniform(0.0, 0.6, (n, 1)) * seen
        + rng.standard_normal(width)
        + 0.7 * rng.standard_normal((n, width))
    )
    return seen.astype(np.float32), made.astype(np.float32)


def to_8bit(images: np.ndarray) -> np.ndarray:
    """The 8-bit twin of float pictures."""
    return np.rint(images.astype(np.float64) * 255).astype(np.uint8)


def resize_oracle(image_HWC: np.ndarray, size: int, antialias: bool) -> np.ndarray:
    """Bilinear resizing with pixel centres at .5, in float64: triangle of one pixel, or of one
    target pixel.
    """
    n = image_HWC.shape[0]
    scale = n / size
    width = max(scale, 1.0) if antialias else 1.0
    centre = (
        np.clip((np.arange(size) + 0.5) * scale, 0.5, n - 0.5)
        if width == 1
        else (np.arange(size) + 0.5) * scale
    )
    weight = np.maximum(0.0, 1.0 - np.abs((np.arange(n) + 0.5)[None] - centre[:, None]) / width)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.einsum("ah,bw,hwc->abc", weight, weight, image_HWC.astype(np.float64), optimize=True)


def pearson_oracle(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson r by NumPy; NaN for a constant."""
    if np.ptp(a) < 1e-6 or np.ptp(b) < 1e-6:
        return float("nan")
    return float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1])


def ssim_oracle(a_HWC: np.ndarray, b_HWC: np.ndarray, columns: bool = False) -> float:
    """SSIM in float64 by SciPy's Gaussian; columns: smoothed along the columns only, border cut at
    their ends only.
    """
    a, b = (x.astype(np.float64) @ np.array(GREY) for x in (a_HWC, b_HWC))

    def smooth(x: np.ndarray) -> np.ndarray:
        options = {"sigma": 1.5, "truncate": 3.5, "mode": "reflect"}
        return gaussian_filter1d(x, axis=0, **options) if columns else gaussian_filter(x, **options)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, cov = (
        smooth(a * a) - mean_a**2,
        smooth(b * b) - mean_b**2,
        smooth(a * b) - mean_a * mean_b,
    )
    c1, c2 = 0.01**2, 0.03**2
    found = (
        (2 * mean_a * mean_b + c1)
        * (2 * cov + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    return float(found[5:-5].mean() if columns else found[5:-5, 5:-5].mean())


def two_way_oracle(seen: np.ndarray, made: np.ndarray, fix_reconstruction: bool) -> list[int]:
    """Distractors with a lower correlation than the right pair, by loops."""
    counts = []
    for query in range(len(seen)):
        right = pearson_oracle(seen[query], made[query])
        n = 0
        for other in range(len(seen)):
            pair = (seen[other], made[query]) if fix_reconstruction else (seen[query], made[other])
            n += other != query and round(pearson_oracle(*pair), 9) < round(right, 9)
        counts.append(n)
    return counts
