from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

import fmri2clip
from fmri2clip.artefacts.model import save_subject
from tests.model_folder import (
    CATEGORIES,
    N_VOXELS,
    SPLIT,
    WIDTH,
    make_inputs,
    write_ridge,
    write_shared,
)


def test_decoding_is_that_of_the_weights(tmp_path: Path, rng: np.random.Generator) -> None:
    weight_VD = write_ridge(tmp_path / "subj01")
    betas_IV = rng.standard_normal((3, N_VOXELS))
    decoding = fmri2clip.load(tmp_path / "subj01").decode(betas_IV, n_repeats=3)
    assert np.allclose(decoding.embedding, betas_IV @ weight_VD, atol=1e-5)
    assert np.allclose(decoding.text_embedding, betas_IV @ weight_VD[:, ::-1], atol=1e-5)


@pytest.mark.parametrize(("n_repeats", "scale"), [(1, 2), (2, 4), (7, 4)])
def test_prompts_give_probabilities(
    tmp_path: Path, rng: np.random.Generator, n_repeats: int, scale: int
) -> None:
    weight_VD = write_ridge(tmp_path / "subj01")
    betas_IV = rng.standard_normal((3, N_VOXELS))
    decoding = fmri2clip.load(tmp_path / "subj01").decode(betas_IV, n_repeats)
    inputs = make_inputs()
    query_ID = betas_IV @ weight_VD - inputs["mean_predicted_image_D"]
    prompt_CD = inputs["prompt_embedding_PCD"][0].astype(float)
    prompt_CD -= prompt_CD[:3].mean(axis=0)
    cosine_IC = (query_ID @ prompt_CD.T) / np.linalg.norm(query_ID, axis=1, keepdims=True)
    cosine_IC /= np.linalg.norm(prompt_CD, axis=1)
    assert np.allclose(decoding.probabilities[:, :3], softmax(scale * cosine_IC[:, :3], axis=1))
    assert np.all(decoding.probabilities[:, 3] == 0)
    assert decoding.categories == CATEGORIES and decoding.named_by == "prompts"


def test_a_model_for_all_subjects_is_found_beside(tmp_path: Path, rng: np.random.Generator) -> None:
    decoder = write_shared(tmp_path / "run")
    betas_IV = rng.standard_normal((3, 30)).astype(np.float32)
    decoding = fmri2clip.load(tmp_path / "run/subj02").decode(betas_IV, n_repeats=2)
    logits_IC = decoder.decode(torch.from_numpy(betas_IV), "subj02", 2).logits_IC
    expected_IC = torch.sigmoid(0.7 * logits_IC + 0.2)
    assert np.allclose(decoding.probabilities, expected_IC.numpy(), atol=1e-6)
    assert decoding.named_by == "labels" and decoding.embedding is None


def test_a_copy_under_another_name_decodes(tmp_path: Path) -> None:
    write_ridge(tmp_path / "subj01")
    shutil.copytree(tmp_path / "subj01", tmp_path / "elsewhere/mine")
    assert fmri2clip.load(tmp_path / "elsewhere/mine").subject == "subj01"


def test_a_folder_without_prompts_decodes(tmp_path: Path) -> None:
    folder = tmp_path / "subj01"
    write_ridge(folder)
    (folder / "clip.json").unlink()
    old = {n: a for n, a in make_inputs().items() if "prompt" not in n and n != "present_C"}
    save_subject(folder, old, SPLIT)
    decoding = fmri2clip.load(folder).decode(np.ones((1, N_VOXELS)))
    assert decoding.embedding.shape == (1, WIDTH) and decoding.probabilities is None


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    write_shared(tmp_path / "run")
    shutil.copytree(tmp_path / "run/subj01", tmp_path / "alone/subj01")
    shutil.copytree(tmp_path / "run", tmp_path / "renamed")
    (tmp_path / "renamed/subj01").rename(tmp_path / "renamed/anna")
    (tmp_path / "empty").mkdir()
    for name in ("config.yaml", "split.json", "weights.safetensors"):
        write_ridge(tmp_path / name)
        (tmp_path / name / name).unlink()
    write_ridge(tmp_path / "cut")
    weights = tmp_path / "cut/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    for name, message in (
        ("none", "none is not a subject's model (it does not exist); name a folder models/"),
        ("empty", "empty is not a subject's model (no inputs.safetensors); name a folder models/"),
        ("config.yaml", "config.yaml is not whole: config.yaml has no config.yaml; copy"),
        ("split.json", "split.json has no split.json; copy all of its files"),
        ("weights.safetensors", "has no weights, nor has the folder 'shared' beside it"),
        ("cut", "cut is no whole model (Error while deserializing"),
        ("run", "it holds models: name one, such as"),
        ("run/shared", "its weights serve all subjects: name one, such as"),
        ("alone/subj01", "has no weights, nor has the folder 'shared' beside it"),
        ("renamed/anna", "the model serves subj01, subj02, but its folder is called 'anna'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            fmri2clip.load(tmp_path / name)


def test_what_are_no_betas_of_the_model_is_refused(tmp_path: Path) -> None:
    write_ridge(tmp_path / "subj01")
    model = fmri2clip.load(tmp_path / "subj01")
    for betas_IV, message in (
        (np.ones((2, 19)), r"shape \(2, 19\), the model reads \(rows, 20\)"),
        (np.ones(20), r"shape \(20,\), the model reads"),
        (np.full((2, 20), np.nan), "40 betas are NaN or infinite, the first in trial 1, voxel 1"),
        (np.full((2, 20), 300.0), "a spread of 300"),
        (np.ones((2, 20), np.int16), "int16, which are no z-scores"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode(betas_IV)
    with pytest.raises(ValueError, match="n_repeats is 0"):
        model.decode(np.ones((2, 20)), n_repeats=0)


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, fmri2clip; assert not {'torch', 'numpy'} & set(sys.modules); "
        "fmri2clip.load; assert {'torch', 'numpy'} & set(sys.modules)"
    )
    source = Path(fmri2clip.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_only_public_names_are_there() -> None:
    with pytest.raises(AttributeError, match="'fmri2clip' has no attribute 'laod'"):
        fmri2clip.laod  # noqa: B018
    assert set(fmri2clip.__all__) == {"load", "Model", "Decoding"}
