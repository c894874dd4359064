"""Every kind of file that stages exchange: what is written is what is read, and what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmri2clip.artefacts import clip_cache, reconstructions, scores, stimuli, trials
from fmri2clip.core.schema import Field, Kind

SIZES = {"N": 6, "I": 4, "V": 3, "S": 2, "D": 5, "K": 7, "C": 2, "M": 2, "G": 2, "P": 1}
SIZES |= {"T": 3, "W": 4, "U": 2, "H": 8}


def draw(kind: Kind, rng: np.random.Generator) -> dict[str, Any]:
    """Random arrays of every field of a kind, optional ones included, a pattern under one name."""
    arrays = {}
    for name, field in kind.fields.items():
        key = name.replace("*", "3")
        sizes = [SIZES.get(axis, 0) or int(axis) for axis in key.rsplit("_", 1)[1]]
        arrays[key] = draw_array(field, sizes, rng)
    return arrays


def draw_array(field: Field, sizes: list[int], rng: np.random.Generator) -> Any:
    if field.dtype == "str":
        count = rng.integers(0, 100, sizes)
        return np.array([f"ünit {k}" for k in count.flat], dtype=object).reshape(sizes)
    if field.dtype == "bool":
        return rng.random(sizes) < 0.5
    if field.dtype.startswith("float"):
        return rng.standard_normal(sizes).astype(field.dtype)
    return rng.integers(0, 100, sizes).astype(field.dtype)


ROUND_TRIPS: dict[str, tuple[Kind, Callable[..., None], Callable[..., Any]]] = {
    "betas": (trials.BETAS, trials.write_betas, trials.read_betas),
    "voxels": (trials.VOXELS, trials.write_voxels, trials.read_voxels),
    "noise_free": (trials.NOISE_FREE, trials.write_noise_free, trials.read_noise_free),
    "clip": (clip_cache.CLIP, clip_cache.write_cache, clip_cache.read_cache),
    "reconstructions": (
        reconstructions.RECONSTRUCTIONS,
        reconstructions.write_reconstructions,
        reconstructions.read_reconstructions,
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_what_is_written_is_read(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    kind, write, read = ROUND_TRIPS[name]
    arrays = draw(kind, rng)
    path = tmp_path / "folder" / f"{name}.h5"
    write(path, arrays)
    found = read(path)
    assert set(found) == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
    with h5py.File(path) as file:
        assert file.attrs["kind"] == name == kind.name


def test_predictions_keep_their_groups(tmp_path: Path, rng: np.random.Generator) -> None:
    groups = {subject: draw(scores.PREDICTIONS, rng) for subject in ("subj02", "subj01")}
    scores.write_predictions(tmp_path / "p.h5", groups, {"clip": "mini"})
    assert scores.list_groups(tmp_path / "p.h5") == ["subj01", "subj02"]
    for subject, arrays in groups.items():
        found = scores.read_predictions(tmp_path / "p.h5", group=subject)
        assert found.attrs["clip"] == "mini"
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)


def test_noise_free_responses_of_real_data_are_none(tmp_path: Path) -> None:
    nothing = {
        "ijk_V3": np.zeros((0, 3), np.int16),
        "nsd_id_I": np.zeros(0, np.int64),
        "betas_IV": np.zeros((0, 0), np.float32),
    }
    trials.write_noise_free(tmp_path / "real.h5", nothing)
    assert trials.read_noise_free(tmp_path / "real.h5") is None


def write_stimuli(path: Path, ids: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    n = len(ids)
    arrays = {
        "nsd_id_I": ids,
        "image_IHW3": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        "caption_K": [f"caption {k}" for k in range(2 * n)],
        "caption_image_K": np.repeat(np.arange(n), 2),
        "labels_IC": rng.random((n, 2)) < 0.5,
        "area_IC": rng.random((n, 2)),
        "n_objects_I": np.ones(n, dtype=np.int16),
        "category_C": ["cat", "dog"],
        "largest_I3": rng.random((n, 3)),
    }
    stimuli.write_stimuli(path, arrays)
    return arrays


def test_pictures_are_found_by_id_in_any_order(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "train.h5"
    ids = np.array([3, 4, 5, 9, 20, 21])
    arrays = write_stimuli(path, ids, rng)
    wanted = np.array([20, 3, 9, 4, 20])
    expected = np.stack([arrays["image_IHW3"][list(ids).index(i)] for i in wanted])
    np.testing.assert_array_equal(stimuli.read_images(path, wanted), expected)
    blocks = list(stimuli.iterate_images(path, wanted, 2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    assert stimuli.image_shape(path) == (6, 8, 8)
    described = stimuli.read_annotations(path)
    assert "image_IHW3" not in described
    np.testing.assert_array_equal(described["largest_I3"], arrays["largest_I3"].astype(np.float32))
    with pytest.raises(ValueError, match=r"train\.h5 lacks 1 of 2 images \(first NSD id 7\)"):
        stimuli.read_images(path, [3, 7])


def test_one_reader_of_two_files(tmp_path: Path, rng: np.random.Generator) -> None:
    parts = {name: tmp_path / f"{name}.h5" for name in ("train", "test")}
    train = write_stimuli(parts["train"], np.array([1, 4]), rng)["image_IHW3"]
    test = write_stimuli(parts["test"], np.array([2, 3]), rng)["image_IHW3"]
    read = stimuli.make_reader(*parts.values())
    found = read([3, 1, 2, 4])
    np.testing.assert_array_equal(found, np.stack([test[1], train[0], test[0], train[1]]))
    with pytest.raises(ValueError, match="lack picture 8; run cache_stimuli again"):
        read([1, 8])
