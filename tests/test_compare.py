"""`make compare`: what another machine may change, and what it may not."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.compare import compare

LOCK = """schema: '2.0'
stages:
  train@ridge:
    cmd: python -m pipeline.train ridge
    deps:
    - path: data/selected/ridge.json
      md5: aaaa
      size: 10
    - path: pipeline/train.py
      md5: bbbb
      size: 20
    params:
      params.yaml:
        compute.threads: 1
    outs:
    - path: models/ridge
      md5: cccc.dir
      nfiles: 6
"""
FILES = {
    "dvc.lock": LOCK,
    "reports/runs/ridge/metrics.json": json.dumps({"top1": 0.5, "n": 500, "null": None}),
    "reports/runs/ridge/curve.csv": "epoch,loss,val_mean\n0,1.234567,0.25\n1,0.987654,0.5\n",
    "reports/summary.md": "| ridge | 56.0 [52.7, 59.4] | 500 images |\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "reports/a.png").write_bytes(draw(0))
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def draw(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def edit(name: str, before: str, now: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        text = (root / name).read_text()
        assert before in text
        (root / name).write_text(text.replace(before, now))

    return apply


def test_the_same_bytes(project: Path) -> None:
    assert compare(project) == ("dvc.lock and reports/ are those of HEAD, byte for byte", True)


@pytest.mark.parametrize(
    ("change", "within", "said"),
    [
        (edit("dvc.lock", "cccc.dir", "dddd.dir"), True, "in digests of data alone"),
        (edit("dvc.lock", "md5: aaaa", "md5: dddd"), True, "in digests of data alone"),
        (edit("dvc.lock", "md5: bbbb", "md5: dddd"), False, "pipeline/train.py (bbbb is dddd"),
        (edit("dvc.lock", "threads: 1", "threads: 2"), False, "train@ridge.params"),
        (edit("dvc.lock", "nfiles: 6", "nfiles: 7"), False, "models/ridge (6 is 7 now)"),
        (edit("reports/runs/ridge/metrics.json", "0.5,", "0.502,"), True, "40% of it"),
        (edit("reports/runs/ridge/metrics.json", "0.5,", "0.51,"), False, "top1 (0.5 is 0.51"),
        (edit("reports/runs/ridge/metrics.json", "500", "499"), False, "n (500 is 499 now)"),
        (edit("reports/runs/ridge/metrics.json", "null}", "1.0}"), False, "null (None is 1.0"),
        (edit("reports/runs/ridge/metrics.json", '"n"', '"m"'), False, "1 values are beyond"),
        (edit("reports/runs/ridge/curve.csv", "1.234567", "1.234568"), True, "row 1"),
        (edit("reports/runs/ridge/curve.csv", "1.234567", "1.2349"), False, "row 1"),
        (edit("reports/runs/ridge/curve.csv", "0.25", "0.254"), True, "val_mean of row 1"),
        (edit("reports/runs/ridge/curve.csv", "1,0.987654,0.5\n", ""), False, "rows or columns"),
        (edit("reports/runs/ridge/curve.csv", "1.234567", "nan"), False, "1 values are beyond"),
        (edit("reports/runs/ridge/curve.csv", "1.234567", "-"), False, "loss of row 1"),
        (edit("reports/summary.md", "56.0", "56.2"), True, "40% of it"),
        (edit("reports/summary.md", "56.0", "57.0"), False, "number (56.0 is 57.0"),
        (edit("reports/summary.md", "500", "501"), False, "number (500.0 is 501.0"),
        (edit("reports/summary.md", "ridge", "riddle"), False, "text"),
        (lambda root: (root / "reports/a.png").write_bytes(draw(1)), True, "100% of it"),
        (lambda root: (root / "reports/a.png").write_bytes(draw(2)), False, "grey"),
        (lambda root: (root / "reports/summary.md").unlink(), False, "gone"),
    ],
)
def test_what_another_machine_may_change(
    project: Path, change: Callable[[Path], None], within: bool, said: str
) -> None:
    change(project)
    line, is_within = compare(project)
    assert is_within is within and said in line and "\n" not in line
