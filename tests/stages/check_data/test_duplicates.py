"""duplicates.py: planted copies are found, and every pair is what a plain loop with numpy's
corrcoef finds.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_data import duplicates

N_SHARED, N_TRAIN, SIZE = 12, 90, 48  # thumbnails of 16 x 16 are means of 3 x 3 pixels
COPIES = {20: 3, 45: 7, 88: 3}  # training -> shared picture
PHOTOGRAPH = {45: 7, 60: 9}  # training -> shared picture with the same cocoId


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Smooth blobs of colour."""
    small = rng.integers(0, 200, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Shared pictures first.

    Copies: resized there and back; brightened by a quarter; compressed hard.
    """
    rng = np.random.default_rng(0)
    brick = np.stack([_scene(rng) for _ in range(N_SHARED + N_TRAIN)])
    resized = Image.fromarray(brick[3]).resize((31, 31)).resize((SIZE, SIZE))
    brick[20] = np.asarray(resized)
    brick[45] = np.minimum(brick[7] * 1.25, 255).astype(np.uint8)
    brick[88] = brick[3] // 16 * 16
    brick[30] = 77  # no pattern
    return brick


@pytest.fixture(scope="module")
def root(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nsd")
    layout.stimuli_dir(root).mkdir(parents=True)
    with h5py.File(layout.stimuli_path(root), "w") as file:
        file["imgBrick"] = pictures
    rows = [f'{k},train2017,"(0, 0, 0, 0)",{k}' for k in range(len(pictures))]
    for train, shared in PHOTOGRAPH.items():
        rows[train] = f'{shared},train2017,"(0, 0, 0, 0)",{train}'
    layout.experiments_dir(root).mkdir(parents=True)
    layout.stim_info_path(root).write_text("\n".join(["cocoId,cocoSplit,cropBox,nsdId", *rows]))
    return root


def _find(root: Path) -> duplicates.Duplicates:
    return duplicates.find_duplicates(
        root, np.arange(N_SHARED), np.arange(N_SHARED, N_SHARED + N_TRAIN)
    )


def _loop(pictures: np.ndarray) -> dict[tuple[int, int], float]:
    """(shared, train) -> correlation of means over 3 x 3 pixels."""
    thumbs = [
        im.reshape(16, 3, 16, 3, 3).mean(axis=(1, 3)).ravel() for im in pictures.astype(float)
    ]
    return {
        (i, j): np.corrcoef(thumbs[i], thumbs[j])[0, 1]
        for i in range(N_SHARED)
        for j in range(N_SHARED, N_SHARED + N_TRAIN)
        if thumbs[j].std() > 0
    }


def test_pairs_against_a_loop(root: Path, pictures: np.ndarray) -> None:
    found, expected = (
        _find(root),
        {pair: r for pair, r in _loop(pictures).items() if r > duplicates.THRESHOLD},
    )
    assert {(pair.shared, pair.train) for pair in found.pairs} == set(expected)
    assert set(expected) == {(shared, train) for train, shared in COPIES.items()}, (
        "copies and nothing else"
    )
    assert all(abs(pair.r - expected[pair.shared, pair.train]) < 2e-3 for pair in found.pairs)
    assert [pair.r for pair in found.pairs] == sorted(
        (pair.r for pair in found.pairs), reverse=True
    )
    assert found.n_pairs == 3


def test_every_correlation_against_a_loop(
    root: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "THRESHOLD", 0.1)
    monkeypatch.setattr(duplicates, "MAX_LISTED", 10**6)
    found, expected = {(p.shared, p.train): p.r for p in _find(root).pairs}, _loop(pictures)
    assert len(found) > 30
    assert all(abs(r - expected[pair]) < 3e-3 for pair, r in found.items())
    assert {pair for pair, r in expected.items() if r > 0.11} <= set(found)


def test_flat_pictures_and_equal_photographs(root: Path) -> None:
    found = _find(root)
    assert found.flat == [30]
    assert found.same_photograph == [(7, 45), (9, 60)] and found.n_same_photograph == 2


def test_long_lists_are_cut_but_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _find(root)
    monkeypatch.setattr(duplicates, "MAX_LISTED", 2)
    monkeypatch.setattr(duplicates, "BLOCK", 7)  # ties and cuts do not depend on the blocks
    cut = _find(root)
    assert (cut.n_pairs, cut.pairs) == (3, whole.pairs[:2])


def test_report_holds_numbers_only(root: Path) -> None:
    content = json.loads(json.dumps(_find(root).as_json()))
    assert content["n_pairs"] == 3 and content["n_flat"] == 1
    assert content["pairs"][0].keys() == {"shared", "train", "r"}
    assert content["same_photograph"] == [{"shared": 7, "train": 45}, {"shared": 9, "train": 60}]


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (1, 20), (0.6, 30)])
def test_brightness_and_contrast_do_not_matter(
    pictures: np.ndarray, gain: float, offset: float
) -> None:
    changed = (pictures[:5] * gain + offset).clip(0, 255).astype(np.uint8)
    pairs = (duplicates.make_thumbnails(pictures[:5]) * duplicates.make_thumbnails(changed)).sum(
        axis=1
    )
    assert pairs.min() > 0.99
