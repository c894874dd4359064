"""The campaign's own parts: what it kills, what it draws, what it finds, where it goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import campaign_kills
import campaign_tools as tools

FAMILY = "sh -c 'sleep 60 & sleep 60' & sleep 60"


@pytest.mark.parametrize("end", [tools.kill_group, tools.terminate_group])
def test_a_whole_process_group_ends(tmp_path: Path, end: Any) -> None:
    process = tools.start(tmp_path, ("sh", "-c", FAMILY), tmp_path / "log")
    while len(tools.group_of(process)) < 5:
        time.sleep(0.01)
    end(process)
    assert process.returncode and tools.group_of(process) == []


def test_draws_depend_on_seed_and_number_alone() -> None:
    kills = [campaign_kills.draw(0, k, 40.0) for k in range(250)]
    assert kills[7] == campaign_kills.draw(0, 7, 40.0) != campaign_kills.draw(1, 7, 40.0)
    assert sum(kill.term for kill in kills) == 50
    for name in ("alone", "clock", "aimed"):
        assert 20 < sum(bool(getattr(kill, name)) for kill in kills) < 170, name
    assert max(kill.delay_s for kill in kills) <= 40


def test_leftovers_are_found(tmp_path: Path) -> None:
    for name in ("data/a/.x.h5.tmp", ".resume/train/key/last.ckpt", ".resume/made/note.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert tools.find_leftovers(tmp_path) == [".resume/train/key/last.ckpt", "data/a/.x.h5.tmp"]


def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clones of a run of two stages, with a process that dies in between."""
    lock = "schema: '2.0'\nstages: {a: {cmd: x}}\n"

    def make_clone(target: Path, source: Path = tmp_path) -> None:
        target.mkdir()

    def finish(clone: Path, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        (clone / "dvc.lock").write_text(lock)
        return subprocess.CompletedProcess(command, 0, "")

    steps = iter([False, False, True, False, True])  # whether a start comes to its end
    numbers = []

    def run_once(self: Any, clone: Path, kill: Any) -> bool:
        if kill is not None:
            numbers.append(len(self.state["kills"]))
        if next(steps):
            finish(clone)
            return True
        self.state["kills"].append({"alone": False, "term": False, "clock": False, "stage": "a"})
        self.save()
        if len(self.state["kills"]) == 2:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(tools, "make_clone", make_clone)
    monkeypatch.setattr(tools, "run", finish)
    monkeypatch.setattr(tools, "list_tracked", lambda clone: ["ridge"])
    monkeypatch.setattr(campaign_kills.Campaign, "run_once", run_once)
    with pytest.raises(KeyboardInterrupt):
        campaign_kills.Campaign(tmp_path, 0).run(3)
    again = campaign_kills.Campaign(tmp_path, 0)
    again.run(3)
    assert len(again.state["kills"]) == 3 and again.rounds == 2 and numbers == [0, 1, 2, 2]
    assert again.state["findings"] == [] and not (tmp_path / "killed").exists()
    with pytest.raises(ValueError, match="holds a campaign of seed 0"):
        campaign_kills.Campaign(tmp_path, 1)
