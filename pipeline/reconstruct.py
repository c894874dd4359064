"""Stage reconstruct: pictures of test images, from decoded or true features through one generator."""

from __future__ import annotations

from fmri2clip import reconstruction
from fmri2clip.params import Params
from pipeline import _stage


def reconstruct(params: Params, name: str) -> None:
    """Write data/reconstructions/<name>.h5; a file that holds these pictures already is left as it is."""
    _stage.check_named(name, params.reconstructions, "reconstructions")
    files = reconstruction.Files(raw=_stage.RAW, rois=_stage.ROIS, clip=_stage.CLIP, models=_stage.MODELS)
    path = _stage.DATA / "reconstructions" / f"{name}.h5"
    reconstruction.reconstruct(name, params, files, path, _stage.device(params))


if __name__ == "__main__":
    _stage.run(reconstruct)
