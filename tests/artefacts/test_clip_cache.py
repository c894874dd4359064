from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip.artefacts import clip_cache
from fmri2clip.artefacts.clip_cache import read_cache, read_clip, read_together, write_cache


def make_arrays(rng: np.random.Generator, nsd_id_I: np.ndarray) -> dict[str, Any]:
    """Two captions an image; tokens of three places."""
    n = len(nsd_id_I)
    return {
        "nsd_id_I": nsd_id_I,
        "image_embedding_ID": rng.standard_normal((n, 4)).astype(np.float16),
        "text_embedding_KD": rng.standard_normal((2 * n, 4)).astype(np.float16),
        "caption_K": [f"{k} of {i}" for i in nsd_id_I for k in range(2)],
        "caption_image_K": np.repeat(np.arange(n), 2).astype(np.int32),
        "labels_IC": np.arange(n)[:, None] % 3 == np.arange(3),
        "area_IC": rng.random((n, 3)).astype(np.float32),
        "n_objects_I": np.ones(n, np.int16),
        "category_C": ["cat", "dog", "cup"],
        "present_C": np.array([True, False, True]),
        "prompt_P": ["{category}"],
        "prompt_embedding_PCD": np.ones((1, 3, 4), np.float16),
        "semantic_tokens_ITD": rng.standard_normal((n, 3, 4)).astype(np.float16),
    }


def take(arrays: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """The arrays of some images."""
    parts = dict(arrays)
    captions = np.flatnonzero(np.isin(arrays["caption_image_K"], rows))
    for name in arrays:
        axes = name.rsplit("_", 1)[1]
        if axes.startswith("I"):
            parts[name] = arrays[name][rows]
        elif axes.startswith("K"):
            parts[name] = np.asarray(arrays[name], dtype=object if name == "caption_K" else None)[
                captions
            ]
    parts["caption_image_K"] = np.searchsorted(rows, arrays["caption_image_K"][captions]).astype(
        np.int32
    )
    return parts


def test_files_of_subjects_together_are_one_of_all(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    whole = make_arrays(rng, np.arange(10, 22))
    own = [np.array([0, 3, 4, 9]), np.array([1, 2, 5, 6, 7, 8, 10, 11])]
    paths = [tmp_path / f"{s}.h5" for s in "ab"]
    for path, rows, present in zip(paths, own, ([1, 0, 0], [0, 0, 1]), strict=True):
        part = take(whole, rows) | {"present_C": np.array(present, bool)}
        write_cache(path, part, {"clip": "mini", "own": path.stem})
    names = [name for name in whole if name not in ("prompt_P", "semantic_tokens_ITD")]
    found = read_together(paths, names)
    assert set(found) == set(names) and found.attrs == {"kind": "clip", "clip": "mini"}
    for name in names:
        assert np.array_equal(found[name], np.asarray(whole[name])), name
    assert list(read_together(paths, ["image_embedding_ID"])) == ["nsd_id_I", "image_embedding_ID"]


def test_targets_are_mapped_and_hold_what_the_file_holds(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "a.h5"
    write_cache(path, make_arrays(rng, np.arange(5)))
    target = "other_tokens_ITD|semantic_tokens_ITD"
    found = read_clip(path, (target.replace("other", "detail"),))
    mapped = found["semantic_tokens_ITD"]
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, read_cache(path)["semantic_tokens_ITD"])
    before = path.read_bytes()
    mapped[0] = 0
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="set tokens of the clip to true"):
        read_clip(path, ("text_tokens_IUD",))


def test_arrays_without_rows_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "empty.h5"
    write_cache(path, make_arrays(rng, np.arange(0)))
    assert clip_cache.read_target(path, "semantic_tokens_ITD")[1].shape == (0, 3, 4)
