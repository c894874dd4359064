"""Stage components: leading components of one CLIP model's tokens."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.components.components import find_token_components


def components(params: Params, clip: str) -> None:
    """Write data/clip/<clip>/components."""
    stage.check_named(clip, params.clips, "clips")
    find_token_components(
        Paths(), clip, params.clips[clip], params.subjects, params.compute.threads
    )


if __name__ == "__main__":
    stage.run(components)
