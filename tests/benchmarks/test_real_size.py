"""benchmarks/real_size.py at toy size: parts follow each other, and their rows are merged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROW = {"stage", "size", "peak_ram_gb", "mapped_gb", "seconds", "plan_gb", "ratio"}


def run(root: Path, folder: Path, parts: str) -> dict[str, dict]:
    out = folder / "real_size.json"
    command = [sys.executable, "benchmarks/real_size.py", "--toy", "--only", parts]
    command += ["--scratch", str(folder / "scratch"), "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found: dict[str, dict] = json.loads(out.read_text())
    return found


@pytest.mark.slow
def test_parts_one_after_the_other(root: Path, tmp_path: Path) -> None:
    first = run(root, tmp_path, "extract,inputs")
    assert list(first["rows"]) == ["extract_1", "extract_2", "write_clip"]
    assert first["growth"]["sessions"]["last_over_first"] < 1.5
    second = run(root, tmp_path, "brainclip")
    rows = second["rows"]
    assert list(rows) == [*first["rows"], "train_brainclip", "evaluate_brainclip"]
    assert all(set(row) >= ROW for row in rows.values())
    assert rows["train_brainclip"]["s_per_step"] > 0
    assert 0.1 < rows["train_brainclip"]["peak_ram_gb"] < 3


def test_an_unknown_part_is_named(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/real_size.py", "--only", "fly"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "part 'fly' does not exist" in done.stderr
