"""Pictures with their NSD ids, and how they are resized before anything is measured.

Letters: I images, H W height and width in pixels (a trailing C of pictures: 3 colours).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize as resize_tensor

from fmri2clip.core.rows import find_rows
from fmri2clip.core.store import MappedRows
from fmri2clip.metrics.pictures.protocols import Protocol, Resize

Images = NDArray[np.uint8] | NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """images_IHWC: uint8 or float in [0, 1] (a generator may overshoot), (I, H, W, 3), of the
    images nsd_id_I.
    """

    nsd_id_I: NDArray[np.int64]
    images_IHWC: Images | MappedRows

    def __post_init__(self) -> None:
        check_images(self.images_IHWC)
        n_ids = len(np.unique(self.nsd_id_I))
        if len(self.nsd_id_I) != len(self.images_IHWC) or n_ids != len(self.nsd_id_I):
            raise ValueError(
                f"{len(self.images_IHWC)} pictures came with {len(self.nsd_id_I)} NSD ids, {n_ids} "
                "of them different; give each picture its own"
            )

    def select(self, nsd_id_I: NDArray[np.int64], what: str) -> PictureSet:
        """The pictures of these ids, in this order. Raises ValueError naming what lacks one."""
        return PictureSet(
            nsd_id_I=nsd_id_I,
            images_IHWC=self.images_IHWC[find_rows(self.nsd_id_I, nsd_id_I, what)],
        )


def check_images(images_IHWC: Images | MappedRows) -> None:
    """Raise ValueError for anything but finite pictures (I, H, W, 3) of uint8 or float."""
    known = images_IHWC.dtype == np.uint8 or np.issubdtype(images_IHWC.dtype, np.floating)
    if not known or images_IHWC.ndim != 4 or images_IHWC.shape[-1] != 3 or images_IHWC.size == 0:
        raise ValueError(
            "pictures must be uint8, or float in [0, 1], of shape (I, H, W, 3), got "
            f"{images_IHWC.dtype} {images_IHWC.shape}"
        )
    if not isinstance(images_IHWC, MappedRows) and images_IHWC.dtype != np.uint8:
        if not np.isfinite(images_IHWC).all():
            rows = np.flatnonzero(~np.isfinite(images_IHWC).all(axis=(1, 2, 3)))
            raise ValueError(
                f"{rows.size} pictures are not finite (first row {rows[0]}); look at the generator"
            )
        # A generator may overshoot 1 a little; 2 says that somebody forgot to divide by 255.
        if images_IHWC.max() > 2.0:
            raise ValueError(
                f"float pictures reach {images_IHWC.max():g}; divide by 255, or pass uint8"
            )


def to_float(images_IHWC: Images) -> NDArray[np.float32]:
    """uint8 as float32 in [0, 1]; float as float32, which is not copied if it is that already."""
    images = images_IHWC.astype(np.float32, copy=False)
    return images / np.float32(255) if images_IHWC.dtype == np.uint8 else images


def to_uint8(images_IHWC: Images) -> NDArray[np.uint8]:
    """Float pictures clamped and rounded to the nearest of 256 levels; uint8 as it is."""
    if images_IHWC.dtype == np.uint8:
        return images_IHWC.astype(np.uint8, copy=False)
    return np.rint(np.clip(images_IHWC, 0.0, 1.0, dtype=np.float64) * 255).astype(np.uint8)


def _resize_tensor(images_IHWC: Images, step: Resize) -> NDArray[np.float32]:
    images = torch.from_numpy(to_float(images_IHWC)).permute(0, 3, 1, 2).contiguous()
    mode = InterpolationMode(step.filter)  # torchvision's names are the protocols'
    resized: NDArray[np.float32] = resize_tensor(
        images, [step.size] * 2, mode, antialias=step.antialias
    ).numpy()
    return np.ascontiguousarray(resized.transpose(0, 2, 3, 1))


def _resize_pillow(images_IHWC: Images, step: Resize) -> NDArray[np.uint8]:
    assert images_IHWC.dtype == np.uint8, "Protocol lets Pillow resize 8-bit pictures only"
    mode = Image.Resampling[step.filter.upper()]
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((step.size, step.size), mode)) for x in images_IHWC]
    )


RESIZERS: Mapping[str, Callable[[Images, Resize], Images]] = {
    "tensor": _resize_tensor,
    "pillow": _resize_pillow,
}


def resize(images_IHWC: Images, step: Resize) -> Images:
    """Pictures of step.size x step.size: float32 by the tensor path, uint8 by Pillow."""
    return RESIZERS[step.library](images_IHWC, step)


def prepare(
    images_IHWC: Images, protocol: Protocol, steps: Sequence[Resize]
) -> NDArray[np.float32]:
    """Pictures after the protocol's common steps and these: float32 (I, size, size, 3)."""
    return resize_rest(resize_common(images_IHWC, protocol), steps)


def resize_common(images_IHWC: Images, protocol: Protocol) -> Images:
    """Pictures after the protocol's common steps.

    In 8-bit protocols they stay 8-bit up to the first step on tensors, as pictures read from PNG
    files do.
    """
    # Rounding to 8 bits clamps as well; it comes before any resize, as a file on disk would.
    images: Images = to_uint8(images_IHWC) if protocol.eight_bit else to_float(images_IHWC)
    if protocol.clamp and not protocol.eight_bit:
        images = np.clip(to_float(images), 0.0, 1.0)
    for step in protocol.common:
        images = resize(images, step)
    return images


def resize_rest(images_IHWC: Images, steps: Sequence[Resize]) -> NDArray[np.float32]:
    """Pictures that went through the common steps, after these: float32 (I, size, size, 3)."""
    for step in steps:
        images_IHWC = resize(images_IHWC, step)
    return to_float(images_IHWC)
