"""SIGKILL at random moments over the whole DAG, until so many kills have been made.

A clone at smoke size is run, killed, and run again until it is finished; then another one. Each
kill is drawn from the seed and its number, so what has been done is known from a count, and a
campaign that was stopped goes on where it was. Half of the kills come at any time, half of them
right behind a line with which DVC says that it writes dvc.lock. One kill in four takes one process
of the group, as a kernel without memory does, the others take all; every fifth is SIGTERM, followed
by SIGKILL after half a minute, as SLURM does it. Before one start in eight all files become a day
younger, which is what they are when the clock has been set back.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import campaign_tools as tools

WRITES = re.compile(r"(?:Updating|Generating) lock file")
RUNS = re.compile(r"Running stage '([^']+)'")
BEHIND_S = 0.6  # after a line; DVC takes about as long to write dvc.lock
POLL_S = 0.02
LONGEST = 8  # a kill that is not aimed comes within this part of the undisturbed run's time
PATIENCE = 15.0  # a run that takes so many times the undisturbed one hangs


@dataclass(frozen=True)
class Kill:
    """What is started, and when it is killed."""

    command: tuple[str, ...]
    aimed: int  # behind this line of DVC that it writes dvc.lock; 0: at any time
    delay_s: float
    alone: bool  # one process of the group
    term: bool  # SIGTERM first
    clock: bool  # set back before the start


TERM_EVERY = 5
DAY_S = 86_400


def draw(seed: int, number: int, longest_s: float) -> Kill:
    """The kill of this number; longest_s: until a kill that is not aimed."""
    rng = random.Random(f"{seed}/{number}")
    command = rng.choice((tools.REPRO, tools.ONE_BY_ONE))
    aimed = rng.choice((0, 0, 0, 1, 2, 3))
    delay_s = rng.uniform(0, BEHIND_S) if aimed else rng.uniform(0.5, longest_s)
    term = number % TERM_EVERY == TERM_EVERY - 1
    alone = rng.random() < 0.25 and not term
    return Kill(command, aimed, delay_s, alone, term, rng.random() < 1 / 8)


def set_clock_back(clone: Path) -> None:
    """By a day: what was written before is then of tomorrow."""
    for path in clone.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found = path.stat()
            os.utime(path, (found.st_atime + DAY_S, found.st_mtime + DAY_S))


class Campaign:
    """Kills in one folder; state.json in it has all that was done."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.path = folder / "state.json"
        self.log = folder / "log"
        self.state: dict[str, Any] = {
            "seed": seed,
            "seconds": 0.0,  # of the undisturbed run
            "kills": [],
            "rounds": 0,  # clones that were finished, each with the undisturbed dvc.lock
            "findings": [],
        }
        if self.path.is_file():
            self.state = json.loads(self.path.read_text())
        if self.state["seed"] != seed:
            raise ValueError(f"{folder} holds a campaign of seed {self.state['seed']}")

    def save(self) -> None:
        """What was done so far."""
        tools.write_json(self.path, self.state)

    @property
    def undisturbed(self) -> Path:
        """The clone that nothing happened to."""
        return self.folder / "undisturbed"

    @property
    def tracked(self) -> list[str]:
        """Runs that the store of the undisturbed clone has."""
        return tools.list_tracked(self.undisturbed)

    def prepare(self) -> None:
        """Run a clone undisturbed, once."""
        if self.state["seconds"]:
            return
        shutil.rmtree(self.undisturbed, ignore_errors=True)
        tools.make_clone(self.undisturbed)
        began = time.monotonic()
        done = tools.run(self.undisturbed, *tools.REPRO)
        if done.returncode:
            raise ValueError(f"the undisturbed run failed:\n{done.stdout[-tools.TAIL :]}")
        self.state["seconds"] = time.monotonic() - began
        tools.run(self.undisturbed, "python", "-m", "pipeline.sync_mlflow")
        self.save()

    def run(self, times: int) -> None:
        """Kill until it has been done so many times, then finish the clone at hand."""
        self.prepare()
        expected = tools.read_lock(self.undisturbed)
        clone = self.folder / "killed"
        while len(self.state["kills"]) < times or clone.exists():
            if not clone.exists():
                shutil.rmtree(self.folder / "new", ignore_errors=True)
                # Of the code that ran undisturbed: that of the project may be edited meanwhile.
                tools.make_clone(self.folder / "new", self.undisturbed)
                os.rename(self.folder / "new", clone)
            number = len(self.state["kills"])
            kill = None
            if number < times:
                kill = draw(self.state["seed"], number, self.state["seconds"] / LONGEST)
            if self.run_once(clone, kill):
                self.finish_round(clone, expected)

    def run_once(self, clone: Path, kill: Kill | None) -> bool:
        """Start, kill, and write that down; whether the clone came to its end unharmed."""
        command = kill.command if kill else tools.REPRO
        if kill and kill.clock:
            set_clock_back(clone)
        process = tools.start(clone, command, self.log)
        with tools.stopping(process):
            killed = kill is not None and self.wait_and_kill(process, kill)
            if not killed:
                limit = PATIENCE * self.state["seconds"]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(limit)
        said = tools.read_tail(self.log)
        if killed:
            assert kill is not None
            stages = RUNS.findall(said)
            note = asdict(kill) | {"stage": stages[-1] if stages else "", "round": self.rounds}
            self.state["kills"].append(note)
            print(f"kill {len(self.state['kills'])}: {note}", flush=True)
            self.save()
            return False
        if process.returncode:
            self.note(clone, f"exit code {process.returncode}: {said[-tools.TAIL :]}")
            return False
        return True

    @property
    def rounds(self) -> int:
        """Clones that came to their end."""
        return int(self.state["rounds"])

    def wait_and_kill(self, process: Popen[bytes], kill: Kill) -> bool:
        """Whether the process was alive at the moment of the kill."""
        deadline = time.monotonic() + PATIENCE * self.state["seconds"]
        if kill.aimed:
            while len(WRITES.findall(tools.read_tail(self.log))) < kill.aimed:
                if process.poll() is not None or time.monotonic() > deadline:
                    return False
                time.sleep(POLL_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(kill.delay_s)
        if process.poll() is not None:
            return False
        if kill.term:
            tools.terminate_group(process)
        if kill.alone:
            victim = random.Random(kill.delay_s).choice(sorted(tools.group_of(process)))
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            # What is left of the group ends by itself, as nothing new starts behind a failure.
            while tools.group_of(process) and time.monotonic() < deadline:
                time.sleep(POLL_S)
        tools.kill_group(process)
        return True

    def finish_round(self, clone: Path, expected: dict[str, Any]) -> None:
        """Compare a clone that came to its end with the undisturbed one."""
        # A store that was busy for long lacks runs, which this adds; it must not have one twice.
        tools.run(clone, "python", "-m", "pipeline.sync_mlflow")
        if differing := tools.name_differences(clone, expected):
            self.note(clone, f"dvc.lock differs: {differing}")
        elif left := tools.find_leftovers(clone):
            self.note(clone, f"left behind: {', '.join(left)}")
        elif (runs := tools.list_tracked(clone)) != (known := self.tracked):
            self.note(clone, f"MLflow has {', '.join(runs)} in place of {', '.join(known)}")
        elif named := tools.find_own_paths(clone):
            self.note(clone, f"{named[0]} names a folder of this machine")
        else:
            self.state["rounds"] += 1
            shutil.rmtree(clone)
        self.save()

    def note(self, clone: Path, finding: str) -> None:
        """Keep the clone that shows it, and begin with another one."""
        kept = self.folder / f"finding{len(self.state['findings']) + 1}"
        os.rename(clone, kept)
        number = len(self.state["kills"])
        self.state["findings"].append({"kill": number, "clone": kept.name, "finding": finding})
        print(f"finding behind kill {number}, see {kept}: {finding}", flush=True)
        self.save()


COUNTED = {
    "SIGKILL to all processes": lambda kill: not kill["alone"] and not kill["term"],
    "SIGKILL to one process": lambda kill: kill["alone"],
    "SIGTERM, and SIGKILL after 30 s": lambda kill: kill["term"],
    "clock set back by a day before a start": lambda kill: kill["clock"],
}
RULE = "run again, it ends with an undisturbed run's dvc.lock and leaves nothing behind"


def run(campaign: Campaign, times: int) -> None:
    """The part `kills`; its rows go into the table when all kills are made.

    What campaigns of other seeds have added to the table counts with them.
    """
    campaign.run(times)
    state = campaign.state
    stages = [kill["stage"] or "(before the first)" for kill in state["kills"]]
    own = {
        "times": {fault: sum(map(is_meant, state["kills"])) for fault, is_meant in COUNTED.items()},
        "rounds": state["rounds"],
        "findings": [finding["finding"][:200] for finding in state["findings"]],
        "killed_in": {name: stages.count(name) for name in sorted(set(stages))},
    }
    before = tools.read_json(tools.TABLE).get("kills", {}).get("by_seed", {})
    by_seed = before | {str(state["seed"]): own}
    findings = [text for one in by_seed.values() for text in one["findings"]]
    rounds = sum(one["rounds"] for one in by_seed.values())
    outcome = f"held: dvc.lock of {rounds} finished runs as undisturbed"
    if findings:
        outcome = f"{len(findings)} findings: {findings[0]}"
    rows = []
    for fault in COUNTED:
        n = sum(one["times"][fault] for one in by_seed.values())
        rows.append(tools.Row(fault=fault, rule=RULE, times=n, outcome=outcome))
    tools.record("kills", rows, by_seed=by_seed)
