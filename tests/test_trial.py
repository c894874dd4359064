"""Presets as overrides of an experiment, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from pipeline.preset import patch
from pipeline.restore import MESSAGE
from pipeline.trial import quote, read_overrides

FOLDER = Path(__file__).parents[1] / "presets"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "folder")


@pytest.mark.parametrize("name", PRESETS)
def test_overrides_give_what_the_preset_gives(name: str, root: Path, tmp_path: Path) -> None:
    """But for the templates, which entries have inherited."""
    source = root / "presets" / f"{name}.yaml"
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    yaml = YAML(typ="safe")
    expected = yaml.load(patch(path, source))
    apply_overrides(path, read_overrides(source, path))
    found = yaml.load(path.read_text())
    # As text: to Python 0 equals False.
    found, expected = (
        json.dumps(x | {"templates": None}, sort_keys=True) for x in (found, expected)
    )
    assert found == expected


def test_an_empty_table_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="leaves reconstructions empty, which an override cannot"):
        read_overrides(FOLDER / "folder.yaml", root / "params.yaml")


def test_any_text_is_quoted(tmp_path: Path) -> None:
    value = {
        "a": ["it's, {x}: [y]", "back\\slash", "end\\", "\\'", "", "1e-4", "true"],
        "b": {"c": None, "d": True},
    }
    path = tmp_path / "params.yaml"
    path.write_text("note: 1\n")
    apply_overrides(path, [f"+new={quote(value)}"])
    assert json.dumps(YAML(typ="safe").load(path.read_text())["new"]) == json.dumps(value)


def test_restore_brings_back_what_is_committed_and_loses_nothing(
    root: Path, tmp_path: Path
) -> None:
    def call(*command: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(root)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: cp params.yaml data.txt\n    deps: [params.yaml]\n"
        "    outs:\n    - data.txt: {persist: true}\n"
    )
    (tmp_path / "params.yaml").write_text("a: 1\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "summary.md").write_text("1\n")
    (tmp_path / ".gitignore").write_text("/data.txt\n")
    for command in ("git init -q", "dvc init -q", "dvc repro -q", "git add -A"):
        call(*command.split())
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    call("git", *identity, "commit", "-qm", "results")
    call("git", "config", "user.name", "x")
    call("git", "config", "user.email", "x@y")
    (tmp_path / "params.yaml").write_text("a: 2\n")
    call("dvc", "repro", "-q")
    (tmp_path / "reports" / "new.md").write_text("mine\n")
    assert (tmp_path / "data.txt").read_text() == "a: 2\n"
    call(sys.executable, "-m", "pipeline.restore")
    assert (tmp_path / "params.yaml").read_text() == "a: 1\n"
    assert (tmp_path / "data.txt").read_text() == "a: 1\n"
    assert call("git", "status", "--porcelain") == "" and "up to date" in call("dvc", "status")
    assert MESSAGE in call("git", "stash", "list")
    call("git", "stash", "pop")
    assert (tmp_path / "reports" / "new.md").read_text() == "mine\n"
    assert (tmp_path / "params.yaml").read_text() == "a: 2\n"
