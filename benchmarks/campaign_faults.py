"""Faults other than kills, each on a copy of a run that nothing happened to.

Every fault states its rule. A stage that cannot work must end with an exit code and a line that is
no traceback; afterwards, with the fault gone, the run must end with the dvc.lock of the undisturbed
one. Mounting small and read-only disks takes root; where that is missing the row says so.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaign_tools as tools
from campaign_tools import Row

AGAIN = "run again, it ends with an undisturbed run's dvc.lock and leaves nothing behind"
LIMIT_S = 3600.0  # of any command here
MB = 2**20


@dataclass(frozen=True)
class Bench:
    """Where the faults are made: the finished clone that nothing happened to, and scratch."""

    undisturbed: Path
    folder: Path
    seed: int

    @property
    def expected(self) -> dict[str, Any]:
        """Stages of the undisturbed dvc.lock."""
        return tools.read_lock(self.undisturbed)

    @contextlib.contextmanager
    def copied(self) -> Iterator[Path]:
        """A copy of the finished clone, of its DVC cache too; it goes afterwards."""
        clone = self.folder / "clone"
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.undisturbed), str(clone)], check=True)
        yield clone
        shutil.rmtree(clone)

    def find_problem(self, clone: Path) -> str:
        """What is wrong when the clone is run once more, '' for nothing."""
        done = tools.run(clone, *tools.ONE_BY_ONE, timeout=LIMIT_S)
        if done.returncode:
            return f"run again, it fails: {done.stdout[-tools.TAIL :]}"
        if differing := tools.name_differences(clone, self.expected):
            return f"dvc.lock differs: {differing}"
        left = tools.find_leftovers(clone)
        return f"left behind: {', '.join(left)}" if left else ""


def force(clone: Path, stage: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Execute one stage, whatever DVC knows of it."""
    command = ("dvc", "repro", "--force", "--single-item", stage)
    return tools.run(clone, *command, timeout=LIMIT_S, **variables)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with how a command has failed, '' if it did as it should."""
    if not done.returncode:
        return "it ends well, as if nothing were wrong"
    return "traceback: " + done.stdout[-tools.TAIL :] if "Traceback" in done.stdout else ""


def summarise(fault: str, rule: str, problems: list[str]) -> Row:
    """The row of a fault that was made len(problems) times."""
    bad = [problem for problem in problems if problem]
    outcome = f"{len(bad)} times not: {bad[0][:400]}" if bad else "held"
    return Row(fault=fault, rule=rule, times=len(problems), outcome=outcome)


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """A mount at the folder. Raises PermissionError where it takes root."""
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(bench: Bench) -> Row:
    """A whole run on a disk that is too small, again and again, with a little more room each."""
    rng = random.Random(bench.seed)
    disk = bench.folder / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    problems = []
    with mounted(disk, "-t", "tmpfs", "-o", "size=4g", "tmpfs"):
        clone = disk / "clone"
        tools.make_clone(clone, bench.undisturbed)
        while True:
            used = shutil.disk_usage(disk).used // MB
            size = used + rng.randint(1, 30)
            remount = ["mount", "-o", f"remount,size={size}m", str(disk)]
            subprocess.run(remount, check=True)
            done = tools.run(clone, *tools.ONE_BY_ONE, timeout=LIMIT_S)
            print(f"disk of {size} MB: exit code {done.returncode}", flush=True)
            if not done.returncode:
                break
            is_said = "o space left" in done.stdout or "disk" in done.stdout
            problems.append(refused(done) if is_said else f"not said: {done.stdout[-400:]}")
        problems.append(bench.find_problem(clone))
    rule = f"a full disk ends in a line that says so; with room, {AGAIN}"
    return summarise("disk full", rule, problems)


def forbid_writing(bench: Bench) -> Row:
    """Folders of outputs, and of half-done work, that nothing can be written to."""
    problems = []
    cases = {
        "data/rois": "extract_rois@subj01",
        "models": "train@ridge",
        "reports": "evaluate@ridge",
        ".resume": "train@brainclip",
    }
    for folder, stage in cases.items():
        with bench.copied() as clone:
            place = clone / folder
            place.mkdir(exist_ok=True)
            with mounted(place, "--bind", str(place)):
                subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
                problem = refused(force(clone, stage))
            problems.append(problem or bench.find_problem(clone))
            print(f"read-only {folder}: {problems[-1] or 'held'}", flush=True)
    rule = f"a read-only folder ends in a line; writable again, {AGAIN}"
    return summarise("read-only output folder", rule, problems)


def cut_checkpoint(bench: Bench) -> Row:
    """A training that SIGTERM has stopped, whose checkpoint then loses its end."""
    problems = []
    stage = "train@brainclip"
    with bench.copied() as clone:
        params = clone / "params.yaml"
        # Long enough to be stopped in the middle.
        params.write_text(params.read_text().replace("max_epochs: 2", "max_epochs: 40"))
        command = ("dvc", "repro", "--single-item", stage)
        assert not tools.run(clone, *command).returncode
        expected = tools.read_lock(clone)[stage]
        for share in (0.0, 0.5, 0.99):
            found = stop_training(clone, stage)
            if found is None:
                problems.append("the training could not be stopped in the middle")
                continue
            content = found.read_bytes()
            found.write_bytes(content[: int(share * len(content))])
            done = tools.run(clone, *command, timeout=LIMIT_S)
            same = not done.returncode and tools.read_lock(clone)[stage] == expected
            problems.append("" if same else done.stdout[-tools.TAIL :])
    rule = "a checkpoint that was cut off is not used: training starts anew, to the same weights"
    return summarise("truncated checkpoint", rule, problems)


def stop_training(clone: Path, stage: str) -> Path | None:
    """Send SIGTERM to a training until it leaves a checkpoint, and return that."""
    resume = clone / ".resume" / "train"
    for delay_s in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0):
        command = ("dvc", "repro", "--force", "--single-item", stage)
        process = tools.start(clone, command, name_log(clone))
        with tools.stopping(process):
            while process.poll() is None and not list(resume.rglob("brainclip/*")):
                time.sleep(0.05)
            time.sleep(delay_s)
            tools.terminate_group(process)
        if found := list(resume.rglob("last.ckpt")):
            return found[0]
    return None


def name_log(clone: Path) -> Path:
    """Where the lines of a process go that is not waited for."""
    return clone.with_name(f"{clone.name}.log")


def cut_cache(bench: Bench) -> Row:
    """Files of DVC's cache, which are those of the workspace, lose their second half."""
    rng = random.Random(bench.seed)
    problems = []
    for _ in range(6):
        with bench.copied() as clone:
            files = sorted(p for p in (clone / ".dvc/cache/files").rglob("*") if p.is_file())
            victim = rng.choice([path for path in files if path.stat().st_size > 100])
            victim.chmod(0o644)
            os.truncate(victim, victim.stat().st_size // 2)
            problems.append(bench.find_problem(clone))
            print(f"cut {victim.name}: {problems[-1] or 'held'}", flush=True)
    return summarise("truncated cache object", f"it is noticed: {AGAIN}", problems)


HDF5 = {
    "data/rois/train/subj01.h5": "train ridge",
    "data/clip/mini/train/subj01.h5": "train ridge",
    "data/stimuli/train.h5": "reconstruct",
    "data/rois/test/subj01.h5": "evaluate ridge",
    "data/raw/nsd/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5": "cache_clip mini",
}


def corrupt_hdf5(bench: Bench) -> Row:
    """The head of an HDF5 file becomes zeros; a stage that reads it is run by itself."""
    problems = []
    for name, stage in HDF5.items():
        with bench.copied() as clone:
            path = clone / name
            path.chmod(0o644)
            with path.open("r+b") as file:
                file.write(bytes(2048))
            command = ("python", "-m", f"pipeline.{stage.split()[0]}", *stage.split()[1:])
            done = tools.run(clone, *command, timeout=LIMIT_S)
            problems.append(refused(done) or bench.find_problem(clone))
            print(f"corrupt {name}: {problems[-1] or 'held'}", flush=True)
    rule = f"a stage that reads it ends in a line; {AGAIN}"
    return summarise("corrupted HDF5", rule, problems)


def run_twice_at_once(bench: Bench) -> Row:
    """Two `make repro` of the same project, a few seconds apart."""
    rng = random.Random(bench.seed)
    problems = []
    for _ in range(3):
        with bench.copied() as clone:
            for name in ("dvc.lock", ".dvc/cache/runs", "models", "data/rois", "data/predictions"):
                path = clone / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            first = tools.start(clone, tools.REPRO, name_log(clone))
            with tools.stopping(first):
                time.sleep(rng.uniform(0, 10))
                second = tools.run(clone, *tools.REPRO, timeout=LIMIT_S)
                first.wait(LIMIT_S)
            said = second.stdout + tools.read_tail(name_log(clone))
            problem = f"traceback: {said[-tools.TAIL :]}" if "Traceback" in said else ""
            problems.append(problem or bench.find_problem(clone))
    rule = f"both end, each well or in a line that says who is at work; {AGAIN}"
    return summarise("two repro at once", rule, problems)


def lose_mlflow(bench: Bench) -> Row:
    """An MLflow server that is gone before, or in the middle of, a training."""
    rng = random.Random(bench.seed)
    problems = []
    for k in range(4):
        with bench.copied() as clone, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
            free.close()
            store = f"sqlite:///{clone.parent}/server{k}.db"
            command = ("mlflow", "server", "--backend-store-uri", store, "--port", port)
            server = tools.start(clone, command, name_log(clone))
            with tools.stopping(server):
                wait_for_port(int(port))
                if k == 0:
                    tools.kill_group(server)
                uri = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
                training = tools.start(
                    clone,
                    ("dvc", "repro", "--force", "--single-item", "train@brainclip"),
                    clone.with_name("training.log"),
                    **uri,
                )
                with tools.stopping(training):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        training.wait(rng.uniform(3, 25))
                    tools.kill_group(server)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        training.wait(LIMIT_S)
            said = tools.read_tail(clone.with_name("training.log"))
            failed = "" if training.returncode == 0 else f"the training failed: {said[-400:]}"
            problems.append(failed or bench.find_problem(clone))
    return summarise("MLflow server gone", f"the training ends well and warns; {AGAIN}", problems)


def wait_for_port(port: int) -> None:
    """Until somebody listens there, for two minutes at most."""
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens at port {port}")


FAULTS: dict[str, Callable[[Bench], Row]] = {
    "disk": fill_disk,
    "read_only": forbid_writing,
    "checkpoint": cut_checkpoint,
    "cache": cut_cache,
    "hdf5": corrupt_hdf5,
    "two": run_twice_at_once,
    "mlflow": lose_mlflow,
}


def run(bench: Bench, wanted: tuple[str, ...] = tuple(FAULTS)) -> None:
    """The part `faults`: what was made before is kept in faults.json and not made again."""
    path = bench.folder / "faults.json"
    rows = tools.read_json(path)
    bench.folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if name not in rows:
            try:
                row = FAULTS[name](bench)
            except PermissionError as error:
                rule = (FAULTS[name].__doc__ or "").splitlines()[0]
                row = Row(fault=name, rule=rule, times=0, outcome=f"not made: {error}")
            rows[name] = row.__dict__
            tools.write_json(path, rows)
    tools.record("faults", [Row(**rows[name]) for name in FAULTS if name in rows], seed=bench.seed)
