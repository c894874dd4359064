"""What `dvc repro` does, with stages that do not wait for each other side by side: `make repro`.

python -m pipeline.repro             as many stages at a time as the cores have room for
python -m pipeline.repro --jobs 1    one at a time

DVC runs one stage after the other, but lets several of its processes work in one repository (its
page on `dvc repro`, "Parallel stage execution"). Each stage here is such a process, started when
all that it reads is there; the ones with most work behind them first. Beside others a stage starts
only where the plan (`make plan`) finds memory for it, and never two on one GPU. Results are those
of `dvc repro`: every stage has compute.threads threads, whatever runs beside it.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import psutil
from dvc.repo import Repo

from fmri2clip.core.params import Params, load
from fmri2clip.core.stage import ends_in_one_line
from fmri2clip.stages.check_params.machine import count_cores, find_memory
from fmri2clip.stages.check_params.plan import make_plan
from pipeline.mend import mend

FIRST = "check_params"
LOCK = Path(".dvc/tmp/lock")  # of DVC: who holds it writes its number there
STILL_S = 300.0  # for so long neither who waits for the lock nor who holds it does anything
WINDOWS = 3  # parts of it: all processes rest in one that was spent suspended
RESTING = 0.01  # share of a core that waiting takes
UNKNOWN_S = 1.0  # of a stage that the plan does not have: a frozen asset


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, or one item of it, as DVC names it.

    before: the stages that it reads from; ram: bytes at its peak; seconds: as the plan has it.
    """

    name: str
    before: frozenset[str]
    ram: float = 0.0
    on_gpu: bool = False
    seconds: float = UNKNOWN_S


def read_stages(repo: Repo, params: Params) -> dict[str, Stage]:
    """Stages of dvc.yaml with all that they read from, by name."""
    needs = {need.name: need for need in make_plan(params, Path(), quick=True).needs}
    found = {}
    for stage, before in repo.index.graph.adjacency():
        name = stage.addressing
        need = needs.get(name)
        found[name] = Stage(
            name=name,
            # What is frozen runs whatever became of the files it reads.
            before=frozenset(() if stage.frozen else (one.addressing for one in before)),
            ram=need.ram if need else 0.0,
            on_gpu=bool(need and need.gpu),
            seconds=need.seconds if need else UNKNOWN_S,
        )
    return found


def find_urgency(stages: Mapping[str, Stage]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain that it begins."""
    urgency: dict[str, float] = {}

    def visit(name: str) -> float:
        if name not in urgency:
            behind = [visit(other.name) for other in stages.values() if name in other.before]
            urgency[name] = stages[name].seconds + max(behind, default=0.0)
        return urgency[name]

    for name in stages:
        visit(name)
    return urgency


class Schedule:
    """Which stages run, which are done, and which one may start next."""

    def __init__(
        self, stages: Mapping[str, Stage], changed: set[str], jobs: int, memory: float
    ) -> None:
        self.stages = stages
        self.changed = changed  # stages that DVC finds out of date before anything runs
        self.jobs = jobs
        self.memory = memory
        urgency = find_urgency(stages)
        self.waiting = sorted(stages, key=lambda name: -urgency[name])
        self.running: set[str] = set()
        self.done: set[str] = set()
        self.ran: set[str] = set()  # of those that are done

    def start(self) -> str | None:
        """Name of a stage that starts now, None if none may."""
        # Those that nothing has changed for are done, and with them perhaps what others wait for.
        while name := next((n for n in self.waiting if self._is_ready(n) and self._is_same(n)), ""):
            self.waiting.remove(name)
            self.done.add(name)
        if len(self.running) >= self.jobs:
            return None
        for name in self.waiting:
            if self._is_ready(name) and self._has_room(self.stages[name]):
                self.waiting.remove(name)
                self.running.add(name)
                return name
        return None

    def finish(self, name: str) -> None:
        """A stage has ended well."""
        self.running.remove(name)
        self.done.add(name)
        self.ran.add(name)

    def _is_ready(self, name: str) -> bool:
        return self.stages[name].before <= self.done

    def _is_same(self, name: str) -> bool:
        """Whether nothing that the stage reads can have changed; if unsure, DVC looks again."""
        return name not in self.changed and not self.stages[name].before & self.ran

    def _has_room(self, stage: Stage) -> bool:
        others = [self.stages[name] for name in self.running]
        if not others:
            return True
        fits = stage.ram + sum(other.ram for other in others) <= self.memory
        return fits and not (stage.on_gpu and any(other.on_gpu for other in others))


def run_all(schedule: Schedule) -> list[str]:
    """Run what is out of date; returns the names of the stages that failed.

    Behind a failure nothing new starts, and what runs comes to its end.
    """
    failed: list[str] = []
    running: dict[Future[int], str] = {}
    with ThreadPoolExecutor(schedule.jobs) as pool:
        while True:
            while not failed and (name := schedule.start()) is not None:
                running[pool.submit(run_stage, name)] = name
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                if future.result():
                    failed.append(name)
                else:
                    schedule.finish(name)


def run_stage(name: str) -> int:
    """One stage by DVC, its lines with its name before them; returns the exit status."""
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", name]
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        threading.Thread(target=give_up_if_blocked, args=(process,), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{name:<22} {line.rstrip()}".rstrip(), flush=True)
    print(f"{name:<22} ended after {time.monotonic() - started:.0f} s", flush=True)
    return process.returncode


def give_up_if_blocked(process: subprocess.Popen[str]) -> None:
    """End a DVC that waits for the lock of another one that does nothing: it would do so for ever.

    One that reads gigabytes to hash them holds the lock for long, but not at rest.
    """
    rested = 0  # windows, one behind the other
    while process.poll() is None:
        pids = (process.pid, read_holder())
        before = [count_work(pid) for pid in pids]
        try:
            process.wait(STILL_S / WINDOWS)
            return
        except subprocess.TimeoutExpired:
            done = [count_work(pid) - least for pid, least in zip(pids, before, strict=True)]
        rests = all(work < RESTING * STILL_S / WINDOWS for work in done)
        rested = rested + 1 if rests and process.pid != pids[1] == read_holder() else 0
        if rested == WINDOWS:
            print(
                f"process {pids[1]} holds {LOCK} and has done nothing for {STILL_S:.0f} s; end it, "
                "or wait for it, then run again",
                flush=True,
            )
            process.terminate()


def read_holder() -> int:
    """Process that took DVC's lock last, 0 if none did."""
    try:
        return int(LOCK.read_text())
    except (OSError, ValueError):
        return 0


def count_work(pid: int) -> float:
    """Seconds of CPU that a process took; infinite for one that is gone or runs another one."""
    try:
        process = psutil.Process(pid)
        return math.inf if process.children() else sum(process.cpu_times()[:2])
    except psutil.Error:
        return math.inf


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.repro", description=__doc__)
    parser.add_argument("--jobs", type=int, help="stages at a time; else cores / compute.threads")
    given = parser.parse_args()
    if given.jobs is not None and given.jobs < 1:
        parser.error(f"--jobs is {given.jobs}; give 1 or more")
    for line in mend():
        print(line, flush=True)
    # A plan needs parameters that are right, and this stage says in one line what is not.
    if run_stage(FIRST):
        sys.exit(f"failed: {FIRST}; the reason stands above")
    with ends_in_one_line("repro"):
        params = load(Path("params.yaml"))
        jobs = given.jobs or max(1, count_cores() // params.compute.threads)
        if jobs == 1:
            sys.exit(subprocess.run(["dvc", "repro"], check=False).returncode)
        repo = Repo()
        stages = read_stages(repo, params)
        schedule = Schedule(stages, set(repo.status()), jobs, find_memory())
        repo.close()
    if failed := run_all(schedule):
        sys.exit(f"failed: {', '.join(failed)}; the reason stands above, behind the stage's name")


if __name__ == "__main__":
    main()
