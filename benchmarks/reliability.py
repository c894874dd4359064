"""Are the probabilities of categories calibrated: of what is called 30 % likely, is 30 % there?

    # needs data/ and models/ of `dvc repro`; seconds; writes reliability.json
    python benchmarks/reliability.py

Of runs that give probabilities, as the decoder gives them and as `fmri2clip decode` prints them
(`scaled`: slope and offset of their log odds by validation images, solvers/platt.py), over all
categories that occur in training, test pictures and subjects: log-loss and Brier score beside those
of the base rates of training pictures, and in each bin of the probability the mean of what was said
and the share that was there. Intervals: 95 %, bootstrap over test pictures, the same for all
subjects and categories.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import read_cache  # noqa: E402
from fmri2clip.artefacts.model import load_model, required  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.scores import read_predictions  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.rows import find_rows  # noqa: E402
from fmri2clip.solvers.platt import scale_logits  # noqa: E402

Array = NDArray[Any]

OUTPUT = ROOT / "benchmarks" / "reliability.json"
RUNS = ("encoding", "aligned", "clip_mused", "label_ridge")
EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
LEAST = 1e-6  # probability, as in decoders/encoding
N_RESAMPLES = 1000


def main() -> None:
    params = parameters.load(ROOT / "params.yaml")
    table: dict[str, Any] = {"runs": {}}
    for run in RUNS:
        logits, there, base, scaled = [], [], [], []
        for subject in params.runs[run].subjects:
            logit_IC, label_IC, base_C = read_subject(params, run, subject)
            logits.append(logit_IC)
            there.append(label_IC)
            base.append(np.broadcast_to(base_C, logit_IC.shape))
            model = load_model(Paths(ROOT).model(run), subject)
            slope, offset = required(model, "label_scaling_R2")[-1]  # of means of all trials
            scaled.append(scale_logits(logit_IC, slope, offset))
        # (S, I, C): test pictures are the same for all subjects.
        logit_SIC, there_SIC, base_SIC = (np.stack(part) for part in (logits, there, base))
        table["runs"][run] = describe(scale_logits(logit_SIC, 1.0, 0.0), there_SIC, base_SIC)
        table["runs"][run]["scaled"] = describe(np.stack(scaled), there_SIC, base_SIC)
        table |= {"n_images": logit_SIC.shape[1], "n_categories": logit_SIC.shape[2]}
    print(json.dumps(table, indent=1))
    write_json(OUTPUT, table)


def read_subject(params: parameters.Params, run: str, subject: str) -> tuple[Array, Array, Array]:
    """Log odds and labels of the test pictures (I, C), base rates of training pictures (C)."""
    paths = Paths(ROOT)
    clip = params.runs[run].clip
    found = read_predictions(paths.predictions(run), ["class_score_IC", "nsd_id_I"], subject)
    shared = read_cache(paths.clip_shared(clip), ["nsd_id_I", "labels_IC"])
    train = read_cache(paths.clip_train(clip, subject), ["labels_IC", "present_C"])
    present_C = train["present_C"]
    row_I = find_rows(shared["nsd_id_I"], found["nsd_id_I"], "the CLIP cache")
    logit_IC = found["class_score_IC"][:, present_C].astype(float)
    label_IC = shared["labels_IC"][row_I][:, present_C].astype(float)
    # Half a count more on either side, as in decoders/encoding.
    known_IC = train["labels_IC"][:, present_C]
    base_C = (known_IC.sum(axis=0) + 0.5) / (len(known_IC) + 1)
    return logit_IC, label_IC, base_C


def log_loss(p: Array, label: Array) -> Array:
    """Nats of each."""
    p = p.clip(LEAST, 1 - LEAST)
    loss: Array = -(label * np.log(p) + (1 - label) * np.log1p(-p))
    return loss


def brier(p: Array, label: Array) -> Array:
    """Squared error of each."""
    error: Array = (p - label) ** 2
    return error


def describe(told_SIC: Array, there_SIC: Array, base_SIC: Array) -> dict[str, Any]:
    """Scores with those of the base rates and the gain over them, and the bins."""
    rng = np.random.default_rng(0)
    n_images = told_SIC.shape[1]
    rows = rng.integers(n_images, size=(N_RESAMPLES, n_images))
    table: dict[str, Any] = {}
    rules: dict[str, Callable[[Array, Array], Array]] = {"log_loss": log_loss, "brier": brier}
    for name, rule in rules.items():
        own_I = rule(told_SIC, there_SIC).mean(axis=(0, 2))
        base_I = rule(base_SIC, there_SIC).mean(axis=(0, 2))
        table[name] = summarise(own_I, rows)
        table[f"{name}_base"] = summarise(base_I, rows)
        table[f"{name}_gain"] = summarise(base_I - own_I, rows)
    bin_SIC = np.digitize(told_SIC, EDGES[1:-1])
    table["bins"] = []
    for k, (low, high) in enumerate(itertools.pairwise(EDGES)):
        member_SIC = bin_SIC == k
        n_I = member_SIC.sum(axis=(0, 2))
        hit_I = (member_SIC * there_SIC).sum(axis=(0, 2))
        if not n_I.sum():
            continue
        n_R = n_I[rows].sum(axis=1)
        drawn_R = hit_I[rows].sum(axis=1)[n_R > 0] / n_R[n_R > 0]
        ends = np.quantile(drawn_R, [0.025, 0.975])
        table["bins"].append(
            {
                "from": low,
                "to": high,
                "n": int(n_I.sum()),
                "told": round(float(told_SIC[member_SIC].mean()), 4),
                "there": {
                    "value": round(float(hit_I.sum() / n_I.sum()), 4),
                    "low": round(float(ends[0]), 4),
                    "high": round(float(ends[1]), 4),
                },
            }
        )
    # Mean distance of what was said and what was there, weighted by the pairs of a bin.
    n = sum(part["n"] for part in table["bins"])
    off = sum(part["n"] * abs(part["told"] - part["there"]["value"]) for part in table["bins"])
    table["calibration_error"] = round(off / n, 5)
    return table


def summarise(value_I: Array, rows: Array) -> dict[str, float]:
    """Mean over pictures with its interval."""
    low, high = np.quantile(value_I[rows].mean(axis=1), [0.025, 0.975])
    named = {"value": value_I.mean(), "low": low, "high": high}
    return {key: round(float(x), 5) for key, x in named.items()}


if __name__ == "__main__":
    main()
