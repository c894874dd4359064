"""A few hostile files for each reader; thousands in `make campaign`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fmri2clip.core import params
from tests import hostile


@pytest.fixture(scope="module")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    hostile.write_files(folder, root)
    return folder


@pytest.mark.parametrize("name", hostile.TARGETS)
def test_the_sound_files_are_taken(files: Path, name: str) -> None:
    target = hostile.TARGETS[name]
    assert hostile.try_target(files, target, (files / target.file).read_bytes())


@pytest.mark.parametrize("name", hostile.TARGETS)
def test_damage_is_refused_in_words(files: Path, name: str) -> None:
    target = hostile.TARGETS[name]
    sound = (files / target.file).read_bytes()

    @settings(
        max_examples=8,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # what fails is small enough to read
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: Any) -> None:
        hostile.try_target(files, target, hostile.damage(data.draw, sound, target.kind))

    check()


BOMB = b"cos\nsystem\n(S'touch " + hostile.BAIT.encode() + b"'\ntR."


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.safetensors"])
def test_no_weights_file_runs_code(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of a CLIP model, which may come from anywhere; models of ours have no such files at all."""
    from fmri2clip.clip import encoder

    clip = params.load(root / "params.yaml").clips["mini"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(BOMB)
    config = str(root / clip.config)
    with pytest.raises(Exception, match=r"(?i)header|weights|pickle|load|unsupported"):
        encoder.load(dataclasses.replace(clip, config=config, pretrained=str(tmp_path / name)))
    assert not (tmp_path / hostile.BAIT).exists()
