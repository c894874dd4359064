"""hierarchy.py on a tiny world whose low voxels read block 1 of a random CLIP and whose high voxels
read block 3.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TRAIN
from fmri2clip.artefacts.trials import read_betas, write_betas, write_voxels
from fmri2clip.clip import encoder
from fmri2clip.clip.blocks import summarise_tokens
from fmri2clip.core import params
from fmri2clip.stages.hierarchy import hierarchy, inputs
from fmri2clip.stages.hierarchy.tree import HierarchyConfig, choose_band, late_contrasts
from tests.stimuli_files import write_pictures

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
SUBJECTS = ("subj01", "subj02")
N_IMAGES, SIDE = 60, 8  # voxels: a cube whose lower half in X is low, upper half high
CONFIG = HierarchyConfig(n_images=50, n_draws=3, n_permutations=19, n_bootstrap=30, block_voxels=40)


@dataclass(frozen=True)
class World:
    root: Path
    clip: params.Clip

    @property
    def at(self) -> Paths:
        return Paths(self.root)

    def copy(self, root: Path) -> World:
        """The same files elsewhere, to be changed or written beside."""
        shutil.copytree(self.root, root)
        return World(root, self.clip)


def make_clip(folder: Path) -> params.Clip:
    config = folder / "tiny-hierarchy.json"
    config.write_text(json.dumps(ARCHITECTURE))
    torch.manual_seed(0)
    open_clip.add_model_config(config)
    model = open_clip.create_model("tiny-hierarchy")
    with torch.no_grad():  # blocks of a fresh model hardly differ
        for block in model.visual.transformer.resblocks:
            for name, weight in block.named_parameters():
                if weight.ndim > 1:
                    weight.mul_(6 if "mlp" in name else 3)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors"
    )
    return params.Clip(
        model="tiny-hierarchy",
        config=str(config),
        pretrained=str(folder / "weights.safetensors"),
        batch_size=16,
        prompts=("a photo of a {category}",),
    )


def make_pictures(rng: np.random.Generator) -> np.ndarray:
    small = rng.integers(0, 256, (N_IMAGES, 4, 4, 3)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.BICUBIC)) for x in small]
    )


def write_subject_betas(
    path: Path, ids: np.ndarray, blocks: dict, rng: np.random.Generator
) -> None:
    n_half = SIDE**3 // 2
    parts = []
    for block in (1, 3):
        feature_IF = blocks[block][:, 1:].mean(axis=1)
        feature_IF = (feature_IF - feature_IF.mean(axis=0)) / feature_IF.std()
        parts.append(feature_IF @ rng.standard_normal((feature_IF.shape[1], n_half)) / 8)
    truth_IV = np.concatenate(parts, axis=1)
    image_N = rng.permutation(np.repeat(np.arange(N_IMAGES), 3))
    betas_NV = truth_IV[image_N] + rng.standard_normal((len(image_N), SIDE**3))
    ones_N = np.ones(len(image_N), np.int16)
    write_betas(
        path,
        {
            "betas_NV": betas_NV.astype(np.float16),
            "nsd_id_N": ids[image_N],
            "session_N": ones_N,
            "trial_N": np.arange(len(image_N), dtype=np.int32),
            "repetition_N": ones_N.astype(np.int8),
        },
    )


def write_subject_voxels(path: Path, groups: dict[str, np.ndarray]) -> None:
    ones_1V = np.ones((1, SIDE**3), np.float32)
    write_voxels(
        path,
        {
            "ijk_V3": np.indices((SIDE, SIDE, SIDE)).reshape(3, -1).T.astype(np.int16),
            "roi_VG": np.stack(list(groups.values()), axis=1),
            "roi_names_G": [f"group/{name}" for name in groups],
            "ncsnr_V": ones_1V[0],
            "ncsnr_train_V": ones_1V[0],
            "mean_SV": ones_1V,
            "std_SV": ones_1V,
            "invalid_SV": ones_1V < 0,
        },
    )


def write_clip(path: Path, ids: np.ndarray, **attrs: str) -> None:
    unit_ID = np.eye(len(ids), 16, dtype=np.float16)
    write_cache(
        path,
        {
            "nsd_id_I": ids,
            "image_embedding_ID": unit_ID,
            "text_embedding_KD": unit_ID[:1],
            "caption_K": ["a scene"],
            "caption_image_K": np.zeros(1, np.int32),
            "labels_IC": np.ones((len(ids), 1), bool),
            "area_IC": np.ones((len(ids), 1), np.float32),
            "n_objects_I": np.ones(len(ids), np.int16),
            "category_C": ["dog"],
            "present_C": np.ones(1, bool),
            "prompt_P": ["a {category}"],
            "prompt_embedding_PCD": np.ones((1, 1, 16), np.float16),
        },
        attrs,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    clip, pictures = make_clip(root), make_pictures(rng)
    ids = 5 + np.arange(N_IMAGES)
    write_pictures(Paths(root).stimuli(TRAIN), ids, pictures)
    model = encoder.load(clip)
    blocks = model.blocks(pictures, [1, 3])
    x_V = np.indices((SIDE, SIDE, SIDE)).reshape(3, -1)[0]
    groups = {"low": x_V <= SIDE // 2 - 1, "high": x_V >= SIDE // 2, "all": x_V >= 0}
    groups["low"] = groups["low"] | (np.arange(SIDE**3) == SIDE**3 - 1)  # one voxel is in both
    made = World(root, clip)
    for subject in SUBJECTS:
        write_subject_betas(made.at.train_betas(subject), ids, blocks, rng)
        write_subject_voxels(made.at.voxels(subject), groups)
        write_clip(made.at.clip_train("tiny", subject), ids, weights_sha256=model.weights_sha256)
    return made


def analyse(world: World) -> dict[str, Any]:
    return hierarchy.analyse_hierarchy(
        "tiny", world.clip, SUBJECTS, world.at, config=CONFIG, device="cpu", threads=1
    )


@pytest.fixture(scope="module")
def tree(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return analyse(world.copy(tmp_path_factory.mktemp("out") / "world"))


def values(branch: dict[str, float]) -> list[float]:
    return [branch[f"block{b}"] for b in (1, 2, 3)]


def test_each_group_prefers_the_block_that_it_reads(tree: dict[str, Any]) -> None:
    for part in (tree["mean"], *tree["subjects"].values()):
        for kind in ("rsa", "cka"):
            low, high = (values(part[kind]["patch_mean"][group]) for group in ("low", "high"))
            assert np.argmax(low) == 0 and np.argmax(high) == 2
            assert max(low) > 0.8 and max(high) > 0.8, kind
        assert (
            part["contrasts"]["late_preference"] > part["contrasts"]["late_preference_ci95_low"] > 0
        )
        assert part["contrasts"]["peak_gap"] == 2
        assert part["shuffled"]["peak_gap"]["observed"] == 2
        assert part["shuffled"]["late_preference"]["clusters_p"] == 0.05, (
            "the least that 19 shuffles allow"
        )


def test_counts_and_matrices(tree: dict[str, Any]) -> None:
    part = tree["subjects"]["subj01"]
    half = SIDE**3 // 2
    assert (part["n_images"], part["n_voxels_both"], part["n_matched"]) == (50, 1, half - 1)
    assert (part["n_voxels_low"], part["n_voxels_high"], part["n_voxels_all"]) == (
        half,
        half - 1,
        2 * half,
    )
    cka = np.array([values(part["block_cka"]["patch_mean"][f"block{b}"]) for b in (1, 2, 3)])
    np.testing.assert_allclose(cka, cka.T)
    np.testing.assert_allclose(np.diag(cka), 1)
    interval = part["rsa"]["patch_mean"]["all"]
    assert interval["block1_ci95_low"] < interval["block1"] < interval["block1_ci95_high"]
    mean = np.mean([values(tree["subjects"][s]["rsa"]["grid"]["low"]) for s in SUBJECTS], axis=0)
    np.testing.assert_allclose(values(tree["mean"]["rsa"]["grid"]["low"]), mean, atol=1e-4)


def test_files_hold_numbers_and_repeat_byte_for_byte(
    world: World, tree: dict[str, Any], tmp_path: Path
) -> None:
    copy = world.copy(tmp_path / "world")
    again = analyse(copy)
    assert json.loads(copy.at.hierarchy("tiny").read_text()) == again == tree

    def leaves(node: Any) -> list[Any]:
        return (
            [x for value in node.values() for x in leaves(value)]
            if isinstance(node, dict)
            else [node]
        )

    assert all(isinstance(x, int | float) and np.isfinite(x) for x in leaves(tree))
    picture = copy.at.hierarchy("tiny").with_suffix(".png")
    first = picture.read_bytes()
    analyse(copy)
    assert picture.read_bytes() == first
    assert Image.open(picture).width > 500


def test_wrong_inputs_are_named(world: World, tmp_path: Path) -> None:
    copy = world.copy(tmp_path / "world")
    cache = copy.at.clip_train("tiny", SUBJECTS[0])
    write_clip(cache, 5 + np.arange(N_IMAGES - 30))
    with pytest.raises(ValueError, match=r"train/subj\d+\.h5 lacks \d+ of 50 images"):
        analyse(copy)
    write_clip(cache, 5 + np.arange(N_IMAGES), weights_sha256="0")
    with pytest.raises(ValueError, match="cached with other weights"):
        analyse(copy)
    shutil.copy(world.at.clip_train("tiny", SUBJECTS[0]), cache)
    everything_V = np.ones(SIDE**3, bool)
    for subject in SUBJECTS:
        write_subject_voxels(copy.at.voxels(subject), {"low": everything_V, "all": everything_V})
    with pytest.raises(ValueError, match="no voxel group 'high'"):
        analyse(copy)
    assert not copy.at.hierarchy("tiny").exists()


def test_too_few_data_leave_it_out(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = world.copy(tmp_path / "world")
    everything_V = np.ones(SIDE**3, bool)
    groups = {"low": everything_V, "high": everything_V, "all": everything_V}
    for subject in SUBJECTS:
        write_subject_voxels(copy.at.voxels(subject), groups)
    assert analyse(copy) == {}
    assert "left out: " in capsys.readouterr().out
    path = copy.at.hierarchy("tiny")
    assert json.loads(path.read_text()) == {}
    assert Image.open(path.with_suffix(".png")).width > 500


def test_images_without_a_repeat_are_left_out(tmp_path: Path, world: World) -> None:
    path = tmp_path / "betas.h5"
    arrays = dict(read_betas(world.at.train_betas("subj01")))
    order = np.argsort(arrays["nsd_id_N"], kind="stable")
    keep = np.sort(
        np.concatenate([order[: 3 * 15], order[3 * 15 :: 3]])
    )  # 15 images keep their repeats
    write_betas(path, {name: value[keep] for name, value in arrays.items()})
    rng = np.random.default_rng(0)
    sample = inputs.read_sample(path, world.at.voxels("subj01"), 40, rng)
    np.testing.assert_array_equal(sample.nsd_id_I, 5 + np.arange(15))
    for image, nsd_id in enumerate(sample.nsd_id_I):
        own = arrays["betas_NV"][arrays["nsd_id_N"] == nsd_id].astype(np.float32)
        np.testing.assert_array_equal(
            np.sort(sample.betas_NV[sample.image_N == image], axis=0), np.sort(own, axis=0)
        )
    write_betas(path, {name: value[order[45::3]] for name, value in arrays.items()})
    with pytest.raises(ValueError, match="only 0 images were shown twice"):
        inputs.read_sample(path, world.at.voxels("subj01"), 40, rng)


def test_token_summaries_equal_a_loop() -> None:
    tokens = np.random.default_rng(0).standard_normal((2, 1 + 64, 3)).astype(np.float32)
    found = summarise_tokens(tokens)
    np.testing.assert_array_equal(found["class_token"], tokens[:, 0])
    np.testing.assert_allclose(found["patch_mean"], tokens[:, 1:].sum(axis=1) / 64, atol=1e-6)
    for row in range(4):
        for column in range(4):
            patches = [
                1 + 8 * y + x for y in (2 * row, 2 * row + 1) for x in (2 * column, 2 * column + 1)
            ]
            place = 3 * (4 * row + column)
            np.testing.assert_allclose(
                found["grid"][:, place : place + 3], tokens[:, patches].mean(axis=1), atol=1e-6
            )


def test_contrasts() -> None:
    found = late_contrasts(np.array([[0.5, 0.4, 0.1]]), np.array([[0.6, 0.7, 0.5]]))
    assert found["late_difference"] == pytest.approx(0.4)
    assert found["late_preference"] == pytest.approx(0.3)
    assert found["peak_gap"] == 1


@pytest.mark.parametrize(
    ("rsa", "close", "expected"),
    [
        (
            [0.5, 0.95, 1.0, 0.92, 0.99],
            [(1, 2), (2, 3), (1, 3)],
            (2, 4),
        ),  # the last block never counts
        ([0.5, 0.95, 1.0, 0.92, 0.2], [(1, 2)], (2, 3)),  # blocks 3 and 4 are unlike each other
        ([1.0, 0.95, 0.5, 0.99, 1.0], [(0, 1)], (1, 2)),  # the longest run
        ([0.95, 0.5, 1.0, 0.2, 5.0], [], (3, 3)),  # of equal length: the higher RSA
        ([-0.2, -0.1, -0.3, -0.1001, 0.5], [(1, 3)], (2, 2)),  # none is positive: the best alone
    ],
)
def test_band(rsa: list[float], close: list[tuple[int, int]], expected: tuple[int, int]) -> None:
    cka_LL = np.eye(5)
    for a, b in close:
        cka_LL[a, b] = cka_LL[b, a] = 0.95
    assert (
        choose_band(np.array(rsa), cka_LL, HierarchyConfig(band_share=0.9, band_cka=0.9))
        == expected
    )
