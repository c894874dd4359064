"""Back to the committed results, in seconds: `make restore`.

params.yaml, dvc.lock and reports/ become those of the last commit; data/ and models/ come from
DVC's cache, where their outputs have been since they were made. Nothing is lost: what differed is a
stash of git's, and what DVC does not have in its cache it does not remove.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

RESULTS = ("params.yaml", "dvc.lock", "reports")
MESSAGE = "before make restore"


def restore() -> int:
    """Exit status: 0, or that of `dvc checkout`."""
    changed = _git("status", "--porcelain", "--", *RESULTS)
    if changed:
        _git("stash", "push", "--include-untracked", "--message", MESSAGE, "--", *RESULTS)
        print(f"put away, for `git stash pop && dvc checkout`:\n{changed}", flush=True)
    done = subprocess.run(["dvc", "checkout"], check=False)
    if done.returncode:
        print("what the cache lacks is made again by: make repro", file=sys.stderr)
    return done.returncode


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, encoding="utf-8", check=True
    ).stdout.rstrip()


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m pipeline.restore", description=__doc__).parse_args()
    sys.exit(restore())
