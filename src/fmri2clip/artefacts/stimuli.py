"""Pictures at the size that stages use, their captions and labels: data/stimuli/{train,test}.h5.

Every stage behind cache_stimuli and cache_clip reads these files and no raw one, so that it need
not know which data set the pictures came from.

Letters: I images (ascending NSD id), H W height and width, K captions, C categories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core import store
from fmri2clip.core.rows import find_rows
from fmri2clip.core.schema import Field, Kind, Rows, Value

Images = NDArray[np.uint8]
TRAIN = "train"
TEST = "test"  # the pictures that all subjects see

STIMULI = Kind(
    "stimuli",
    {
        "nsd_id_I": Field("int64", "row of imgBrick"),
        "coco_id_I": Field("int64", "COCO's photograph that it was cut from; of NSD itself", False),
        "name_I": Field("str", "its file; of a folder of own pictures", False),
        "image_IHW3": Field("uint8", "grey level, RGB"),
        "caption_K": Field("str", "text"),
        "caption_image_K": Field("int32", "row of nsd_id_I"),
        "labels_IC": Field("bool", "visible in the crop"),
        "area_IC": Field("float32", "fraction of the cropped picture"),
        "n_objects_I": Field("int16", "visible instances"),
        "category_C": Field("str", "COCO name"),
        "largest_I3": Field(
            "float32", "x and y of the largest object's centre, its visible fraction"
        ),
    },
)


def write_stimuli(path: Path, arrays: Mapping[str, Value | Rows]) -> None:
    """Write one file; pictures may come as Rows, block by block."""
    store.write(path, STIMULI, arrays)


def read_annotations(path: Path) -> store.Arrays:
    """Everything but the pictures and their photographs."""
    names = [name for name, field in STIMULI.fields.items() if field.required]
    return store.read(path, STIMULI, [name for name in names if name != "image_IHW3"])


def read_photographs(path: Path) -> NDArray[np.int64]:
    """COCO ids of the photographs that NSD's pictures were cut from (I).

    Raises ValueError for a file of other pictures.
    """
    return store.read(path, STIMULI, ["coco_id_I"])["coco_id_I"]


def read_names(path: Path) -> dict[int, str]:
    """Id -> name of the file that a picture came from.

    Raises ValueError for a file of other pictures than those of a folder.
    """
    arrays = store.read(path, STIMULI, ["nsd_id_I", "name_I"])
    return dict(zip(arrays["nsd_id_I"].tolist(), arrays["name_I"].tolist(), strict=True))


def image_shape(path: Path) -> tuple[int, int, int]:
    """(number of pictures, height, width) of the file."""
    n, height, width, _ = store.shape(path, STIMULI, "image_IHW3")
    return n, height, width


def read_images(path: Path, nsd_id_I: Sequence[int] | NDArray[Any]) -> Images:
    """Pictures (I, H, W, 3) in the order of the ids, which may repeat.

    Raises ValueError for an id that the file lacks.
    """
    row_I = _find(path, nsd_id_I)
    return store.read_rows(path, STIMULI, "image_IHW3", row_I)


def map_images(path: Path, nsd_id_I: Sequence[int] | NDArray[Any]) -> store.MappedRows:
    """The same pictures, read from the file where they are looked at."""
    row_I = _find(path, nsd_id_I)
    return store.MappedRows(store.map_array(path, STIMULI, "image_IHW3", "r"), row_I)


def iterate_images(
    path: Path, nsd_id_I: Sequence[int] | NDArray[Any], block_size: int
) -> Iterator[Images]:
    """Blocks of at most block_size pictures, in the order of the ids."""
    row_I = _find(path, nsd_id_I)
    for start in range(0, len(row_I), block_size):
        yield store.read_rows(path, STIMULI, "image_IHW3", row_I[start : start + block_size])


def make_reader(*paths: Path) -> Callable[[Sequence[int] | NDArray[Any]], Images]:
    """A function that reads pictures by id from several files, such as train and test.

    The files' pictures must have one size; an id in none of them raises ValueError.
    """
    ids = [store.read(path, STIMULI, ["nsd_id_I"])["nsd_id_I"] for path in paths]

    def read(nsd_id_I: Sequence[int] | NDArray[Any]) -> Images:
        wanted_I = np.asarray(nsd_id_I, dtype=np.int64)
        height_width_3 = store.shape(paths[0], STIMULI, "image_IHW3")[1:]
        images = np.empty((len(wanted_I), *height_width_3), dtype=np.uint8)
        left_I = np.ones(len(wanted_I), dtype=bool)
        for path, known in zip(paths, ids, strict=True):
            here_I = np.isin(wanted_I, known)
            images[here_I] = read_images(path, wanted_I[here_I])
            left_I &= ~here_I
        if left_I.any():
            names = " and ".join(str(path) for path in paths)
            raise ValueError(f"{names} lack picture {wanted_I[left_I][0]}; run cache_stimuli again")
        return images

    return read


def _find(path: Path, nsd_id_I: Sequence[int] | NDArray[Any]) -> NDArray[np.intp]:
    known = store.read(path, STIMULI, ["nsd_id_I"])["nsd_id_I"]
    return find_rows(known, np.asarray(nsd_id_I, dtype=np.int64), str(path))
