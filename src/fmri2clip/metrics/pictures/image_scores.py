"""The scores behind the protocols: Pearson correlation, two-way identification, SSIM. Nothing here
knows a network.

Letters: I images, F values a picture or a feature vector, H W C height, width and colours.

Two-way identification: r_II[i, j] = corr(features of image i, features of reconstruction j), and
the right pair stands on the diagonal. A query wins against a distractor whose correlation is below
that of the right pair:

    image_given_reconstruction   won_j = #{i : r[i, j] < r[j, j]}
                                 the reconstruction is fixed, distractors are images
    reconstruction_given_image   won_i = #{j : r[i, j] < r[i, i]}
                                 the image is fixed, distractors are reconstructions

The diagonal is never below itself, so that the score is won / (I - 1) with nothing subtracted;
chance is 0.5. NaN wins and ties nothing. The first is what MindEye and Brain-Diffuser publish, the
second what Takagi and Nishimoto do.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fmri2clip.metrics.pictures.protocols import DIRECTIONS

Floats = NDArray[np.floating]
Counts = NDArray[np.int64]
# a vector varies by more than this share of its length, or it is constant to float32 precision
FLAT = 1e-6
BLOCK = 1 << 14  # features at once, which bounds the float64 copies


@dataclass(frozen=True, kw_only=True)
class TwoWay:
    """How many of the I - 1 distractors of each query were less similar than the right one, and how
    many as similar.
    """

    won_I: Counts
    tied_I: Counts

    def score(self, tie_credit: float) -> Floats:
        """Share won by each query, float64."""
        return (self.won_I + tie_credit * self.tied_I) / (len(self.won_I) - 1)


def moments(x_F: Floats) -> tuple[float, float]:
    """Mean, and length after its subtraction, in float64; the length is NaN where x is constant."""
    return _centre(x_F)[1:]


def _centre(x_F: Floats) -> tuple[Floats, float, float]:
    """The vector less its mean, then mean and length as of `moments`."""
    x_F = x_F.astype(np.float64)
    mean = float(x_F.mean())
    # In two steps: sum x^2 - n mean^2 would lose the digits of a nearly constant vector.
    x_F -= mean
    length = float(np.linalg.norm(x_F))
    # Length of the vector itself, by Pythagoras: the mean and what is left are orthogonal.
    whole = np.hypot(length, np.sqrt(len(x_F)) * mean)
    if length <= FLAT * whole:
        length = float("nan")
    return x_F, mean, length


def correlate_rows(a_IF: Floats, b_IF: Floats, threads: int = 1) -> Floats:
    """Pearson r of each row of a with the same row of b, in float64; NaN where one of them is
    constant.
    """
    _check_pairs(a_IF, b_IF)
    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(_correlate, a_IF, b_IF)), dtype=np.float64)


def _correlate(a_F: Floats, b_F: Floats) -> float:
    a_F, _, length_a = _centre(a_F)
    b_F, _, length_b = _centre(b_F)
    return float(a_F @ b_F / (length_a * length_b))


def correlate_all(image_IF: Floats, reconstruction_IF: Floats) -> Floats:
    """r_II: Pearson r of each image (rows) with each reconstruction (columns), in float64; NaN for
    constant ones.
    """
    _check_pairs(image_IF, reconstruction_IF)
    # Features are standardised block by block: their float64 copies would not fit at once.
    r_II = np.zeros((len(image_IF), len(image_IF)))
    image_I2 = np.array([moments(x_F) for x_F in image_IF])
    reconstruction_I2 = np.array([moments(x_F) for x_F in reconstruction_IF])
    for start in range(0, image_IF.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        unit_image_IF = _unit(image_IF[:, block], image_I2)
        unit_reconstruction_IF = _unit(reconstruction_IF[:, block], reconstruction_I2)
        r_II += unit_image_IF @ unit_reconstruction_IF.T
    return r_II


def _unit(x_IF: Floats, moments_I2: Floats) -> Floats:
    return (x_IF.astype(np.float64) - moments_I2[:, :1]) / moments_I2[:, 1:]


def _check_pairs(a_IF: Floats, b_IF: Floats) -> None:
    if a_IF.shape != b_IF.shape or a_IF.ndim != 2:
        raise ValueError(
            f"features to be paired must be (I, F) twice, got {a_IF.shape} and {b_IF.shape}"
        )


def count_two_way(r_II: Floats, direction: str, decimals: int) -> TwoWay:
    """Exact counts; r_II: rows images, columns reconstructions, of which differences below the
    decimals are ties.
    """
    if direction not in DIRECTIONS:
        raise ValueError(
            f"direction {direction!r} is not known; choose from {', '.join(DIRECTIONS)}"
        )
    if r_II.ndim != 2 or r_II.shape[0] != r_II.shape[1] or len(r_II) < 2:
        raise ValueError(
            f"two-way identification needs at least 2 images, as rows and columns, got {r_II.shape}"
        )
    # Queries into the rows: for image_given_reconstruction these are the reconstructions.
    r_II = np.round(r_II if direction == DIRECTIONS[1] else r_II.T, decimals)
    own_I1 = np.diagonal(r_II)[:, None]
    tied_II = r_II == own_I1
    np.fill_diagonal(tied_II, False)
    return TwoWay(won_I=(r_II < own_I1).sum(axis=1), tied_I=tied_II.sum(axis=1))


def score_ssim(
    reconstruction_IHWC: Floats, image_IHWC: Floats, columns: bool, threads: int = 1
) -> Floats:
    """SSIM (Wang et al. 2004) of grey pictures, float64 mean of each map.

    Gaussian window of 11 taps (sigma 1.5), population covariance, K1 .01, K2 .03, range 1, border
    of 5 pixels left out. columns: each pixel column as a 1-D signal. Grey is scikit-image's: 0.2125
    R + 0.7154 G + 0.0721 B.
    """
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1.0,
    }

    def compare(a_HWC: Floats, b_HWC: Floats) -> float:
        # Old scikit-image took the last axis of a grey picture for channels: see protocols.py.
        axis = -1 if columns else None
        return float(
            structural_similarity(rgb2gray(a_HWC), rgb2gray(b_HWC), channel_axis=axis, **options)
        )

    assert len(reconstruction_IHWC) == len(image_IHWC), "pictures to be paired"
    with ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(compare, reconstruction_IHWC, image_IHWC)), dtype=np.float64)
