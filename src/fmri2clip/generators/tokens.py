"""Stable Diffusion conditioned on image tokens in the place of text, or on the pooled embedding as
a single token.

The family of the simulated world's generator (assets/mini/generator); any U-Net that was trained to
read the projected tokens of a CLIP model by cross-attention is loaded the same way. The class token
comes first in the tokens and is the pooled embedding, so one token is a condition such a network
knows.

Cross-attention does not see the order of tokens. With `places: grid` each patch token is given
N_PLACES further entries that say where in the square grid of patches it lies: for r and c, row and
column as fractions of the grid's side,

    sin(pi k r), cos(pi k r), sin(pi k c), cos(pi k c), over k = 1, 2, 4, 8, divided by sqrt(8):
    norm 1, as the tokens

and zeros for the class token. That is our decision; a network must have been trained with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmri2clip.core.strict import at_least
from fmri2clip.generators import Array, Conditioning
from fmri2clip.generators._pipeline import PipelineGenerator, Settings, load_pipeline, unit

if TYPE_CHECKING:
    import torch

CITATION = (
    "Rombach et al. 2022, arXiv 2112.10752 (latent diffusion); conditioning on CLIP tokens is our "
    "decision"
)
CLASS = "StableDiffusionPipeline"
UNUSED = ("text_encoder", "tokenizer", "safety_checker")  # no text is read
FREQUENCIES = (1, 2, 4, 8)
N_PLACES = 4 * len(FREQUENCIES)


def add_places(tokens_BTW: Array) -> Array:
    """Tokens (B, T, W + N_PLACES): class token first, then a square grid of patches row by row, or
    nothing.
    """
    n_images, n_tokens, _ = tokens_BTW.shape
    side = isqrt(n_tokens - 1)
    ticks = np.pi * np.outer(np.arange(side) / max(side, 1), FREQUENCIES)
    waves = np.concatenate([np.sin(ticks), np.cos(ticks)], axis=1)
    grid = np.concatenate(
        [waves.repeat(side, axis=0), np.tile(waves, (side, 1))], axis=1
    ) / np.sqrt(N_PLACES / 2)
    place_TP = np.concatenate([np.zeros((1, N_PLACES)), grid])
    added = np.broadcast_to(place_TP.astype(tokens_BTW.dtype), (n_images, *place_TP.shape))
    return np.concatenate([tokens_BTW, added], axis=2)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A latent diffusion pipeline that was trained on image tokens in place of a prompt."""

    n_tokens: int  # image tokens that the pipeline was trained with, class token included
    # whether the pipeline was trained with the places of patches
    places: Literal["none", "grid"] = "none"
    steps: int = 10
    batch_size: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "n_tokens")
        if self.places == "grid" and isqrt(self.n_tokens - 1) ** 2 != self.n_tokens - 1:
            raise ValueError(
                f"places is grid, but n_tokens is {self.n_tokens}; expected a class token and a "
                "square"
            )


class Generator(PipelineGenerator):
    """Reads the image tokens where they are given, else the pooled embedding."""

    needs = ("tokens_ITW|embedding_ID",)

    def _load(self) -> Any:
        return load_pipeline(
            CLASS, self.config, requires_safety_checker=False, **dict.fromkeys(UNUSED)
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        unet = self.pipe.unet.config
        width = unet.encoder_hid_dim or unet.cross_attention_dim
        if self.config.places == "grid":
            width -= N_PLACES  # the numbers of a place lie beside those of its token
        return {"tokens_ITW": (self.config.n_tokens, width), "embedding_ID": (width,)}

    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        # An embedding is read as a class token without any patch.
        if batch.tokens_ITW is not None:
            tokens_BTW = batch.tokens_ITW.astype(np.float32)
        else:
            tokens_BTW = unit(batch.arrays()["embedding_ID"][:, None])
        read = self.tensor(add_places(tokens_BTW) if self.config.places == "grid" else tokens_BTW)
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
