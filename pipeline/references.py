"""Stage references: what chance, copying and the CLIP targets themselves score on the same test
images.
"""

from __future__ import annotations

from fmri2clip.params import Params
from fmri2clip.references import score_references
from pipeline import _stage


def references(params: Params, clip: str) -> None:
    """Write reports/references/<clip>.json and data/predictions/reference_<clip>.h5."""
    _stage.check_named(clip, params.clips, "clips")
    train, test, voxels = (
        {subject: _stage.ROIS / part / f"{subject}.h5" for subject in params.subjects}
        for part in ("train", "test", "voxels")
    )
    score_references(
        clip,
        params.subjects,
        train_paths=train,
        test_paths=test,
        voxels_paths=voxels,
        clip_train_path=_stage.CLIP / clip / "train.h5",
        shared_path=_stage.CLIP / clip / "shared.h5",
        evaluation=params.evaluation,
        json_path=_stage.REPORTS / "references" / f"{clip}.json",
        predictions_path=_stage.PREDICTIONS / f"reference_{clip}.h5",
    )


if __name__ == "__main__":
    _stage.run(references)
