from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from fmri2clip.clip import encoder, tokens
from fmri2clip.core import params

N, BAND = 3, tuple(range(11, 21))  # the band of the summary of the paper: blocks 11 to 20 of 24
TEXTS = ["a dog", "two cats on a mat", "a very long caption " * 20]
CONFIG: dict[str, Any] = {  # ViT-L-14-quickgelu, narrowed: 24 blocks, class token, QuickGELU
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 28, "layers": 24, "width": 32, "head_width": 8, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
}


def make(folder: Path, name: str, config: dict[str, Any], **changes: Any) -> params.Clip:
    """Params of a random open_clip model; norms and class token are moved off their initial ones
    and zeros.
    """
    (folder / f"{name}.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    open_clip.add_model_config(folder / f"{name}.json")
    model = open_clip.create_model(name)
    for key, parameter in model.named_parameters():
        if "ln_" in key:
            parameter.data += 0.3 * torch.randn_like(parameter)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / f"{name}.safetensors"
    )
    fields = {
        "model": name,
        "config": str(folder / f"{name}.json"),
        "batch_size": 2,
        "tokens": True,
    }
    return params.Clip(
        **fields
        | {"pretrained": str(folder / f"{name}.safetensors"), "detail_layers": BAND}
        | changes
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> params.Clip:
    return make(tmp_path_factory.mktemp("model"), "narrow-vit-l", CONFIG)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, 28, 28, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def block_outputs(clip: params.Clip, images: np.ndarray) -> list[torch.Tensor]:
    """x_0 (input of the first block), x_1 ... x_24 by a loop over the tower's own layers."""
    enc = encoder.load(clip)
    visual = enc.model.visual
    with torch.no_grad():
        outputs = [visual._embeds(enc.preprocess(images))]
        for block in visual.transformer.resblocks:
            outputs.append(block(outputs[-1]))
    return outputs


def project(visual: Any, x: torch.Tensor) -> torch.Tensor:
    """LN(x) W_p from their definitions, token by token, in float64."""
    scale, shift, W_p = (
        p.double() for p in (visual.ln_post.weight, visual.ln_post.bias, visual.proj)
    )
    rows = [
        (row - row.mean()) / torch.sqrt(row.var(correction=0) + 1e-5)
        for row in x.double().flatten(0, 1)
    ]
    return torch.stack([(row * scale + shift) @ W_p for row in rows]).view(*x.shape[:2], -1)


def over_class_token(x: torch.Tensor) -> np.ndarray:
    return torch.stack([tokens_TD / tokens_TD[0].square().sum().sqrt() for tokens_TD in x]).numpy()


def target(
    clip: params.Clip,
    images: np.ndarray,
    layers: Sequence[int] = BAND,
    how: Any = "mean_then_project",
) -> Any:
    """Detail tokens, while a block that may lie between the chosen ones is cached for itself."""
    enc = encoder.load(replace(clip, detail_layers=tuple(layers), aggregation=how))
    return enc.features(images, [15], targets=True)[
        "detail_tokens_ITW" if how == "raw" else "detail_tokens_ITD"
    ]


def test_class_token_of_the_final_block_is_the_embedding(
    clip: params.Clip, images: np.ndarray
) -> None:
    enc = encoder.load(clip)
    features = enc.features(images, [24], targets=True)
    with torch.no_grad():
        direct = enc.model.encode_image(enc.preprocess(images))
    last = torch.from_numpy(features["block_24_ITW"])
    np.testing.assert_allclose(project(enc.model.visual, last)[:, 0], direct, atol=1e-4)
    assert features["semantic_tokens_ITD"].shape == (N, 5, 12)
    unit = direct / direct.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(features["semantic_tokens_ITD"][:, 0], unit, atol=1e-4)
    np.testing.assert_allclose(features["image_embedding_ID"], unit, atol=1e-6)
    expected = over_class_token(project(enc.model.visual, last))
    np.testing.assert_allclose(features["semantic_tokens_ITD"], expected, atol=1e-4)


@pytest.mark.parametrize("how", ["mean_then_project", "project_then_mean", "raw"])
@pytest.mark.parametrize("layers", [BAND, (20, 12, 16), (1, 24)])
def test_detail_tokens_equal_a_loop_over_the_chosen_blocks(
    clip: params.Clip,
    images: np.ndarray,
    block_outputs: list[torch.Tensor],
    layers: tuple[int, ...],
    how: str,
) -> None:
    visual = encoder.load(clip).model.visual
    total = torch.zeros(1, dtype=torch.float64)
    for block in layers:
        x = block_outputs[block].double()
        total = total + (project(visual, x) if how == "project_then_mean" else x)
    mean = total / len(layers)
    expected = over_class_token(project(visual, mean) if how == "mean_then_project" else mean)
    got = target(clip, images, layers, how)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(got[:, 0], axis=1), 1, atol=1e-6)


def test_detail_tokens_equal_open_clips_intermediates(
    clip: params.Clip, images: np.ndarray
) -> None:
    """forward_intermediates counts from 0, gives the class token apart, and may apply LN: the same
    two targets.
    """
    enc = encoder.load(clip)
    for how, normalise in (("raw", False), ("project_then_mean", True)):
        with torch.no_grad():
            found = enc.model.visual.forward_intermediates(
                enc.preprocess(images),
                indices=[*range(10, 20)],
                output_fmt="NLC",
                output_extra_tokens=True,
                normalize_intermediates=normalise,
            )
            prefix, patches = found["image_intermediates_prefix"], found["image_intermediates"]
            mean = torch.stack(
                [torch.cat(pair, dim=1) for pair in zip(prefix, patches, strict=True)]
            ).mean(dim=0)
            mean = mean @ enc.model.visual.proj if normalise else mean
        np.testing.assert_allclose(
            target(clip, images, BAND, how), over_class_token(mean), atol=1e-5
        )


@pytest.mark.parametrize(
    "layers", [range(10, 20), range(12, 22), range(11, 20), range(11, 22), range(10, 21)]
)
def test_neighbouring_bands_differ(clip: params.Clip, images: np.ndarray, layers: range) -> None:
    """The test of the loop can fail: a band that is off by one moves the target by far more than
    its tolerance.
    """
    band, off = target(clip, images), target(clip, images, layers)
    assert np.abs(band - off).max() > 3e-3
    np.testing.assert_array_equal(
        band, target(clip, images, BAND[::-1])
    )  # but the order of the blocks is nothing


def test_final_block_alone_is_the_semantic_target(clip: params.Clip, images: np.ndarray) -> None:
    features = encoder.load(replace(clip, detail_layers=(24,))).features(images, targets=True)
    np.testing.assert_array_equal(features["detail_tokens_ITD"], features["semantic_tokens_ITD"])


def test_one_forward_pass_serves_all(clip: params.Clip, images: np.ndarray) -> None:
    enc = encoder.load(clip)
    passes: list[int] = []
    enc.model.visual.conv1.register_forward_hook(
        lambda module, inputs, output: passes.append(len(output))
    )
    features = enc.features(images, [24, 11], targets=True)
    assert passes == [2, 1] and not any(
        b._forward_hooks for b in enc.model.visual.transformer.resblocks
    )
    assert {name: value.dtype for name, value in features.items()} == dict.fromkeys(
        [
            "block_24_ITW",
            "block_11_ITW",
            "image_embedding_ID",
            "semantic_tokens_ITD",
            "detail_tokens_ITD",
        ],
        np.float32,
    )
    np.testing.assert_array_equal(features["image_embedding_ID"], enc.images(images))
    for block, expected in enc.blocks(
        images, [24, 11]
    ).items():  # the sum of the detail blocks leaves them alone
        np.testing.assert_array_equal(features[f"block_{block}_ITW"], expected)


def test_token_layout_does_not_depend_on_batch_first(clip: params.Clip, images: np.ndarray) -> None:
    enc = encoder.load(clip)
    expected = enc.features(images, targets=True)
    enc.model.visual.transformer.batch_first = False
    for block in enc.model.visual.transformer.resblocks:
        block.attn.batch_first = False
    for name, value in enc.features(images, targets=True).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(clip: params.Clip, images: np.ndarray, precision: Any) -> None:
    whole, half = encoder.load(clip), encoder.load(replace(clip, precision=precision))
    for name, value in whole.features(images, targets=True).items():
        other = half.features(images, targets=True)[name]
        assert (
            other.dtype == np.float32 and np.abs(other - value).max() < 0.05 * np.abs(value).max()
        )
    np.testing.assert_allclose(half.text_tokens(TEXTS), whole.text_tokens(TEXTS), atol=0.05)


def test_text_tokens_equal_the_layers_one_by_one(clip: params.Clip) -> None:
    """Token and position embedding, causal blocks, final LN, projection; the pooled row is
    encode_text.
    """
    enc = encoder.load(clip)
    model = enc.model
    ids = torch.zeros(N, 77, dtype=torch.long)
    ends = []
    for i, row in enumerate(enc.tokenizer(TEXTS).tolist()):
        ends.append(row.index(49407))
        ids[i] = torch.tensor(
            row[: ends[-1]] + [49407] * (77 - ends[-1])
        )  # as OpenAI's tokenizer pads
    later = torch.ones(77, 77).triu(1).bool()
    with torch.no_grad():
        x = model.token_embedding(ids) + model.positional_embedding
        for block in model.transformer.resblocks:
            x = block(x, attn_mask=torch.zeros(77, 77).masked_fill(later, float("-inf")))
        expected = model.ln_final(x) @ model.text_projection
        pooled = model.encode_text(enc.tokenizer(TEXTS))
    got = enc.text_tokens(TEXTS)
    assert got.shape == (N, 77, 12) and got.dtype == np.float32 and ends == [3, 6, 76]
    for i, end in enumerate(ends):
        np.testing.assert_allclose(got[i], expected[i] / pooled[i].norm(), atol=1e-4)
        np.testing.assert_allclose(expected[i, end], pooled[i], atol=1e-4)
        np.testing.assert_allclose(got[i, end], enc.texts(TEXTS)[i], atol=1e-4)
    assert not model.ln_final._forward_hooks


def test_a_separate_text_tower_gives_the_same_tokens(clip: params.Clip, tmp_path: Path) -> None:
    """open_clip keeps the text tower in a module of its own for some models."""
    enc = encoder.load(make(tmp_path, "own-text", CONFIG | {"custom_text": True}))
    enc.check_targets()
    pooled, ends = enc.texts(TEXTS), enc.tokenizer(TEXTS).argmax(dim=1)
    np.testing.assert_allclose(enc.text_tokens(TEXTS)[np.arange(N), ends], pooled, atol=1e-5)


def test_a_detail_layer_outside_the_model(clip: params.Clip, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"detail_layers is \[11, 0\]; blocks are counted"):
        replace(clip, detail_layers=(11, 0))
    enc = encoder.load(replace(clip, detail_layers=(11, 25)))
    for call in (enc.check_targets, lambda: enc.features(images, targets=True)):
        with pytest.raises(
            ValueError,
            match="detail_layers: narrow-vit-l has no block 25; choose from 1 to 24",
        ):
            call()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "vision_cfg",
            {"layers": [1, 1, 1, 1], "image_size": 32, "width": 8},
            "is a ModifiedResNet, not",
        ),
        ("vision_cfg", {"pool_type": "avg"}, "pools by avg, not its class token"),
        (
            "vision_cfg",
            {"attentional_pool": True, "attn_pooler_heads": 2},
            "pools by attention, not its class token",
        ),
        ("text_cfg", {"no_causal_mask": True}, "text tower is not causal"),
        ("text_cfg", {"pool_type": "last"}, "text tower is not causal, pooled at the end token"),
    ],
)
def test_towers_that_give_no_token_targets(
    tmp_path: Path, part: str, change: dict[str, Any], message: str
) -> None:
    name = f"other-{next(iter(change)).replace('_', '-')}-{part[:4]}"
    config = (
        CONFIG
        | {part: CONFIG[part] | change}
        | ({"custom_text": True} if part == "text_cfg" else {})
    )
    enc = encoder.load(make(tmp_path, name, config))
    with pytest.raises(
        ValueError,
        match=rf"{name} has no (token targets|text tokens).*{message}.*ViT-L-14-quickgelu",
    ):
        enc.check_targets()


def test_the_real_architecture_has_the_parts_that_the_targets_use() -> None:
    """ViT-L-14-quickgelu on the meta device: 24 blocks, 257 tokens of 1024, projection to 768, 77
    text tokens.
    """
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config("ViT-L-14-quickgelu"))
    tokens.check_towers(model, "ViT-L-14-quickgelu")
    visual = model.visual
    assert len(visual.transformer.resblocks) == 24 and visual.positional_embedding.shape == (
        257,
        1024,
    )
    assert visual.proj.shape == (1024, 768) and model.text_projection.shape == (768, 768)
    assert (
        model.context_length == 77
        and type(visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    )
