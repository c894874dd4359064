"""Libraries: planted pictures of the test set are refused, the rest is what the caches hold."""

from __future__ import annotations

import json
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmri2clip.artefacts.clip_cache import write_cache
from fmri2clip.artefacts.components import write_basis, write_components
from fmri2clip.artefacts.library import FOLDER, find_parts, read_library, read_parts
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN
from fmri2clip.core.params import Clip, Labels, Library, load
from fmri2clip.stages.cache_library import folder as folder_module
from fmri2clip.stages.cache_library.cache import cache_library
from tests.stimuli_files import write_pictures

SIZE, WIDTH, N_COMPONENTS = 32, 4, 3
TRAINING = Library(clip="mini", pictures="data/stimuli/train.h5")
CATEGORIES = [*(f"category {c}" for c in range(9)), "dog"]
CLIP = Clip(model="none", pretrained="", tokens=True, detail_layers=(1,))


def draw(rng: np.random.Generator, n: int) -> np.ndarray:
    """Pictures of 4 x 4 patches, so that a thumbnail keeps their pattern."""
    patch = rng.integers(0, 256, (n, SIZE // 4, SIZE // 4, 3), dtype=np.uint8)
    return patch.repeat(4, axis=1).repeat(4, axis=2)


@dataclass(frozen=True)
class Files:
    paths: Paths
    test: np.ndarray
    train: np.ndarray

    def make(self, library: Library, root: Path, clip: Clip = CLIP) -> dict[str, dict[str, int]]:
        return cache_library(
            self.paths, "some", library, clip, ["subj01", "subj02"], Labels(), resume_root=root
        )


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> Files:
    """Two subjects with training pictures 0 to 5 and 5 to 9. Of these, 2 has the pixels of a test
    picture, 7 is brighter and noisier than another, 9 bears the id of a third.
    """
    paths = Paths(tmp_path)
    test = draw(rng, 4)
    train = draw(rng, 10)
    train[2] = test[0]
    noise = rng.integers(-6, 7, test[1].shape)
    train[7] = np.clip(0.8 * test[1] + 20 + noise, 0, 255).astype(np.uint8)
    write_pictures(paths.stimuli(TEST), np.array([9, 100, 101, 102]), test[[3, 0, 1, 2]])
    write_pictures(paths.stimuli(TRAIN), np.arange(10), train)
    basis: dict[str, Any] = {}
    for stream in ("semantic", "detail"):
        axes_PX = np.linalg.qr(rng.standard_normal((2 * WIDTH, N_COMPONENTS)))[0].T
        basis[f"{stream}_mean_TW"] = rng.standard_normal((2, WIDTH)).astype(np.float32)
        basis[f"{stream}_components_PTW"] = axes_PX.reshape(-1, 2, WIDTH).astype(np.float16)
    write_basis(paths.clip_basis("mini"), basis)
    for subject, ids in (("subj01", np.arange(6)), ("subj02", np.arange(5, 10))):
        n = len(ids)
        arrays = {
            "nsd_id_I": ids,
            "image_embedding_ID": np.outer(ids, np.ones(WIDTH)).astype(np.float16),
            "text_embedding_KD": np.outer(ids.repeat(2), np.ones(WIDTH)).astype(np.float16),
            "caption_K": [f"caption of {i}" for i in ids.repeat(2)],
            "caption_image_K": np.arange(n).repeat(2).astype(np.int32),
            "labels_IC": ids[:, None] == np.arange(10),
            "area_IC": np.zeros((n, 10), np.float32),
            "n_objects_I": np.ones(n, np.int16),
            "category_C": CATEGORIES,
            "present_C": np.ones(10, bool),
            "prompt_P": ["a {category}"],
            "prompt_embedding_PCD": np.zeros((1, 10, WIDTH), np.float16),
        }
        write_cache(paths.clip_train("mini", subject), arrays)
        scores = np.outer(ids, np.ones(N_COMPONENTS)).astype(np.float32)
        write_components(
            paths.clip_components("mini", subject),
            {
                "nsd_id_I": ids,
                "semantic_components_IP": scores,
                "detail_components_IP": -scores,
                "detail_class_IW": np.zeros((n, WIDTH), np.float16),
                "text_components_IP": scores,
            },
        )
    return Files(paths, test, train)


def test_planted_pictures_of_the_test_set_are_dropped(files: Files, tmp_path: Path) -> None:
    refused = files.make(TRAINING, tmp_path)
    assert refused["subj01"] == {"test_id": 0, "same_pixels": 1, "near_duplicate": 0}
    assert refused["subj02"] == {"test_id": 1, "same_pixels": 0, "near_duplicate": 1}
    first = read_library(files.paths.library("some", "subj01"))
    assert first["nsd_id_J"].tolist() == [0, 1, 3, 4, 5] and first.attrs["same_pixels"] == 1
    second = read_library(files.paths.library("some", "subj02"))
    assert second["nsd_id_J"].tolist() == [5, 6, 8]
    kept = Library(clip="mini", pictures=TRAINING.pictures, near_duplicates="keep")
    assert files.make(kept, tmp_path)["subj02"]["near_duplicate"] == 1
    assert read_library(files.paths.library("some", "subj02"))["nsd_id_J"].tolist() == [5, 6, 7, 8]


def test_parts_are_joined_and_every_row_is_its_own(files: Files, tmp_path: Path) -> None:
    files.make(TRAINING, tmp_path)
    parts = [files.paths.library("some", subject) for subject in ("subj01", "subj02")]
    found = read_parts(parts)
    ids = [0, 1, 3, 4, 5, 6, 8]
    assert found["nsd_id_J"].tolist() == ids, "5 was seen by both"
    assert found["image_embedding_JD"][:, 0].tolist() == ids
    assert found["detail_components_JP"][:, 1].tolist() == [-i for i in ids]
    assert found["labels_JC"].argmax(axis=1).tolist() == ids
    of_caption = found["nsd_id_J"][found["caption_picture_K"]]
    assert [str(text) for text in found["caption_K"]] == [f"caption of {i}" for i in of_caption]
    assert found["text_embedding_KD"][:, 0].tolist() == of_caption.tolist()


def test_no_least_area_labels_what_is_there(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 32, "width": 32}],
        "annotations": [{"image_id": 7, "category_id": 3, "area": 1}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    dog = CATEGORIES.index("dog")
    names = ["a.png", "b.png"]
    for min_area, labels in ((0.0, [dog]), (1 / 1024, [dog]), (0.01, [])):
        found = folder_module._read_labels(tmp_path, names, CATEGORIES, min_area)
        assert np.flatnonzero(found["labels_JC"][0]).tolist() == labels
        assert not found["labels_JC"][1].any()
        assert found["is_labelled_J"].tolist() == [True, False]


def test_files_that_number_their_pictures_apart_keep_their_notes(tmp_path: Path) -> None:
    """Both begin at 1; labels are in the columns of the data's own categories."""
    for name in ("a", "b"):
        images = [{"id": 1, "file_name": f"{name}.png", "height": 10, "width": 10}]
        (tmp_path / f"captions_{name}.json").write_text(
            json.dumps(
                {"images": images, "annotations": [{"image_id": 1, "caption": f"an {name}"}]}
            )
        )
        content = {
            "images": images,
            "annotations": [{"image_id": 1, "category_id": 9, "area": 50}],
            "categories": [{"id": 9, "name": f"kind {name}"}],
        }
        (tmp_path / f"instances_{name}.json").write_text(json.dumps(content))
    names = ["b.png", "a.png"]
    notes = folder_module._iterate_notes(tmp_path, "captions", names)
    assert [(row, note["caption"]) for row, note in notes] == [(1, "an a"), (0, "an b")]
    found = folder_module._read_labels(tmp_path, names, ["kind a", "kind b", "else"], 0.1)
    assert found["labels_JC"].astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


class Mean:
    """An encoder that sees mean colours."""

    width_D, image_size, weights_sha256 = WIDTH, SIZE, "ab"

    def resize(self, images_IHWC: np.ndarray) -> np.ndarray:
        resized = [Image.fromarray(image).resize((SIZE, SIZE)) for image in images_IHWC]
        return np.stack([np.asarray(image) for image in resized])

    def features(self, images_IHWC: np.ndarray, threads: int, targets: bool) -> dict[str, Any]:
        colour_I3 = images_IHWC.reshape(len(images_IHWC), -1, 3).mean(axis=1) / 256
        pooled_ID = np.concatenate([colour_I3, np.ones((len(colour_I3), 1))], axis=1)
        tokens = pooled_ID[:, None].repeat(3, axis=1).astype(np.float32)
        named = {f"{stream}_tokens_ITD": tokens for stream in ("semantic", "detail")}
        return {"image_embedding_ID": pooled_ID.astype(np.float32), **(named if targets else {})}

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[len(text)] * WIDTH for text in texts], np.float32)


def test_a_folder_is_encoded_with_what_coco_knows_of_it(
    files: Files, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module.encoder, "load", lambda *given: Mean())
    monkeypatch.setattr(folder_module, "BLOCK", 2)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    own = draw(rng, 3)
    saved = {"a.png": own[0], "b.png": files.test[2], "more/c.png": own[1], "d.png": own[2][:16]}
    for name, image in saved.items():
        Image.fromarray(image).save(folder / name)
    (folder / "more/._c.png").write_bytes(b"\0\5\x16\7")  # macOS' companion is no picture
    images = [{"id": 7, "file_name": "c.png", "height": 32, "width": 32}]
    images += [{"id": 8, "file_name": "elsewhere.png", "height": 9, "width": 9}]
    dog = {"id": 3, "name": "dog"}
    instances = [{"image_id": 7, "category_id": 3, "area": 500}]
    instances += [{"image_id": 8, "category_id": 3, "area": 500}]
    captions = [{"image_id": 7, "caption": "a dog"}, {"image_id": 7, "caption": "dogs"}]
    noted = {"instances.json": (instances, [dog]), "captions_val.json": (captions, [])}
    for name, (notes, categories) in noted.items():
        content = {"images": images, "annotations": notes, "categories": categories}
        (folder / name).write_text(json.dumps(content))
    library = Library(clip="mini", pictures=str(folder))
    refused = files.make(library, tmp_path / "resume")
    assert refused == {FOLDER: {"test_id": 0, "same_pixels": 1, "near_duplicate": 0}}
    found = read_library(files.paths.library("some", FOLDER))
    assert [str(name) for name in found["name_J"]] == ["a.png", "d.png", "more/c.png"]
    assert found["nsd_id_J"].tolist() == [-1, -2, -3]
    assert found["is_labelled_J"].tolist() == [False, False, True]
    dog_C = np.array(CATEGORIES) == "dog"
    np.testing.assert_array_equal(found["labels_JC"], [~dog_C & dog_C, ~dog_C & dog_C, dog_C])
    assert [str(text) for text in found["caption_K"]] == ["a dog", "dogs"]
    assert found["caption_picture_K"].tolist() == [2, 2]
    assert found["text_embedding_KD"][:, 0].tolist() == [5, 4]
    colour_3 = own[0].reshape(-1, 3).mean(axis=0) / 256
    np.testing.assert_allclose(found["image_embedding_JD"][0, :3], colour_3, atol=1e-3)
    assert found["semantic_components_JP"].shape == (3, N_COMPONENTS)
    assert not list((tmp_path / "resume").rglob("*.npz"))


def test_pictures_are_held_one_by_one_until_they_are_resized(
    files: Files, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is read, the one before it is still there, no more."""
    for name, image in zip("abcdef", draw(rng, 6), strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    held: list[weakref.ref[np.ndarray]] = []
    most = []

    def read(path: Path) -> np.ndarray:
        held.append(weakref.ref(image := np.asarray(Image.open(path)).copy()))
        most.append(sum(reference() is not None for reference in held))
        return image

    monkeypatch.setattr(folder_module.encoder, "load", lambda *given: Mean())
    monkeypatch.setattr(folder_module, "_read_picture", read)
    files.make(Library(clip="mini", pictures=str(tmp_path)), tmp_path / "resume")
    assert len(most) == 6 and max(most) <= 2


def test_photographs_behind_nsds_test_pictures_are_known_by_their_coco_id(
    files: Files, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the name or in the notes, whatever they look like; of a simulated NSD nothing is asked."""
    monkeypatch.setattr(folder_module.encoder, "load", lambda *given: Mean())
    folder = tmp_path / "coco"
    (folder / "val").mkdir(parents=True)
    cut = ["000000000009.jpg", "val/COCO_val2014_000000262145.jpg", "102.jpg", "noted.jpg"]
    own = ["000000000010.jpg", "1000000000009.jpg", "a102.jpg", "noted_too.jpg"]
    for name, image in zip([*cut, *own], draw(rng, len(cut) + len(own)), strict=True):
        Image.fromarray(image).save(folder / name)
    images = [{"id": 262146, "file_name": "noted.jpg"}, {"id": 7, "file_name": "noted_too.jpg"}]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": []}))
    ids = np.array([9, 100, 101, 102])
    coco_id_I = np.array([9, 262145, 262146, 102])
    write_pictures(files.paths.stimuli(TEST), ids, files.test, coco_id_I=coco_id_I)
    library = Library(clip="mini", pictures=str(folder))

    def refuse(is_nsd: bool) -> tuple[dict[str, int], set[str]]:
        refused = cache_library(
            files.paths,
            "some",
            library,
            CLIP,
            ["subj01"],
            Labels(),
            resume_root=tmp_path,
            is_nsd=is_nsd,
        )
        found = read_library(files.paths.library("some", FOLDER))
        assert {name: found.attrs[name] for name in refused[FOLDER]} == refused[FOLDER]
        return refused[FOLDER], set(map(str, found["name_J"]))

    none = {"test_id": 0, "same_pixels": 0, "near_duplicate": 0}
    assert refuse(is_nsd=True) == ({**none, "test_photograph": 4}, set(own))
    assert refuse(is_nsd=False) == (none, {*own, *cut})
    for name in own:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"holds no picture.* 4 were refused as photographs"):
        refuse(is_nsd=True)


def test_errors_say_what_to_do(files: Files, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkey: Any = SimpleNamespace(clip="mini", pictures=str(empty), near_duplicates="drop")
    with pytest.raises(ValueError, match="holds no picture"):
        files.make(monkey, tmp_path)


def test_a_run_reads_the_parts_that_its_setting_names() -> None:
    import dataclasses

    params = load(Path(__file__).parents[3] / "params.yaml")
    paths = Paths(Path("p"))

    def find(library: str) -> list[str]:
        run = dataclasses.replace(params.runs["encoding"], overrides={"library": library})
        changed = dataclasses.replace(
            params,
            runs={**params.runs, "encoding": run},
            libraries={**params.libraries, "coco": Library(clip="mini", pictures="coco")},
        )
        return [path.as_posix() for path in find_parts(changed, "encoding", "subj02", paths)]

    folder = "p/data/libraries"
    assert find("own") == [f"{folder}/training/subj02.h5"]
    assert find("all") == [f"{folder}/training/{s}.h5" for s in params.runs["encoding"].subjects]
    assert find("coco") == [f"{folder}/coco/folder.h5"]
    assert find("none") == [] and find_parts(params, "ridge", "subj01", paths) == []
    with pytest.raises(ValueError, match=r"library 'training', which is no folder.*own, all, none"):
        find("training")
