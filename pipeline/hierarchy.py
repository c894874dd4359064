"""Stage hierarchy: which blocks of a CLIP model resemble early and category areas."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.hierarchy.hierarchy import analyse_hierarchy


def hierarchy(params: Params, clip: str) -> None:
    """Write data/hierarchy/<clip>.json and <clip>.png beside it, from training images."""
    stage.check_named(clip, params.clips, "clips")
    analyse_hierarchy(
        clip,
        params.clips[clip],
        params.subjects,
        Paths(),
        config=params.hierarchy,
        device=stage.device(params),
        threads=params.compute.threads,
    )


if __name__ == "__main__":
    stage.run(hierarchy)
