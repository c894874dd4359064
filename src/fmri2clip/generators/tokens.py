"""Stable Diffusion conditioned on image tokens in the place of text, or on the pooled embedding as a single token.

The family of the simulated world's generator (assets/mini/generator); any U-Net that was trained to read the projected
tokens of a CLIP model by cross-attention is loaded the same way. The class token comes first in the tokens and is the
pooled embedding, so one token is a condition such a network knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri2clip.generators import Array, Conditioning
from fmri2clip.generators._pipeline import PipelineGenerator, Settings, load_pipeline, unit
from fmri2clip.strict import at_least

if TYPE_CHECKING:
    import torch

CITATION = "Rombach et al. 2022, arXiv 2112.10752 (latent diffusion); conditioning on CLIP tokens is our decision"
CLASS = "StableDiffusionPipeline"
UNUSED = ("text_encoder", "tokenizer", "safety_checker")  # no text is read


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_tokens: int  # image tokens that the pipeline was trained with, class token included
    steps: int = 10
    batch_size: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "n_tokens")


class Generator(PipelineGenerator):
    """Reads the image tokens where they are given, else the pooled embedding."""

    needs = ("tokens_ITW|embedding_ID",)

    def _load(self) -> Any:
        return load_pipeline(CLASS, self.config, requires_safety_checker=False, **dict.fromkeys(UNUSED))

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        unet = self.pipe.unet.config
        width = unet.encoder_hid_dim or unet.cross_attention_dim
        return {"tokens_ITW": (self.config.n_tokens, width), "embedding_ID": (width,)}

    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        tokens_BTW = batch.tokens_ITW if batch.tokens_ITW is not None else batch.arrays()["embedding_ID"][:, None]
        read = self.tensor(unit(tokens_BTW))
        guided = self.config.guidance_scale > 1
        images: Array = self.pipe(
            prompt_embeds=read,
            negative_prompt_embeds=read.new_zeros(read.shape) if guided else None,
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.steps,
            generator=noise,
            output_type="np",
        ).images
        return np.asarray(images)
