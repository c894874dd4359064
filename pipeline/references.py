"""Stage references: what chance, copying, repeated measurements and true features score."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.references.references import score_references


def references(params: Params, clip: str) -> None:
    """Write data/predictions/reference_<clip>.h5 and data/scores/reference_<clip>.json."""
    stage.check_named(clip, params.clips, "clips")
    score_references(clip, params.subjects, Paths(), params.evaluation)


if __name__ == "__main__":
    stage.run(references)
