from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmri2clip import generators
from fmri2clip.artefacts.reconstructions import (
    list_subjects,
    read_pictures,
    read_reconstructions,
    write_reconstructions,
)
from fmri2clip.generators import Conditioning
from fmri2clip.stages.reconstruct import generation
from tests.generators import tiny_pipelines as tiny

CLIP = "ViT-tiny"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = str(tiny.save_tokens(tmp_path_factory.mktemp("tokens")))
    config = generators.load_family("tokens").Config(
        path=path, clip_model=CLIP, n_tokens=5, steps=2, batch_size=3
    )
    return generators.load("tokens", config)


@pytest.fixture
def conditioning() -> Conditioning:
    rng = np.random.default_rng(0)
    return Conditioning(
        clip_model=CLIP, tokens_ITW=rng.normal(size=(5, 5, tiny.WIDTH)).astype(np.float32)
    )


def write(path: Path, generator: Any, conditioning: Conditioning, **changes: Any) -> None:
    seeds_IN = generators.draw_seeds(0, range(len(conditioning)), 2)
    rows = {"nsd_id_I": np.arange(len(conditioning)), "subject_I": ["subj01"] * len(conditioning)}
    settings: dict[str, Any] = {
        "partial": path.parent / "partial",
        "attrs": {"generator": "tokens"},
        "block_images": 2,
    }
    generation.write_pictures(path, generator, conditioning, seeds_IN, rows, **settings | changes)


def dying(generator: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the generator die in its call number `after`; returns the sizes of the calls that were
    made.
    """
    calls: list[int] = []
    original: Callable[..., Any] = generator.generate

    def generate(given: Conditioning, seeds: Any) -> Any:
        calls.append(len(seeds))
        if len(calls) == after:
            raise Killed
        return original(given, seeds)

    monkeypatch.setattr(generator, "generate", generate)
    return calls


def test_candidates_are_those_of_their_seeds(
    generator: Any, conditioning: Conditioning, tmp_path: Path
) -> None:
    write(tmp_path / "file.h5", generator, conditioning)
    found = read_reconstructions(tmp_path / "file.h5")
    assert found["image_INHWC"].shape == (5, 2, 16, 16, 3) and found.attrs["clip_model"] == CLIP
    for candidate in range(2):
        direct = generator.generate(conditioning, found["seed_IN"][:, candidate])
        assert (
            np.abs(direct.astype(int) - found["image_INHWC"][:, candidate].astype(int)).max() <= 1
        )
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
            tmp_path / "file.h5",
            generator,
            conditioning,
            generators.draw_seeds(0, [1, 2]),
            {},
            tmp_path / "partial",
        )
    assert list(tmp_path.iterdir()) == []


def pick_brightest(rows: slice, image_INHWC: np.ndarray) -> np.ndarray:
    return image_INHWC.reshape(*image_INHWC.shape[:2], -1).mean(axis=2).argmax(axis=1)


def test_the_chosen_candidate_is_kept_with_its_seed(
    generator: Any, conditioning: Conditioning, tmp_path: Path
) -> None:
    write(tmp_path / "all.h5", generator, conditioning)
    write(tmp_path / "chosen.h5", generator, conditioning, select=pick_brightest)
    everything, chosen = (
        read_reconstructions(tmp_path / f"{name}.h5") for name in ("all", "chosen")
    )
    assert chosen["image_INHWC"].shape == (5, 1, 16, 16, 3)
    kept = [
        int(np.argmax([image.mean() for image in candidates]))
        for candidates in everything["image_INHWC"]
    ]
    assert len(set(kept)) == 2, "both candidates must win somewhere"
    for i, k in enumerate(kept):
        assert chosen["seed_IN"][i, 0] == everything["seed_IN"][i, k]
        np.testing.assert_array_equal(chosen["image_INHWC"][i, 0], everything["image_INHWC"][i, k])


def test_select_sees_the_rows_of_its_block(
    generator: Any, conditioning: Conditioning, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def select(rows: slice, image_INHWC: np.ndarray) -> np.ndarray:
        assert image_INHWC.shape == (rows.stop - rows.start, 2, 16, 16, 3)
        seen.append((rows.start, rows.stop))
        return np.zeros(len(image_INHWC), int)

    write(tmp_path / "file.h5", generator, conditioning, select=select)
    assert seen == [(0, 2), (2, 4), (4, 5)]


def test_a_killed_choice_goes_on_to_the_same_bytes(
    generator: Any, conditioning: Conditioning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = tmp_path / "whole.h5", tmp_path / "resumed.h5"
    write(whole, generator, conditioning, select=pick_brightest)
    with monkeypatch.context() as patch:
        dying(generator, patch, after=2)
        with pytest.raises(Killed):
            write(resumed, generator, conditioning, select=pick_brightest)
    calls = dying(generator, monkeypatch, after=0)
    write(resumed, generator, conditioning, select=pick_brightest)
    assert calls == [4, 2]
    assert resumed.read_bytes() == whole.read_bytes()


def test_blocks_of_other_seeds_are_thrown_away(
    generator: Any, conditioning: Conditioning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds come block by block, so only their digest tells an old block from a new one."""
    with monkeypatch.context() as patch:
        dying(generator, patch, after=3)
        with pytest.raises(Killed):
            write(tmp_path / "file.h5", generator, conditioning)
    calls = dying(generator, monkeypatch, after=0)
    settings: dict[str, Any] = {"attrs": {"generator": "tokens"}, "block_images": 2}
    rows = {"nsd_id_I": np.arange(5), "subject_I": ["subj01"] * 5}
    other_IN = generators.draw_seeds(1, range(5), 2)
    generation.write_pictures(
        tmp_path / "file.h5",
        generator,
        conditioning,
        other_IN,
        rows,
        tmp_path / "partial",
        **settings,
    )
    assert calls == [4, 4, 2]
    np.testing.assert_array_equal(read_reconstructions(tmp_path / "file.h5")["seed_IN"], other_IN)


def write_plain(path: Path, subject_I: list[str] | None = None) -> np.ndarray:
    """A small file with two pictures an image, returned."""
    image_INHWC = np.random.default_rng(0).integers(0, 256, (4, 2, 8, 8, 3), dtype=np.uint8)
    arrays = {
        "nsd_id_I": np.array([3, 8, 3, 9]),
        "seed_IN": np.zeros((4, 2), np.int64),
        "image_INHWC": image_INHWC,
    }
    if subject_I is None:
        arrays["nsd_id_I"] = np.array([3, 8, 5, 9])
    write_reconstructions(path, arrays | ({"subject_I": subject_I} if subject_I else {}))
    return image_INHWC


def test_pictures_are_read_by_subject(tmp_path: Path) -> None:
    image_INHWC = write_plain(tmp_path / "own.h5", ["subj01", "subj01", "subj05", "subj05"])
    ids_I, image_IHWC = read_pictures(tmp_path / "own.h5", "subj05")
    assert ids_I.tolist() == [3, 9]
    np.testing.assert_array_equal(image_IHWC, image_INHWC[2:, 0])
    assert list_subjects(tmp_path / "own.h5") == ["subj01", "subj05"]
    with pytest.raises(ValueError, match=r"own\.h5 has no picture of subj02"):
        read_pictures(tmp_path / "own.h5", "subj02")


def test_pictures_without_subjects_are_everybodys(tmp_path: Path) -> None:
    image_INHWC = write_plain(tmp_path / "shared.h5")
    ids_I, image_IHWC = read_pictures(tmp_path / "shared.h5", "subj02")
    assert ids_I.tolist() == [3, 8, 5, 9] and list_subjects(tmp_path / "shared.h5") == []
    np.testing.assert_array_equal(image_IHWC, image_INHWC[:, 0])
    with pytest.raises(ValueError, match="does not exist"):
        list_subjects(tmp_path / "none.h5")
