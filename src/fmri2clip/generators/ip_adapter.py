"""Stable Diffusion or SDXL with an IP-Adapter that reads the pooled CLIP image embedding.

Only adapters of the pooled embedding are served, not the 'plus' ones, which read hidden states of
another block. Embeddings in the CLIP cache have norm 1, the adapter was trained on embeddings as
they leave the projection: they are multiplied by `embedding_norm`, the mean norm there. It is a
property of the CLIP model (measure it on a few pictures by `encode_image` without normalisation);
there is no default that would be wrong in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmri2clip.core.strict import at_least
from fmri2clip.generators import Array, Conditioning
from fmri2clip.generators._pipeline import (
    PipelineGenerator,
    Settings,
    check_path,
    load_pipeline,
    unit,
)

if TYPE_CHECKING:
    import torch

CITATION = "Ye et al. 2023, arXiv 2308.06721"
CLASSES = {"sd": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A Stable Diffusion pipeline (SD 1.5 or SDXL) and the adapter that feeds it an embedding."""

    base: Literal["sd", "sdxl"]  # what `path` holds
    adapter: str  # hub name or folder of the adapter
    weights: str  # its file, such as ip-adapter_sd15.safetensors
    subfolder: str = ""  # of that file
    # mean norm of the CLIP model's image embeddings before they are normalised
    embedding_norm: float
    scale: float = 1.0  # of the adapter beside the prompt
    prompt: str = ""
    negative_prompt: str = ""
    steps: int = 30
    guidance_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "scale")
        if self.embedding_norm <= 0:
            raise ValueError(
                f"embedding_norm is {self.embedding_norm}, expected the norm of embeddings, above 0"
            )

    def check_places(self) -> None:
        """As of every family, and of the adapter."""
        super().check_places()
        check_path(self.adapter, "adapter", str(Path(self.subfolder) / self.weights))


class Generator(PipelineGenerator):
    """Reads the pooled embedding."""

    needs = ("embedding_ID",)

    def _load(self) -> Any:
        config = self.config
        # SDXL has no checker of its pictures, and its class knows no such argument.
        without = {"safety_checker": None, "requires_safety_checker": False}
        pipe = load_pipeline(
            CLASSES[config.base], config, **(without if config.base == "sd" else {})
        )
        where = f"{config.adapter}, {config.subfolder or '.'}/{config.weights}"
        try:
            pipe.load_ip_adapter(
                config.adapter,
                subfolder=config.subfolder,
                weight_name=config.weights,
                image_encoder_folder=None,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            fit = f"is it an adapter for {config.base}?"
            raise ValueError(
                f"the adapter {where} cannot be loaded onto {config.path}: {error} ({fit})"
            ) from error
        projection = type(pipe.unet.encoder_hid_proj.image_projection_layers[0]).__name__
        if projection != "ImageProjection":
            raise ValueError(
                f"the adapter {where} reads hidden states ({projection}); choose one of the pooled "
                "embedding, such as ip-adapter_sd15.safetensors"
            )
        pipe.set_ip_adapter_scale(config.scale)
        pipe.prepare_ip_adapter_image_embeds = _take_as_given
        return pipe

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        projection = self.pipe.unet.encoder_hid_proj.image_projection_layers[0]
        return {"embedding_ID": (projection.image_embeds.in_features,)}

    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        import torch

        # The adapter was trained on embeddings as CLIP gives them, before they are normalised.
        embedding_ID = unit(batch.arrays()["embedding_ID"]) * self.config.embedding_norm
        read = self.tensor(embedding_ID)[:, None]
        guided = self.config.guidance_scale > 1
        images: Array = self.pipe(
            prompt=[self.config.prompt] * len(batch),
            negative_prompt=[self.config.negative_prompt] * len(batch) if guided else None,
            ip_adapter_image_embeds=[torch.cat([torch.zeros_like(read), read]) if guided else read],
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.steps,
            generator=noise,
            output_type="np",
        ).images
        return np.asarray(images)


def _take_as_given(
    ip_adapter_image: Any, ip_adapter_image_embeds: list[torch.Tensor], *rest: Any
) -> list[torch.Tensor]:
    """In the place of the pipeline's method, which repeats the embeddings of a batch once more for
    each of its prompts.

    The attention then reads the surplus rows as further tokens and mixes the images of the batch,
    without an error.
    """
    return ip_adapter_image_embeds
