from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.components import read_basis, read_components
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Clip
from fmri2clip.stages.components.components import find_token_components

CLIP = Clip(
    model="x",
    pretrained="",
    tokens=True,
    detail_layers=(1,),
    token_components=4,
    components_from=("subj01",),
)
N_IMAGES, N_TOKENS, N_TEXT, WIDTH = 40, 5, 3, 6


def write_tokens(paths: Paths, subject: str, seed: int, detail: str = "ITD") -> dict[str, Any]:
    """A cache of a subject's pictures: tokens with a few strong directions."""
    rng = np.random.default_rng(seed)

    def draw(n_tokens: int) -> np.ndarray:
        mixed = rng.standard_normal((N_IMAGES, 5)) * [9, 5, 3, 2, 1]
        tokens = mixed @ np.random.default_rng(n_tokens).standard_normal((5, n_tokens * WIDTH)) + 1
        return tokens.reshape(N_IMAGES, n_tokens, WIDTH).astype(np.float16)

    arrays = {
        "semantic_tokens_ITD": draw(N_TOKENS),
        f"detail_tokens_{detail}": draw(N_TOKENS),
        "text_tokens_IUD": draw(N_TEXT),
    }
    ids = np.arange(N_IMAGES) * 3 + seed
    none = {
        "image_embedding_ID": np.zeros((N_IMAGES, WIDTH), np.float16),
        "text_embedding_KD": np.zeros((N_IMAGES, WIDTH), np.float16),
        "caption_K": ["a"] * N_IMAGES,
        "caption_image_K": np.arange(N_IMAGES, dtype=np.int32),
        "labels_IC": np.zeros((N_IMAGES, 2), bool),
        "area_IC": np.zeros((N_IMAGES, 2), np.float32),
        "n_objects_I": np.zeros(N_IMAGES, np.int16),
        "category_C": ["cat", "dog"],
        "present_C": np.ones(2, bool),
        "prompt_P": ["a {category}"],
        "prompt_embedding_PCD": np.zeros((1, 2, WIDTH), np.float16),
    }
    write_cache(paths.clip_train("mini", subject), {"nsd_id_I": ids, **none, **arrays})
    return {"nsd_id_I": ids, **arrays}


@pytest.mark.parametrize("detail", ["ITD", "ITW"])
def test_basis_and_scores_match_scikit_learn(tmp_path: Path, detail: str) -> None:
    paths = Paths(tmp_path)
    given = {s: write_tokens(paths, s, k, detail) for k, s in enumerate(("subj01", "subj02"))}
    find_token_components(paths, "mini", CLIP, list(given))
    basis = read_basis(paths.clip_basis("mini"))
    for stream, name, first in (
        ("semantic", "semantic_tokens_ITD", 1),
        ("detail", f"detail_tokens_{detail}", 1),
        ("text", "text_tokens_IUD", 0),
    ):
        flat = {s: a[name][:, first:].reshape(N_IMAGES, -1).astype(float) for s, a in given.items()}
        expected = PCA(4, svd_solver="full").fit(flat["subj01"])
        components = basis[f"{stream}_components_PTW"].reshape(4, -1).astype(float)
        overlap = np.abs((components * expected.components_).sum(1))
        np.testing.assert_allclose(overlap, 1, atol=2e-3)
        mean = basis[f"{stream}_mean_TW"].reshape(-1)
        np.testing.assert_allclose(mean, expected.mean_, atol=1e-4)
        share = expected.explained_variance_ratio_.sum()
        assert basis[f"{stream}_explained"][0] == pytest.approx(share, rel=1e-3)
        for subject, x in flat.items():
            found = read_components(paths.clip_components("mini", subject))
            np.testing.assert_array_equal(found["nsd_id_I"], given[subject]["nsd_id_I"])
            scores = (x - mean) @ components.T
            np.testing.assert_allclose(found[f"{stream}_components_IP"], scores, atol=1e-2)
    detail_class = read_components(paths.clip_components("mini", "subj02"))["detail_class_IW"]
    np.testing.assert_array_equal(detail_class, given["subj02"][f"detail_tokens_{detail}"][:, 0])


def test_a_subject_more_changes_nothing_of_the_others(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    for k, subject in enumerate(("subj01", "subj02")):
        write_tokens(paths, subject, k)
    files = (paths.clip_basis("mini"), paths.clip_components("mini", "subj01"))
    find_token_components(paths, "mini", CLIP, ["subj01"])
    before = [path.read_bytes() for path in files]
    find_token_components(paths, "mini", CLIP, ["subj01", "subj02"])
    assert [path.read_bytes() for path in files] == before


def test_rows_of_zeros_stand_for_components_that_there_are_not(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    write_tokens(paths, "subj01", 0)
    many = Clip(model="x", pretrained="", tokens=True, detail_layers=(1,), token_components=9)
    find_token_components(paths, "mini", many, ["subj01"])
    components = read_basis(paths.clip_basis("mini"))["text_components_PTW"].reshape(9, -1)
    # Five directions, and what rounding to float16 adds.
    norms = np.linalg.norm(components.astype(float), axis=1)
    assert np.all((np.abs(norms - 1) < 1e-2) | (norms == 0)) and (norms[:5] > 0.9).all()
    scores = read_components(paths.clip_components("mini", "subj01"))["text_components_IP"]
    assert scores.shape == (N_IMAGES, 9) and np.isfinite(scores).all()


def test_without_tokens_there_are_none(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    write_tokens(paths, "subj01", 0)
    find_token_components(paths, "mini", Clip(model="x", pretrained=""), ["subj01"])
    assert read_basis(paths.clip_basis("mini")) == {}
    assert list(read_components(paths.clip_components("mini", "subj01"))) == ["nsd_id_I"]
