"""Stage cache_clip: features of one CLIP model for pictures, captions and category names."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.cache_clip import cache


def cache_clip(params: Params, clip: str) -> None:
    """Write data/clip/<clip>/train/<subject>.h5 and shared.h5."""
    stage.check_named(clip, params.clips, "clips")
    cache.cache_clip(
        Paths(),
        clip,
        params.clips[clip],
        params.subjects,
        dataset=params.dataset,
        labels=params.labels,
        device=stage.device(params),
        threads=params.compute.threads,
    )


if __name__ == "__main__":
    stage.run(cache_clip)
