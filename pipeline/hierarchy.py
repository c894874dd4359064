"""Stage hierarchy: which blocks of a CLIP model resemble early and category areas, on training
images only.
"""

from __future__ import annotations

from fmri2clip.hierarchy import analyse_hierarchy
from fmri2clip.params import Params
from pipeline import _stage


def hierarchy(params: Params, clip: str) -> None:
    """Write reports/hierarchy/<clip>.json and reports/hierarchy/<clip>.png."""
    _stage.check_named(clip, params.clips, "clips")
    train, voxels = (
        {subject: _stage.ROIS / part / f"{subject}.h5" for subject in params.subjects}
        for part in ("train", "voxels")
    )
    folder = _stage.REPORTS / "hierarchy"
    analyse_hierarchy(
        _stage.RAW,
        params.clips[clip],
        params.subjects,
        rois_train=train,
        voxels=voxels,
        clip_train=_stage.CLIP / clip / "train.h5",
        config=params.hierarchy,
        device=_stage.device(params),
        threads=params.compute.threads,
        json_path=folder / f"{clip}.json",
        png_path=folder / f"{clip}.png",
    )


if __name__ == "__main__":
    _stage.run(hierarchy)
