"""A stage whose parameters, code or inputs change while it runs must not end well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmri2clip.core import watch
from fmri2clip.core.files import replacing

DVC = """
stages:
  train:
    foreach: ${runs}
    do:
      cmd: python -m pipeline.train ${key}
      deps:
      - src/decoders/${item.decoder}
      - data/selected/${key}.json
      params:
      - runs.${key}
      - split
      outs:
      - models/${key}
  extract:
    foreach: ${subjects}
    do:
      cmd: python -m pipeline.extract ${item}
      deps:
      - data/raw/${item}
      params:
      - norm.stats
      outs:
      - data/rois/${item}.h5
  report:
    cmd: python -m pipeline.report
    deps:
    - models
    params:
    - params.yaml:
    outs:
    - reports/html
"""
PARAMS = """
note: first
norm: {stats: train_only}
split: {n_validation: 250, seed: 0}
subjects: [subj01, subj02]
templates:
  run: &run
    seed: 0
runs:
  ridge: {<<: *run, decoder: ridge}
  clip: {<<: *run, decoder: brainclip}
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    for name, content in {
        "dvc.yaml": DVC,
        "params.yaml": PARAMS,
        "src/decoders/ridge/decoder.py": "one = 1\n",
        "src/decoders/brainclip/decoder.py": "two = 2\n",
        "data/selected/ridge.json": "{}",
        "data/raw/subj01/betas.hdf5": "x" * (watch.SMALL + 1),
        "data/raw/subj02/betas.hdf5": "y",
        "models/ridge/weights": "w",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    yield tmp_path
    watch.end()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_nothing_changes_and_nothing_is_said(project: Path) -> None:
    watch.begin("train", ["ridge"], project)
    watch.check()
    assert not watch.has_changed()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_validation: 250", "n_validation: 300", r"split\.n_validation \(250 to 300\) of params"),
        ("seed: 0\nruns", "seed: 1\nruns", r"runs\.ridge\.seed \(0 to 1\) of params\.yaml changed"),
        (", seed: 0}", "}", r"split\.seed \(0 to None\)"),
        ("{<<: *run, decoder: ridge}", "{<<: *run, decoder: brainclip}", r"runs\.ridge\.decoder"),
    ],
)
def test_a_parameter_of_the_stage_is_missed(
    project: Path, old: str, new: str, message: str
) -> None:
    watch.begin("train", ["ridge"], project)
    edit(project / "params.yaml", old, new)
    with pytest.raises(ValueError, match=message):
        watch.check()
    edit(project / "params.yaml", new, old)
    watch.check()


@pytest.mark.parametrize(
    ("old", "new"),
    [("first", "second"), ("train_only", "all_trials"), ("decoder: brainclip", "x: 1")],
)
def test_parameters_of_other_stages_may_change(project: Path, old: str, new: str) -> None:
    watch.begin("train", ["ridge"], project)
    edit(project / "params.yaml", old, new)
    watch.check()


def test_all_parameters_count_where_dvc_yaml_names_the_file(project: Path) -> None:
    watch.begin("report", [], project)
    edit(project / "params.yaml", "first", "second")
    with pytest.raises(ValueError, match=r"note \(first to second\) of params\.yaml changed"):
        watch.check()


def test_own_code_counts_and_that_of_others_does_not(project: Path) -> None:
    watch.begin("train", ["ridge"], project)
    edit(project / "src/decoders/brainclip/decoder.py", "two", "three")
    cache = project / "src/decoders/ridge/__pycache__/decoder.pyc"
    cache.parent.mkdir()
    cache.write_text("compiled meanwhile")
    watch.check()
    edit(project / "src/decoders/ridge/decoder.py", "one", "three")
    with pytest.raises(ValueError, match=r"ridge/decoder\.py changed while train ridge ran"):
        watch.check()


def test_a_file_written_anew_with_the_same_content_is_the_same(project: Path) -> None:
    watch.begin("train", ["ridge"], project)
    path = project / "data/selected/ridge.json"
    other = path.with_name("other")
    shutil.copy(path, other)
    os.utime(other, (0, 0))
    os.replace(other, path)
    watch.check()


def test_inputs_count_large_ones_by_their_time(project: Path) -> None:
    watch.begin("extract", ["subj01"], project)
    edit(project / "data/raw/subj02/betas.hdf5", "y", "z")
    watch.check()
    os.utime(project / "data/raw/subj01/betas.hdf5", (0, 0))
    with pytest.raises(ValueError, match=r"subj01/betas\.hdf5 changed while extract subj01 ran"):
        watch.check()


def test_files_that_only_a_list_names_can_be_added(project: Path) -> None:
    watch.begin("train", ["ridge"], project)
    extra = project / "data/raw/subj02/betas.hdf5"
    watch.also([extra])
    watch.check()
    extra.unlink()
    with pytest.raises(ValueError, match=r"betas\.hdf5 changed"):
        watch.check()


def test_no_output_gets_its_name(project: Path) -> None:
    """The one way in which outputs appear asks first."""
    watch.begin("train", ["ridge"], project)
    path = project / "out.txt"
    edit(project / "params.yaml", "250", "300")
    with pytest.raises(ValueError, match="changed while"), replacing(path) as (temporary,):
        temporary.write_text("results")
    assert not list(project.glob("*out.txt*"))
    watch.end()
    with replacing(path) as (temporary,):
        temporary.write_text("results")
    assert path.read_text() == "results"


def test_a_stage_that_dvc_does_not_know_is_not_watched(project: Path) -> None:
    watch.begin("sync_mlflow", [], project)
    edit(project / "params.yaml", "250", "300")
    watch.check()


@pytest.mark.parametrize("stage", ["train", "extract"])
def test_an_unknown_key_is_left_to_the_stage_to_refuse(project: Path, stage: str) -> None:
    watch.begin(stage, ["nobody"], project)
    watch.check()


@pytest.mark.parametrize("content", ["runs: [", "just text", ""])
def test_parameters_that_cannot_be_read_are_left_to_their_reader(
    project: Path, content: str
) -> None:
    """Before a stage begins; while it runs, they are a change."""
    watch.begin("report", [], project)
    before = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(content)
    with pytest.raises(ValueError, match="changed while report ran"):
        watch.check()
    watch.begin("report", [], project)
    (project / "params.yaml").write_text(before)


def test_the_real_dvc_yaml_resolves_as_dvc_does(root: Path) -> None:
    """Deps and parameters of every stage, items of foreach included."""
    from dvc.repo import Repo

    index = Repo(str(root)).index
    for stage in index.stages:
        if stage.path != str(root / "dvc.yaml"):
            continue
        name, _, key = stage.name.partition("@")
        found = watch.Watch(root, name, [key] if key else [])
        files = [dep for dep in stage.deps if not hasattr(dep, "params")]
        expected = {Path(dep.fs_path).relative_to(root).as_posix() for dep in files}
        assert set(found.deps) == expected, stage.name
        params = [dep for dep in stage.deps if hasattr(dep, "params")]
        keys = {key for dep in params for key in (dep.params or [""])}
        assert set(found.values) == keys, stage.name
