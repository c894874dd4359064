"""Which of several pictures of an image to keep: by the decoded embedding, or by an encoding model.

The stimulus is not read here, and may not be: it is what a reconstruction is scored against.

Letters: I rows, N candidates, H W C height, width and channels of a picture, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.components import score_streams
from fmri2clip.core.params import Clip
from fmri2clip.decoders import Decoder
from fmri2clip.stages.reconstruct import generation

Array = NDArray[Any]
N_TRIALS = 2  # that an encoding model chooses by: the third is left for scoring the choice


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one subject's brain gives for some test images, in ascending order of their ids.

    Where candidates are to be chosen: by the embedding, query_ID, centred, norm 1, and mean_D, the
    mean embedding of the training images; by an encoding model, response_IV, means of the first
    N_TRIALS trials, and judge, the decoder that knows how likely these are of a picture.
    """

    nsd_id_I: NDArray[np.int64]
    features: Mapping[str, Array]  # by the field names of Conditioning
    query_ID: Array | None = None
    mean_D: Array | None = None
    response_IV: Array | None = None
    judge: Decoder | None = None


def select_by_brain(
    found: list[Decoded], embed: Callable[[NDArray[np.uint8]], Array]
) -> generation.Select:
    """Of each image's candidates the one nearest to the decoded embedding, by centred cosine.

    embed: pictures (I, H, W, C) to CLIP embeddings (I, D). Both sides are centred as in retrieval:
    the decoded embedding by the mean prediction, the candidates by the mean training image.
    """
    # Rows of all subjects one after the other, as in the file; each with its own subject's mean.
    query_ID = np.concatenate([d.query_ID for d in found if d.query_ID is not None])
    mean_ID = np.concatenate(
        [np.tile(d.mean_D, (len(d.nsd_id_I), 1)) for d in found if d.mean_D is not None]
    )

    def select(rows: slice, image_INHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
        n, n_candidates = image_INHWC.shape[:2]
        image_JHWC = image_INHWC.reshape(-1, *image_INHWC.shape[2:])
        embedded_IND = embed(image_JHWC).reshape(n, n_candidates, -1)
        shifted_IND = embedded_IND.astype(np.float64) - mean_ID[rows][:, None]
        # The query has norm 1 already, so the candidate's is all that is left to divide by.
        cosine_IN = np.einsum("ind,id->in", shifted_IND, query_ID[rows]) / np.linalg.norm(
            shifted_IND, axis=2
        )
        return np.argmax(cosine_IN, axis=1)

    return select


def select_by_encoding(
    found: list[Decoded], describe: Callable[[NDArray[np.uint8]], Mapping[str, torch.Tensor]]
) -> generation.Select:
    """Of each image's candidates the one of which the measured response is most likely.

    describe: pictures (J, H, W, C) to their features, as Decoder.identify takes them.
    """
    start_S = np.cumsum([0, *(len(d.nsd_id_I) for d in found)])

    def select(rows: slice, image_INHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
        n, n_candidates = image_INHWC.shape[:2]
        features = describe(image_INHWC.reshape(-1, *image_INHWC.shape[2:]))
        chosen_I = np.zeros(n, np.int64)
        for i in range(n):
            # Rows of all subjects one after the other, as in the file.
            s = int(np.searchsorted(start_S, rows.start + i, side="right")) - 1
            decoded = found[s]
            assert decoded.response_IV is not None and decoded.judge is not None
            response_1V = torch.from_numpy(decoded.response_IV[[rows.start + i - start_S[s]]])
            own = slice(i * n_candidates, (i + 1) * n_candidates)
            candidates = {name: value[own] for name, value in features.items()}
            told = decoded.judge.identify(response_1V, candidates, N_TRIALS)
            assert told is not None, "a judge has a likelihood"
            chosen_I[i] = int(told[0].argmax())
        return chosen_I

    return select


def load_features(
    clip: Clip, basis: Mapping[str, Array], device: str
) -> Callable[[NDArray[np.uint8]], Mapping[str, torch.Tensor]]:
    """Pictures to their embeddings and components of tokens."""
    from fmri2clip.clip import encoder

    model = encoder.load(clip, device)

    def describe(image_JHWC: NDArray[np.uint8]) -> Mapping[str, torch.Tensor]:
        found = model.features(image_JHWC, targets=True)
        scores = score_streams({n: a for n, a in found.items() if "_tokens_" in n}, basis)
        named = {"image_embedding_ID": found["image_embedding_ID"], **scores}
        return {name: torch.from_numpy(np.asarray(value)) for name, value in named.items()}

    return describe


def load_embedding(clip: Clip, device: str) -> Callable[[NDArray[np.uint8]], Array]:
    """Pictures to CLIP embeddings."""
    # Imported here because a CLIP model is needed for a choice only.
    from fmri2clip.clip import encoder

    return encoder.load(clip, device).images
