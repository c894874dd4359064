"""Stage describe_data: what the data are like before any decoder."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.describe_data import describe


def describe_data(params: Params) -> None:
    """Write data/world.json and three pictures of reports/; the first of `clips` is looked at."""
    name, clip = next(iter(params.clips.items()))
    describe.describe_data(
        params.subjects,
        name,
        clip,
        params.world,
        params.generators,
        Paths(),
        stage.device(params),
        params.compute.threads,
    )


if __name__ == "__main__":
    stage.run(describe_data)
