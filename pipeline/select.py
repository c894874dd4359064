"""Stage select: digests of the files that a run is trained on."""

from __future__ import annotations

from fmri2clip.artefacts.library import find_parts
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.select.select import select as select_files


def select(params: Params, run: str) -> None:
    """Write data/selected/<run>.json."""
    stage.check_named(run, params.runs, "runs")
    chosen = params.runs[run]
    paths = Paths()
    libraries = {s: find_parts(params, run, s, paths) for s in chosen.subjects}
    select_files(run, chosen.clip, chosen.subjects, paths, params.compute.threads, libraries)


if __name__ == "__main__":
    stage.run(select)
