"""Model folders of other versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fmri2clip.artefacts import model
from tests.model_folder import write_ridge


def test_a_model_of_another_version_says_so(tmp_path: Path) -> None:
    write_ridge(tmp_path / "subj01")
    path = tmp_path / "subj01" / model.CONFIG
    yaml = YAML(typ="safe")
    content = yaml.load(path.read_text())
    name = next(iter(content["config"]))
    del content["config"][name]
    yaml.dump(content, path)
    with pytest.raises(ValueError, match=f"config.{name} is missing; .* another version"):
        model.load(tmp_path / "subj01")
