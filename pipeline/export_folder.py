"""Write the data that params.yaml names as a folder of docs/own_data.md.

python -m pipeline.export_folder OUT
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.datasets.folder.write import export
from fmri2clip.datasets.pictures import open_pictures
from fmri2clip.datasets.recordings import open_recordings
from fmri2clip.datasets.terms import SOURCES


def export_folder(params: Params, out: str) -> None:
    """Export data/raw/nsd, which the download stages have filled."""
    if params.dataset.source == "folder":
        raise ValueError("dataset.source is folder: what would be exported is a folder already")
    tree = Paths().raw
    source = SOURCES[params.dataset.source]
    recordings = {
        subject: open_recordings(tree, subject, params.dataset, params.download)
        for subject in params.subjects
    }
    pictures = open_pictures(tree, params.dataset, params.labels)
    licence = source.licence.get("license_name", source.licence["license"])
    export(Path(out), recordings, pictures, params.rois, name=source.name, licence=licence)
    print(f"{out} holds {source.name}, licence {licence}: {source.terms}")


if __name__ == "__main__":
    stage.run(export_folder)
