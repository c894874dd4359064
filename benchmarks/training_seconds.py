"""What a training takes: seconds of one model, beside what it finds (studies/rivals.yaml).

    # needs data/ of `dvc repro`, and an idle machine; two minutes; writes training_seconds.json
    OMP_NUM_THREADS=1 python benchmarks/training_seconds.py

Of the runs of the study, with its settings, one subject, one thread: a closed form is fitted whole;
a network trains EPOCHS epochs and one, apart, and the difference stands for the rest of them.
Reading data is left out. Seconds are this machine's; only their ratios say something.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.library import find_parts  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.params import Params  # noqa: E402
from fmri2clip.core.strict import build  # noqa: E402
from fmri2clip.decoders import load_decoder  # noqa: E402
from fmri2clip.stages.train import run as training  # noqa: E402
from fmri2clip.stages.train.inputs import Inputs  # noqa: E402
from fmri2clip.studies import plan  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "training_seconds.json"
STUDY = "rivals"
SUBJECT = "subj01"
EPOCHS = 4


def main() -> None:
    torch.set_num_threads(1)
    study = plan.load(ROOT / "studies" / f"{STUDY}.yaml")
    content = next(iter(plan.plan(study, ROOT / "params.yaml").values()))
    params = build(Params, content, "params.yaml")
    table: dict[str, Any] = {"machine": f"one thread of a {platform.machine()} CPU", "runs": {}}
    names = [target.removeprefix("evaluate@") for target in study.targets]
    for name in names:
        table["runs"][name] = measure(params, name)
        print(name, json.dumps(table["runs"][name]), flush=True)
    write_json(OUTPUT, table)


def measure(params: Params, name: str) -> dict[str, float]:
    """Seconds of the whole training, and its epochs (0 for a closed form)."""
    paths = Paths(ROOT)
    run = dataclasses.replace(params.runs[name], subjects=(SUBJECT,))
    params = dataclasses.replace(params, runs={**params.runs, name: run})
    module = load_decoder(run.decoder)
    config = parameters.decoder_config(params, name, module.Config)
    split = parameters.run_split(params, name)
    libraries = {SUBJECT: find_parts(params, name, SUBJECT, paths)}
    inputs = Inputs(run, paths, split, module.Decoder, config, libraries)
    data = [subject.data for subject in inputs.load([SUBJECT])]

    def fit(n_epochs: int) -> float:
        chosen = config
        if n_epochs:
            chosen = dataclasses.replace(config, max_epochs=n_epochs, patience=n_epochs)
        decoder = module.Decoder.from_data(chosen, data, run.seed)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            training.fit_decoder(decoder, data, run.seed, params.compute, Path(folder))
        return time.perf_counter() - started

    if module.Decoder.closed_form:
        return {"seconds": round(fit(0), 1), "epochs": 0}
    fit(1)  # what is imported and allocated once
    once = fit(1)
    more = fit(EPOCHS)
    return {
        "seconds": round(extrapolate(once, more, config.max_epochs), 1),
        "epochs": config.max_epochs,
    }


def extrapolate(once: float, more: float, n_epochs: int) -> float:
    """Seconds of n_epochs, from those of one and of EPOCHS."""
    return once + (n_epochs - 1) * (more - once) / (EPOCHS - 1)


if __name__ == "__main__":
    main()
