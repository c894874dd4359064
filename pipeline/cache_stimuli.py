"""Stage cache_stimuli: pictures, captions and labels at the size that stages use."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.cache_stimuli import cache


def cache_stimuli(params: Params) -> None:
    """Write data/stimuli/train.h5 and test.h5."""
    cache.cache_stimuli(Paths(), params.subjects, params.dataset, params.labels)


if __name__ == "__main__":
    stage.run(cache_stimuli)
