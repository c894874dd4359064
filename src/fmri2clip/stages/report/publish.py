"""The numbers behind the report, in git: copies of what stages leave in data/, and a summary.

Stages write numbers to data/, where DVC's cache keeps them and brings them back; reports/ is what a
visitor reads and git compares. Only the report writes these copies.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fmri2clip.artefacts.headline import read_headline
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.files import replacing, write_json
from fmri2clip.core.params import Params

FOLDERS = ("runs", "references", "pictures", "rois", "hierarchy", "summary")  # hold nothing else


def publish(params: Params, paths: Paths) -> None:
    """Write the copies in reports/ anew, and summary/<run>.json; what is not there is left out."""
    for folder in FOLDERS:
        shutil.rmtree(paths.reports / folder, ignore_errors=True)
        (paths.reports / folder).mkdir(parents=True)
    for source, name in list_copies(params, paths):
        if source.is_file():
            with replacing(paths.reports / name) as (temporary,):
                shutil.copyfile(source, temporary)
    # A file for each run, as DVC prints one row for each file.
    for run in params.runs:
        if paths.metrics(run).is_file():
            headline = read_headline(params, paths, run)
            write_json(paths.reports / "summary" / f"{run}.json", headline)


def list_copies(params: Params, paths: Paths) -> Iterator[tuple[Path, str]]:
    """What is copied, and its name in reports/."""
    for run in params.runs:
        yield paths.metrics(run), f"runs/{run}/metrics.json"
        yield paths.curve(run), f"runs/{run}/curve.csv"
    for clip in params.clips:
        yield paths.reference_metrics(clip), f"references/{clip}.json"
        yield paths.hierarchy(clip), f"hierarchy/{clip}.json"
        yield paths.hierarchy(clip).with_suffix(".png"), f"hierarchy/{clip}.png"
    for subject in params.subjects:
        yield paths.roi_report(subject), f"rois/{subject}.json"
    for path in sorted(paths.picture_scores_folder.glob("*.json")):
        yield path, f"pictures/{path.name}"
    for path in (paths.world, paths.tokens, paths.parameters):
        yield path, path.name
