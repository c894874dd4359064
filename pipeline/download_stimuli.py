"""Stage download_stimuli: pictures, annotations and experimental design, in NSD's own layout."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import check_inside, make_folders
from fmri2clip.core.params import Params
from fmri2clip.datasets.mini.write import write_stimuli
from fmri2clip.datasets.nsd import layout, manifest
from fmri2clip.stages.download import fetch


def download_stimuli(params: Params, dry_run: bool = False) -> None:
    """Fill nsddata_stimuli and nsddata/experiments of data/raw/nsd.

    --dry-run only prints what is to fetch.
    """
    root = Paths().raw
    if params.dataset.source == "s3":
        fetch.fetch_stimuli(root, params.dataset, params.download, dry_run=dry_run)
    elif params.dataset.source == "folder" or dry_run:
        print(f"dataset.source is {params.dataset.source}: nothing is fetched")
        if not dry_run:
            make_folders(layout.stimuli_folders(root))
            # Later stages depend on the design, and not on its folder, whose tables know of all
            # subjects.
            layout.expdesign_path(root).parent.mkdir(parents=True, exist_ok=True)
            layout.expdesign_path(root).touch()
    else:
        check_inside(root, layout.stimuli_folders(root))
        write_stimuli(root, params.world, params.subjects, threads=params.compute.threads)
        manifest.record(layout.stimuli_manifest_path(root), root, layout.stimuli_folders(root))


if __name__ == "__main__":
    stage.run(download_stimuli)
