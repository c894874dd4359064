"""Stage cache_clip: one CLIP's embeddings of pictures, captions and category names; test images
in their own file.
"""

from __future__ import annotations

from fmri2clip.clip.cache import cache_clip as cache
from fmri2clip.params import Params
from pipeline import _stage


def cache_clip(params: Params, clip: str) -> None:
    """Write data/clip/<clip>/train.h5 and shared.h5."""
    _stage.check_named(clip, params.clips, "clips")
    cache(
        _stage.RAW,
        clip,
        params.clips[clip],
        params.subjects,
        dataset=params.dataset,
        labels=params.labels,
        train_path=_stage.CLIP / clip / "train.h5",
        shared_path=_stage.CLIP / clip / "shared.h5",
        device=_stage.device(params),
        threads=params.compute.threads,
    )


if __name__ == "__main__":
    _stage.run(cache_clip)
