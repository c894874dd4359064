"""What a kill leaves of DVC's own files is mended, and nobody waits for a lock that rests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML

from pipeline import mend, repro


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """The dvc.lock of the project, at a place of its own."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    stages = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"]
    few = {name: stages[name] for name in list(stages)[:4]}
    with (tmp_path / "dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": few}, file)
    return tmp_path


def read(project: Path) -> dict[str, Any]:
    content = YAML(typ="safe").load((project / "dvc.lock").read_text())
    return dict(COMPILED_LOCKFILE_SCHEMA(content)["stages"])


def test_a_whole_file_is_left_alone(project: Path) -> None:
    before = (project / "dvc.lock").stat()
    assert mend.mend(project) == []
    after = (project / "dvc.lock").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.77, 0.999])
def test_a_dvc_lock_that_was_cut_off_keeps_its_whole_stages(project: Path, share: float) -> None:
    whole = read(project)
    path = project / "dvc.lock"
    text = path.read_text()[: int(share * len(path.read_text()))]
    # Cut between two lines it may be read as it stands; DVC runs again what lacks something then.
    while mend.is_whole(text):
        text = text[:-1]
    path.write_text(text)
    (line,) = mend.mend(project)
    assert "had been cut off" in line
    # As many as begin in what is left, without the last, which is not whole.
    n = max(0, sum(f"\n  {name}:\n" in text for name in whole) - 1)
    assert path.is_file() is (n > 0)
    if n:
        assert read(project) == dict(list(whole.items())[:n])
    assert (project / ".dvc/tmp/dvc.lock.cut").read_text() == text


def test_a_merge_conflict_is_the_users(project: Path) -> None:
    path = project / "dvc.lock"
    path.write_text(path.read_text() + "<<<<<<< HEAD\n")
    assert mend.mend(project) == [] and path.read_text().endswith("<<<<<<< HEAD\n")


def test_locks_of_processes_that_are_gone_are_free(project: Path) -> None:
    path = project / ".dvc/tmp/rwlock"
    mine = {"pid": os.getpid(), "cmd": " ".join(["python", *_arguments()])}
    reused = {"pid": os.getpid(), "cmd": "dvc repro --single-item train@ridge"}
    dead = {"pid": 2**22 - 1, "cmd": "dvc repro"}
    lock = {"write": {"a": reused, "b": mine}, "read": {"c": [dead, mine], "d": [dead]}}
    path.write_text(json.dumps(lock))
    assert len(mend.mend(project)) == 1
    assert json.loads(path.read_text()) == {
        "write": {"b": mine},
        "read": {"c": [mine], "d": []},
    }
    assert mend.mend(project) == []
    path.write_text('{"write": {"/a')
    assert len(mend.mend(project)) == 1 and not path.exists()


def _arguments() -> list[str]:
    import psutil

    return psutil.Process().cmdline()[1:]


def test_nothing_is_touched_while_a_dvc_is_at_work(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc import lock

    monkeypatch.setattr(lock, "DEFAULT_TIMEOUT", 0.1)
    (project / "dvc.lock").write_text("sche")
    with lock.make_lock(str(project / ".dvc/tmp/lock")):
        assert mend.mend(project) == []
    assert (project / "dvc.lock").read_text() == "sche"


@pytest.mark.parametrize("works", [False, True])
def test_who_waits_for_a_lock_that_rests_gives_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    works: bool,
) -> None:
    monkeypatch.setattr(repro, "STILL_S", 0.6)
    monkeypatch.setattr(repro, "LOCK", tmp_path / "lock")
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    worker = [sys.executable, "-S", "-c", "while True: pass"]
    holder = subprocess.Popen(worker if works else sleeper)
    waiting = subprocess.Popen(sleeper, text=True)
    (tmp_path / "lock").write_text(f" {holder.pid}\n")
    threading.Thread(target=repro.give_up_if_blocked, args=(waiting,), daemon=True).start()
    try:
        if works:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1.5)
        else:
            assert waiting.wait(30) != 0
            assert f"process {holder.pid} holds" in capsys.readouterr().out
    finally:
        for process in (holder, waiting):
            process.kill()
            process.wait()
