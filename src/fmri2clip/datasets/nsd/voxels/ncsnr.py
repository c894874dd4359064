"""The noise ceiling signal-to-noise ratio that NSD ships. Letters: V voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels.rois import read_volume

Floats = NDArray[np.floating[Any]]


def read_ncsnr(root: Path, subject: str, preparation: str, mask: NDArray[np.bool_]) -> Floats:
    """Shipped ncsnr of the voxels of a mask (X, Y, Z), shape (V,); NaN where the release has none.

    ValueError for a volume of another shape and for one without any number inside the mask.
    """
    path = layout.ncsnr_path(root, subject, preparation)
    volume = read_volume(path)
    if volume.shape != mask.shape:
        raise ValueError(
            f"{path} has shape {volume.shape}, but {layout.GENERAL_ROI} of {subject} has "
            f"{mask.shape}"
        )
    ncsnr_V: Floats = volume[mask]
    if np.isnan(ncsnr_V).all():
        raise ValueError(
            f"{path} is NaN in all {ncsnr_V.size} voxels of {layout.GENERAL_ROI} of {subject}; "
            "download it again"
        )
    return ncsnr_V
