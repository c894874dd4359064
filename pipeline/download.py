"""Stage download: one subject's betas, masks, ROIs and behaviour, in NSD's own layout."""

from __future__ import annotations

from fmri2clip.datasets.mini.write import write_subject
from fmri2clip.datasets.nsd import design, fetch, layout, manifest
from fmri2clip.params import Params
from pipeline import _stage


def download(params: Params, subject: str, dry_run: bool = False) -> None:
    """Fill the subject's folders of nsddata_betas/ppdata, nsddata/ppdata and nsddata/freesurfer
    under data/raw/nsd.

    --dry-run only prints what is to fetch: files, GB, and what is there already.
    """
    _stage.check_named(subject, params.subjects, "subjects")
    root, dataset = _stage.RAW, params.dataset
    if dataset.source == "s3":
        n_sessions = design.count_sessions(design.load_design(root), subject, dataset.sessions)
        fetch.fetch_subject(root, subject, n_sessions, dataset, params.download, dry_run=dry_run)
    elif dry_run:
        print("dataset.source is simulated: nothing is fetched")
    else:
        threads = params.compute.threads
        write_subject(
            root, params.world, subject, dataset.preparation, dataset.container, threads=threads
        )
        manifest.record(
            layout.manifest_path(root, subject), root, layout.subject_folders(root, subject)
        )


if __name__ == "__main__":
    _stage.run(download)
