"""stimuli.py: any list of picture ids, in any order, against plain indexing."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures import stimuli

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nsd")
    path = layout.stimuli_path(root)
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=PICTURES, chunks=(1, 6, 6, 3))
    return root


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 19), max_size=30), block_size=st.integers(1, 9))
def test_any_order_repeats_and_blocks(root: Path, ids: list[int], block_size: int) -> None:
    expected = PICTURES[np.array(ids, dtype=int)]
    np.testing.assert_array_equal(stimuli.read_images(root, ids), expected)
    blocks = list(stimuli.iterate_images(root, ids, block_size))
    assert [start for start, _ in blocks] == list(range(0, len(ids), block_size))
    assert all(len(images) <= block_size for _, images in blocks)
    np.testing.assert_array_equal(
        np.concatenate([PICTURES[:0], *(images for _, images in blocks)]), expected
    )


def test_shape_and_start(root: Path) -> None:
    assert stimuli.image_shape(root) == (20, 6, 6)
    (start, images), *rest = stimuli.iterate_images(root, [5, 6, 7, 9], 2, start=2)
    assert (start, rest) == (2, [])
    np.testing.assert_array_equal(images, PICTURES[[7, 9]])


def test_errors_name_the_file(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"nsd_stimuli\.hdf5 has pictures 0 to 19, but 3 to 20 are needed"
    ):
        stimuli.read_images(root, [20, 3])
    with pytest.raises(ValueError, match=r"nsd_stimuli\.hdf5 does not exist"):
        stimuli.image_shape(tmp_path)
    path = layout.stimuli_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(layout.stimuli_path(root).read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        stimuli.image_shape(tmp_path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        stimuli.image_shape(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"imgBrick": PICTURES.astype(np.float32)}, r"but one of \(20, 6, 6, 3\) float32"),
        ({"imgBrick": PICTURES.transpose(0, 3, 1, 2)}, r"but one of \(20, 3, 6, 6\) uint8"),
        ({"imgBrick": PICTURES[0]}, r"but one of \(6, 6, 3\) uint8"),
        ({"imgBrick": PICTURES[:0]}, r"but one of \(0, 6, 6, 3\) uint8"),
        ({"images": PICTURES}, "it has images"),
        ({}, "it has nothing"),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    path = layout.stimuli_path(tmp_path)
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with pytest.raises(
        ValueError, match=rf"has no imgBrick of \(images, height, width, 3\) uint8.*{problem}"
    ):
        stimuli.read_images(tmp_path, [0])
