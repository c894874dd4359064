from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fmri2clip.clip import encoder, names
from fmri2clip.core import params

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> params.Clip:
    """A random open_clip ViT with a custom JSON, saved as a checkpoint."""
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / "tiny-vit.json"
    config.write_text(json.dumps(TINY))
    torch.manual_seed(0)
    open_clip.add_model_config(config)
    model = open_clip.create_model("tiny-vit")
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors"
    )
    return params.Clip(
        model="tiny-vit",
        config=str(config),
        pretrained=str(folder / "weights.safetensors"),
        batch_size=4,
        precision="fp32",
        prompts=["a photo of a {category}"],
    )


@pytest.fixture(scope="module")
def tiny_encoder(tiny: params.Clip) -> encoder.Encoder:
    return encoder.load(tiny, "cpu")


def pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def reference(tiny: params.Clip) -> tuple[torch.nn.Module, object]:
    """The same model and transform by a direct open_clip call."""
    model, _, transform = open_clip.create_model_and_transforms(
        tiny.model, pretrained=tiny.pretrained
    )
    return model.eval(), transform


@pytest.mark.parametrize("size", [32, 50, 20])
def test_preprocess_equals_open_clip(
    tiny: params.Clip, tiny_encoder: encoder.Encoder, size: int
) -> None:
    images = pictures(5, size)
    _, transform = reference(tiny)
    expected = torch.stack([transform(Image.fromarray(x)) for x in images])
    torch.testing.assert_close(
        tiny_encoder.preprocess(images, threads=2), expected, atol=1e-6, rtol=0
    )


def test_images_equal_direct_call(tiny: params.Clip, tiny_encoder: encoder.Encoder) -> None:
    images = pictures(6, 32)  # not a multiple of the batch size
    model, transform = reference(tiny)
    with torch.no_grad():
        expected = model.encode_image(
            torch.stack([transform(Image.fromarray(x)) for x in images]), normalize=True
        )
    embedding = tiny_encoder.images(images)
    assert (
        embedding.dtype == np.float32 and embedding.shape == (6, 16) and tiny_encoder.width_D == 16
    )
    np.testing.assert_allclose(embedding, expected.numpy(), atol=1e-5)


def test_texts_equal_direct_call(tiny: params.Clip, tiny_encoder: encoder.Encoder) -> None:
    texts = ["a dog on the grass", "two cats", "a very long caption " * 20, "red", "blue"]
    model, _ = reference(tiny)
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(tiny.model)(texts), normalize=True)
    np.testing.assert_allclose(tiny_encoder.texts(texts), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_blocks_equal_hooks_on_a_direct_forward(tiny: params.Clip, batch_first: bool) -> None:
    """Token layout must not depend on how the transformer orders its axes inside."""
    enc = encoder.load(tiny, "cpu")
    model, transform = reference(tiny)
    if not batch_first:
        enc.model.visual.transformer.batch_first = False
        for block in enc.model.visual.transformer.resblocks:
            block.attn.batch_first = False
    images = pictures(5, 32)
    seen: list[torch.Tensor] = []
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model.encode_image(torch.stack([transform(Image.fromarray(x)) for x in images]))
    tokens = enc.blocks(images, [3, 1])
    assert list(tokens) == [3, 1] and tokens[1].shape == (5, *enc.token_shape()) == (5, 17, 64)
    np.testing.assert_allclose(tokens[1], seen[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(tokens[3], seen[2].numpy(), atol=1e-5)


def test_last_block_leads_to_the_embedding(tiny_encoder: encoder.Encoder) -> None:
    features = tiny_encoder.features(pictures(3, 32), [3])
    visual = tiny_encoder.model.visual
    with torch.no_grad():
        pooled = visual.ln_post(torch.from_numpy(features["block_3_ITW"])[:, 0]) @ visual.proj
    unit = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    np.testing.assert_allclose(unit, features["image_embedding_ID"], atol=1e-5)


def test_hooks_leave(tiny_encoder: encoder.Encoder) -> None:
    tiny_encoder.blocks(pictures(1, 32), [2])
    assert not any(b._forward_hooks for b in tiny_encoder.model.visual.transformer.resblocks)


def test_half_precision_is_close(tiny: params.Clip, tiny_encoder: encoder.Encoder) -> None:
    half = encoder.load(replace(tiny, precision="bf16"), "cpu")
    images = pictures(3, 32)
    cosine = (half.images(images) * tiny_encoder.images(images)).sum(1)
    assert cosine.min() > 0.99 and half.images(images).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "fp64"}, "fp32, bf16, fp16"),
        ({"pretrained": "nowhere.safetensors"}, "neither a file nor a tag"),
        ({"pretrained": ""}, "names no weights"),
        ({"config": "nowhere.json"}, "does not exist"),
        ({"model": "other-name"}, "defines 'tiny-vit'"),
        (
            {"config": "", "model": "ViT-nothing"},
            "'ViT-nothing', a name that",
        ),
    ],
)
def test_mistakes_are_named(tiny: params.Clip, change: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder.load(replace(tiny, **change), "cpu")


def test_openai_weights_need_quickgelu(tiny: params.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *a, **k: "unused")
    clip = replace(tiny, model="ViT-B-32", config="", pretrained="openai")
    with pytest.raises(ValueError, match=r"QuickGELU.*ViT-B-32-quickgelu"):
        encoder.load(clip, "cpu")


@pytest.mark.parametrize("model", ["ViT-B-32", "tiny-vit"])
def test_a_local_file_of_openai_needs_quickgelu(
    tiny: params.Clip, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    url = open_clip.get_pretrained_url("ViT-L-14", "openai")
    monkeypatch.setattr(encoder, "sha256_file", lambda path: url.split("/")[-2])
    clip = replace(tiny, model=model, config=tiny.config if model == "tiny-vit" else "")
    with pytest.raises(ValueError, match=r"OpenAI's .*; name .* 'ViT-L-14-quickgelu'$"):
        encoder.load(clip, "cpu")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_an_archive_as_openai_publishes_it(
    tiny: params.Clip, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The weights in half precision and sizes, in a module with its code."""
    path = tmp_path / "archive.pt"
    direct, _ = reference(tiny)
    bare = _copy_weights(direct)
    for name in encoder.SIZES:
        bare.register_buffer(name, torch.tensor(32))
    torch.jit.script(bare).save(path)
    capfd.readouterr()
    loaded = encoder.load(replace(tiny, pretrained=str(path)), "cpu")
    assert "initialized randomly" not in capfd.readouterr().err
    images = pictures(3, 32)
    with torch.no_grad():
        expected = direct.half().float().encode_image(loaded.preprocess(images), normalize=True)
    np.testing.assert_allclose(loaded.images(images), expected, atol=1e-6)
    del bare.visual.proj
    torch.jit.script(bare).save(path)
    with pytest.raises(RuntimeError, match=r"visual\.proj"):
        encoder.load(replace(tiny, pretrained=str(path)), "cpu")


def _copy_weights(module: torch.nn.Module) -> torch.nn.Module:
    """A module of the same names without methods, in half precision."""
    copy = torch.nn.Module()
    for name, weight in module.named_parameters(recurse=False):
        copy.register_parameter(name, torch.nn.Parameter(weight.half()))
    for name, child in module.named_children():
        copy.add_module(name, _copy_weights(child))
    return copy


def test_wrong_pictures_and_blocks(tiny_encoder: encoder.Encoder) -> None:
    with pytest.raises(ValueError, match="uint8"):
        tiny_encoder.images(pictures(2, 32).astype(np.float32))
    with pytest.raises(ValueError, match="no block 4; choose from 1 to 3"):
        tiny_encoder.blocks(pictures(2, 32), [4])


def test_weights_digest_is_of_the_file(tiny: params.Clip, tiny_encoder: encoder.Encoder) -> None:
    import hashlib

    assert (
        tiny_encoder.weights_sha256
        == hashlib.sha256(Path(tiny.pretrained).read_bytes()).hexdigest()
    )


@pytest.mark.parametrize("model", ["ViT-L-14", "ViT-L-14-quickgelu", "none"])
def test_tags_are_open_clips(model: str) -> None:
    """Read without importing it, so that a mistyped one is refused within a second."""
    assert names._list_tags(model) == open_clip.list_pretrained_tags_by_model(model)
