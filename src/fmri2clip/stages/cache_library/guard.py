"""Keeps pictures of the test set out of a library.

Refused are their ids, the same pixels, and what is almost one of them: a correlation of thumbnails
above THRESHOLD (metrics/pictures/thumbnails.py). This is all that test pictures are looked at for.

Letters: I test pictures, J pictures that are asked about, F values of a thumbnail.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.stimuli import iterate_images, read_annotations
from fmri2clip.metrics.pictures.thumbnails import THRESHOLD, make_thumbnails

Array = NDArray[Any]
BLOCK = 64  # pictures in memory
REASONS = ("test_id", "same_pixels", "near_duplicate")


@dataclass(kw_only=True)
class Guard:
    """What is known of the test pictures, and how many were refused, by reason.

    keep: near-duplicates are counted and accepted.
    """

    nsd_id_I: Array
    pixels: set[str]
    thumb_IF: NDArray[np.float32]
    keep: bool = False
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))

    @classmethod
    def of(cls, test_path: Path, keep: bool = False) -> Guard:
        """Of the pictures in data/stimuli/test.h5."""
        nsd_id_I = read_annotations(test_path)["nsd_id_I"]
        pixels: set[str] = set()
        thumbs = []
        for images_IHWC in iterate_images(test_path, nsd_id_I, BLOCK):
            pixels |= {_digest(image_HWC) for image_HWC in images_IHWC}
            thumbs.append(make_thumbnails(images_IHWC))
        return cls(nsd_id_I=nsd_id_I, pixels=pixels, thumb_IF=np.concatenate(thumbs), keep=keep)

    def accept(self, nsd_id_J: Array, images_JHWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of these pictures may be used; of others than NSD's the ids are negative."""
        is_id_J = np.isin(nsd_id_J, self.nsd_id_I)
        is_same_J = np.array([_digest(image_HWC) in self.pixels for image_HWC in images_JHWC])
        is_same_J &= ~is_id_J
        r_JI = make_thumbnails(images_JHWC) @ self.thumb_IF.T
        is_near_J = (r_JI.max(axis=1) > THRESHOLD) & ~is_id_J & ~is_same_J
        for reason, found_J in zip(REASONS, (is_id_J, is_same_J, is_near_J), strict=True):
            self.refused[reason] += int(found_J.sum())
        accepted_J: NDArray[np.bool_] = ~(is_id_J | is_same_J)
        return accepted_J if self.keep else accepted_J & ~is_near_J


def _digest(image_HWC: NDArray[np.uint8]) -> str:
    content = np.ascontiguousarray(image_HWC)
    return hashlib.sha256(str(content.shape).encode() + content.tobytes()).hexdigest()
