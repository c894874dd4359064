"""Stage extract_rois: one subject's betas inside nsdgeneral, z-scored; test trials in a file of
their own.
"""

from __future__ import annotations

from fmri2clip.datasets.nsd.extract import extract_subject
from fmri2clip.datasets.nsd.sources import session_source
from fmri2clip.params import Params
from pipeline import _stage


def extract_rois(params: Params, subject: str) -> None:
    """Write data/rois/{train,test,voxels}/<subject>.h5 and reports/rois/<subject>.json."""
    _stage.check_named(subject, params.subjects, "subjects")
    extract_subject(
        _stage.RAW,
        subject,
        dataset=params.dataset,
        rois=params.rois,
        norm=params.norm,
        source=session_source(_stage.RAW, subject, params.dataset, params.download),
        workers=params.compute.threads,
        train_path=_stage.ROIS / "train" / f"{subject}.h5",
        test_path=_stage.ROIS / "test" / f"{subject}.h5",
        voxels_path=_stage.ROIS / "voxels" / f"{subject}.h5",
        report_path=_stage.REPORTS / "rois" / f"{subject}.json",
    )


if __name__ == "__main__":
    _stage.run(extract_rois)
