"""data/stimuli: the photographs behind NSD's pictures, the files of own ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, read_annotations, read_names, read_photographs
from fmri2clip.core.params import Dataset, Labels
from fmri2clip.datasets.mini.write import write_stimuli
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.cache_stimuli.cache import cache_stimuli
from tests.datasets.folder.own_world import N_TRAIN, SUBJECTS, names, write_own
from tests.nsd_world import SUBJECT, WORLD, render


def test_photographs_are_those_of_nsds_table(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    write_stimuli(paths.raw, WORLD, [SUBJECT], threads=1, render=render)
    table = pd.read_csv(layout.stim_info_path(paths.raw), index_col="nsdId")
    cache_stimuli(paths, [SUBJECT], Dataset(source="s3"), Labels())
    for part in (TRAIN, TEST):
        ids = read_annotations(paths.stimuli(part))["nsd_id_I"]
        expected = table.loc[ids, "cocoId"].to_numpy()
        np.testing.assert_array_equal(read_photographs(paths.stimuli(part)), expected)
    cache_stimuli(paths, [SUBJECT], Dataset(source="simulated"), Labels())
    with pytest.raises(ValueError, match="coco_id_I"):
        read_photographs(paths.stimuli(TEST))


def test_pictures_of_a_folder_keep_their_names(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    paths = Paths(tmp_path)
    cache_stimuli(paths, SUBJECTS, Dataset(source="folder", folder=str(tmp_path / "own")), Labels())
    expected = dict(enumerate(names()))
    found = {part: read_names(paths.stimuli(part)) for part in (TRAIN, TEST)}
    assert found[TRAIN] == {i: expected[i] for i in range(N_TRAIN)}
    assert found[TEST] == {i: expected[i] for i in range(N_TRAIN, len(expected))}
