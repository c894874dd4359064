"""Values at the edge: one number of params.yaml is changed, and either refused or run.

Each case takes a number of params.yaml at smoke size and gives it a small or a doubled value. What
check_params refuses it must refuse in a line and within SECONDS of what it takes for sound
parameters; what it takes must run to the report.
"""

from __future__ import annotations

import random
import resource
import subprocess
from pathlib import Path
from typing import Any

import campaign_tools as tools
from campaign_faults import Bench, refused
from campaign_tools import Row
from ruamel.yaml import YAML

from tests.core.test_bounds import list_numbers

TIMES = 60
SECONDS = 3.0
LIMIT_S = 3600.0


def draw(content: dict[str, Any], rng: random.Random) -> tuple[tuple[Any, ...], Any]:
    """Place of a number and its new value."""
    path = rng.choice([path for path in list_numbers(content) if path[0] != "primary"])
    value: Any = content
    for key in path:
        value = value[key]
    if isinstance(value, float):
        return path, rng.choice((0.0, 1e-6, value / 2, 2 * value, 0.5, 1.0))
    return path, rng.choice((0, 1, 2, value // 2, 2 * value))


def check(clone: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """check_params as DVC runs it, and the seconds of CPU that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = tools.run(clone, "python", "-m", "pipeline.check_params")
    return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def try_case(bench: Bench, seed: str) -> str:
    """What came of one case: 'refused', 'ran', or what is wrong."""
    with bench.copied() as clone:
        params = clone / "params.yaml"
        yaml = YAML(typ="safe")
        content = yaml.load(params.read_text(encoding="utf-8"))
        path, value = draw(content, random.Random(seed))
        _, usual_s = check(clone)
        node = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        with params.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        name = f"{'.'.join(map(str, path))} = {value}"
        done, seconds = check(clone)
        if done.returncode:
            problem = refused(done) or ("" if seconds < usual_s + SECONDS else f"{seconds:.0f} s")
            return f"{name}: {problem}" if problem else "refused"
        try:
            done = tools.run(clone, *tools.ONE_BY_ONE, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"{name}: does not end within {LIMIT_S:.0f} s"
        return f"{name}: {done.stdout[-300:]}" if done.returncode else "ran"


def run(bench: Bench, times: int = TIMES) -> None:
    """The part `cases`; what was tried before is kept in cases.json."""
    path = bench.folder / "cases.json"
    tried = tools.read_json(path)
    for k in range(times):
        seed = f"{bench.seed}/{k}"
        if seed not in tried:
            tried[seed] = try_case(bench, seed)
            tools.write_json(path, tried)
            print(f"case {k + 1}: {tried[seed]}", flush=True)
    said = list(tried.values())
    n_refused, n_ran = said.count("refused"), said.count("ran")
    bad = [text for text in said if text not in ("refused", "ran")]
    outcome = f"held: {n_refused} refused, {n_ran} ran to the report"
    if bad:
        outcome = f"{len(bad)} not: {'; '.join(text[:160] for text in bad[:5])}"
    rule = f"refused by check_params in a line within {SECONDS:.0f} s, or runs to the report"
    row = Row(fault="a number at the edge", rule=rule, times=len(said), outcome=outcome)
    tools.record("cases", [row], seed=bench.seed)
