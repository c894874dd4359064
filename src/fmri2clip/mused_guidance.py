"""Which CLIP features guide which token of the CLIP-MUSED-style decoder; the losses themselves are
in guidance.py.

Axis letters: B images of a batch, T tokens, E token width, D embedding width, F width of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmri2clip import guidance
from fmri2clip.decoders import MixedBatch, TrainingData
from fmri2clip.mused_config import LOW_TARGETS, Config


def guide_tokens(c: Config, batch: MixedBatch, token_BTE: Tensor) -> dict[str, Tensor]:
    """Unweighted guidance and orthogonality of one batch; a single token gets both guidances."""
    high_BE, low_BE = token_BTE[:, 0], token_BTE[:, -1]
    image_BD = torch.cat([part.image_embedding_BD for part in batch.parts])
    text_BD = torch.cat(
        [part.mean_text_BD for part in batch.parts if part.mean_text_BD is not None]
    )
    high_BF = guidance.clip_features(
        guidance.high_features(image_BD, text_BD, c.high_mode), c.clip_threshold
    )
    terms = {"high_loss": guidance.guide(high_BF, high_BE)}
    if c.w_low:
        low_BF = torch.cat([part.features[LOW_TARGETS[c.low_pool]] for part in batch.parts])
        terms["low_loss"] = guidance.guide(guidance.clip_features(low_BF, c.clip_threshold), low_BE)
    if c.n_tokens == 2:
        terms["orthogonal_loss"] = guidance.orthogonality(high_BE, low_BE, c.orthogonality)
    return terms


def measure_features(c: Config, data: TrainingData) -> tuple[float, float]:
    """Mean off-diagonal cosine of the high- and of the low-level features of the training
    images; 0 where none.
    """
    train_I = ~data.is_validation_I
    high_IF = guidance.high_features(
        data.image_embedding_ID[train_I], data.mean_text_ID[train_I], c.high_mode
    )
    low_IF = data.features.get(LOW_TARGETS[c.low_pool])
    features = (high_IF, None if low_IF is None else low_IF[train_I])
    cosines = [
        0.0 if f is None else guidance.mean_cosine(guidance.clip_features(f, c.clip_threshold))
        for f in features
    ]
    return cosines[0], cosines[1]
