"""What a computer may be like: line endings, no git clone, no fcntl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def test_code_has_the_same_bytes_whatever_git_is_set_to(root: Path, tmp_path: Path) -> None:
    """With core.autocrlf, files with CRLF would count as modified dependencies of every stage."""
    source = tmp_path / "source"
    source.mkdir()
    names = (".gitattributes", "Makefile", "params.yaml", "dvc.yaml", "pipeline/train.py")
    for name in names:
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, source / name)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    command = ["git", "clone", "-q", "-c", "core.autocrlf=true", str(source), str(tmp_path / "own")]
    subprocess.run(command, check=True)
    for name in names:
        assert (tmp_path / "own" / name).read_bytes() == (root / name).read_bytes()


def test_an_archive_without_git_says_so_before_the_install(root: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    done = subprocess.run(
        ["make", "repro"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode and "this folder is no git clone" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_nothing_needs_fcntl(root: Path) -> None:
    """Windows has none: tracking and training are imported without it (DVC has its own way)."""
    code = (
        "import sys; sys.modules['fcntl'] = None; "
        "import fmri2clip.tracking.record, fmri2clip.core.files, pipeline.train"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, env=environment)
