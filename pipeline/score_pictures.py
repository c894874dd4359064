"""Stage score_pictures: every reconstruction beside its stimuli, under the protocols that the
parameters name.
"""

from __future__ import annotations

from fmri2clip import picture_scores
from fmri2clip.params import Params
from pipeline import _stage


def score_pictures(params: Params) -> None:
    """Write reports/pictures/<name>.json and record.json, and data/picture_scores/<name>.h5."""
    files = picture_scores.Files(raw=_stage.RAW, rois=_stage.ROIS)
    paths = {
        name: _stage.DATA / "reconstructions" / f"{name}.h5" for name in params.reconstructions
    }
    folders = _stage.REPORTS / "pictures", _stage.DATA / "picture_scores"
    picture_scores.score_pictures(params, files, paths, *folders, _stage.device(params))


if __name__ == "__main__":
    _stage.run(score_pictures)
