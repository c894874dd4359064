"""Small model folders, complete as training writes them, for the tests of what uses them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmri2clip.artefacts.model import save, save_clip, save_subject
from fmri2clip.decoders import load_decoder
from tests.decoders.settings import make_config
from tests.decoders.test_decoders import small_config
from tests.tiny_subject import make_tiny

N_VOXELS, WIDTH = 20, 6
CATEGORIES = ("cat", "dog", "cup", "bus")
GRID = (5, 6, 4)
CLIP_SHA256 = "c" * 64
SPLIT = {"validation": [], "left_out": [], "unused": [], "unseen_categories": []}


def make_inputs(width: int = WIDTH, n_voxels: int = N_VOXELS) -> dict[str, np.ndarray]:
    """Arrays of inputs.safetensors: two sessions, every third voxel of a grid, the last category
    unseen.
    """
    rng = np.random.default_rng(1)
    place_V = np.arange(0, 3 * n_voxels, 3)
    means = ("mean_image_D", "mean_text_D", "mean_predicted_image_D", "mean_predicted_text_D")
    return {
        "ijk_V3": np.stack(np.unravel_index(place_V, GRID), axis=1).astype(np.int16),
        "voxel_rows_V": np.arange(n_voxels) + 1,
        "session_mean_SV": rng.normal(0, 0.5, (2, n_voxels)).astype(np.float32),
        "session_std_SV": (rng.uniform(0.5, 3, n_voxels) * [[1], [1.1]]).astype(np.float32),
        "present_C": np.array([True, True, True, False]),
        "prompt_embedding_PCD": rng.standard_normal((1, 4, width)).astype(np.float16),
        "prompt_scale_R": np.array([2.0, 4.0], np.float32),
        "embedding_factor_1": np.array([0.5], np.float32),
    } | {name: rng.standard_normal(width).astype(np.float32) for name in means}


def describe(decoder: str, config: Any, n_voxels: Any, width: int, subjects: Any) -> dict[str, Any]:
    """Content of config.yaml."""
    return {
        "run": "demo",
        "decoder": decoder,
        "clip": "mini",
        "voxels": "all",
        "seed": 0,
        "dataset": {"source": "simulated", "preparation": "betas_assumehrf"},
        "config": asdict(config),
        "split": {"permute": False},
        "digests": {subject: {"betas": "0" * 64} for subject in subjects},
        "n_voxels": n_voxels,
        "width_D": width,
        "n_training_images": dict.fromkeys(subjects, 90),
        "n_validation_images": dict.fromkeys(subjects, 10),
        "parameters": {"trained": 2000, "deployed": 1000},
    }


def write_ridge(folder: Path, width: int = WIDTH, clip_sha256: str = CLIP_SHA256) -> np.ndarray:
    """A linear model of subj01 in this folder; returns its map of images (V, D)."""
    config = make_config("ridge")
    decoder = load_decoder("ridge").Decoder(config, N_VOXELS, width, 0)
    rng = np.random.default_rng(2)
    weight_VD = rng.standard_normal((N_VOXELS, width)).astype(np.float32)
    decoder.image_weight_VD.copy_(torch.from_numpy(weight_VD))
    decoder.text_weight_VD.copy_(torch.from_numpy(weight_VD[:, ::-1].copy()))
    save(folder, decoder, describe("ridge", config, N_VOXELS, width, ["subj01"]))
    save_subject(folder, make_inputs(width), SPLIT)
    save_clip(
        folder,
        {
            "clip": "mini",
            "model": "ViT-tiny",
            "weights_sha256": clip_sha256,
            "category_C": list(CATEGORIES),
            "prompt_P": ["a {category}"],
        },
    )
    return weight_VD


def write_shared(run: Path) -> Any:
    """A model of clip_mused for subj01 and subj02, 30 voxels each; returns its decoder."""
    config = small_config("clip_mused")
    subjects = ("subj01", "subj02")
    data = [make_tiny(subject, seed) for seed, subject in enumerate(subjects)]
    decoder = load_decoder("clip_mused").Decoder.from_data(config, data, 0)
    n_voxels = dict.fromkeys(subjects, 30)
    save(run / "shared", decoder, describe("clip_mused", config, n_voxels, 8, subjects))
    scaling = {"label_scaling_R2": np.array([[0.5, 0.1], [0.7, 0.2]], np.float32)}
    for subject in subjects:
        save_subject(run / subject, make_inputs(8, 30) | scaling, SPLIT)
        save_clip(run / subject, {"clip": "mini", "category_C": list(CATEGORIES)})
    return decoder.eval()
