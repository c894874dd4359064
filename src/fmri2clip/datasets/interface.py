"""What a data set must answer: the door between raw files and the pipeline.

Recordings are the responses of one subject, asked by extract_rois; Pictures are what was shown,
asked by cache_stimuli and cache_clip. The Natural Scenes Dataset (datasets/nsd) answers them, and a
folder of anybody's experiment does (datasets/folder); recordings.py and pictures.py choose. Nothing
behind these three stages knows which it was.

A picture has an id, an integer: the row of imgBrick in NSD, the place among the folder's pictures
otherwise. `nsd_id` in names of arrays is that id, whatever the data set. Letters: N trials, T the
trials of a session, I images, V voxels, G columns (ROIs, their labels, groups), K captions, C
categories, S sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Groups = Mapping[str, Sequence[str]]  # name -> entries, whose union it is

GROUP_PREFIX = "group/"  # in front of a group's name among the columns


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The trials of one subject, in time order, sessions one after the other."""

    trial_N: Ints  # 1-based
    session_N: Ints  # 1-based, without gaps
    nsd_id_N: Ints  # id of the picture
    repetition_N: Ints  # 1, 2, 3, ...: which presentation of its picture
    is_shared_N: NDArray[np.bool_]  # picture belongs to the test set


@dataclass(frozen=True, kw_only=True)
class Rois:
    """Voxels of a subject and the members of every ROI among them."""

    mask: Mask  # (X, Y, Z), all of the voxels
    ijk_V3: NDArray[np.int16]  # zero-based X, Y, Z
    roi_VG: NDArray[np.bool_]
    names_G: list[str]  # 'prf-visualrois', 'prf-visualrois/V1v', ..., 'group/low', ...


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What is known about a list of pictures; without captions or labels, K or C is 0."""

    nsd_id_I: Ints
    caption_K: list[str]  # at most five of every picture
    caption_image_K: NDArray[np.int32]  # row of nsd_id_I
    labels_IC: NDArray[np.bool_]
    # visible objects' area as a fraction of the picture, summed, at most 1
    area_IC: NDArray[np.float32]
    n_objects_I: NDArray[np.int16]  # visible objects
    category_C: tuple[str, ...]


class Recordings(Protocol):
    """Responses of one subject."""

    @property
    def preparation(self) -> str:
        """What was done to the betas, in a word that attributes of files keep; may be ''."""
        ...

    @property
    def place(self) -> str:
        """Where the betas lie, for messages."""
        ...

    @property
    def repetitions(self) -> int:
        """Presentations of a picture that counts for the noise ceiling; 0: any number above 1."""
        ...

    @property
    def scale(self) -> float:
        """Stored numbers are betas (percent signal change) times this."""
        ...

    def kept(self) -> Mapping[str, float | str]:
        """What models keep to read such files again, as attributes of a file.

        betas_scale: `scale`; session_labels: a JSON list, in the order of sessions; grid, affine:
        JSON, of the volumes, where they are known. Empty for NSD, whose files tell.
        """
        ...

    @property
    def is_local(self) -> bool:
        """False: sessions come one after the other, so reading several at once gains nothing."""
        ...

    def trials(self) -> Trials:
        """All trials that are used."""
        ...

    def rois(self, groups: Groups) -> Rois:
        """The voxels, with a column for every ROI and group; an empty group raises ValueError."""
        ...

    def ncsnr(self, rois: Rois) -> Array | None:
        """Noise ceiling signal-to-noise ratio (V) that comes with the data; None if none does."""
        ...

    def read(self, session: int, rois: Rois) -> Array:
        """Stored numbers (T, V) of a session (1-based), its trials in their order; no NaN: a voxel
        without signal is constant.
        """
        ...

    def noise_free(self) -> Mapping[str, Array] | None:
        """ijk_V3, nsd_id_I and betas_IV before noise, which only a simulation knows."""
        ...

    def identity(self, n_sessions: int) -> Any:
        """What tells these sessions from others, for the key of a resume folder."""
        ...

    def close(self) -> None:
        """Remove what is left of the sessions; called once they are all read."""
        ...


class Pictures(Protocol):
    """Pictures that were shown, with what is known about them."""

    def seen(self, subjects: Sequence[str]) -> dict[str, Ints]:
        """Ascending ids of what these subjects saw: 'train', and 'shared', the test set."""
        ...

    def size(self) -> tuple[int, int]:
        """Height and width of every picture, in pixels."""
        ...

    def iterate(
        self, nsd_id_I: Ints, block_size: int, start: int = 0
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(Position of the first id, pictures (I, H, W, 3)) in blocks, from position start on."""
        ...

    def annotations(self, nsd_id_I: Ints) -> Annotations:
        """Captions and labels in the order given."""
        ...

    def largest(self, nsd_id_I: Ints) -> NDArray[np.float32]:
        """(I, 3): centre (x, y) and visible fraction of the largest object; NaN where unknown."""
        ...
