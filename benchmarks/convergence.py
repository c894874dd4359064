"""How many steps a decoder needs: trainings of 1, 2, 4 and 8 times its epochs.

    # needs data/ of `dvc repro`; adds to benchmarks/convergence.json, and goes on after a kill
    python benchmarks/convergence.py brainclip
    # of other settings, an entry of its own
    python benchmarks/convergence.py clip_mused --name clip_mused_single --set shared=false
    # where three seeds leave the interval too wide to tell: three more
    python benchmarks/convergence.py brainmclip --least 4 --seeds 0,1,2,3,4,5

A training of the development world, for each of two subjects and three seeds (a decoder of all
subjects at once: three seeds), without early stopping by patience; the learning rate falls over the
last fifth of each. The budget is the smallest multiple whose doubling gains less than 1 point of
the validation score (upper end of the paired 90 % interval, Student's t) and less than 1 % of the
least validation loss. Where more seeds are looked at, after three have not told, the level is
divided by the number of looks (Bonferroni): 95 % with four to six. Score: best mean of three
successive epochs, as in training. None of the four is enough where 8 times is not shown to be by
16; that stands in the file as null. The budget is taken to be that of the decoder's ablations in
STANDS_FOR too, which were not tried.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import read_cache  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.decoders import load_decoder  # noqa: E402
from fmri2clip.stages.train import run as training  # noqa: E402
from fmri2clip.stages.train.inputs import Inputs  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "convergence.json"
# Epochs that are 1: those of the settings when the study was begun
BASE = {"brainclip": 40, "brainmclip": 20, "clip_mused": 20, "aligned": 20}
# run -> other settings that its entry answers for
STANDS_FOR: dict[str, list[dict[str, Any]]] = {
    "brainclip": [{"alpha": 1.0}],
    "brainmclip": [{"detail_target": "semantic"}],
}
MULTIPLES = (1, 2, 4, 8)
SEEDS = (0, 1, 2)
WINDOW = 3  # epochs, as in stages/train/trainer.py
POINT, SHARE = 0.01, 0.01
ONE_SIDED = 0.05  # above the upper end of a 90 % interval


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", choices=sorted(BASE), help="a run of params.yaml")
    parser.add_argument("--subjects", default="subj01,subj07", help="separated by commas")
    parser.add_argument("--most", type=int, default=max(MULTIPLES), help="largest multiple to try")
    parser.add_argument("--least", type=int, default=1, help="smallest multiple to try")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="separated by commas")
    parser.add_argument("--name", help="of the entry; else the run's")
    parser.add_argument("--set", action="append", default=[], help="key=value of its settings")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    params = parameters.load(ROOT / "params.yaml")
    name, subjects = arguments.run, arguments.subjects.split(",")
    yaml = YAML(typ="safe")
    overrides = {k: yaml.load(v) for k, v in (given.split("=", 1) for given in arguments.set)}
    run = params.runs[name]
    run = dataclasses.replace(run, overrides={**run.overrides, **overrides})
    params = dataclasses.replace(params, runs={**params.runs, name: run})
    module = load_decoder(params.runs[name].decoder)
    config = parameters.decoder_config(params, name, module.Config)
    # A decoder of all subjects at once has one training a seed.
    alone = module.Decoder.trains_alone(config)
    members = [[s] for s in subjects] if alone else [list(params.runs[name].subjects)]
    compute = dataclasses.replace(params.compute, threads=arguments.threads)
    params = dataclasses.replace(params, compute=compute)
    torch.set_num_threads(arguments.threads)
    table = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    entry = table.setdefault(arguments.name or name, {})
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    for key in ("max_epochs", "patience"):  # these are what is tried
        del settings[key]
    prompts = read_cache(Paths(ROOT).clip_shared(run.clip), ["prompt_embedding_PCD"])
    width_D = prompts["prompt_embedding_PCD"].shape[-1]
    tried = {"decoder": run.decoder, "width_D": width_D, "config": settings}
    if {key: entry.get(key) for key in tried} != tried:
        entry.clear()
        entry |= {"epochs": BASE[name], **tried, "trials": []}
    entry["stands_for"] = STANDS_FOR.get(arguments.name or name, [])
    done = {(t["multiple"], t["seed"], tuple(t["subjects"])) for t in entry["trials"]}
    for multiple in (m for m in MULTIPLES if arguments.least <= m <= arguments.most):
        for seed in map(int, arguments.seeds.split(",")):
            for group in members:
                if (multiple, seed, tuple(group)) in done:
                    continue
                found = try_budget(params, name, module, config, group, seed, multiple)
                print(json.dumps(found), flush=True)
                entry["trials"].append(found)
                entry |= {"needed": choose(entry["trials"]), "gains": gains(entry["trials"])}
                write_json(OUTPUT, table)


def try_budget(
    params: parameters.Params,
    name: str,
    module: Any,
    config: Any,
    subjects: list[str],
    seed: int,
    multiple: int,
) -> dict[str, Any]:
    """One training; its best score, least loss, steps and seconds."""
    n_epochs = multiple * BASE[name]
    longer = dataclasses.replace(config, max_epochs=n_epochs, patience=n_epochs)
    split = parameters.run_split(params, name)
    inputs = Inputs(params.runs[name], Paths(ROOT), split, module.Decoder, longer)
    data = [subject.data for subject in inputs.load(subjects)]
    decoder = module.Decoder.from_data(longer, data, seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = training.fit_decoder(decoder, data, seed, params.compute, Path(folder))
    scores = [row["val_mean"] for row in rows]
    n_images = sorted(int((~d.is_validation_I).sum()) for d in data)
    return {
        "multiple": multiple,
        "seed": seed,
        "subjects": subjects,
        "epochs": len(rows),
        "images": sum(n_images),
        "images_by_subject": n_images,
        "score": round(max(smooth(scores)), 5),
        "loss": round(min(row["val_loss"] for row in rows), 5),
        "seconds": round(time.monotonic() - started, 1),
    }


def smooth(scores: list[float]) -> list[float]:
    """Mean over WINDOW successive epochs, fewer at the start."""
    return [float(np.mean(scores[max(0, i - WINDOW + 1) : i + 1])) for i in range(len(scores))]


def gains(trials: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By multiple, what doubling it gains: points of the score with the upper end of the interval,
    and the share of the loss.
    """
    table: dict[str, dict[str, float]] = {}
    for multiple in MULTIPLES[:-1]:
        first, second = (
            {(t["seed"], *t["subjects"]): t for t in trials if t["multiple"] == m}
            for m in (multiple, 2 * multiple)
        )
        pairs = [(first[key], second[key]) for key in first if key in second]
        if len(pairs) < len(SEEDS) or len(pairs) < len(first):
            continue
        gained = np.array([b["score"] - a["score"] for a, b in pairs])
        n_looks = math.ceil(len({key[0] for key in first}) / len(SEEDS))
        quantile = scipy.stats.t.ppf(1 - ONE_SIDED / n_looks, len(gained) - 1)
        margin = scipy.stats.sem(gained) * quantile
        loss = 1 - np.mean([b["loss"] for _, b in pairs]) / np.mean([a["loss"] for a, _ in pairs])
        table[str(multiple)] = {
            "score": round(float(gained.mean()), 5),
            "score_upper": round(float(gained.mean() + margin), 5),
            "loss_share": round(float(loss), 5),
        }
    return table


def choose(trials: list[dict[str, Any]]) -> int | None:
    """The smallest multiple whose doubling gains next to nothing; None if none is shown to be."""
    for multiple, gain in gains(trials).items():
        if gain["score_upper"] < POINT and gain["loss_share"] < SHARE:
            return int(multiple)
    return None


if __name__ == "__main__":
    main()
