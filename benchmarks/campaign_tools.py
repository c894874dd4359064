"""What the parts of campaign.py share: clones at smoke size, processes to kill, dvc.lock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "campaign.json"
REPRO = ("python", "-m", "pipeline.repro", "--jobs", "2")
ONE_BY_ONE = ("sh", "-c", "python -m pipeline.mend && exec dvc repro")
TAIL = 2000  # characters of a log that a finding keeps
SMALL = 2**16  # bytes at the end of a log that are looked at


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault: what must hold under it, how often it was made, what came out."""

    fault: str
    rule: str
    times: int
    outcome: str  # held, or what did not


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """As core.files.write_json; the campaign itself may be killed, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """What write_json wrote, nothing if it did not yet."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def record(part: str, rows: Sequence[Row], **further: Any) -> None:
    """Put the rows of one part, and numbers beside them, into the table of all parts."""
    table = read_json(TABLE)
    table[part] = {**further, "rows": [dataclasses.asdict(row) for row in rows]}
    write_json(TABLE, dict(sorted(table.items())))
    for row in rows:
        print(f"{part}: {row.fault} x {row.times}: {row.outcome}", flush=True)


def make_clone(target: Path, source: Path = ROOT) -> None:
    """A repository of its own with the working tree's code, committed, at the preset smoke.

    One thread, so that two stages at a time leave its numbers alone.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        is_result = name.startswith("reports/") and not name.startswith("reports/studies/")
        if name != "dvc.lock" and not is_result and (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    author = ["-c", "user.name=campaign", "-c", "user.email=campaign@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "clone"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    done = run(target, "python", "-m", "pipeline.preset", "smoke")
    assert not done.returncode, done.stdout
    params = target / "params.yaml"
    params.write_text(params.read_text().replace("  threads: 2", "  threads: 1", 1))


def environment(clone: Path, **variables: str) -> dict[str, str]:
    """That of a person who works in the clone; the store of MLflow is the clone's."""
    dropped = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | quiet | {"PATH": path} | variables


def run(
    clone: Path, *command: str, timeout: float = 3600, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command in the clone, with all that it printed in stdout."""
    return subprocess.run(
        command,
        cwd=clone,
        env=environment(clone, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
    )


def start(
    clone: Path, command: Sequence[str], log: Path, **variables: str
) -> subprocess.Popen[bytes]:
    """The command as the head of a process group of its own, its lines in `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=clone,
            env=environment(clone, **variables),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def group_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Ids of the living processes of its group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state != "Z":
                found.append(int(path.parent.name))
    return found


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to all of its group; returns when all are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while group_of(process):
        time.sleep(0.02)


def terminate_group(process: subprocess.Popen[bytes], grace_s: float = 30.0) -> None:
    """SIGTERM to all of its group, as SLURM sends it, and SIGKILL to what is left behind that."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while group_of(process) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.05)
    kill_group(process)


def read_tail(log: Path) -> str:
    """The last lines of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - SMALL))
        return file.read().decode(errors="replace")


def read_lock(clone: Path) -> dict[str, Any]:
    """Stages of dvc.lock; their order is that in which they ended."""
    content = YAML(typ="safe").load((clone / "dvc.lock").read_text(encoding="utf-8"))
    return dict(content["stages"])


def name_differences(clone: Path, undisturbed: Mapping[str, Any]) -> str:
    """Stages whose entry in dvc.lock is not that of the undisturbed run; '' for none."""
    found = read_lock(clone)
    names = sorted(found.keys() | undisturbed.keys())
    return ", ".join(name for name in names if found.get(name) != undisturbed.get(name))


def find_leftovers(clone: Path) -> list[str]:
    """Half-written files, and half-done work, that a finished run has left."""
    patterns = ("data/**/*.tmp", "models/**/*.tmp", "reports/**/.*.tmp", "**/*.partial")
    found = [path for pattern in patterns for path in clone.glob(pattern)]
    notes = clone / ".resume" / "made"
    resume = [path for path in (clone / ".resume").rglob("*") if path.is_file()]
    found += [path for path in resume if notes not in path.parents and path.suffix != ".lock"]
    return sorted(str(path.relative_to(clone)) for path in found)


def find_own_paths(clone: Path) -> list[str]:
    """Reports, and descriptions of models, that name a folder of this machine."""
    private = (str(clone), str(Path.home()))
    found = [path for name in ("reports", "models") for path in (clone / name).rglob("*")]
    texts = [path for path in found if path.suffix in (".json", ".md", ".csv", ".yaml", ".html")]
    texts = [p for p in texts if any(one in p.read_text(errors="replace") for one in private)]
    return sorted(str(path.relative_to(clone)) for path in texts)


def list_tracked(clone: Path) -> list[str]:
    """Names of the runs in the clone's MLflow store: of trainings, and of their subjects."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(clone / "mlflow.db")) as store:
        return sorted(name for (name,) in store.execute("select name from runs"))


@contextlib.contextmanager
def stopping(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave nothing of the process's group behind the block."""
    try:
        yield
    finally:
        kill_group(process)
