"""Hostile input by the thousand: files as tests/hostile.py damages them, and what readers say.

Each target has a process of its own, with a limit of memory and of seconds for an input: a reader
that crashes, swells or hangs is a finding like one that ends in another exception than it may.

    python benchmarks/campaign_inputs.py "model, config" 100 0 FOLDER    # one target, as JSON
"""

from __future__ import annotations

import collections
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
MEMORY = 8 * 2**30  # bytes of address space
SLOW_S = 30  # an input that takes longer hangs its reader
LIMIT_S = 3600.0


class Slow(Exception):
    """Of a reader that takes too long."""


def try_inputs(name: str, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Counts of inputs, of those taken and of findings by what they were, for one target."""
    import hypothesis
    from hypothesis import strategies as st

    from tests import hostile

    hostile.write_files(folder, ROOT)
    os.chdir(folder)  # where bait would appear
    target = hostile.TARGETS[name]
    sound = (folder / target.file).read_bytes()
    found: collections.Counter[str] = collections.Counter()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _give_up)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def check(data: Any) -> None:
        content = hostile.damage(data.draw, sound, target.kind)
        signal.alarm(SLOW_S)
        try:
            found["taken"] += hostile.try_target(folder, target, content)
        except hostile.Broken as error:
            found[" ".join(str(error).split())[:160]] += 1
        finally:
            signal.alarm(0)
            found["tried"] += 1

    check()
    return dict(found)


def _give_up(number: int, frame: object) -> None:
    raise Slow(f"more than {SLOW_S} s")


def run(n: int, seed: int) -> None:
    """The part `inputs`: n inputs in all."""
    import campaign_tools as tools

    from tests import hostile

    each = -(-n // len(hostile.TARGETS))
    rows = []
    for name in hostile.TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, name, str(each), str(seed), folder]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=LIMIT_S
            )
        if done.returncode:
            found = {"tried": 0, f"ended with {done.returncode}: {done.stderr[-300:]}": 1}
        else:
            found = json.loads(done.stdout.splitlines()[-1])
        tried = found.pop("tried")
        taken = found.pop("taken", 0)
        outcome = f"held: {tried - taken} refused in words, {taken} taken"
        if found:
            outcome = f"{sum(found.values())} not: {max(found, key=found.__getitem__)}"
        rule = "refused by ValueError or OSError, or taken; nothing runs, crashes, hangs or swells"
        rows.append(tools.Row(fault=f"damaged {name}", rule=rule, times=tried, outcome=outcome))
        print(rows[-1], flush=True)
    tools.record("inputs", rows, seed=seed)


if __name__ == "__main__":
    target, count, first, place = sys.argv[1:]
    print(json.dumps(try_inputs(target, int(count), int(first), Path(place))))
