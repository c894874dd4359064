"""Pictures of a library as training gets them: nothing that the split leaves out is among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmri2clip.artefacts.library import write_library
from fmri2clip.stages.train.library import load_pictures


def write(path: Path, ids: list[int]) -> Path:
    n = len(ids)
    column_J1 = np.array(ids, np.float32)[:, None]
    arrays = {
        "name_J": [str(i) for i in ids],
        "nsd_id_J": np.array(ids),
        "image_embedding_JD": np.concatenate([column_J1, np.ones((n, 1))], axis=1),
        "semantic_components_JP": column_J1,
        "detail_components_JP": -column_J1,
        "caption_K": ["a", "b"],
        "caption_picture_K": np.array([0, 0], np.int32),
        "text_embedding_KD": np.array([[1, 0], [0, 1]], np.float16),
        "labels_JC": column_J1 > 4,
        "is_labelled_J": np.ones(n, bool),
    }
    write_library(path, arrays, {})
    return path


def test_own_pictures_that_the_split_leaves_out_are_no_library(tmp_path: Path) -> None:
    files = [write(tmp_path / "subj01.h5", [2, 3, 5]), write(tmp_path / "subj02.h5", [4, 8])]
    found = load_pictures(files, np.array([1, 2, 3, 5]), np.array([True, True, False, True]))
    assert found is not None
    assert found.nsd_id_J.tolist() == [2, 5, 4, 8]
    assert found.features["detail_components_IP"][:, 0].tolist() == [-2, -5, -4, -8]
    assert found.labels_JC[:, 0].tolist() == [False, True, False, True]
    np.testing.assert_allclose(found.image_embedding_JD.norm(dim=1), 1, atol=1e-3)
    half = np.sqrt(0.5)
    expected = [[half, half], [0, 0], [half, half], [0, 0]]
    np.testing.assert_allclose(found.mean_text_JD, expected, atol=1e-6)


def test_without_files_there_is_none() -> None:
    assert load_pictures([], np.array([1]), np.array([True])) is None
