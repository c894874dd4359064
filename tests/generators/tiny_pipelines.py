"""Tiny random pipelines of the real diffusers classes, saved to a folder as a hub repository would
hold them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from safetensors.torch import save_file

SIDE, WIDTH = 8, 16  # latents, tokens
CHANNELS = (8, 16)


def make_vae() -> AutoencoderKL:
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    return AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, **blocks)


def make_unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": SIDE,
        "block_out_channels": CHANNELS,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**settings | changes)


def load_unet(folder: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder, subfolder="unet")


def make_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """Byte-level CLIP tokenizer with a handful of words."""
    words = [
        "a",
        "b",
        "c",
        "d",
        "a</w>",
        "b</w>",
        "c</w>",
        "d</w>",
        "ab</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def text_config(**changes: Any) -> transformers.CLIPTextConfig:
    settings: dict[str, Any] = {
        "vocab_size": 11,
        "hidden_size": WIDTH,
        "projection_dim": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": 9,
        "eos_token_id": 10,
        "pad_token_id": 10,
    }
    return transformers.CLIPTextConfig(**settings | changes)


def make_image_encoder(
    image_size: int, patch_size: int
) -> transformers.CLIPVisionModelWithProjection:
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=patch_size,
    )
    return transformers.CLIPVisionModelWithProjection(config)


def make_extractor(size: int) -> transformers.CLIPImageProcessor:
    return transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)


def make_scheduler(**changes: Any) -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(clip_sample=False, steps_offset=1, **changes)


def save_tokens(folder: Path, width: int = WIDTH) -> Path:
    torch.manual_seed(0)
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    parts = {"vae": make_vae(), "unet": make_unet(cross_attention_dim=width)}
    parts |= {"scheduler": make_scheduler(prediction_type="v_prediction")}
    diffusers.StableDiffusionPipeline(
        **parts, **absent, requires_safety_checker=False
    ).save_pretrained(folder)
    return folder


def save_unclip(folder: Path) -> Path:
    torch.manual_seed(0)
    normaliser = StableUnCLIPImageNormalizer(embedding_dim=WIDTH)
    normaliser.std.data *= 3
    unet = make_unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH)
    diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=make_extractor(32),
        image_encoder=make_image_encoder(32, 8),
        image_normalizer=normaliser,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=make_tokenizer(folder / "words"),
        text_encoder=transformers.CLIPTextModel(text_config()),
        unet=unet,
        scheduler=make_scheduler(),
        vae=make_vae(),
    ).save_pretrained(folder)
    return folder


def save_versatile(folder: Path) -> Path:
    """A universal checkpoint, as the published one is: two U-Nets, which the dual-guided class
    joins when it loads.
    """
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
        UNetFlatConditionModel,
    )

    torch.manual_seed(0)
    flat = UNetFlatConditionModel(
        sample_size=SIDE,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlockFlat", "CrossAttnDownBlockFlat"),
        up_block_types=("CrossAttnUpBlockFlat", "UpBlockFlat"),
        mid_block_type="UNetMidBlockFlatCrossAttn",
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    diffusers.VersatileDiffusionPipeline(
        tokenizer=make_tokenizer(folder / "words"),
        image_feature_extractor=make_extractor(32),
        text_encoder=transformers.CLIPTextModelWithProjection(text_config()),
        image_encoder=make_image_encoder(32, 2),
        image_unet=make_unet(),
        text_unet=flat,
        vae=make_vae(),
        scheduler=make_scheduler(),
    ).save_pretrained(folder)
    return folder


def save_joined(universal: Path, folder: Path) -> None:
    """The same weights as the dual-guided class saves them: one U-Net with the attention of
    both.
    """
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
        UNetFlatConditionModel,
    )

    classes: dict[str, Any] = {
        "tokenizer": transformers.CLIPTokenizer,
        "image_feature_extractor": transformers.CLIPImageProcessor,
        "text_encoder": transformers.CLIPTextModelWithProjection,
        "image_encoder": transformers.CLIPVisionModelWithProjection,
        "image_unet": UNet2DConditionModel,
        "text_unet": UNetFlatConditionModel,
        "vae": AutoencoderKL,
        "scheduler": diffusers.DDIMScheduler,
    }
    parts = {name: part.from_pretrained(universal / name) for name, part in classes.items()}
    pipe = diffusers.VersatileDiffusionDualGuidedPipeline(**parts)
    pipe.remove_unused_weights()
    pipe.save_pretrained(folder)


def save_base(folder: Path, base: str) -> Path:
    """What an IP-Adapter is loaded onto: Stable Diffusion or SDXL."""
    torch.manual_seed(0)
    parts = {
        "vae": make_vae(),
        "scheduler": make_scheduler(),
        "tokenizer": make_tokenizer(folder / "words"),
    }
    if base == "sd":
        absent = {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        text = transformers.CLIPTextModel(text_config())
        pipe: Any = diffusers.StableDiffusionPipeline(
            **parts, unet=make_unet(), text_encoder=text, **absent
        )
    else:
        added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
        unet = make_unet(
            **added,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            cross_attention_dim=2 * WIDTH,
        )
        pipe = diffusers.StableDiffusionXLPipeline(
            **parts,
            unet=unet,
            text_encoder=transformers.CLIPTextModel(text_config()),
            text_encoder_2=transformers.CLIPTextModelWithProjection(text_config()),
            tokenizer_2=parts["tokenizer"],
        )
    pipe.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, unet: UNet2DConditionModel, plus: bool = False) -> Path:
    """IP-Adapter weights for a U-Net in the layout of the published files; `plus` reads hidden
    states.
    """
    torch.manual_seed(1)
    width, state = unet.config.cross_attention_dim, {}
    keys = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for place, key in enumerate(keys):
        hidden = unet.get_submodule(key.removesuffix(".processor")).to_q.out_features
        state |= {
            f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight": torch.randn(hidden, width)
            for part in "kv"
        }
    projection = _resampler(width) if plus else _linear(width)
    state |= {f"image_proj.{name}": value for name, value in projection.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "adapter.safetensors")
    return folder


def _linear(width: int, n_tokens: int = 4) -> dict[str, torch.Tensor]:
    shapes = {"proj.weight": (n_tokens * width, WIDTH), "proj.bias": (n_tokens * width,)}
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    return {name: torch.randn(shape) for name, shape in shapes.items()} | norm


def _resampler(width: int, inner: int = 64, n_tokens: int = 4) -> dict[str, torch.Tensor]:
    """Projection of a 'plus' adapter: four layers with heads of width 64, as the library
    assumes.
    """
    block: dict[str, tuple[int, ...]] = {
        **{
            f"0.{norm}.{part}": (width,)
            for norm in ("norm1", "norm2")
            for part in ("weight", "bias")
        },
        "0.to_q.weight": (inner, width),
        "0.to_kv.weight": (2 * inner, width),
        "0.to_out.weight": (width, inner),
        **{f"1.0.{part}": (width,) for part in ("weight", "bias")},
        "1.1.weight": (4 * width, width),
        "1.3.weight": (width, 4 * width),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, n_tokens, width),
        "proj_in.weight": (width, WIDTH),
        "proj_out.weight": (width, width),
        **{f"{name}.bias": (width,) for name in ("proj_in", "proj_out", "norm_out")},
        "norm_out.weight": (width,),
        **{f"layers.{layer}.{name}": shape for layer in range(4) for name, shape in block.items()},
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}
