"""Stage reconstruct: pictures of test images, from decoded or true features through a generator."""

from __future__ import annotations

from fmri2clip import reconstruction
from fmri2clip.params import Params
from pipeline import _stage


def reconstruct(params: Params, name: str = "") -> None:
    """Write data/reconstructions/<name>.h5 of every entry of `reconstructions`, or of one of them.

    A file that holds its pictures already is left as it is, so single ones may be painted
    beforehand, side by side.
    """
    files = reconstruction.Files(
        raw=_stage.RAW, rois=_stage.ROIS, clip=_stage.CLIP, models=_stage.MODELS
    )
    folder, device = _stage.DATA / "reconstructions", _stage.device(params)
    if name:
        _stage.check_named(name, params.reconstructions, "reconstructions")
        reconstruction.reconstruct(name, params, files, folder / f"{name}.h5", device)
    else:
        reconstruction.reconstruct_all(params, files, folder, device)


if __name__ == "__main__":
    _stage.run(reconstruct)
