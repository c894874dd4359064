"""benchmarks/gpu_check.py at toy size: all parts run on the CPU and write down what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAINED = {
    "n_steps",
    "loss_first",
    "loss_last",
    "fp32_difference",
    "bf16_difference",
    "ms_per_step",
    "bare_ms_per_step",
    "of_bare_loop",
    "tflops",
    "peak_gb",
    "peak_gb_real_subjects",
}
KEYS = {
    "train_brainclip": TRAINED,
    "train_brainmclip": TRAINED,
    "train_clip_mused": TRAINED,
    "stream_features": {"difference", "time_ratio", "host_peak_gb", "gpu_peak_gb"},
    "two_subjects": {"peak_gb", "held_gb"},
    "closed_forms": {"n_images", "ridge_s", "ridge_difference", "label_ridge_difference"},
    "resume": {"brainclip", "brainmclip", "brainclip_checkpoint_gb"},
    "cache_clip": {"pictures_per_s", "bare_pictures_per_s", "of_bare_forward", "captions_per_s"},
    "two_gpus": set(),
    "generator": {"n_pictures", "s_per_picture", "side"},
}


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu_check.py", "--toy", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_part_runs_at_toy_size(root: Path, tmp_path: Path) -> None:
    done = run(root, "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    table = json.loads((tmp_path / "gpu_check.json").read_text())
    assert table["size"] == "toy" and table["machine"]["torch"]
    assert list(table["parts"]) == list(KEYS)
    for name, row in table["parts"].items():
        assert row["status"] == ("skipped" if name == "two_gpus" else "ok"), row
        assert {"seconds", "limit_s", "note"} | KEYS[name] <= set(row), name
    assert table["parts"]["resume"]["brainmclip"] is True
    assert "two GPUs are needed" in table["parts"]["two_gpus"]["note"]
    lines = (tmp_path / "gpu_check.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2 + len(KEYS)
    assert all(line in done.stdout for line in lines)


def test_a_part_that_finds_something_wrong_fails(root: Path, tmp_path: Path) -> None:
    """No difference is within a tolerance that is no number."""
    script = tmp_path / "strict.py"
    only = "train_brainclip,stream_features"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(root / 'benchmarks')!r})\n"
        "import gpu_check, gpu_parts\n"
        "gpu_parts.FP32 = gpu_parts.SAME = float('nan')\n"
        f"sys.argv = ['gpu_check.py', '--toy', '--only', {only!r}, '--out', {str(tmp_path)!r}]\n"
        "gpu_check.main()\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert list(parts) == only.split(",")
    assert all(row["status"] == "failed" and "differ" in row["note"] for row in parts.values())


def test_an_unknown_part_is_named(root: Path) -> None:
    done = run(root, "--only", "fly")
    assert done.returncode == 2 and "part 'fly' does not exist" in done.stderr
