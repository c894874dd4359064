"""Stages side by side: in what order, beside which others, and the same results as `dvc repro`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fmri2clip.core.params import load
from pipeline.repro import Schedule, Stage, find_urgency, run_all

Given = Mapping[str, tuple[str, float]]  # name -> names of those before, seconds


def make(given: Given, **special: dict[str, object]) -> dict[str, Stage]:
    return {
        name: Stage(
            name=name,
            before=frozenset(before.split()),
            seconds=seconds,
            **special.get(name, {}),  # type: ignore[arg-type]
        )
        for name, (before, seconds) in given.items()
    }


DIAMOND = {
    "a": ("", 1.0),
    "short": ("a", 1.0),
    "long": ("a", 9.0),
    "end": ("short long", 2.0),
}


def start_all(schedule: Schedule) -> list[str]:
    started = []
    while name := schedule.start():
        started.append(name)
    return started


def test_urgency_is_the_longest_chain_behind_a_stage() -> None:
    assert find_urgency(make(DIAMOND)) == {"a": 12.0, "short": 3.0, "long": 11.0, "end": 2.0}


def test_a_stage_waits_for_all_before_it_and_the_urgent_one_goes_first() -> None:
    schedule = Schedule(make(DIAMOND), set(DIAMOND), jobs=2, memory=1.0)
    assert start_all(schedule) == ["a"]
    schedule.finish("a")
    assert start_all(schedule) == ["long", "short"]
    schedule.finish("short")
    assert start_all(schedule) == []
    schedule.finish("long")
    assert start_all(schedule) == ["end"]


def test_no_more_than_jobs_and_memory_allow_and_one_on_the_gpu() -> None:
    apart = {name: ("", 4.0 - i) for i, name in enumerate("abcd")}
    assert start_all(Schedule(make(apart), set(apart), jobs=3, memory=1.0)) == ["a", "b", "c"]
    big = {name: {"ram": 0.6} for name in "ab"}
    assert start_all(Schedule(make(apart, **big), set(apart), jobs=3, memory=1.0)) == [
        "a",
        "c",
        "d",
    ]
    on_gpu = {name: {"on_gpu": True} for name in "ab"}
    assert start_all(Schedule(make(apart, **on_gpu), set(apart), jobs=2, memory=1.0)) == ["a", "c"]
    # Alone a stage starts whatever the plan says: DVC would run it, too.
    alone = Schedule(make(apart, a={"ram": 9.0}), set(apart), jobs=3, memory=1.0)
    assert start_all(alone) == ["a"]


def test_only_what_is_out_of_date_runs_and_what_stands_behind_it() -> None:
    schedule = Schedule(make(DIAMOND), {"short"}, jobs=2, memory=1.0)
    assert start_all(schedule) == ["short"]
    schedule.finish("short")
    assert start_all(schedule) == ["end"]
    schedule.finish("end")
    assert start_all(schedule) == [] and not schedule.waiting
    assert start_all(Schedule(make(DIAMOND), set(), jobs=2, memory=1.0)) == []


STAGES = """\
stages:
  source:
    cmd: echo 1 > source.txt
    outs: [source.txt]
  half:
    foreach: [left, right]
    do:
      cmd: {half}
      deps: [source.txt]
      outs: ['${{item}}.txt']
  whole:
    cmd: cat left.txt right.txt > whole.txt
    deps: [left.txt, right.txt]
    outs: [whole.txt]
"""
# Each half waits until the other one has begun, so one after the other they would fail.
MEET = (
    "touch ${item}.here; for i in 1 2 3 4 5 6 7 8 9; do "
    "test -e left.here && test -e right.here && break; sleep 0.5; done; "
    "test -e left.here && test -e right.here && cat source.txt > ${item}.txt"
)


def make_repo(folder: Path, half: str) -> dict[str, Stage]:
    subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
    (folder / "dvc.yaml").write_text(STAGES.format(half=half), encoding="utf-8")
    given = {
        "source": ("", 1.0),
        "half@left": ("source", 1.0),
        "half@right": ("source", 1.0),
        "whole": ("half@left half@right", 1.0),
    }
    return make(given)


@pytest.mark.slow
def test_dvc_runs_stages_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = make_repo(tmp_path, MEET)
    monkeypatch.chdir(tmp_path)
    assert run_all(Schedule(stages, set(stages), jobs=2, memory=1.0)) == []
    assert (tmp_path / "whole.txt").read_text() == "1\n1\n"
    assert "half@left" in capsys.readouterr().out
    status = subprocess.run(["dvc", "status"], capture_output=True, text=True, check=True)
    assert "up to date" in status.stdout


@pytest.mark.slow
def test_nothing_starts_behind_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = make_repo(tmp_path, "test ${item} = left && cp source.txt ${item}.txt")
    monkeypatch.chdir(tmp_path)
    assert run_all(Schedule(stages, set(stages), jobs=2, memory=1.0)) == ["half@right"]
    assert (tmp_path / "left.txt").is_file()
    assert not (tmp_path / "whole.txt").exists()


def test_the_stages_of_the_project_are_all_planned(root: Path) -> None:
    from dvc.repo import Repo

    from pipeline.repro import UNKNOWN_S, read_stages

    with Repo(str(root)) as repo:
        stages = read_stages(repo, load(root / "params.yaml"))
    unplanned = {name for name, stage in stages.items() if stage.seconds == UNKNOWN_S}
    assert all(name.startswith("assets/") for name in unplanned)
    assert stages["report"].before >= {"score_pictures", "describe_data"}
    assert "check_params" in stages["download_stimuli"].before


@pytest.mark.parametrize(
    ("right", "wrong", "options", "message"),
    [
        (
            "  ridge: {<<: *run, decoder: ridge}",
            "  ridge: {<<: *run, decoder: rigde}",
            [],
            "'rigde'",
        ),
        ("", "", ["--jobs", "-1"], "--jobs is -1; give 1 or more"),
    ],
)
@pytest.mark.slow
def test_mistakes_end_in_one_line(
    root: Path, tmp_path: Path, right: str, wrong: str, options: list[str], message: str
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--shared", str(root), str(clone)], check=True)
    shutil.copy(root / "pipeline" / "repro.py", clone / "pipeline" / "repro.py")
    text = (clone / "params.yaml").read_text(encoding="utf-8")
    (clone / "params.yaml").write_text(text.replace(right, wrong, 1), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.repro", *options],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": f"{clone / 'src'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode and message in said
    assert "Traceback" not in said


LINKED = """
stages:
  download:
    foreach: [subj01]
    do:
      cmd: cd raw/${item}
      deps: [code.py]
      outs:
      - raw/${item}: {persist: true, push: false}
"""


def test_linked_data_are_copied_before_a_download_runs_and_not_by_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/real_nsd.md says of disks: DVC's way with outs that persist, by hard links."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "shared"
    shared.write_bytes(b"betas")
    betas = tmp_path / "raw/subj01/betas"
    betas.parent.mkdir(parents=True)
    os.link(shared, betas)
    Path("dvc.yaml").write_text(LINKED)
    Path("code.py").write_text("1")
    with Repo.init(no_scm=True) as repo, repo.config.edit() as config:
        config["cache"]["type"] = ["hardlink", "copy"]

    with Repo() as repo:
        repo.reproduce("download")
        assert betas.stat().st_nlink == 2 and not betas.samefile(shared)
        Path("code.py").write_text("2, an update that cannot change the files")
        repo.commit("download", force=True)
        assert betas.stat().st_nlink == 2 and repo.status("download") == {}
        Path("code.py").write_text("3, another")
        repo.reproduce("download")
        assert betas.stat().st_nlink == 1
        repo.checkout("download", relink=True)
        assert betas.stat().st_nlink == 2
