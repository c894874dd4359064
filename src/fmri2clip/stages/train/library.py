"""The pictures of a library that a model may weigh, from the files that cache_library accepted.

Letters: J pictures, K captions, I training images of the subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.library import read_parts, take_pictures
from fmri2clip.decoders.batches import Pictures

Array = NDArray[Any]
SCORES = ("semantic_components", "detail_components")


def load_pictures(files: Sequence[Path], nsd_id_I: Array, kept_I: Array) -> Pictures | None:
    """The pictures of these files; None without files.

    Of the subject's own training images nsd_id_I only those that the split keeps: what is left out,
    unused, or the judge's, is no picture that may be weighed.
    """
    if not files:
        return None
    arrays = read_parts(files)
    is_out_J = np.isin(arrays["nsd_id_J"], nsd_id_I[~kept_I])
    arrays = take_pictures(arrays, np.flatnonzero(~is_out_J))
    n = len(arrays["nsd_id_J"])
    image_JD = torch.from_numpy(arrays["image_embedding_JD"].astype(np.float32))
    text_JD = torch.zeros(n, image_JD.shape[1])
    rows_K = torch.from_numpy(arrays["caption_picture_K"].astype(np.int64))
    text_KD = torch.from_numpy(arrays["text_embedding_KD"].astype(np.float32))
    text_JD.index_add_(0, rows_K, torch.nn.functional.normalize(text_KD, dim=1))
    return Pictures(
        nsd_id_J=torch.from_numpy(arrays["nsd_id_J"].astype(np.int64)),
        image_embedding_JD=torch.nn.functional.normalize(image_JD, dim=1),
        mean_text_JD=torch.nn.functional.normalize(text_JD, dim=1),
        labels_JC=torch.from_numpy(arrays["labels_JC"]),
        is_labelled_J=torch.from_numpy(arrays["is_labelled_J"]),
        features={
            f"{name}_IP": torch.from_numpy(arrays[f"{name}_JP"])
            for name in SCORES
            if f"{name}_JP" in arrays
        },
    )
