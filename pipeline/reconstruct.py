"""Stage reconstruct: pictures of test images from decoded features, true features, or none."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.reconstruct import reconstruction


def reconstruct(params: Params, name: str = "") -> None:
    """Write data/reconstructions/<name>.h5 of every entry of `reconstructions`, or of one of them.

    A file that holds its pictures already is left as it is, so single ones may be painted
    beforehand, side by side.
    """
    paths = Paths()
    device = stage.device(params)
    if name:
        stage.check_named(name, params.reconstructions, "reconstructions")
        reconstruction.reconstruct(name, params, paths, device)
    else:
        reconstruction.reconstruct_all(params, paths, device)


if __name__ == "__main__":
    stage.run(reconstruct)
