"""Ridge regression to several targets: ours, with one decomposition, against himalaya, with one a
fold and target.

    python benchmarks/ridge.py          # writes benchmarks/ridge.json
    python benchmarks/ridge.py --tiny   # seconds, to see that it works; writes nothing

Random data of the simulated NSD's size: 2,250 images, 1,744 voxels; image and text embedding, and
65 x 128 tokens. Both choose among 12 penalties by 5 folds and take turns; the ratio is that of the
medians. `largest_weight_difference` is relative to the largest weight.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import primal_weights_kernel_ridge, solve_kernel_ridge_cv_eigenvalues
from sklearn.model_selection import KFold
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.core.params import load  # noqa: E402
from fmri2clip.core.strict import build  # noqa: E402
from fmri2clip.decoders.ridge.decoder import Config  # noqa: E402
from fmri2clip.solvers import kernel_ridge  # noqa: E402

CONFIG = build(Config, load(ROOT / "params.yaml").decoders["ridge"], "params.yaml")
SEED = 0
N_TIMED = 3
SETS = {
    "embeddings": {"image": 128, "text": 128},
    "with tokens": {"image": 128, "text": 128, "token": 65 * 128},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    set_backend("torch")
    n_images, n_voxels, share = (90, 70, 0.01) if arguments.tiny else (2250, 1744, 1.0)
    result: dict[str, Any] = {"threads": arguments.threads, "images": n_images, "voxels": n_voxels}
    for name, widths in SETS.items():
        x_IV, targets = draw(
            n_images, n_voxels, {key: max(1, int(share * width)) for key, width in widths.items()}
        )
        result[name] = compare(x_IV, targets)
        print(json.dumps({name: result[name]}), flush=True)
    if not arguments.tiny:
        (ROOT / "benchmarks" / "ridge.json").write_text(json.dumps(result, indent=1) + "\n")


def draw(n_images: int, n_voxels: int, widths: dict[str, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Centred patterns (I, V) and targets (I, D) that they explain in part."""
    torch.manual_seed(SEED)
    x_IV = torch.randn(n_images, n_voxels)
    x_IV -= x_IV.mean(0)
    signal = {
        name: x_IV @ torch.randn(n_voxels, width) / n_voxels**0.5 for name, width in widths.items()
    }
    targets = {name: signal_ID + torch.randn_like(signal_ID) for name, signal_ID in signal.items()}
    return x_IV, {name: y_ID - y_ID.mean(0) for name, y_ID in targets.items()}


def compare(x_IV: Tensor, targets: dict[str, Tensor]) -> dict[str, float]:
    """Seconds of both, their ratio, and how much weights and penalties differ."""
    ours, theirs = [], []
    for _ in range(N_TIMED):
        seconds, found = timed(lambda: kernel_ridge.solve_all(x_IV, targets, CONFIG, SEED))
        ours.append(seconds)
        seconds, expected = timed(
            lambda: {name: by_himalaya(x_IV, y_ID) for name, y_ID in targets.items()}
        )
        theirs.append(seconds)
    pairs = [(found[name].weight_VD, expected[name][0]) for name in targets]
    return {
        "ours_s": round(statistics.median(ours), 3),
        "himalaya_s": round(statistics.median(theirs), 3),
        "himalaya_over_ours": round(statistics.median(theirs) / statistics.median(ours), 2),
        "largest_weight_difference": max(
            float((a - b).abs().max() / b.abs().max()) for a, b in pairs
        ),
        "same_penalties": all(
            abs(found[name].alpha / expected[name][1] - 1) < 1e-5 for name in targets
        ),
    }


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def by_himalaya(x_IV: Tensor, y_ID: Tensor) -> tuple[Tensor, float]:
    """Weights (V, D) and penalty of one target."""
    best, dual_ID, _ = solve_kernel_ridge_cv_eigenvalues(
        x_IV @ x_IV.T,
        y_ID,
        alphas=torch.logspace(CONFIG.log10_alpha_min, CONFIG.log10_alpha_max, CONFIG.n_alphas),
        cv=KFold(CONFIG.n_folds, shuffle=True, random_state=SEED),
        local_alpha=False,
        n_alphas_batch=1,
    )
    return primal_weights_kernel_ridge(dual_ID, x_IV), float(best[0])


if __name__ == "__main__":
    main()
