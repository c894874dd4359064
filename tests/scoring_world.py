"""A tiny world of files for the tests of evaluation and references: linear brains, six categories,
two subjects.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.model import save, save_subject
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import write_betas, write_voxels
from fmri2clip.core import strict
from fmri2clip.core.params import Evaluation, Params
from fmri2clip.decoders.ridge import decoder as ridge
from tests.decoders.settings import make_config

WIDTH, N_VOXELS, N_CATEGORIES = 12, 40, 6
N_TRAIN, N_TEST = 90, 45
SUBJECTS = ("subj01", "subj02")
CLIP = "tiny"
EVALUATION = Evaluation(n_way=20, n_draws=8, n_hard=5, n_bootstrap=60, seed=0, dominant_area=0.6)


@dataclass(frozen=True)
class World:
    root: Path

    @property
    def at(self) -> Paths:
        return Paths(self.root)

    def paths(self, kind: str) -> dict[str, Path]:
        return {subject: self.at.rois / kind / f"{subject}.h5" for subject in SUBJECTS}

    @property
    def clip_train(self) -> Path:
        """Of one subject; all see the same pictures here."""
        return self.at.clip_train(CLIP, SUBJECTS[0])

    @property
    def clip_test(self) -> Path:
        return self.at.clip_shared(CLIP)

    @property
    def models(self) -> Path:
        return self.at.models

    def settings(
        self, runs: tuple[str, ...] = ("demo",), subjects: tuple[str, ...] = SUBJECTS
    ) -> Params:
        """The parameters of the checkout with these runs on this world's files."""
        content = YAML(typ="safe").load((Path(__file__).parents[1] / "params.yaml").read_text())
        run = {"clip": CLIP, "voxels": "part", "decoder": "ridge", "subjects": list(subjects)}
        content |= {
            "subjects": list(SUBJECTS),
            "rois": {"all": ["streams"], "part": ["streams"]},
            "clips": {CLIP: {"model": "ViT-tiny", "pretrained": ""}},
            "runs": dict.fromkeys(runs, run),
            "generators": {},
            "reconstructions": {},
            "evaluation": asdict(EVALUATION),
        }
        return strict.build(Params, content, "params.yaml")


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_clip(rng: np.random.Generator, nsd_id_I: np.ndarray, prototype_CD: np.ndarray) -> dict:
    """Each image has a dominant category (one of the first five) and sometimes a small second one;
    1 to 3 captions.
    """
    n = len(nsd_id_I)
    category_I = rng.integers(0, N_CATEGORIES - 1, n)
    area_IC = np.zeros((n, N_CATEGORIES), np.float32)
    area_IC[np.arange(n), category_I] = 0.4
    other_I = (category_I + 1) % (N_CATEGORIES - 1)
    area_IC[np.arange(n), other_I] = np.where(rng.random(n) < 0.5, rng.choice([0.1, 0.35], n), 0.0)
    image_ID = unit(prototype_CD[category_I] + 0.9 * unit(rng.standard_normal((n, WIDTH))) + 0.5)
    n_captions_I = rng.integers(1, 4, n)
    caption_image_K = np.repeat(np.arange(n), n_captions_I).astype(np.int32)
    noise_KD = 0.4 * unit(rng.standard_normal((len(caption_image_K), WIDTH)))

    other_CD = rng.standard_normal(prototype_CD.shape)
    return {
        "nsd_id_I": nsd_id_I,
        "image_embedding_ID": image_ID.astype(np.float16),
        "text_embedding_KD": unit(image_ID[caption_image_K] - 0.4 + noise_KD).astype(np.float16),
        "caption_K": [f"caption {k}" for k in range(len(caption_image_K))],
        "caption_image_K": caption_image_K,
        "labels_IC": area_IC > 0,
        "area_IC": area_IC,
        "n_objects_I": (area_IC > 0).sum(axis=1).astype(np.int16),
        "category_C": [f"category{c}" for c in range(N_CATEGORIES)],
        "present_C": np.arange(N_CATEGORIES) < N_CATEGORIES - 1,
        "prompt_P": ["a {category}", "b {category}"],
        "prompt_embedding_PCD": unit(np.stack([prototype_CD - 0.4, other_CD])).astype(np.float16),
    }


def make_betas(
    rng: np.random.Generator, clip: dict, map_DV: np.ndarray, noise: float, first: int
) -> dict:
    """Three noisy repeats of each image in random order, noise-free patterns in another order."""
    clean_IV = (clip["image_embedding_ID"].astype(float) - 0.2) @ map_DV
    image_N = rng.permutation(np.repeat(np.arange(len(clean_IV)), 3))
    repetition_N = np.zeros(len(image_N), np.int8)
    for image in range(len(clean_IV)):
        repetition_N[image_N == image] = [1, 2, 3]
    order = rng.permutation(len(clean_IV))
    noise_NV = (
        noise * rng.standard_normal((len(image_N), N_VOXELS)) * np.linspace(0.3, 2.0, N_VOXELS)
    )
    return {
        "betas_NV": (clean_IV[image_N] + noise_NV).astype(np.float16),
        "nsd_id_N": clip["nsd_id_I"][image_N],
        "session_N": np.ones(len(image_N), np.int16),
        "trial_N": (first + np.arange(len(image_N))).astype(np.int32),
        "repetition_N": repetition_N,
        "noise_free_IV": clean_IV[order].astype(np.float16),
        "noise_free_nsd_id_I": clip["nsd_id_I"][order],
    }


def write_world(root: Path, noise: float = 1.0, noise_free: bool = True) -> World:
    """All inputs of evaluate and references, and a trained run called 'demo'."""
    rng, world = np.random.default_rng(0), World(root)
    prototype_CD = 1.2 * unit(rng.standard_normal((N_CATEGORIES, WIDTH)))
    ids = rng.permutation(5000)[: N_TRAIN + N_TEST].astype(np.int64)
    clips = [make_clip(rng, np.sort(part), prototype_CD) for part in (ids[:N_TRAIN], ids[N_TRAIN:])]
    write_cache(world.clip_test, clips[1], {"clip": "tiny"})
    for subject in SUBJECTS:
        write_cache(world.at.clip_train(CLIP, subject), clips[0], {"clip": "tiny"})
    for subject in SUBJECTS:
        map_DV = rng.standard_normal((WIDTH, N_VOXELS))
        for kind, clip, first in (("train", clips[0], 1), ("test", clips[1], 1000)):
            betas = make_betas(rng, clip, map_DV, noise, first)
            if not noise_free:
                betas = {
                    name: value
                    for name, value in betas.items()
                    if not name.startswith("noise_free")
                }
            write_betas(world.paths(kind)[subject], betas)
        write_flat_voxels(world.paths("voxels")[subject])
        write_model(world.models / "demo" / subject, clips[0], map_DV)
    return world


def write_flat_voxels(path: Path) -> None:
    ones_1V = np.ones((1, N_VOXELS), np.float32)
    roi_VG = np.ones((N_VOXELS, 2), bool)
    roi_VG[::4, 1] = False
    write_voxels(
        path,
        {
            "ijk_V3": np.arange(3 * N_VOXELS, dtype=np.int16).reshape(N_VOXELS, 3),
            "roi_VG": roi_VG,
            "roi_names_G": ["group/all", "group/part"],
            "ncsnr_V": ones_1V[0],
            "ncsnr_train_V": ones_1V[0],
            "mean_SV": ones_1V,
            "std_SV": ones_1V,
            "invalid_SV": ones_1V < 0,
        },
    )


def write_model(folder: Path, clip: dict, map_DV: np.ndarray) -> None:
    """A linear decoder that inverts the brain of the subject, on the voxels of group 'part'."""
    rows_V = np.flatnonzero(np.arange(N_VOXELS) % 4)
    config = make_config("ridge")
    decoder = ridge.Decoder(config, len(rows_V), WIDTH, 0)
    weight_VD = torch.from_numpy(np.linalg.pinv(map_DV[:, rows_V])).float()
    decoder.image_weight_VD.copy_(weight_VD)
    decoder.text_weight_VD.copy_(weight_VD)
    decoder.image_bias_D.fill_(0.2)
    described = {
        "run": "demo",
        "decoder": "ridge",
        "clip": "mini",
        "digests": {},
        "n_voxels": len(rows_V),
        "width_D": WIDTH,
        "seed": 0,
        "config": asdict(config),
    }
    save(folder, decoder, described)
    mean_image_D = clip["image_embedding_ID"].astype(np.float32).mean(axis=0)
    inputs = {
        "voxel_rows_V": rows_V,
        "ijk_V3": np.arange(3 * N_VOXELS, dtype=np.int16).reshape(N_VOXELS, 3)[rows_V],
        "mean_image_D": mean_image_D,
        "mean_text_D": clip["text_embedding_KD"].astype(np.float32).mean(axis=0),
        "mean_predicted_image_D": mean_image_D,
        "mean_predicted_text_D": mean_image_D - np.float32(0.2),
    }
    split = {"validation": [], "left_out": [], "unseen_categories": []}
    save_subject(folder, inputs, split)
