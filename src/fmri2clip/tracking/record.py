"""What stages and tools call to have runs on record.

    train       log_training    the run and its subjects, with the times at which they were trained
    evaluate    log_scores      test scores and artifacts of a run that is on record
    anybody     sync            the runs that DVC restored without executing, and what is missing

A failure of the first two warns and never changes a result.
"""

from __future__ import annotations

import os
from pathlib import Path

from fmri2clip.artefacts.model import list_models
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Params
from fmri2clip.tracking.content import DEFAULT, Trained
from fmri2clip.tracking.runs import Times, add_scores, find_or_create
from fmri2clip.tracking.store import named_failures, never_raises


@never_raises
def log_training(
    params: Params, run: str, times: Times, paths: Paths, root: Path | None = None
) -> str:
    """Record a run that has just been trained; returns the id of its MLflow run.

    times: when the training of each model began and ended; of one that an earlier process finished
    nothing is known.
    """
    trained = Trained(run=run, params=params, paths=paths)
    run_id, _ = find_or_create(trained, _find_variant(), times, root)
    return run_id


@never_raises
def log_scores(params: Params, run: str, paths: Paths, root: Path | None = None) -> str | None:
    """Add test scores to the run's MLflow run and return its id; None if it is not on record."""
    return add_scores(Trained(run=run, params=params, paths=paths), _find_variant(), False, root)


def sync(params: Params, paths: Paths, root: Path, variant: str = DEFAULT) -> list[str]:
    """Record the trained runs that the store lacks, and the scores and artifacts that it lacks.

    Returns ids of the new ones, which are tagged restored=true. variant: name of the DVC experiment
    that the files come from; its runs are kept apart from those of equal weights elsewhere. Raises
    ValueError for a store that cannot be used.
    """
    created = []
    with named_failures(root):
        for run in params.runs:
            if not list_models(paths.model(run)) or not paths.curve(run).is_file():
                continue
            trained = Trained(run=run, params=params, paths=paths)
            run_id, is_new = find_or_create(trained, variant, {}, root)
            add_scores(trained, variant, variant == DEFAULT, root)
            created += [run_id] if is_new else []
    return created


def _find_variant() -> str:
    """Name of the DVC experiment that this stage runs in."""
    return os.environ.get("DVC_EXP_NAME") or DEFAULT
