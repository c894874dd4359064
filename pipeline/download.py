"""Stage download: one subject's betas, masks, ROIs and behaviour, in NSD's own layout."""

from __future__ import annotations

from fmri2clip.datasets.mini.write import write_subject
from fmri2clip.params import Params
from pipeline import _stage


def download(params: Params, subject: str) -> None:
    """Write the subject's folders of nsddata_betas/ppdata, nsddata/ppdata and nsddata/freesurfer under data/raw/nsd."""
    _stage.check_named(subject, params.subjects, "subjects")
    assert params.dataset.source == "simulated"
    write_subject(_stage.RAW, params.world, subject, params.dataset.preparation, threads=params.compute.threads)


if __name__ == "__main__":
    _stage.run(download)
