"""fork_server.py against processes of their own: a child sees, does and ends as they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.test_pipeline import make_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the server looks into /proc"),
]
# What a module can see of how it was started.
PROBE = """
import json
import os
import signal
import sys

import torch
from threadpoolctl import threadpool_info

print("to stderr", file=sys.stderr)
print(json.dumps({
    "argv": sys.argv,
    "name": __name__,
    "spec": __spec__.name,
    "main": sys.modules["__main__"].__file__,
    "folder": os.getcwd(),
    "path": sys.path,
    "environment": sorted(set(os.environ.items())),
    "given": sys.stdin.read(),
    "threads": sorted({pool["num_threads"] for pool in threadpool_info()}),
    "torch_threads": torch.get_num_threads(),
    "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
    "files": sorted(os.listdir("/proc/self/fd")),
    "own": [name for name in sys.modules if name.startswith(("pipeline", "fmri2clip"))],
}))
"""
WAITING = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def folder(forks: None, tmp_path: Path) -> Path:
    """A project with one stage, `probe`."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    write_stage(tmp_path, PROBE)
    return tmp_path


def write_stage(folder: Path, text: str) -> None:
    (folder / "pipeline" / "probe.py").write_text(text)


@contextmanager
def started(folder: Path, program: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m pipeline.probe` by that program, over at the end of the block."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [program, "-m", "pipeline.probe", "one", "--two"]
    environment = make_environment(folder) | variables
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_both(folder: Path, **variables: str) -> list[subprocess.CompletedProcess[str]]:
    """What comes of the stage as a process of its own, and as a child of the server."""
    found = []
    for program in (sys.executable, f"{os.environ['FORKS']}/python"):
        with started(folder, program, **variables) as process:
            output, errors = process.communicate("a line\n", timeout=60)
        found.append(subprocess.CompletedProcess(program, process.returncode, output, errors))
    return found


@pytest.mark.parametrize("variables", [{}, {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "3"}])
def test_a_child_sees_what_a_process_of_its_own_sees(
    folder: Path, variables: dict[str, str]
) -> None:
    alone, child = run_both(folder, OWN_VARIABLE="é", **variables)
    seen: dict[str, Any] = json.loads(alone.stdout)
    assert seen["argv"] == [str(folder / "pipeline" / "probe.py"), "one", "--two"]
    assert seen["given"] == "a line\n" and seen["own"] == ["pipeline"]
    found = json.loads(child.stdout)
    # Libraries set variables, too, and a child has all libraries.
    assert {tuple(item) for item in seen.pop("environment")} <= set(
        map(tuple, found["environment"])
    )
    differing = {name: (found[name], seen[name]) for name in seen if found[name] != seen[name]}
    assert not differing
    assert child.stderr == alone.stderr == "to stderr\n"


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit('a reason')",
        "import sys; print('so far'); sys.exit(3)",
        "import atexit; atexit.register(print, 'at the end')",
        "import os; print('lost'); os.kill(os.getpid(), 9)",
        "import os; os.kill(os.getpid(), 15)",
    ],
)
def test_a_child_ends_as_a_process_of_its_own(folder: Path, text: str) -> None:
    write_stage(folder, text)
    alone, child = run_both(folder)
    for name in ("returncode", "stdout", "stderr"):
        assert getattr(child, name) == getattr(alone, name)


def test_an_error_shows_where_it_rose(folder: Path) -> None:
    write_stage(folder, "def f():\n    1 / 0\n\nf()\n")
    alone, child = run_both(folder)
    assert child.returncode == alone.returncode == 1
    assert child.stderr.splitlines()[-5:] == alone.stderr.splitlines()[-5:]


def test_a_caller_that_is_killed_takes_its_child_along(folder: Path) -> None:
    write_stage(folder, WAITING)
    with started(folder, f"{os.environ['FORKS']}/python") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert child != process.pid
        process.kill()
        process.communicate(timeout=60)  # the child has closed its streams, too


def test_what_is_no_stage_is_left_to_the_real_program(folder: Path) -> None:
    programs = [sys.executable, f"{os.environ['FORKS']}/python"]
    for command in (["-c", "import sys; print('torch' in sys.modules)"], ["--version"]):
        done = [subprocess.run([p, *command], capture_output=True, text=True) for p in programs]
        assert done[0].stdout == done[1].stdout != ""


@pytest.mark.parametrize(
    "variables", [{"FRESH": "report,probe one --two"}, {"PYTHONHASHSEED": "0"}], ids=str
)
def test_a_stage_may_be_left_to_the_real_program(folder: Path, variables: dict[str, str]) -> None:
    """Python reads variables of its own when it starts, so the server cannot."""
    write_stage(folder, "import os, sys; print('torch' in sys.modules, os.getppid())")
    _, child = run_both(folder, **variables)
    assert child.stdout == f"False {os.getpid()}\n"
    write_stage(folder, "import os, sys; print('torch' in sys.modules, os.getppid())  # forked")
    _, child = run_both(folder, FRESH="report,probe one")
    assert child.stdout.startswith("True ") and child.stdout != f"True {os.getpid()}\n"
