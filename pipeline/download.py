"""Stage download: one subject's betas, masks, ROIs and behaviour, in NSD's own layout."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import check_inside, make_folders
from fmri2clip.core.params import Params
from fmri2clip.datasets.mini.write import write_subject
from fmri2clip.datasets.nsd import design, layout, manifest
from fmri2clip.stages.download import fetch


def download(params: Params, subject: str, dry_run: bool = False) -> None:
    """Fill the subject's folders under data/raw/nsd.

    They lie in nsddata_betas/ppdata, nsddata/ppdata and nsddata/freesurfer. --dry-run only prints
    what is to fetch: files, GB, and what is there already.
    """
    stage.check_named(subject, params.subjects, "subjects")
    root = Paths().raw
    dataset = params.dataset
    if dataset.source == "s3":
        n_sessions = design.count_sessions(design.load_design(root), subject, dataset.sessions)
        fetch.fetch_subject(root, subject, n_sessions, dataset, params.download, dry_run=dry_run)
    elif dataset.source == "folder" or dry_run:
        print(f"dataset.source is {dataset.source}: nothing is fetched")
        if not dry_run:
            make_folders(layout.subject_folders(root, subject))
    else:
        threads = params.compute.threads
        check_inside(root, layout.subject_folders(root, subject))
        write_subject(
            root, params.world, subject, dataset.preparation, dataset.container, threads=threads
        )
        manifest.record(
            layout.manifest_path(root, subject), root, layout.subject_folders(root, subject)
        )


if __name__ == "__main__":
    stage.run(download)
