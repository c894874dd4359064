from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import open_clip
import pandas as pd
import pytest
import scipy.io
import torch
from PIL import Image

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip import encoder
from fmri2clip.core import params, store
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.design import list_pictures
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES
from fmri2clip.stages.cache_clip import cache

N_COLUMNS, N_SHARED, SIZE = 15, 4, 24
DOG, CAT = (next(c.id for c in COCO_CATEGORIES if c.name == name) for name in ("dog", "cat"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> params.Clip:
    """A random open_clip model with a custom JSON; reads 16 pixels, so pictures are resized."""
    folder = tmp_path_factory.mktemp("model")
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 32,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    (folder / "cache-vit.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    open_clip.add_model_config(folder / "cache-vit.json")
    torch.save(open_clip.create_model("cache-vit").state_dict(), folder / "weights.pt")
    return params.Clip(
        model="cache-vit",
        config=str(folder / "cache-vit.json"),
        pretrained=str(folder / "weights.pt"),
        batch_size=3,
        prompts=("a photo of a {category}", "an image of {category}."),
        blocks=(2, 1),
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session of an NSD tree: 4 shared pictures, 11 for each of 8 subjects; each shows a dog or
    a cat.
    """
    root, rng = tmp_path_factory.mktemp("nsd"), np.random.default_rng(0)
    n_images = N_SHARED + 8 * (N_COLUMNS - N_SHARED)
    own = np.arange(N_SHARED, n_images).reshape(8, -1)
    rest = np.arange(
        n_images, n_images + 250 - N_COLUMNS
    )  # pictures of a whole design that the session leaves out
    subjectim = (
        np.concatenate([np.tile(np.arange(N_SHARED), (8, 1)), own, np.tile(rest, (8, 1))], axis=1)
        + 1
    )
    ordering = np.concatenate(
        [np.arange(1, N_COLUMNS), rng.integers(1, N_COLUMNS, 736)]
    )  # nor is column 15 shown
    layout.expdesign_path(root).parent.mkdir(parents=True)
    design = {
        "masterordering": ordering[None],
        "subjectim": subjectim,
        "sharedix": subjectim[:1, :N_SHARED],
    }
    scipy.io.savemat(layout.expdesign_path(root), design)
    rows = [[i, 1000 + i, "train2017", "(0.0, 0.0, 0.0, 0.0)", i] for i in range(n_images)]
    pd.DataFrame(rows, columns=["", "cocoId", "cocoSplit", "cropBox", "nsdId"]).to_csv(
        layout.stim_info_path(root), index=False
    )
    layout.annotations_dir(root).mkdir(parents=True)
    images = [{"id": 1000 + i, "width": 100, "height": 100} for i in range(n_images)]
    objects = [
        {
            "image_id": 1000 + i,
            "category_id": CAT if i % 3 else DOG,
            "area": 2500,
            "bbox": [0, 0, 50, 50],
        }
        for i in range(n_images)
    ]
    layout.instances_path(root, "train2017").write_text(
        json.dumps({"images": images, "annotations": objects})
    )
    captions = [
        {"image_id": 1000 + i, "caption": f"caption {k} of {i % 5}"}
        for i in range(n_images)
        for k in range(6)
    ]
    layout.captions_path(root, "train2017").write_text(json.dumps({"annotations": captions}))
    with h5py.File(layout.stimuli_path(root), "w") as file:
        file["imgBrick"] = rng.integers(0, 256, (n_images, SIZE, SIZE, 3), dtype=np.uint8)
    return root


def run(
    tree: Path, clip: params.Clip, out: Path, subjects: tuple[str, ...] = ("subj01",)
) -> tuple[Path, Path]:
    """Files of the first subject's training pictures, and of the shared ones."""
    paths = Paths(out, nsd=tree)
    cache.cache_clip(
        paths,
        "tiny",
        clip,
        subjects,
        params.Dataset(),
        params.Labels(),
        threads=1,
        resume_root=out / "resume",
    )
    return paths.clip_train("tiny", "subj01"), paths.clip_shared("tiny")


def test_pictures_of_the_configured_subjects(tree: Path) -> None:
    pictures = list_pictures(tree, ["subj01", "subj03"], "released")
    assert pictures["shared"].tolist() == [0, 1, 2, 3]
    assert pictures["train"].tolist() == [
        *range(4, 14),
        *range(26, 36),
    ]  # the last of each eleven is never shown


def test_features_equal_a_direct_open_clip_call(
    tree: Path, clip: params.Clip, tmp_path: Path
) -> None:
    train_path, _ = run(tree, clip, tmp_path)
    train = read_cache(train_path)
    model, _, transform = open_clip.create_model_and_transforms(
        clip.model, pretrained=clip.pretrained
    )
    model.eval()
    with h5py.File(layout.stimuli_path(tree)) as file:
        pictures = [Image.fromarray(file["imgBrick"][i]) for i in train["nsd_id_I"]]
    tokenizer = open_clip.get_tokenizer(clip.model)
    with torch.no_grad():
        image_ID = model.encode_image(
            torch.stack([transform(p) for p in pictures]), normalize=True
        ).numpy()
        text_KD = model.encode_text(tokenizer(train["caption_K"].tolist()), normalize=True).numpy()
        prompt_D = model.encode_text(tokenizer(["an image of dog."]), normalize=True).numpy()[0]
    np.testing.assert_allclose(train["image_embedding_ID"], image_ID, atol=1e-3)
    np.testing.assert_allclose(train["text_embedding_KD"], text_KD, atol=1e-3)
    dog = train["category_C"].tolist().index("dog")
    np.testing.assert_allclose(train["prompt_embedding_PCD"][1, dog], prompt_D, atol=1e-3)
    assert train["image_embedding_ID"].dtype == np.float16 and train["block_2_ITW"].shape == (
        10,
        5,
        64,
    )
    direct = encoder.load(clip).blocks(np.stack([np.asarray(p) for p in pictures]), [1])[1]
    np.testing.assert_allclose(train["block_1_ITW"], direct, atol=5e-3)


def test_low_level_features_are_block_one_pooled(
    tree: Path, clip: params.Clip, tmp_path: Path
) -> None:
    """Nothing else is added, and nothing else changes; tokens of the block itself are not needed
    for it.
    """
    plain = read_cache(run(tree, clip, tmp_path / "plain")[0])
    train = read_cache(run(tree, replace(clip, low_level=True, blocks=()), tmp_path)[0])
    block_ITW = plain["block_1_ITW"].astype(np.float32)
    np.testing.assert_allclose(train["low_cls_IW"], block_ITW[:, 0], atol=5e-3)
    np.testing.assert_allclose(train["low_mean_IW"], block_ITW[:, 1:].mean(axis=1), atol=5e-3)
    assert set(train) ^ set(plain) == {"low_cls_IW", "low_mean_IW", "block_1_ITW", "block_2_ITW"}
    assert all(np.array_equal(train[name], plain[name]) for name in set(train) & set(plain))


@pytest.mark.parametrize("how", ["mean_then_project", "project_then_mean", "raw"])
def test_token_targets_and_nothing_else_are_added(
    tree: Path, clip: params.Clip, tmp_path: Path, how: Any
) -> None:
    """The file grows by the aggregates alone; the class token and the pooled text token have norm
    1.
    """
    chosen = replace(clip, blocks=(), tokens=True, detail_layers=(2, 1), aggregation=how)
    plain_path, path = (
        run(tree, replace(clip, blocks=()), tmp_path / "plain")[0],
        run(tree, chosen, tmp_path)[0],
    )
    plain, train = read_cache(plain_path), read_cache(path)
    detail = "detail_tokens_ITW" if how == "raw" else "detail_tokens_ITD"
    shapes = {
        "semantic_tokens_ITD": (10, 5, 8),
        detail: (10, 5, 64 if how == "raw" else 8),
        "text_tokens_IUD": (10, 32, 8),
    }
    assert {name: train[name].shape for name in set(train) - set(plain)} == shapes
    assert set(plain) <= set(train) and all(
        np.array_equal(train[name], plain[name]) for name in plain
    )
    assert {name: value for name, value in train.attrs.items() if name not in plain.attrs} == {
        "detail_layers": "1,2",
        "aggregation": how,
    }
    stored = sum(2 * int(np.prod(shape)) for shape in shapes.values())
    assert (
        stored <= path.stat().st_size - plain_path.stat().st_size <= stored + 8192
    )  # headers of three arrays
    for name in ("semantic_tokens_ITD", detail):
        assert train[name].dtype == np.float16
        np.testing.assert_allclose(
            np.linalg.norm(train[name][:, 0].astype(float), axis=1), 1, atol=1e-3
        )
    np.testing.assert_allclose(
        train["semantic_tokens_ITD"][:, 0], train["image_embedding_ID"], atol=1e-3
    )
    tokenizer = open_clip.get_tokenizer(clip.model)
    first = [train["caption_K"][train["caption_image_K"] == i][0] for i in range(10)]
    pooled = train["text_tokens_IUD"][np.arange(10), tokenizer(first).argmax(dim=1)]
    np.testing.assert_allclose(pooled, train["text_embedding_KD"][::5], atol=1e-3)


def test_a_block_fits_the_memory_promised(
    tree: Path, clip: params.Clip, tmp_path: Path, monkeypatch: Any
) -> None:
    """4 bytes x (D + 2 T D) values a picture, in multiples of the batch; text tokens count
    apart.
    """
    seen: dict[str, set[int]] = {}
    write = store.Stream.write

    def spy(self: store.Stream, name: str, start: int, block: np.ndarray) -> None:
        seen.setdefault(name, set()).add(len(block))
        write(self, name, start, block)

    monkeypatch.setattr(store.Stream, "write", spy)
    monkeypatch.setattr(cache, "BLOCK_BYTES", 6 * 4 * (8 + 2 * 5 * 8) + 1)
    run(tree, replace(clip, blocks=(), tokens=True, detail_layers=(1, 2)), tmp_path)
    assert seen["detail_tokens_ITD"] == {6, 4} and seen["text_tokens_IUD"] == {3, 1}


def test_captions_and_labels(tree: Path, clip: params.Clip, tmp_path: Path) -> None:
    train, shared = (read_cache(path) for path in run(tree, clip, tmp_path))
    assert train["caption_K"][:5].tolist() == [
        f"caption {k} of 4" for k in range(5)
    ]  # the sixth is left out
    assert train["caption_image_K"].tolist() == np.repeat(np.arange(10), 5).tolist()
    names = train["category_C"].tolist()
    assert len(names) == 80 and [names[c] for c in np.flatnonzero(train["present_C"])] == [
        "cat",
        "dog",
    ]
    np.testing.assert_array_equal(
        train["labels_IC"][:, names.index("dog")], train["nsd_id_I"] % 3 == 0
    )
    assert (
        shared["area_IC"].max() == pytest.approx(0.25) and shared["n_objects_I"].tolist() == [1] * 4
    )
    np.testing.assert_array_equal(train["prompt_embedding_PCD"], shared["prompt_embedding_PCD"])
    assert (
        train.attrs["clip"] == "tiny"
        and train.attrs["image_size"] == 16
        and len(train.attrs["weights_sha256"]) == 64
    )


@pytest.mark.parametrize("targets", [{}, {"tokens": True, "detail_layers": (1, 2)}])
def test_a_killed_job_goes_on_and_ends_byte_identical(
    tree: Path,
    clip: params.Clip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    targets: dict[str, Any],
) -> None:
    monkeypatch.setattr(cache, "BLOCK", 3)
    clip = replace(clip, **targets)
    whole = run(tree, clip, tmp_path / "whole")
    seen: list[int] = []
    features = encoder.Encoder.features

    def killed(self: encoder.Encoder, images: np.ndarray, *rest: Any, **options: Any) -> object:
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return features(self, images, *rest, **options)

    monkeypatch.setattr(encoder.Encoder, "features", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tree, clip, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.h5"))
    resumed = run(tree, clip, tmp_path / "killed")
    assert seen == [
        3,
        3,
        3,
        3,
        1,
        3,
        1,
    ]  # two blocks done, one killed; then the rest of 10 and all 4 shared
    assert [p.read_bytes() for p in resumed] == [p.read_bytes() for p in whole]
    assert not list((tmp_path / "killed" / "resume").rglob("*.npy"))


@pytest.mark.parametrize("array", ["detail_tokens_ITD", "semantic_tokens_ITD", "text_tokens_IUD"])
def test_a_job_killed_amid_the_arrays_of_a_block_ends_byte_identical(
    tree: Path, clip: params.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: str
) -> None:
    monkeypatch.setattr(cache, "BLOCK", 3)
    clip = replace(clip, tokens=True, detail_layers=(1, 2))
    whole = run(tree, clip, tmp_path / "whole")
    write, starts = store.Stream.write, []

    def killed(self: store.Stream, name: str, start: int, block: np.ndarray) -> None:
        starts.extend([start] if name == array else [])
        if name == array and starts == [0, 3, 6]:
            raise KeyboardInterrupt
        write(self, name, start, block)

    monkeypatch.setattr(store.Stream, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tree, clip, tmp_path / "killed")
    resumed = run(tree, clip, tmp_path / "killed")
    assert starts == [
        0,
        3,
        6,
        6,
        9,
        0,
        3,
    ]  # 10 training pictures, the third block twice, then the 4 shared ones
    assert [p.read_bytes() for p in resumed] == [p.read_bytes() for p in whole]


def test_mistakes_leave_nothing(
    tree: Path, clip: params.Clip, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delattr(encoder.Encoder, "_forward")  # the mistakes show before anything is encoded
    monkeypatch.delattr(encoder.Encoder, "_encode_texts")
    with pytest.raises(ValueError, match="no block 7"):
        run(tree, replace(clip, blocks=(7,)), tmp_path)
    with pytest.raises(
        ValueError, match="detail_layers: cache-vit has no block 3; choose from 1 to 2"
    ):
        run(tree, replace(clip, tokens=True, detail_layers=(2, 3)), tmp_path)
    with pytest.raises(ValueError, match=r"nsd_expdesign\.mat does not exist"):
        run(tmp_path, clip, tmp_path / "out")
    assert not list(tmp_path.rglob("*.h5"))


def test_a_subject_more_leaves_the_files_of_others_alone(
    tree: Path, clip: params.Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same bytes whoever else is there; and a file that is there already is not made again."""
    first, shared = run(tree, clip, tmp_path)
    before = first.read_bytes(), shared.read_bytes(), first.stat().st_mtime_ns
    run(tree, clip, tmp_path, ("subj01", "subj03"))
    assert (first.read_bytes(), shared.read_bytes(), first.stat().st_mtime_ns) == before
    assert "holds these features already" in capsys.readouterr().out
    other = first.with_name("subj03.h5")
    assert other.is_file()
    run(tree, clip, tmp_path)
    assert not other.exists()


def test_another_setting_or_a_damaged_file_is_made_again(
    tree: Path, clip: params.Clip, tmp_path: Path
) -> None:
    first, _ = run(tree, clip, tmp_path)
    whole = first.read_bytes()
    run(tree, replace(clip, prompts=("a {category}",)), tmp_path)
    assert read_cache(first)["prompt_P"].tolist() == ["a {category}"]
    first.write_bytes(whole[:-1] + b"x")
    run(tree, clip, tmp_path)
    assert first.read_bytes() == whole
