"""Stage score_pictures: all reconstructions beside their stimuli, under every protocol."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.score_pictures import picture_scores


def score_pictures(params: Params) -> None:
    """Write data/picture_scores/<name>.h5, <name>.json and record.json."""
    picture_scores.score_pictures(params, Paths(), stage.device(params))


if __name__ == "__main__":
    stage.run(score_pictures)
