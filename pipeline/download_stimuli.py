"""Stage download_stimuli: pictures, annotations and experimental design, in NSD's own layout."""

from __future__ import annotations

from fmri2clip.datasets.mini.write import write_stimuli
from fmri2clip.params import Params
from pipeline import _stage


def download_stimuli(params: Params) -> None:
    """Write data/raw/nsd/nsddata_stimuli and data/raw/nsd/nsddata/experiments."""
    assert params.dataset.source == "simulated"
    write_stimuli(_stage.RAW, params.world, params.subjects, threads=params.compute.threads)


if __name__ == "__main__":
    _stage.run(download_stimuli)
