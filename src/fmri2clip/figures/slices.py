"""Numbers of voxels on axial slices of their volume, on a clear ground.

Letters: V voxels, X Y Z the grid (left to right, back to front, bottom to top), H W a picture.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

ENLARGED = 4  # pixels a voxel


def paint_slices(
    ijk_V3: NDArray[np.integer], share_V: NDArray[np.floating], n_slices: int
) -> bytes:
    """PNG of n_slices slices side by side, from the lowest to the highest; front is up.

    share_V: 0 (blue) to 1 (yellow); what is beyond is drawn as the nearer end.
    """
    volume_XYZ = np.full(np.ptp(ijk_V3, axis=0) + 1, np.nan)
    volume_XYZ[tuple((ijk_V3 - ijk_V3.min(axis=0)).T)] = share_V
    # The outermost slices hold next to nothing.
    shown = np.linspace(0, volume_XYZ.shape[2] - 1, n_slices + 2).round().astype(int)[1:-1]
    tiles = [np.pad(volume_XYZ[:, :, z].T[::-1], 1, constant_values=np.nan) for z in shown]
    share_HW = np.concatenate(tiles, axis=1)
    rgba_HWC = colormaps["cividis"](np.clip(np.nan_to_num(share_HW), 0, 1), bytes=True)
    rgba_HWC[np.isnan(share_HW), 3] = 0
    image = Image.fromarray(rgba_HWC)
    size = (ENLARGED * image.width, ENLARGED * image.height)
    buffer = BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
