"""NSD's answers about the pictures and what COCO says of them (datasets/interface.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmri2clip.datasets.interface import Ints
from fmri2clip.datasets.nsd import design
from fmri2clip.datasets.nsd.pictures import coco, stimuli
from fmri2clip.datasets.nsd.pictures.largest import find_largest


@dataclass(frozen=True)
class NsdPictures:
    """Pictures of an NSD tree. min_area: visible fraction from which an object counts."""

    root: Path
    sessions: str | int
    min_area: float

    def seen(self, subjects: Sequence[str]) -> dict[str, Ints]:
        """What the design shows in the sessions asked for."""
        return design.list_pictures(self.root, subjects, self.sessions)

    def size(self) -> tuple[int, int]:
        """Of imgBrick."""
        return stimuli.image_shape(self.root)[1:]

    def iterate(
        self, nsd_id_I: Ints, block_size: int, start: int = 0
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Rows of imgBrick."""
        return stimuli.iterate_images(self.root, nsd_id_I, block_size, start)

    def annotations(self, nsd_id_I: Ints) -> coco.Annotations:
        """Captions and objects of COCO."""
        return coco.load_annotations(self.root, nsd_id_I, min_area=self.min_area)

    def largest(self, nsd_id_I: Ints) -> NDArray[np.float32]:
        """By COCO's boxes."""
        return find_largest(self.root, nsd_id_I, min_area=self.min_area)
