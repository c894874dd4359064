"""Data without captions and labels: scores of pictures are as ever, those of words are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip.artefacts.clip_cache import read_cache, write_cache
from fmri2clip.core.files import flatten
from fmri2clip.stages.evaluate.evaluation import evaluate_run
from fmri2clip.stages.references.references import score_references
from fmri2clip.stages.train.targets import select_images
from tests.scoring_world import CLIP, EVALUATION, SUBJECTS, World, write_world

WORDS = ("text", "zero_shot", "classification")


def strip(path: Path) -> None:
    """The cache as cache_clip writes it of a folder without captions.tsv and labels.tsv."""
    arrays: dict[str, Any] = dict(read_cache(path))
    n_images = len(arrays["nsd_id_I"])
    n_prompts = len(arrays["prompt_P"])
    width = arrays["image_embedding_ID"].shape[1]
    arrays |= {
        "caption_K": [],
        "caption_image_K": np.zeros(0, np.int32),
        "text_embedding_KD": np.zeros((0, width), np.float16),
        "category_C": [],
        "labels_IC": np.zeros((n_images, 0), bool),
        "area_IC": np.zeros((n_images, 0), np.float32),
        "n_objects_I": np.zeros(n_images, np.int16),
        "present_C": np.zeros(0, bool),
        "prompt_embedding_PCD": np.zeros((n_prompts, 0, width), np.float16),
    }
    write_cache(path, arrays)


@pytest.fixture
def worlds(tmp_path: Path) -> tuple[World, World]:
    """The same data with and without words."""
    full, bare = (write_world(tmp_path / name) for name in ("full", "bare"))
    for path in (*(bare.at.clip_train(CLIP, s) for s in SUBJECTS), bare.clip_test):
        strip(path)
    return full, bare


def compare(full: dict[str, Any], bare: dict[str, Any]) -> None:
    """Every number of pictures is in both and equal; no number of words is in the second."""
    one, other = flatten(full), flatten(bare)
    kept = {name for name in one if not any(word in name for word in WORDS)}
    assert kept and kept == set(other)
    assert {name: other[name] for name in kept} == {name: one[name] for name in kept}


def test_references(worlds: tuple[World, World]) -> None:
    full, bare = (score_references(CLIP, SUBJECTS, w.at, EVALUATION) for w in worlds)
    compare(full, bare)
    assert "retrieval" in bare["baseline.nearest_brain"]


def test_a_decoder(worlds: tuple[World, World]) -> None:
    full, bare = (evaluate_run("demo", w.settings(), w.at, read_pictures=False) for w in worlds)
    compare(full, bare)
    assert "retrieval" in bare


def test_the_picture_stands_where_text_is_asked_for(worlds: tuple[World, World]) -> None:
    cache = read_cache(worlds[1].clip_train)
    rows_I = np.array([4, 2, 7])
    targets = select_images(cache, rows_I, ())
    assert targets["labels_IC"] is None
    assert targets["caption_image_K"].tolist() == [1, 0, 2], "captions in the order of the cache"
    np.testing.assert_array_equal(
        targets["text_embedding_KD"], targets["image_embedding_ID"][targets["caption_image_K"]]
    )
    assert len(set(targets["caption_K"])) == 3, "pictures stay negatives of each other"
