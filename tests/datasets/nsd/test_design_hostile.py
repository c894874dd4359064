"""design.py against files that are no design, and designs that are impossible: each a clear
error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from fmri2clip.datasets.nsd import design, layout
from tests.stages.check_data.check_world import small_mat


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is a web page or an error message of a server"),
        (
            b"\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "an error message of a server",
        ),
        (b"\x89HDF\r\n\x1a\n", "is a MATLAB 7.3 file"),
        (b"MATLAB 7.3 MAT-file".ljust(512), "is a MATLAB 7.3 file"),
        (b"", "is empty"),
        (bytes(4000), "cannot be read as a MATLAB 5 file"),
    ],
)
def test_other_files_are_recognised(tmp_path: Path, content: bytes, problem: str) -> None:
    path = layout.expdesign_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as error:
        design.load_design(tmp_path)
    assert str(error.value).startswith(str(path)) and "download it again" in str(error.value)


def _changed(
    name: str, index: tuple[int, int], value: int
) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value

    return change


def _as(
    name: str, convert: Callable[[np.ndarray], np.ndarray]
) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = convert(arrays[name])

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_changed("masterordering", (0, 3), 0), r"masterordering leaves 1\.\.500: trial 4 shows 0"),
        (
            _changed("masterordering", (0, 7), 501),
            r"masterordering leaves 1\.\.500: trial 8 shows 501",
        ),
        (_changed("subjectim", (2, 100), 0), "an id of subjectim is below 1: 0"),
        (_changed("subjectim", (2, 100), 73_001), "above the 73000 pictures of NSD: 73001"),
        (
            _changed("subjectim", (0, 5), 77),
            "the first 20 columns of subjectim differ between subjects",
        ),
        (_changed("subjectim", (0, 101), 121), "subjectim names a picture twice for one subject"),
        (_changed("sharedix", (0, 5), 77), "the first 20 columns of subjectim are not sharedix"),
        (
            _as("masterordering", lambda a: a.astype(float)),
            "masterordering is float64 of shape .*not a table of int",
        ),
        (
            _as("masterordering", lambda a: a.astype(str)),
            "masterordering is <U.* not a table of integers",
        ),
        (
            _as("masterordering", lambda a: a[:, :750]),
            "masterordering has 750 trials, not 3 for each of 500 pictures",
        ),
        (
            _as("masterordering", lambda a: a[:, :700]),
            "masterordering has 700 trials, no multiple of 750",
        ),
        (_as("masterordering", lambda a: a[:, :0]), "masterordering has 0 trials"),
        (_as("subjectim", lambda a: a[:7]), "subjectim has 7 rows, not 8"),
        (_as("subjectim", lambda a: a.astype(object)), "subjectim is object"),
        (
            _as("sharedix", lambda a: np.tile(a, 40)),
            "sharedix has 800 pictures, subjectim only 500",
        ),
    ],
)
def test_impossible_designs(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None], problem: str
) -> None:
    mat = scipy.io.loadmat(small_mat(tmp_path))
    arrays = {name: mat[name] for name in ("masterordering", "subjectim", "sharedix")}
    design.make_design(**arrays)
    change(arrays)
    with pytest.raises(ValueError, match=problem):
        design.make_design(**arrays)


def test_a_variable_is_missing(tmp_path: Path) -> None:
    small_mat(tmp_path, subjectim=None)
    with pytest.raises(ValueError, match=r"nsd_expdesign\.mat lacks subjectim; download it again"):
        design.load_design(tmp_path)
