"""Stable unCLIP image variation: a picture from the pooled CLIP image embedding.

Embeddings in the CLIP cache have norm 1, the pipeline was trained on embeddings as they leave the
projection. They get back the root mean square norm that the pipeline's own statistics
(image_normalizer) stand for:

    |e|^2 = sum over D of mean_D^2 + std_D^2

That scaling is our decision; `embedding_norm` replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri2clip.core.strict import at_least
from fmri2clip.generators import Array, Conditioning
from fmri2clip.generators._pipeline import PipelineGenerator, Settings, load_pipeline, unit

if TYPE_CHECKING:
    import torch

CITATION = "Ramesh et al. 2022, arXiv 2204.06125 (unCLIP); Stable unCLIP as in diffusers"
CLASS = "StableUnCLIPImg2ImgPipeline"


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """A Stable unCLIP pipeline and how its image embedding is scaled and noised."""

    steps: int = 20
    guidance_scale: float = 10.0
    noise_level: int = 0  # step of the noise that is added to the embedding
    embedding_norm: float = 0.0  # norm that embeddings are given, 0: from the pipeline's statistics
    prompt: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "noise_level", "embedding_norm")


class Generator(PipelineGenerator):
    """Reads the pooled embedding."""

    needs = ("embedding_ID",)

    def _load(self) -> Any:
        return load_pipeline(CLASS, self.config)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"embedding_ID": (self.pipe.image_normalizer.config.embedding_dim,)}

    @property
    def embedding_norm(self) -> float:
        """Norm of the embeddings that the pipeline is given."""
        # The pipeline keeps mean and std of the embeddings that it was trained on; for each width
        # E x^2 = mean^2 + std^2.
        statistics = self.pipe.image_normalizer
        squares = sum(
            part.detach().float().square().sum() for part in (statistics.mean, statistics.std)
        )
        return self.config.embedding_norm or float(squares) ** 0.5

    def _paint(self, batch: Conditioning, noise: list[torch.Generator]) -> Array:
        images: Array = self.pipe(
            prompt=[self.config.prompt] * len(batch),
            image_embeds=self.tensor(unit(batch.arrays()["embedding_ID"]) * self.embedding_norm),
            noise_level=self.config.noise_level,
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.steps,
            generator=noise,
            output_type="np",
        ).images
        return np.asarray(images)
