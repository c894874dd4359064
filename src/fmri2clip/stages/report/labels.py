"""Words that stand beside numbers: data set, split and seeds. No number of the report goes without
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fmri2clip.core.params import Params
from fmri2clip.stages.report.inputs import Inputs, RunResult


def is_simulated(params: Params) -> bool:
    """Whether the numbers come from the simulated NSD."""
    return params.dataset.source == "simulated"


def label_data(params: Params) -> str:
    """Data set and preparation; of a simulated world also its seed and controls."""
    if not is_simulated(params):
        return f"Data: NSD, {params.dataset.preparation}, sessions {params.dataset.sessions}"
    world = params.world
    return (
        f"Data: NSD-mini (simulated, not a brain), world seed {world.seed}, hierarchy "
        f"{world.hierarchy}, captions {world.captions}, noise {world.noise}, subjects "
        f"{world.subjects}"
    )


def label_seeds(params: Params, runs: Iterable[RunResult]) -> str:
    """Training seeds of the runs (once where all agree), seed of the split and of draws and
    bootstrap.
    """
    seeds = {result.name: result.run.seed for result in runs}
    different = len(set(seeds.values())) > 1
    training = (
        ", ".join(f"{name} {seed}" for name, seed in seeds.items())
        if different
        else str(next(iter(seeds.values())))
    )
    return (
        f"Training seed {training}; split seed {params.split.seed}; "
        f"evaluation seed {params.evaluation.seed}"
    )


def label_pictures(inputs: Inputs) -> str:
    """Data set and all seeds behind the pictures."""
    params = inputs.params
    sources = dict.fromkeys(
        r.entry.source for r in inputs.pictures.values() if r.entry.source in params.runs
    )
    training = _describe_all({name: params.runs[name].seed for name in sources})
    noise = _describe_all({name: result.entry.seed for name, result in inputs.pictures.items()})
    return (
        f"{label_data(params)}. Training seed {training or '-'}; split seed {params.split.seed}; "
        "seed of the"
        f" generator's noise {noise}; evaluation seed {params.evaluation.seed}."
    )


def _describe_all(values: Mapping[str, int]) -> str:
    """Once where all agree, else by name."""
    if len(set(values.values())) < 2:
        return "".join(str(value) for value in dict.fromkeys(values.values()))
    return ", ".join(f"{name} {value}" for name, value in values.items())
