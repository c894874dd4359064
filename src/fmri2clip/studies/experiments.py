"""DVC experiments from Python: queue, wait, find again, fetch files without checking out.

Only the command line and Git references of DVC are used, and DVCFileSystem for the files. The queue
runs each experiment in a temporary copy of the project that shares the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CODE = ("src", "pipeline")
# With the parameters: what the result of an experiment depends on.
RESULT = (*CODE, "assets", "dvc.yaml")
LOOKS = 5  # at a queue that cannot be read, before it is given up
LOOK_S = 2.0  # between them
POLL_S = 10.0  # a look at the queue costs half a second of a core
_TASK = re.compile(
    r"^(?P<task>\w{7})\s+(?P<name>\S+)\s.*\s(?P<status>Queued|Running|Success|Failed)\s*$"
)
_WORKERS = re.compile(r"^Worker status: (\d+) active, (\d+) idle")


def code_digest(root: Path) -> str:
    """sha256 over path and content of every tracked Python file of src and pipeline.

    Contents are those of the working tree.
    """
    digest = hashlib.sha256()
    patterns = [f"{folder}/*.py" for folder in CODE]
    for name in sorted(_git(root, "ls-files", "--", *patterns).splitlines()):
        if (root / name).is_file():
            digest.update(f"{name}\0".encode() + (root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def find(root: Path, name: str) -> str | None:
    """Commit of the finished experiment of that name whose baseline is HEAD, or None."""
    found = _git(root, "for-each-ref", "--format=%(objectname)", _reference(root, name))
    return found.strip() or None


def check_tracked(root: Path) -> None:
    """Raise ValueError for code or assets that git does not track: experiments run in a clone,
    which would lack them.
    """
    folders = [folder for folder in (*CODE, "assets") if (root / folder).exists()]
    found = _git(root, "ls-files", "--others", "--exclude-standard", "--", *folders).splitlines()
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise ValueError(
            f"git does not track {shown}; experiments run in a copy of what it tracks: "
            f"`git add {' '.join(found[:5])}` first, or remove it"
        )


def is_current(root: Path, commit: str, params: Mapping[str, Any]) -> bool:
    """Whether an experiment was run with these params and the working tree's code and assets.

    params: content of params.yaml.
    """
    if YAML(typ="safe").load(_git(root, "show", f"{commit}:params.yaml")) != params:
        return False
    paths = [path for path in RESULT if (root / path).exists()]
    command = ["git", "diff", "--quiet", commit, "--", *paths]
    return subprocess.run(command, cwd=root, check=False).returncode == 0


def forget(root: Path, name: str) -> None:
    """Delete the experiment of that name at HEAD and its tasks; its files stay in the cache."""
    if find(root, name):
        _git(root, "update-ref", "-d", _reference(root, name))
    while name in queue_status(root)[0]:
        _dvc(root, "queue", "remove", name)


def queue(root: Path, name: str, overrides: Sequence[str], targets: Sequence[str]) -> None:
    """Queue an experiment; it takes the working tree's tracked files as they are now."""
    settings = [part for override in overrides for part in ("-S", override)]
    _dvc(root, "exp", "run", "--queue", "--name", name, *settings, *targets)


def queue_status(root: Path) -> tuple[dict[str, str], int]:
    """Status of each task by experiment; number of workers.

    Queued, Running, Success, Failed, or Killed: called running by DVC, but its process is gone.
    """
    lines = _look(root).splitlines()
    tasks = {}
    for match in filter(None, map(_TASK.match, reversed(lines))):
        lost = match["status"] == "Running" and _is_gone(root, match["task"])
        tasks[match["name"]] = "Killed" if lost else match["status"]
    workers = [int(m[1]) + int(m[2]) for line in lines if (m := _WORKERS.match(line))]
    return tasks, workers[0] if workers else 0


def _look(root: Path) -> str:
    """What `dvc queue status` prints.

    It fails where it reads an experiment's file in the moment in which that is written.
    """
    for _ in range(LOOKS - 1):
        with contextlib.suppress(ValueError):
            return _dvc(root, "queue", "status")
        time.sleep(LOOK_S)
    return _dvc(root, "queue", "status")


def _is_gone(root: Path, task: str) -> bool:
    """Whether the process of a running task has ended without a word.

    DVC keeps its number in `.dvc/tmp/exps/run/<commit>/<commit>.json`, as soon as it begins.
    """
    for path in (root / ".dvc" / "tmp" / "exps" / "run").glob(f"{task}*/*.json"):
        try:
            os.kill(json.loads(path.read_text())["pid"], 0)  # no signal, only the question
        except ProcessLookupError:
            return True
        except ValueError:  # half written
            return False
    return False


def run_queue(
    root: Path,
    names: Iterable[str],
    say: Callable[[str], None] = print,
    poll_s: float = POLL_S,
    jobs: int = 1,
) -> None:
    """Start workers, so many as jobs, and return when none of the named experiments is queued or
    running.

    Workers that have gone while experiments wait are started again (one leaves where it finds
    nothing to do for a moment). An experiment that is called running although its process was
    killed would be waited for without end: it is ended, and stands as failed.
    """
    names = list(names)
    told: dict[str, str] = {}
    while True:
        tasks, n_workers = queue_status(root)
        now = {name: tasks[name] for name in names if name in tasks}
        n_waiting = sum(status == "Queued" for status in now.values())
        for name, status in now.items():
            if status not in ("Queued", told.get(name)):
                say(f"{name}: {status.lower()} ({n_waiting} waiting)")
        told = now
        waiting = [status for status in now.values() if status not in ("Success", "Failed")]
        if not waiting:
            return
        for name in (name for name, status in now.items() if status == "Killed"):
            # It may have reported its end since; the next look tells.
            with contextlib.suppress(ValueError):
                _dvc(root, "queue", "kill", "--force", name)
        # As many as there is work for: DVC starts those that are not there.
        if n_workers < min(jobs, len(waiting)) and "Queued" in waiting:
            _start_workers(root, jobs)
        time.sleep(poll_s)


def failure(root: Path, name: str, n_lines: int = 15) -> str:
    """Last lines of what a failed experiment printed."""
    return "\n".join(_dvc(root, "queue", "logs", name).splitlines()[-n_lines:])


def fetch(root: Path, commit: str, paths: Iterable[str], folder: Path) -> None:
    """Copy files and folders of an experiment to the same places under `folder`.

    They come from Git or from the cache. Raises ValueError for a path that the experiment does not
    have or that has left the cache.
    """
    from dvc.api import DVCFileSystem
    from dvc.repo import Repo

    with Repo(str(root), rev=commit) as repo:
        files = DVCFileSystem(repo=repo)
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                files.get(path, str(folder / path), recursive=True)
            except (OSError, KeyError) as error:
                raise ValueError(
                    f"experiment {commit[:7]} has no {path} ({error}); run it again with --force"
                ) from error


def _reference(root: Path, name: str) -> str:
    head = _git(root, "rev-parse", "HEAD").strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def _start_workers(root: Path, jobs: int) -> None:
    """Without a pipe: a worker would inherit it, and a reader would wait for the worker's end."""
    command = [sys.executable, "-m", "dvc", "queue", "start", "-j", str(jobs)]
    silent = subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=root, check=False, env=_environment(), stdout=silent, stderr=silent
    )
    if done.returncode:
        raise ValueError(f"dvc queue start failed in {root}; run it by hand to see why")


def _dvc(root: Path, *arguments: str) -> str:
    """Output of a dvc command."""
    return _run([sys.executable, "-m", "dvc", *arguments], root, _environment())


def _environment() -> dict[str, str]:
    """Workers inherit it, so the tools of this interpreter come first in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def _git(root: Path, *arguments: str) -> str:
    return _run(["git", *arguments], root, None)


def _run(command: list[str], root: Path, environment: dict[str, str] | None) -> str:
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        shown = " ".join(command[2:] if command[1] == "-m" else command)
        raise ValueError(f"{shown} failed in {root}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
