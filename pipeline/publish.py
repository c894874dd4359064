"""Prepare a folder of a run's models for the Hugging Face hub: `make publish NAME=run`."""

from __future__ import annotations

from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.use import publish as use


def publish(params: Params, run: str) -> None:
    """Write publish/<run> and say what to check before it is uploaded; nothing is uploaded."""
    for line in use.publish(run, Paths(), Path("publish") / run):
        print(line)


if __name__ == "__main__":
    stage.run(publish)
