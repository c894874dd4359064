"""What a decoder predicts for training images that it did not see: what the judge is fitted on.

Letters: J images of the judge, R 1, 2 or 3 trials, V voxels, D embedding width, X numbers that
express the tokens (artefacts/components.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fmri2clip.artefacts.components import STREAMS, express_tokens
from fmri2clip.artefacts.model import OFFERED
from fmri2clip.clip.targets import SEMANTIC_STREAMS
from fmri2clip.decoders import Decoder
from fmri2clip.stages.train.data import JudgeImages

BLOCK = 64  # images whose predicted tokens are in memory at a time


def predict_heldout(
    decoder: Decoder, judge: JudgeImages, basis: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Predictions from the mean of the first 1, 2 and 3 trials of every image; where a basis is
    given, of its tokens, too, as express_tokens has them, and what they should be.
    """
    arrays: dict[str, Any] = {
        "nsd_id_J": judge.nsd_id_J,
        "image_JD": judge.image_JD,
        "text_JD": judge.text_JD,
    }
    found: dict[str, list[Any]] = {}
    for n_repeats, betas_JV in enumerate(judge.betas_RJV, start=1):
        decoded = decoder.decode(torch.from_numpy(betas_JV), judge.subject, n_repeats)
        for name in OFFERED:
            value = getattr(decoded, name)
            if value is not None:
                found.setdefault(name, []).append(value.float().numpy())
        if basis is not None:
            for stream, expressed_JX in _express(
                decoder, betas_JV, judge, n_repeats, basis
            ).items():
                found.setdefault(f"{stream}_tokens_IX", []).append(expressed_JX)
    if basis is not None and judge.scores_JP is not None:
        # The class token is the embedding.
        arrays["tokens_JX"] = np.concatenate([judge.image_JD, judge.scores_JP], axis=1)
    return arrays | {name.replace("_I", "_RJ"): np.stack(parts) for name, parts in found.items()}


def _express(
    decoder: Decoder, betas_JV: Any, judge: JudgeImages, n_repeats: int, basis: Mapping[str, Any]
) -> dict[str, Any]:
    """Predicted semantic tokens (J, X) by stream, block after block: whole ones are large."""
    found: dict[str, list[Any]] = {}
    for start in range(0, len(betas_JV), BLOCK):
        betas = torch.from_numpy(betas_JV[start : start + BLOCK])
        tokens = decoder.decode_tokens(betas, judge.subject, n_repeats).tokens
        for stream in (name for name in SEMANTIC_STREAMS if name in tokens):
            value = tokens[stream].float().numpy()
            found.setdefault(stream, []).append(express_tokens(value, basis, STREAMS[0]))
    return {stream: np.concatenate(parts) for stream, parts in found.items()}
