from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip import generation, generators, store
from fmri2clip.generators import Conditioning
from tests.generators import tiny_pipelines as tiny

CLIP = "ViT-tiny"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = str(tiny.save_tokens(tmp_path_factory.mktemp("tokens")))
    config = generators.load_family("tokens").Config(path=path, clip_model=CLIP, n_tokens=5, steps=2, batch_size=3)
    return generators.load("tokens", config)


@pytest.fixture
def conditioning() -> Conditioning:
    rng = np.random.default_rng(0)
    return Conditioning(clip_model=CLIP, tokens_ITW=rng.normal(size=(5, 5, tiny.WIDTH)).astype(np.float32))


def write(path: Path, generator: Any, conditioning: Conditioning, **changes: Any) -> None:
    seeds_IN = generators.draw_seeds(0, range(len(conditioning)), 2)
    rows = {"nsd_id_I": np.arange(len(conditioning)), "subject_I": ["subj01"] * len(conditioning)}
    settings: dict[str, Any] = {"partial": path.parent / "partial", "attrs": {"generator": "tokens"}, "block_images": 2}
    generation.write_pictures(path, generator, conditioning, seeds_IN, rows, **settings | changes)


def dying(generator: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the generator die in its call number `after`; returns the sizes of the calls that were made."""
    calls: list[int] = []
    original: Callable[..., Any] = generator.generate

    def generate(given: Conditioning, seeds: Any) -> Any:
        calls.append(len(seeds))
        if len(calls) == after:
            raise Killed
        return original(given, seeds)

    monkeypatch.setattr(generator, "generate", generate)
    return calls


def test_candidates_are_those_of_their_seeds(generator: Any, conditioning: Conditioning, tmp_path: Path) -> None:
    write(tmp_path / "file.h5", generator, conditioning)
    found = store.read(tmp_path / "file.h5", "reconstructions")
    assert found["image_INHWC"].shape == (5, 2, 16, 16, 3) and found.attrs["clip_model"] == CLIP
    for candidate in range(2):
        direct = generator.generate(conditioning, found["seed_IN"][:, candidate])
        assert np.abs(direct.astype(int) - found["image_INHWC"][:, candidate].astype(int)).max() <= 1
    assert not (tmp_path / "partial").exists()


def test_a_killed_run_goes_on_to_the_same_bytes(
    generator: Any, conditioning: Conditioning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    write(whole, generator, conditioning)
    with monkeypatch.context() as patch:
        dying(generator, patch, after=3)
        with pytest.raises(Killed):
            write(resumed, generator, conditioning)
    assert not resumed.exists() and (tmp_path / "partial").is_dir()
    with monkeypatch.context() as patch:
        calls = dying(generator, patch, after=0)
        write(resumed, generator, conditioning)
    assert calls == [2]  # the last image with its two candidates; four images were kept
    assert resumed.read_bytes() == whole.read_bytes()


def test_blocks_of_other_features_are_thrown_away(
    generator: Any, conditioning: Conditioning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.h5"
    with monkeypatch.context() as patch:
        dying(generator, patch, after=3)
        with pytest.raises(Killed):
            write(path, generator, conditioning)
    other = Conditioning(clip_model=CLIP, tokens_ITW=conditioning.arrays()["tokens_ITW"][::-1])
    calls = dying(generator, monkeypatch, after=0)
    write(path, generator, other)
    assert calls == [4, 4, 2]


def test_nothing_is_painted_from_features_that_do_not_fit(
    generator: Any, conditioning: Conditioning, tmp_path: Path
) -> None:
    wrong = Conditioning(clip_model="ViT-L-14", **conditioning.arrays())
    with pytest.raises(ValueError, match="reads features of ViT-tiny"):
        write(tmp_path / "file.h5", generator, wrong)
    with pytest.raises(ValueError, match="seeds for 2 images, features of 5"):
        generation.write_pictures(
            tmp_path / "file.h5", generator, conditioning, generators.draw_seeds(0, [1, 2]), {}, tmp_path / "partial"
        )
    assert list(tmp_path.iterdir()) == []
