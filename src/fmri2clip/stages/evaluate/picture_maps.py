"""What a picture looks like: colour, luminance, edges, its largest object.

Computed from the picture and COCO's boxes alone, and no decoder is trained on them; readout.py
tests how well decoded features predict them. The choice of maps is ours. Every map is an array
(I, M), M entries a picture, SIDE x SIDE places row by row:

colour      mean red-green (R - G), then mean blue-yellow (B - (R + G) / 2) of each place;
            R, G, B from 0 to 1
luminance   mean luma of each place (weights of ITU-R BT.709 on the stored values), 0 to 1
edges       mean gradient magnitude of the luma of each place, central differences, per pixel of
            the stored picture
position    centre (x, y) of the visible box of the largest object, fractions of the cropped
            picture from its left top
size        square root of the largest object's visible fraction: the side of a square of its area

The largest object has the largest visible fraction of all but crowds, of equal ones COCO's first
(datasets/nsd/pictures/largest.py). A picture without an object has NaN in position and size.

Letters: I images, H height, W width, C colour channels, M entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.stimuli import iterate_images, read_annotations
from fmri2clip.core.rows import find_rows

Floats = NDArray[np.floating]
SIDE = 4
LUMA = np.array((0.2126, 0.7152, 0.0722), dtype=np.float32)
BLOCK = 100  # pictures in memory at a time


@dataclass(frozen=True, kw_only=True)
class PictureMaps:
    """Maps of pictures by name, float32 (I, M)."""

    nsd_id_I: NDArray[np.int64]
    maps: Mapping[str, Floats]

    def select(self, nsd_id_I: NDArray[np.int64]) -> dict[str, Floats]:
        """The maps of some pictures."""
        row_I = find_rows(self.nsd_id_I, nsd_id_I, "the maps of the test pictures")
        return {name: map_IM[row_I] for name, map_IM in self.maps.items()}


def load_maps(stimuli_path: Path, nsd_id_I: NDArray[np.int64]) -> PictureMaps:
    """All maps of pictures of a stimuli file, in the order given."""
    blocks = [map_pictures(images) for images in iterate_images(stimuli_path, nsd_id_I, BLOCK)]
    if not blocks:
        raise ValueError("no pictures to describe; pass at least one id")
    maps: dict[str, Floats] = {
        name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]
    }
    described = read_annotations(stimuli_path)
    row_I = find_rows(described["nsd_id_I"], nsd_id_I, str(stimuli_path))
    largest_I3 = described["largest_I3"][row_I]
    maps["position"] = largest_I3[:, :2]
    maps["size"] = np.sqrt(largest_I3[:, 2:])
    return PictureMaps(nsd_id_I=nsd_id_I, maps=maps)


def map_pictures(images_IHWC: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """colour, luminance and edges of uint8 pictures (I, H, W, 3)."""
    rgb = images_IHWC.astype(np.float32) / 255
    luma = rgb @ LUMA
    red_green = rgb[..., 0] - rgb[..., 1]
    blue_yellow = rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2
    down, right = np.gradient(luma, axis=(1, 2))
    return {
        "colour": np.concatenate([average_places(red_green), average_places(blue_yellow)], axis=1),
        "luminance": average_places(luma),
        "edges": average_places(np.hypot(down, right)),
    }


def average_places(value_IHW: Floats) -> NDArray[np.float32]:
    """Mean over SIDE x SIDE places, (I, SIDE * SIDE); sizes differ by a pixel where they must."""
    _, height, width = value_IHW.shape
    if min(height, width) < SIDE:
        raise ValueError(
            f"pictures are {height} x {width} pixels; a map of {SIDE} x {SIDE} places needs as many"
        )
    rows = np.linspace(0, height, SIDE + 1).astype(int)
    columns = np.linspace(0, width, SIDE + 1).astype(int)
    # Sums over places, then divided by their sizes: a reshape would need sides that SIDE divides.
    total = np.add.reduceat(np.add.reduceat(value_IHW, rows[:-1], axis=1), columns[:-1], axis=2)
    mean = total / np.outer(np.diff(rows), np.diff(columns))
    return mean.reshape(len(value_IHW), SIDE * SIDE).astype(np.float32)
