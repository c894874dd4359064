"""store.py and schema.py: round trips, repeatable bytes, refusals, resumable streams."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmri2clip.artefacts.clip_cache import CLIP
from fmri2clip.artefacts.reconstructions import RECONSTRUCTIONS
from fmri2clip.artefacts.scores import PREDICTIONS
from fmri2clip.artefacts.stimuli import STIMULI, map_images
from fmri2clip.artefacts.trials import BETAS, NOISE_FREE, VOXELS
from fmri2clip.core import store
from fmri2clip.core.files import replacing
from fmri2clip.core.schema import Rows

KINDS = (BETAS, VOXELS, NOISE_FREE, CLIP, STIMULI, PREDICTIONS, RECONSTRUCTIONS)


def _betas(n_trials: int = 5, n_voxels: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "betas_NV": rng.standard_normal((n_trials, n_voxels)),
        "nsd_id_N": np.arange(n_trials),
        "session_N": np.ones(n_trials, dtype=int),
        "trial_N": np.arange(1, n_trials + 1),
        "repetition_N": np.ones(n_trials, dtype=np.int64),
    }


def _clip(n_images: int = 4, n_captions: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "nsd_id_I": np.arange(n_images),
        "image_embedding_ID": rng.standard_normal((n_images, 8)),
        "text_embedding_KD": rng.standard_normal((n_captions, 8)),
        "caption_K": [f"a pïcture {k}" for k in range(n_captions)],
        "caption_image_K": np.arange(n_captions) % n_images,
        "labels_IC": np.zeros((n_images, 2), dtype=bool),
        "area_IC": np.zeros((n_images, 2)),
        "n_objects_I": np.zeros(n_images, dtype=int),
        "category_C": ["cat", "dog"],
        "present_C": np.array([True, False]),
        "prompt_P": ["a photo of a {category}"],
        "prompt_embedding_PCD": rng.standard_normal((1, 2, 8)),
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_name_ends_with_axes() -> None:
    for kind in KINDS:
        assert all(re.fullmatch(r"[A-Z0-9]+", name.rsplit("_", 1)[1]) for name in kind.fields)


def test_round_trip_casts_and_describes(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "betas.h5"
    store.write(path, BETAS, _betas(), {"subject": "subj01", "sessions": 2})
    read = store.read(path, BETAS)
    assert read["betas_NV"].dtype == np.float16 and read["repetition_N"].dtype == np.int8
    np.testing.assert_array_equal(read["betas_NV"], _betas()["betas_NV"].astype(np.float16))
    assert read.attrs == {"kind": "betas", "subject": "subj01", "sessions": 2}
    with h5py.File(path) as file:
        assert file["betas_NV"].attrs["axes"] == "NV" and file["betas_NV"].attrs["unit"] == "z"
    assert [p.name for p in path.parent.iterdir()] == ["betas.h5"]


def test_text_and_partial_read(tmp_path: Path) -> None:
    store.write(tmp_path / "clip.h5", CLIP, _clip())
    read = store.read(tmp_path / "clip.h5", CLIP, ["caption_K", "nsd_id_I"])
    assert read["caption_K"].tolist() == _clip()["caption_K"]
    assert sorted(read) == ["caption_K", "nsd_id_I"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    store.write(tmp_path / "a.h5", CLIP, _clip(), {"clip": "mini", "model": "x"})
    store.write(
        tmp_path / "b.h5", CLIP, dict(reversed(_clip().items())), {"model": "x", "clip": "mini"}
    )
    assert _digest(tmp_path / "a.h5") == _digest(tmp_path / "b.h5")


def test_groups_have_their_own_sizes(tmp_path: Path) -> None:
    def scores(n_images: int) -> dict[str, Any]:
        return {
            "nsd_id_I": np.arange(n_images),
            "embedding_ID": np.zeros((n_images, 4)),
            "metric_M": ["top1"],
            "score_IM": np.full((n_images, 1), np.nan),
            "score_weight_IM": np.zeros((n_images, 1)),
        }

    path = tmp_path / "predictions.h5"
    store.write_groups(path, PREDICTIONS, {"subj02": scores(3), "subj01": scores(2)})
    assert store.groups(path, PREDICTIONS) == ["subj01", "subj02"]
    assert store.read(path, PREDICTIONS, group="subj02")["embedding_ID"].shape == (3, 4)
    with pytest.raises(ValueError, match=r"subj07.*subj01, subj02"):
        store.read(path, PREDICTIONS, group="subj07")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nsd_id_N": np.arange(4)}, "4 along N"),
        ({"betas_NV": np.zeros(5)}, "its axes are NV"),
        ({"colour_N": np.zeros(5)}, "not an array of kind"),
        ({"nsd_id_N": np.zeros(5)}, "is float64"),
        ({"repetition_N": np.full(5, 300)}, "cannot hold"),
        ({"betas_NV": np.full((5, 3), 1e6)}, "cannot hold"),
    ],
)
def test_writer_keeps_the_schema(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        store.write(tmp_path / "x.h5", BETAS, _betas() | change)
    assert list(tmp_path.iterdir()) == []


def test_required_and_optional(tmp_path: Path) -> None:
    arrays = _betas()
    del arrays["trial_N"]
    with pytest.raises(AssertionError, match="needs trial_N"):
        store.write(tmp_path / "x.h5", BETAS, arrays)
    store.write(tmp_path / "y.h5", CLIP, _clip() | {"block_3_ITW": np.zeros((4, 2, 5))})
    assert store.read(tmp_path / "y.h5", CLIP)["block_3_ITW"].shape == (4, 2, 5)


def test_reader_refuses(tmp_path: Path) -> None:
    path = tmp_path / "betas.h5"
    with pytest.raises(ValueError, match="does not exist"):
        store.read(path, BETAS)
    store.write(path, BETAS, _betas())
    with pytest.raises(ValueError, match="of kind 'betas', not 'clip'"):
        store.read(path, CLIP)
    with pytest.raises(ValueError, match="has no 'noise_free_IV'"):
        store.read(path, BETAS, ["noise_free_IV"])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        store.read(path, BETAS)
    with h5py.File(path, "w") as file:
        file.attrs["kind"] = "betas"
        file["betas_NV"] = np.zeros(3)
    with pytest.raises(ValueError, match="does not hold what a 'betas' file must"):
        store.read(path, BETAS)


def test_replacing_is_all_or_none(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a", tmp_path / "b") as (first, second):
            first.write_text("new")
            second.write_text("new")
            raise RuntimeError("killed")

    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


STREAMED = ["image_embedding_ID", "text_embedding_KD", "block_1_ITW"]


def _stream(path: Path, partial: Path, attrs: dict[str, str] | None = None) -> store.Stream:
    fixed = {name: value for name, value in _clip().items() if name not in STREAMED}
    return store.open_stream(
        path,
        CLIP,
        fixed=fixed,
        sizes={"D": 8, "T": 2, "W": 3},
        names=STREAMED,
        attrs=attrs,
        partial=partial,
    )


def _rows(name: str) -> np.ndarray:
    block = np.arange(24.0).reshape(4, 2, 3)
    return (_clip() | {"block_1_ITW": block})[name]


@pytest.mark.parametrize("size", [0, 60, 130, -1])
def test_a_block_that_ends_too_early_is_written_again(tmp_path: Path, size: int) -> None:
    first = _stream(tmp_path / "streamed.h5", tmp_path / "partial")
    for name in STREAMED:
        first.write(name, 0, _rows(name)[:3])
    (block,) = (tmp_path / "partial").glob(f"{STREAMED[0]}-*.npy")
    block.write_bytes(block.read_bytes()[:size])
    second = _stream(tmp_path / "streamed.h5", tmp_path / "partial")
    assert [second.rows_done(name) for name in STREAMED] == [0] + [3] * (len(STREAMED) - 1)


def test_stream_equals_a_single_write_after_interruption(tmp_path: Path) -> None:
    streamed, partial = tmp_path / "streamed.h5", tmp_path / "partial"
    first = _stream(streamed, partial)
    assert first.rows_done() == 0
    for name in STREAMED:
        first.write(name, 0, _rows(name)[:3])
    first.write("block_1_ITW", 3, _rows("block_1_ITW")[3:])
    with pytest.raises(AssertionError, match="has 3 of"):
        first.close()
    assert not streamed.exists()

    with _stream(streamed, partial) as second:
        assert second.rows_done() == second.rows_done("text_embedding_KD") == 3
        assert second.rows_done("block_1_ITW") == 4
        second.write("image_embedding_ID", 3, _rows("image_embedding_ID")[3:])
        second.write("text_embedding_KD", 3, _rows("text_embedding_KD")[3:5])
        second.write("text_embedding_KD", 5, _rows("text_embedding_KD")[5:])
    assert not partial.exists()
    read = store.read(streamed, CLIP)
    for name in STREAMED:
        np.testing.assert_array_equal(read[name], _rows(name).astype(np.float16))

    with _stream(tmp_path / "again.h5", partial) as third:
        for name in STREAMED:
            third.write(name, 0, _rows(name))
    assert _digest(tmp_path / "again.h5") == _digest(streamed)


def test_stream_starts_anew_for_other_inputs(tmp_path: Path) -> None:
    _stream(tmp_path / "x.h5", tmp_path / "partial").write("block_1_ITW", 0, _rows("block_1_ITW"))
    assert _stream(tmp_path / "x.h5", tmp_path / "partial").rows_done("block_1_ITW") == 4
    assert (
        _stream(tmp_path / "x.h5", tmp_path / "partial", {"clip": "other"}).rows_done("block_1_ITW")
        == 0
    )


def test_stream_refuses_gaps_and_shapes(tmp_path: Path) -> None:
    stream = _stream(tmp_path / "x.h5", tmp_path / "partial")
    with pytest.raises(AssertionError, match="does not follow"):
        stream.write("image_embedding_ID", 2, _rows("image_embedding_ID")[2:])
    with pytest.raises(AssertionError, match="has shape"):
        stream.write("image_embedding_ID", 0, np.zeros((2, 9)))
    with pytest.raises(AssertionError, match="do not fit"):
        stream.write("image_embedding_ID", 0, np.zeros((5, 8)))


def _betas_in_rows(blocks: list[np.ndarray], shape: tuple[int, ...] = (5, 3)) -> dict[str, Any]:
    return _betas() | {"betas_NV": Rows(shape, iter(blocks))}


@pytest.mark.parametrize("cuts", [[], [2], [0, 1, 4, 5]])
def test_rows_give_the_bytes_of_the_whole_array(tmp_path: Path, cuts: list[int]) -> None:
    store.write(tmp_path / "whole.h5", BETAS, _betas(), {"subject": "subj01"})
    store.write(
        tmp_path / "rows.h5",
        BETAS,
        _betas_in_rows(np.split(_betas()["betas_NV"], cuts)),
        {"subject": "subj01"},
    )
    assert _digest(tmp_path / "rows.h5") == _digest(tmp_path / "whole.h5")


@pytest.mark.parametrize(
    ("blocks", "shape", "message"),
    [
        ([np.zeros((4, 3))], (5, 3), "have 4 rows, the array has 5"),
        ([np.zeros((4, 3)), np.zeros((2, 3))], (5, 3), "have 6 rows or more"),
        ([np.zeros((5, 1))], (5, 3), "block of betas_NV has shape"),
        ([np.full((5, 3), 1e6)], (5, 3), "cannot hold"),
        ([np.zeros((5, 3), dtype=complex)], (5, 3), "is complex"),
        ([np.zeros((4, 3))], (4, 3), "betas_NV says 4"),
        ([np.zeros(5)], (5,), "its axes are NV"),
    ],
)
def test_rows_keep_the_schema(
    tmp_path: Path, blocks: list[np.ndarray], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        store.write(tmp_path / "x.h5", BETAS, _betas_in_rows(blocks, shape))
    assert list(tmp_path.iterdir()) == []


def test_mapped_rows_are_the_rows_that_they_name(tmp_path: Path) -> None:
    """In any order and repeated, sliced, selected again, and as an array; contiguous or not."""
    rng = np.random.default_rng(0)
    picture_INHWC = rng.integers(0, 256, (5, 2, 4, 4, 3), dtype=np.uint8)
    arrays = {
        "nsd_id_I": np.arange(5),
        "seed_IN": np.zeros((5, 2), np.int64),
        "image_INHWC": picture_INHWC,
    }
    store.write(tmp_path / "a.h5", RECONSTRUCTIONS, arrays)
    mapped = store.map_array(tmp_path / "a.h5", RECONSTRUCTIONS, "image_INHWC")
    rows = store.MappedRows(mapped[:, 0], np.array([3, 0, 0, 4]))
    expected = picture_INHWC[[3, 0, 0, 4], 0]
    assert len(rows) == 4 and rows.shape == expected.shape and rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[2], expected[2])
    np.testing.assert_array_equal(rows[1:3], expected[1:3])
    np.testing.assert_array_equal(rows[np.array([3, 1])][:], expected[[3, 1]])
    np.testing.assert_array_equal(np.asarray(rows, dtype=float), expected.astype(float))
    assert rows[2].flags.writeable and rows[1:3].flags.writeable


def test_pictures_are_mapped_that_no_memory_could_hold(tmp_path: Path) -> None:
    """A file of 10 TB that takes no room on the disk, as nothing was written to it."""
    n_images = 20_000
    path = tmp_path / "train.h5"
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        file.attrs["kind"] = "stimuli"
        file["nsd_id_I"] = np.arange(n_images)
        space = h5py.h5s.create_simple((n_images, 13_000, 13_000, 3))
        h5py.h5d.create(file.id, b"image_IHW3", h5py.h5t.STD_U8LE, space, layout)
    rows = map_images(path, [n_images - 1, 0])
    assert rows.shape == (2, 13_000, 13_000, 3) and not rows.array[0, :9, :9].any()
