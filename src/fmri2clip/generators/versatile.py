"""Versatile Diffusion, dual guided: a picture from the image tokens and the caption tokens of CLIP
ViT-L/14.

The pipeline's own call encodes a picture and a text; here the context is predicted features, so its
parts are driven:

    context   [text tokens (77), image tokens (257)] on the token axis; zeros where it is
              unconditional
    dual      m * attention to text + (1 - m) * attention to the image, m = mix_ratio
    guided    e = e_0 + g (e_c - e_0), g = guidance_scale

Zeros as unconditional context, UniPC with 20 steps, and a mixing ratio of 0.5 with text and 0
without are what released code of other decoders uses with this generator; guidance lies between 3.5
and 5 there.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmri2clip.core.strict import fraction
from fmri2clip.generators import Array, Conditioning
from fmri2clip.generators._pipeline import (
    PipelineGenerator,
    Settings,
    finish,
    load_index,
    load_part,
)

if TYPE_CHECKING:
    import torch

CITATION = "Xu et al. 2023, arXiv 2211.08332"
CLASS = "VersatileDiffusionDualGuidedPipeline"
# As in the pipeline's set_transformer_params.
IMAGE_TOKENS = 257
TEXT_TOKENS = 77
# Predicted features need no encoder.
UNUSED = ("tokenizer", "image_feature_extractor", "text_encoder", "image_encoder")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A Versatile Diffusion pipeline and how it weighs text against image."""

    mix_ratio: float = 0.5  # weight of the text; 0: image tokens only, no text is read
    steps: int = 20
    guidance_scale: float = 5.0
    scheduler: Literal["as_saved", "ddim", "unipc", "dpm"] = "unipc"

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(self, "mix_ratio")


class Generator(PipelineGenerator):
    """Reads the image tokens, and the text tokens if the mixing ratio gives them weight."""

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Image tokens (I, T, W), and text tokens (I, U, W) unless the mixing ratio is 0."""
        return ("tokens_ITW", "text_tokens_IUW") if self.config.mix_ratio > 0 else ("tokens_ITW",)

    def _load(self) -> Any:
        pipe = _join(self.config)
        _mix(pipe.image_unet, self.config.mix_ratio)
        return pipe

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        width = self.pipe.image_unet.config.cross_attention_dim
        return {"tokens_ITW": (IMAGE_TOKENS, width), "text_tokens_IUW": (TEXT_TOKENS, width)}

    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        import torch

        with torch.no_grad():
            latents = self._denoise(self._context(batch), noise)
            scaled = latents / self.pipe.vae.config.scaling_factor
            images = self.pipe.vae.decode(scaled, return_dict=False)[0]
        painted = self.pipe.image_processor.postprocess(images, output_type="np")
        self.pipe.maybe_free_model_hooks()
        return np.asarray(painted)

    def _context(self, batch: Conditioning) -> torch.Tensor:
        """Tokens (B, 77 + 257, W), text first; zeros for a text that has no weight. Doubled, zeros
        first, if guided.
        """
        import torch

        image = self.tensor(batch.arrays()["tokens_ITW"].astype(np.float32))
        text = batch.text_tokens_IUW
        blank = image.new_zeros(len(image), TEXT_TOKENS, image.shape[-1])
        context = torch.cat([blank if text is None else self.tensor(text), image], dim=1)
        if self.config.guidance_scale > 1:
            return torch.cat([torch.zeros_like(context), context])
        return context

    def _denoise(self, context: torch.Tensor, noise: list[torch.Generator]) -> torch.Tensor:
        pipe = self.pipe
        guidance = self.config.guidance_scale
        side = pipe.image_unet.config.sample_size * pipe.vae_scale_factor
        pipe.scheduler.set_timesteps(self.config.steps, device=context.device)
        channels = pipe.image_unet.config.in_channels
        latents = pipe.prepare_latents(
            len(noise), channels, side, side, context.dtype, context.device, noise
        )
        takes_noise = "generator" in inspect.signature(pipe.scheduler.step).parameters
        for t in pipe.scheduler.timesteps:
            # Twice if guided: e_0 and e_c come from one pass.
            repeated = latents.repeat(len(context) // len(latents), 1, 1, 1)
            scaled = pipe.scheduler.scale_model_input(repeated, t)
            predicted = pipe.image_unet(scaled, t, context, return_dict=False)[0]
            if guidance > 1:
                without, conditioned = predicted.chunk(2)
                predicted = without + guidance * (conditioned - without)
            more = {"generator": noise} if takes_noise else {}
            latents = pipe.scheduler.step(predicted, t, latents, **more, return_dict=False)[0]
        return latents


def _mix(unet: Any, mix_ratio: float) -> None:
    """Replace the library's dual attention, which its own blocks cannot call any more (an argument
    has been added).
    """
    from diffusers.models import DualTransformer2DModel
    from torch import nn

    class Mixed(nn.Module):
        """m T(x, text tokens) + (1 - m) I(x, image tokens); a side without weight is not
        computed.
        """

        def __init__(self, image: nn.Module, text: nn.Module) -> None:
            super().__init__()
            self.image = image
            self.text = text

        def forward(
            self, x: Any, encoder_hidden_states: Any, return_dict: bool = False, **more: Any
        ) -> tuple[Any]:
            text = encoder_hidden_states[:, :TEXT_TOKENS]
            image = encoder_hidden_states[:, TEXT_TOKENS:]
            sides = ((self.text, text, mix_ratio), (self.image, image, 1 - mix_ratio))
            # A tuple of one, as the library's own transformers return.
            mixed = sum(
                w * part(x, context, return_dict=False, **more)[0]
                for part, context, w in sides
                if w > 0
            )
            return (mixed,)

    for name, module in list(unet.named_modules()):
        if isinstance(module, DualTransformer2DModel):
            unet.set_submodule(name, Mixed(*module.transformers))


def _join(config: Config) -> Any:
    """The dual-guided pipeline from its parts, without the encoders, which predicted features do
    not need.

    Read part by part because the class of the text U-Net has moved inside diffusers: neither the
    library's name in published files nor the one that is saved now leads to it any more. A folder
    that was saved by the dual-guided class itself has no text U-Net; its image U-Net holds the
    attention of both.
    """
    import diffusers
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import (
        UNetFlatConditionModel,
    )

    config.check_places()
    kind = getattr(diffusers, CLASS)
    index = load_index(kind, config)
    lacking = [name for name in ("image_unet", "vae", "scheduler") if name not in index]
    if lacking:
        raise ValueError(
            f"{config.path} is no Versatile Diffusion pipeline: it has no {', '.join(lacking)}"
        )
    joined = index.get("text_unet", (None, None))[1] is None
    pipe = kind(
        image_unet=load_part(diffusers.UNet2DConditionModel, config, "image_unet"),
        text_unet=None if joined else load_part(UNetFlatConditionModel, config, "text_unet"),
        vae=load_part(diffusers.AutoencoderKL, config, "vae"),
        scheduler=getattr(diffusers, index["scheduler"][1]).from_pretrained(
            config.path, subfolder="scheduler", revision=config.revision or None
        ),
        **dict.fromkeys(UNUSED),
    )
    # of the text U-Net, whose attention is part of the image U-Net now
    pipe.remove_unused_weights()
    return finish(pipe, config)
