"""Do the intervals over worlds hold what they say, and which of the two where?

    # simulation alone; about 2 minutes on one core; writes world_coverage.json
    OMP_NUM_THREADS=1 python benchmarks/world_coverage.py

Six worlds have true differences around a common one; of each the measured difference has an error
by its images. Counted is how often the intervals of metrics/worlds.py miss the common difference:
that of the resampling of worlds, then images, and that of the t test over worlds, at coverage
1 - .05 / K. Only the ratio of the two deviations matters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.metrics.worlds import ALPHA, resample_worlds, t_test  # noqa: E402

OUTPUT = ROOT / "benchmarks" / "world_coverage.json"
RATIOS = (0.0, 0.5, 1.0, 2.0, 4.0)  # deviation of worlds over that of a world's images
COMPARISONS = (1, 2, 4)  # K
N_WORLDS = 6
N_REPEATS = 2000
N_BOOTSTRAP = 1000


def main() -> None:
    rng = np.random.default_rng(0)
    rows = {f"{ratio:g}": count_misses(ratio, N_REPEATS, rng) for ratio in RATIOS}
    table = {"n_worlds": N_WORLDS, "n_repeats": N_REPEATS, "ratios": rows}
    print(json.dumps(table, indent=1))
    write_json(OUTPUT, table)


def count_misses(ratio: float, n_repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of intervals that miss the common difference, by kind and K."""
    missed: dict[str, int] = {f"{kind}_{k}": 0 for kind in ("resampled", "t") for k in COMPARISONS}
    for _ in range(n_repeats):
        point_W = ratio * rng.standard_normal(N_WORLDS) + rng.standard_normal(N_WORLDS)
        replicate_WR = point_W[:, None] + rng.standard_normal((N_WORLDS, N_BOOTSTRAP))
        mean_R = resample_worlds(replicate_WR, rng)
        for k in COMPARISONS:
            low, high = np.quantile(mean_R, [ALPHA / k / 2, 1 - ALPHA / k / 2])
            missed[f"resampled_{k}"] += not low <= 0 <= high
            low, high = t_test(point_W.tolist(), k)[1]
            missed[f"t_{k}"] += not low <= 0 <= high
    return {name: round(count / n_repeats, 4) for name, count in missed.items()}


if __name__ == "__main__":
    main()
