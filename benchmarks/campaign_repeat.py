"""Clean runs that must be equal: at one thread and at two, by another Python, by other versions.

The two runs of a pair differ in folder, hash seed, locale and time zone, and agree in every entry
of dvc.lock, which has the MD5 of every output. How another Python and other versions of the
dependencies compare with the undisturbed run is found out, not demanded: sums of floating point may
be taken in another order there. They must come to their end.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import campaign_tools as tools
from campaign_tools import Row

AROUND = (  # what differs between the two runs of a pair: folder, then variables
    ("plain", {"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}),
    ("with blank and ümlaut", {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Kolkata"}),
)
# In the row of an environment: those whose arithmetic, formats or starts matter most
NAMED = ("torch", "numpy", "scipy", "h5py", "dvc", "mlflow", "diffusers")
LIMIT_S = 7200.0


def run_clean(
    folder: Path, source: Path, threads: int, around: Mapping[str, str]
) -> dict[str, Any]:
    """Stages of dvc.lock after a run from nothing. Raises ValueError if it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    tools.make_clone(folder, source)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("  threads: 1", f"  threads: {threads}", 1))
    # Beside another stage two threads would take turns; so one stage at a time.
    done = tools.run(folder, *tools.ONE_BY_ONE, timeout=LIMIT_S, **around)
    if done.returncode:
        raise ValueError(f"a clean run failed: {done.stdout[-tools.TAIL :]}")
    return tools.read_lock(folder)


def run_pair(folder: Path, source: Path, threads: int) -> Row:
    """Two clean runs at so many threads."""
    found = []
    for name, variables in AROUND:
        print(f"{threads} threads, {name}", flush=True)
        found.append(run_clean(folder / name, source, threads, variables))
    differing = tools.name_differences(folder / AROUND[1][0], found[0])
    for name, _ in AROUND:
        shutil.rmtree(folder / name)
    words = "1 thread" if threads == 1 else f"{threads} threads"
    return Row(
        fault=f"clean runs at {words}; other folder, hash seed, locale, time zone",
        rule="equal in every entry of dvc.lock",
        times=len(found),
        outcome=f"differ: {differing}" if differing else "held",
    )


def describe_environment() -> str:
    """This Python and the versions that matter most."""
    versions = (f"{name} {importlib.metadata.version(name)}" for name in NAMED)
    return f"Python {platform.python_version()}, {', '.join(versions)}"


def run_here(folder: Path, source: Path, expected: Mapping[str, Any]) -> Row:
    """A clean run by the Python that runs this, against the undisturbed one's dvc.lock."""
    lock = run_clean(folder / "here", source, 1, {})
    other = [name for name, entry in expected.items() if lock.get(name) != entry]
    outcome = f"held: {len(expected) - len(other)} of {len(expected)} entries of dvc.lock equal"
    shutil.rmtree(folder / "here")
    return Row(
        fault=describe_environment(),
        rule="comes to its end; equal stages are counted",
        times=1,
        outcome=f"{outcome}, but {', '.join(other)}" if other else outcome,
    )


def run(folder: Path, undisturbed: Path, pairs: bool) -> None:
    """The part `repeat`: pairs, or with pairs=False the environment that runs this; rows of other
    environments stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if pairs:
        made = [run_pair(folder, undisturbed, threads) for threads in (1, 2)]
    else:
        made = [run_here(folder, undisturbed, tools.read_lock(undisturbed))]
    earlier = tools.read_json(tools.TABLE).get("repeat", {}).get("rows", [])
    rows = {row["fault"]: Row(**row) for row in earlier}
    rows |= {row.fault: row for row in made}
    tools.record("repeat", list(rows.values()))
