"""Models of the hub: what is asked of huggingface_hub, and what is refused. No network."""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors

import fmri2clip
from fmri2clip.use import hub
from tests.model_folder import N_VOXELS, write_ridge, write_shared

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for owner/demo at revision v1, and a download that copies from it."""
    source = tmp_path / "source"
    write_shared(source)
    write_ridge(source / "alone")
    for name in ("alone/pytorch_model.bin", "alone/config.pkl", "decoder.py"):
        (source / name).write_bytes(b"\x80\x04 a pickle, or code")

    def download(repo: str, *, revision: str, allow_patterns: list[str]) -> str:
        assert (repo, revision) == ("owner/demo", "v1")
        snapshot = tmp_path / "cache/snapshots" / COMMIT
        for path in source.rglob("*.*"):
            name = path.relative_to(source).as_posix()
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return source


def list_fetched(tmp_path: Path) -> set[str]:
    root = tmp_path / "cache/snapshots" / COMMIT
    return {path.relative_to(root).as_posix() for path in root.rglob("*.*")}


def test_a_model_of_the_hub_is_that_of_its_folder(
    repository: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = fmri2clip.load("hf://owner/demo@v1/alone")
    betas_IV = rng.standard_normal((3, N_VOXELS))
    expected = fmri2clip.load(repository / "alone").decode(betas_IV)
    assert np.array_equal(model.decode(betas_IV).embedding, expected.embedding)
    assert model.address == f"hf://owner/demo@{COMMIT}/alone"


def test_only_the_files_of_a_model_are_fetched(repository: Path, tmp_path: Path) -> None:
    hub.fetch("hf://owner/demo@v1/alone")
    fetched = list_fetched(tmp_path)
    assert "alone/weights.safetensors" in fetched
    assert {Path(name).suffix for name in fetched} == {".safetensors", ".yaml", ".json"}
    assert {name.split("/")[0] for name in fetched} == {"alone", "shared"}


def test_weights_for_all_subjects_come_along(repository: Path, tmp_path: Path) -> None:
    assert fmri2clip.load("hf://owner/demo@v1/subj02").subject == "subj02"
    assert {"subj02/inputs.safetensors", "shared/weights.safetensors"} <= list_fetched(tmp_path)


def test_what_is_no_model_is_refused(repository: Path) -> None:
    (repository / "alone/weights.safetensors").unlink()
    shutil.rmtree(repository / "shared")
    for address, message in (
        ("hf://owner/demo/alone", "names no revision, so that it could be other weights tomorrow"),
        ("hf://owner@v1", "is no address of the hub"),
        ("hf://datasets/owner/demo@v1/alone", "names no folder of a model repository"),
        ("hf://owner/demo@v1/../alone", "names no folder of a model repository"),
        (
            "hf://owner/demo@v1",
            "no subject's model (it has no inputs.safetensors); name the folder",
        ),
        ("hf://owner/demo@v1/alone", "weights of another kind, such as pickles, are never read"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            fmri2clip.load(address)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.GatedRepoError, r"ask on https://huggingface\.co/owner/demo, then `hf auth login`"),
        (errors.RepositoryNotFoundError, "does not exist, or is private"),
        (errors.RevisionNotFoundError, "has no revision 'v1'; https://huggingface.co/owner/demo/"),
        (errors.LocalEntryNotFoundError, "is not in the cache, and the hub cannot be reached"),
        (PermissionError, r"cannot be fetched \(no line\)"),
    ],
)
def test_what_the_hub_does_not_give_is_said(
    kind: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = SimpleNamespace(headers={}, request=None)
    arguments = {"response": response} if issubclass(kind, errors.HfHubHTTPError) else {}

    def fail(*_: Any, **__: Any) -> str:
        raise kind("no\nline", **arguments)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ValueError, match=message) as raised:
        fmri2clip.load("hf://owner/demo@v1/alone")
    assert "\n" not in str(raised.value)
