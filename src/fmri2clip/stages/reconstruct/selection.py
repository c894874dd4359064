"""Which of several pictures of an image to keep, by the decoded embedding alone.

The stimulus is not read here, and may not be: it is what a reconstruction is scored against.

Letters: I rows, N candidates, H W C height, width and channels of a picture, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.params import Clip
from fmri2clip.stages.reconstruct import generation

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What one subject's brain gives for some test images, in ascending order of their ids.

    query_ID: centred decoded embedding, norm 1; mean_D: mean embedding of the training images. Both
    only where candidates are to be chosen.
    """

    nsd_id_I: NDArray[np.int64]
    features: Mapping[str, Array]  # by the field names of Conditioning
    query_ID: Array | None = None
    mean_D: Array | None = None


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


def load_embedding(clip: Clip, device: str) -> Callable[[NDArray[np.uint8]], Array]:
    """Pictures to CLIP embeddings."""
    # Imported here because a CLIP model is needed for a choice only.
    from fmri2clip.clip import encoder

    return encoder.load(clip, device).images
