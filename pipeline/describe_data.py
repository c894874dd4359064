"""Stage describe_data: what the data are like before any decoder; whether a simulated world
meets its bands.
"""

from __future__ import annotations

from fmri2clip.describe import describe_data as describe
from fmri2clip.params import Params
from pipeline import _stage


def describe_data(params: Params) -> None:
    """Write reports/world.json, reports/scenes.png and reports/ncsnr.png; the first of `clips`
    is the one compared.
    """
    name, clip = next(iter(params.clips.items()))
    describe(
        _stage.RAW,
        params.subjects,
        params.dataset.preparation,
        clip,
        device=_stage.device(params),
        rois_dir=_stage.ROIS,
        clip_dir=_stage.CLIP / name,
        references_json=_stage.REPORTS / "references" / f"{name}.json",
        world_json=_stage.REPORTS / "world.json",
        scenes_png=_stage.REPORTS / "scenes.png",
        ncsnr_png=_stage.REPORTS / "ncsnr.png",
    )


if __name__ == "__main__":
    _stage.run(describe_data)
