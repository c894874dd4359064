"""Stage extract_rois: z-scored betas of one subject, ROI groups as columns."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.datasets.recordings import open_recordings
from fmri2clip.stages.extract_rois.extract import extract_subject


def extract_rois(params: Params, subject: str) -> None:
    """Write data/rois/{train,test,voxels,noise_free}/<subject>.h5.

    Counts of trials and voxels go to data/roi_counts/<subject>.json.
    """
    stage.check_named(subject, params.subjects, "subjects")
    paths = Paths()
    extract_subject(
        paths,
        subject,
        recordings=open_recordings(paths.raw, subject, params.dataset, params.download),
        rois=params.rois,
        norm=params.norm,
        workers=params.compute.threads,
    )


if __name__ == "__main__":
    stage.run(extract_rois)
