"""`python -m pipeline.study NAME`: run the variants of studies/NAME.yaml and collect the answer.

Each variant is a DVC experiment; the answer goes to reports/studies/NAME.json. Experiments that
exist for this commit, code and parameters are reused; --force runs them again. A stopped study goes
on where it was: the queue keeps what is finished.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmri2clip.artefacts.paths import Paths, locate
from fmri2clip.core import params
from fmri2clip.core.files import replacing
from fmri2clip.core.stage import ends_in_one_line, resolve_device
from fmri2clip.core.strict import build
from fmri2clip.stages.check_params.machine import count_cores
from fmri2clip.studies import experiments, plan, primary, results
from fmri2clip.tracking import record, store
from pipeline.mend import mend

FILES = ("models/{run}", "data/curves/{run}.csv")  # of a run, beside its scores


def run_study(
    root: Path, name: str, force: bool = False, poll_s: float = experiments.POLL_S, jobs: int = 1
) -> Path:
    """Run what is missing of a study and write reports/studies/<name>.json; returns that path.

    jobs: experiments at a time. What is run is recorded in MLflow.
    """
    study = plan.load(root / "studies" / f"{name}.yaml")
    planned = plan.plan(study, root / "params.yaml")
    print(f"{study.question}\n{len(planned)} experiments; {study.budget}", flush=True)
    experiments.check_tracked(root)
    digest = experiments.code_digest(root)
    experiment = params.load(root / "params.yaml").tracking.experiment
    store.never_raises(store.init_store)(root, experiment)
    run_missing(root, planned, force, poll_s, jobs)
    found = {
        (e.variant, e.seed): collect(root, study, e, content) for e, content in planned.items()
    }
    answer = results.summarise(study, found, digest)
    folder = root / "reports" / "studies"
    out = folder / f"{name}.json"
    write(out, answer)
    outcomes = params.load(root / "params.yaml").primary
    if name in (outcome.study for outcome in outcomes.outcomes.values()):
        write(root / primary.FILE, primary.judge_outcomes(outcomes, folder))
    return out


def write(path: Path, content: Mapping[str, Any]) -> None:
    """As JSON; nothing half-written stays behind."""
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def run_missing(
    root: Path,
    planned: Mapping[plan.Experiment, Mapping[str, Any]],
    force: bool,
    poll_s: float,
    jobs: int,
) -> None:
    """Queue and run the experiments without a current result.

    Raises ValueError with the log of the first that fails.
    """
    names = [e.name for e in planned]
    # What a study that was interrupted has left in the queue.
    experiments.run_queue(root, names, poll_s=poll_s, jobs=jobs)
    missing = []
    for e, content in planned.items():
        commit = experiments.find(root, e.name)
        if commit and not force and experiments.is_current(root, commit, content):
            print(f"{e.name}: reused", flush=True)
            continue
        experiments.forget(root, e.name)
        experiments.queue(root, e.name, e.overrides, e.targets)
        missing.append(e.name)
    experiments.run_queue(root, missing, lambda text: print(text, flush=True), poll_s, jobs)
    for failed in (name for name in missing if experiments.find(root, name) is None):
        raise ValueError(f"experiment {failed} failed:\n{experiments.failure(root, failed)}")


def collect(
    root: Path, study: plan.Study, e: plan.Experiment, content: Mapping[str, Any]
) -> results.Result:
    """Result of a finished experiment.

    Its models are recorded in MLflow where DVC restored them without executing.
    """
    commit = experiments.find(root, e.name)
    assert commit is not None, e.name
    with tempfile.TemporaryDirectory() as folder:
        paths = {path.format(run=run) for run in study.runs for path in FILES}
        paths |= {path for name in study.scores for path in locate(name, content)}
        paths |= {Paths().world.as_posix()} if study.measure_world else set()
        experiments.fetch(root, commit, sorted(paths), Path(folder))
        own = build(params.Params, content, "params.yaml")
        store.never_raises(record.sync)(own, Paths(Path(folder)), root, e.name)
        return results.read_result(study, Path(folder), content)


def count_jobs(settings: params.Params) -> int:
    """Experiments that run side by side: as many as the cores have room for, one on a GPU."""
    if resolve_device(settings.compute.device) != "cpu":
        return 1
    return max(1, count_cores() // settings.compute.threads)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.study", description=__doc__)
    parser.add_argument("name", help="a file of studies/, without .yaml")
    parser.add_argument("--force", action="store_true", help="run again what exists")
    parser.add_argument("--jobs", type=int, help="experiments at a time; else cores / threads")
    arguments = parser.parse_args()
    with ends_in_one_line(f"study {arguments.name}"):
        for line in mend():
            print(line, flush=True)
        jobs = arguments.jobs or count_jobs(params.load(Path("params.yaml")))
        print(f"wrote {run_study(Path.cwd(), arguments.name, arguments.force, jobs=jobs)}")


if __name__ == "__main__":
    main()
