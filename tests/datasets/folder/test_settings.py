"""params.yaml for a folder: what is refused before anything runs, and what the plan knows of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fmri2clip.core.params import Dataset, Params, load
from fmri2clip.stages.check_params import sizes, validate
from pipeline import preset
from tests.datasets.folder.own_world import (
    GROUPS,
    N_TEST,
    N_TRAIN,
    SUBJECTS,
    names,
    write_own,
)


@pytest.fixture
def params(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Those of the preset folder, in a working directory without a folder yet."""
    for name in ("assets", "presets"):
        (tmp_path / name).symlink_to(root / name)
    shutil.copy(root / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    path = Path("params.yaml")
    path.write_text(preset.patch(path, Path("presets/folder.yaml")))
    found = load(path)
    rois = {name: tuple(entries) for name, entries in GROUPS.items()}
    split = replace(found.split, n_validation=4)
    evaluation = replace(found.evaluation, n_way=N_TEST, n_hard=3)
    return replace(found, rois=rois, split=split, evaluation=evaluation)


def test_a_folder_that_is_not_there_is_left_to_check_data(params: Params) -> None:
    validate.validate(params)


def test_subjects_are_counted_in_the_tables(params: Params) -> None:
    write_own(Path("data/own"))
    validate.validate(params)
    found = sizes.find_subjects(params)
    assert set(found) == set(SUBJECTS)
    one = found["sub-01"]
    assert (one.n_sessions, one.n_train_trials, one.n_test_trials) == (2, N_TRAIN, 2 * N_TEST)
    assert (one.n_train_images, one.n_test_images, one.n_voxels) == (N_TRAIN, N_TEST, 40)
    groups, rois = sizes.find_members(params, one)
    assert {name: int(member.sum()) for name, member in rois.items()} == {
        "IT": 20,
        "IT/face": 9,
        "V1": 25,
    }
    assert int(groups["high"].sum()) == 14


def set_run(**changes: Any) -> Callable[[Params], Params]:
    return lambda p: replace(p, runs={"ridge": replace(p.runs["ridge"], **changes)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: replace(p, subjects=("sub 01",)), "subjects has 'sub 01'; name them by letters"),
        (
            lambda p: replace(p, dataset=replace(p.dataset, sessions=2)),
            "dataset.sessions is 2, but a folder is read whole",
        ),
        (lambda p: replace(p, rois={**p.rois, "low": ()}), "rois.low is empty"),
        (lambda p: replace(p, rois={**p.rois, "low": ("V1 and",)}), "rois.low: "),
        (lambda p: replace(p, rois={"all": ("V1",)}), "rois.low is missing"),
        (
            lambda p: replace(p, evaluation=replace(p.evaluation, n_way=N_TEST + 1)),
            f"n_way is {N_TEST + 1}, but a subject sees {N_TEST} test images",
        ),
        (
            lambda p: replace(p, split=replace(p.split, n_validation=N_TRAIN)),
            "training images of sub-01",
        ),
        (set_run(decoder="brainmclip"), "learns tokens of captions, but data/own/captions.tsv"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    params: Params, change: Callable[[Params], Params], message: str
) -> None:
    write_own(Path("data/own"), words=False)
    with pytest.raises(ValueError) as caught:
        validate.validate(change(params))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_encoding_needs_repeats_of_pictures_that_train(params: Params) -> None:
    """Every training picture was shown twice: 24 repeats, of which those of validation are none."""
    own = write_own(Path("data/own"))
    is_train = own.table["picture"].isin(names()[:N_TRAIN])
    table = pd.concat([own.table, own.table[is_train]])
    table.to_csv(own.root / "trials.tsv", sep="\t", index=False)
    asked = set_run(decoder="encoding")(params)
    validate.validate(asked)  # 20 pictures train
    with pytest.raises(ValueError, match="which has 24, but some 19 among the 19 that train; low"):
        validate.validate(replace(asked, split=replace(asked.split, n_validation=5)))


def test_a_folder_goes_with_its_source() -> None:
    with pytest.raises(ValueError, match="only source folder reads"):
        Dataset(source="s3", folder="data/own")
