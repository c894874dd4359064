"""An S3 service that stalls, lies about lengths, answers with errors and resets, on loopback.

Each try fetches a few files from the service of the tests while it does a drawn number of drawn
things wrong. Every file either arrives as it is at the source, or the fetch ends in a ValueError
and no file has a wrong content; then, with nothing wrong, all arrive.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from unittest import mock

import urllib3
from campaign_tools import Row, record

from fmri2clip.transfer import remotes, transfer
from tests.transfer.fetching import PART, fetch_from, sources
from tests.transfer.s3_service import Service, s3_service

TIMES = 40
SILENCE = urllib3.Timeout(connect=2, read=1)  # in place of a minute
KINDS = ("fail", "throttle", "reset", "truncate", "stall", "corrupt")


def spoil(service: Service, rng: random.Random) -> list[str]:
    """Arrange what goes wrong; what was arranged."""
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(1, 8))]
    for kind in kinds:
        after = rng.randrange(0, 2 * PART)
        match kind:
            case "fail":
                service.fail_next(rng.randint(1, 3), status=rng.choice((500, 502, 503)))
            case "throttle":
                service.fail_next(1, status=429, retry_after=rng.choice(("", "0", "soon")))
            case "reset":
                service.reset_next(rng.randint(1, 3), after=after)
            case "truncate":
                service.truncate_next(rng.randint(1, 3), after=after)
            case "stall":
                service.stall_next(1, after=after)
            case _:
                service.corrupt_next(1)
    return kinds


def lie(service: Service, rng: random.Random) -> str:
    """Let the body of a file be shorter or longer than the listing says."""
    key = rng.choice(sorted(service.contents))
    content = service.contents[key]
    assert isinstance(content, bytes)
    is_short = rng.random() < 0.5
    service.contents[key] = content[:-100] if is_short else content + bytes(100)
    return "shorter than listed" if is_short else "longer than listed"


def try_once(seed: str) -> tuple[str, bool]:
    """What went wrong that may not, '' for nothing; whether the fetch came to its end at once."""
    rng = random.Random(seed)
    with s3_service() as service, tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "to"
        for k in range(3):
            service.put(f"file{k}", rng.randbytes(rng.randint(1, 6 * PART)))
        expected = sources(service, to)
        kinds = spoil(service, rng)
        honest = dict(service.contents)
        if rng.random() < 0.3:
            kinds.append(lie(service, rng))
        try:
            fetch_from(service, to, retries=2)
            ended = True
        except ValueError:
            ended = False
        wrong = [p.name for p in expected if p.is_file() and sha(p) != expected[p]]
        if wrong:
            return f"{wrong[0]} has arrived with another content ({', '.join(kinds)})", ended
        service.faults.clear()
        service.contents.update(honest)
        fetch_from(service, to, retries=2)
        missing = [p.name for p in expected if not p.is_file() or sha(p) != expected[p]]
        return f"{missing[0]} never arrives" if missing else "", ended


def sha(path: Path) -> str:
    """Digest of a file."""
    return transfer.sha256_file(path)


def run(seed: int, times: int = TIMES) -> None:
    """The part `network`."""
    problems = []
    n_ended = 0
    with mock.patch.object(remotes, "TIMEOUT", SILENCE), mock.patch.object(transfer, "PAUSE", 0.01):
        for k in range(times):
            try:
                problem, ended = try_once(f"{seed}/{k}")
                n_ended += ended
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            problems.append(problem)
            print(f"fetch {k + 1}: {problem or 'held'}", flush=True)
    bad = [problem for problem in problems if problem]
    outcome = f"held: {n_ended} came through, {times - n_ended} ended in a line, then came through"
    rule = "no file with another content than at the source; once nothing is wrong, all arrive"
    fault = f"S3 service: {', '.join(KINDS)}, bodies of other lengths than listed"
    row = Row(fault=fault, rule=rule, times=times, outcome=f"not: {bad[0]}" if bad else outcome)
    record("network", [row], seed=seed)
