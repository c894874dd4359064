"""Stage reconstruct: whose features, which seeds, which candidate; what is refused, what is not
done twice.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fmri2clip import generators
from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.components import STREAMS, write_basis, write_components
from fmri2clip.artefacts.model import load
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.reconstructions import read_reconstructions
from fmri2clip.artefacts.stimuli import TRAIN, read_images
from fmri2clip.artefacts.trials import read_betas
from fmri2clip.clip import encoder
from fmri2clip.core import params
from fmri2clip.core.files import locked
from fmri2clip.decoders import Decoder
from fmri2clip.generators import Conditioning
from fmri2clip.stages.reconstruct import features, reconstruction, selection
from tests import picture_world
from tests.picture_world import N_IMAGES, SUBJECTS, WIDTH, PictureWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> PictureWorld:
    return picture_world.write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _own_resume_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclasses.dataclass(frozen=True)
class Files(Paths):
    """The world's inputs, pictures to one given file; without stimuli unless asked.

    Nothing but the mean image may need them.
    """

    out: Path = Path()  # a file, or a folder
    has_stimuli: bool = False

    @property
    def reconstructions_folder(self) -> Path:
        return self.out

    def reconstructions(self, name: str) -> Path:
        return self.out if self.out.suffix else self.out / f"{name}.h5"

    def stimuli(self, part: str) -> Path:
        return super().stimuli(part) if self.has_stimuli else self.root / "nowhere"


def reconstruct(
    world: PictureWorld, path: Path, stimuli: bool = False, changes: Any = None, **entry: Any
) -> Any:
    """The file of one reconstruction, read."""
    settings = world.settings(
        reconstructions={"one": {"generator": "tiny"} | entry}, **(changes or {})
    )
    paths = Files(world.root, out=path, has_stimuli=stimuli)
    reconstruction.reconstruct("one", settings, paths)
    return read_reconstructions(path)


def predict(
    world: PictureWorld, run: str, subject: str, part: str = "test", n: int = N_IMAGES
) -> dict[str, np.ndarray]:
    """What a subject's ridge says of its first test (or training) images, by numpy from the
    files.
    """
    folder, betas = (
        world.root / "models" / run / subject,
        read_betas(world.at.rois / part / f"{subject}.h5"),
    )
    state, inputs = (
        load_file(folder / "weights.safetensors"),
        load_file(folder / "inputs.safetensors"),
    )
    ids = np.unique(betas["nsd_id_N"])[:n]
    x = np.stack(
        [betas["betas_NV"][betas["nsd_id_N"] == i].astype(np.float64).mean(0) for i in ids]
    )
    x = x[:, inputs["voxel_rows_V"]]
    found = {"embedding": x @ state["image_weight_VD"] + state["image_bias_D"]}
    if "token_weight_VX" in state:
        found["tokens"] = (x @ state["token_weight_VX"] + state["token_bias_X"]).reshape(
            len(x), -1, WIDTH
        )
    return found | {key: inputs[key] for key in ("mean_image_D", "mean_predicted_image_D")}


def paint(world: PictureWorld, seeds: Any, **features: np.ndarray) -> np.ndarray:
    """Pictures from the generator itself."""
    settings = world.settings()
    config = params.generator_config(settings, "tiny", generators.load_family("tokens").Config)
    conditioning = Conditioning(clip_model=picture_world.CLIP, **features)
    return generators.load("tokens", config).generate(conditioning, seeds)


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the rounding of sums and features."""
    assert found.shape == expected.shape and found.std() > 5
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 4


def test_rows_are_subjects_and_their_first_images(world: PictureWorld, tmp_path: Path) -> None:
    found = reconstruct(world, tmp_path / "one.h5", source="demo")
    ids = world.ids("test")[:N_IMAGES]
    assert found["nsd_id_I"].tolist() == [*ids, *ids]
    assert found["subject_I"].tolist() == [s for s in SUBJECTS for _ in ids]
    assert found["image_INHWC"].shape == (2 * N_IMAGES, 1, 16, 16, 3)
    assert found.attrs["generator"] == "tiny" and found.attrs["source"] == "demo"
    assert not list((tmp_path / ".resume").rglob("*.npy"))


def test_an_image_has_the_same_noise_for_every_subject(world: PictureWorld, tmp_path: Path) -> None:
    found = reconstruct(world, tmp_path / "one.h5", source="demo", seed=3)
    np.testing.assert_array_equal(found["seed_IN"][:N_IMAGES], found["seed_IN"][N_IMAGES:])
    expected = generators.draw_seeds(3, found["nsd_id_I"][:N_IMAGES])
    np.testing.assert_array_equal(found["seed_IN"][:N_IMAGES], expected)
    assert len(np.unique(expected)) == N_IMAGES


def test_all_images_where_the_number_is_0(world: PictureWorld, tmp_path: Path) -> None:
    found = reconstruct(
        world, tmp_path / "one.h5", source="target", changes={"pictures": {"n_images": 0}}
    )
    assert found["nsd_id_I"].tolist() == world.ids("test").tolist()


@pytest.mark.parametrize(
    ("reads", "name"), [("embedding", "embedding_ID"), ("semantic", "tokens_ITW")]
)
def test_features_are_calibrated_on_validation_images(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str, name: str
) -> None:
    """Offset by the means of the model, factor by least squares over the validation images of each
    subject; of tokens, one for each component too.
    """
    cached = read_cache(world.at.clip_train("tiny", "subj01"), ["nsd_id_I", "image_embedding_ID"])
    model_of, rng = features.load_model, np.random.default_rng(5)
    shift = rng.normal(size=(2, 5, WIDTH)).astype(np.float32)
    names = ("mean_predicted_tokens_semantic_TW", "mean_tokens_semantic_TW")
    if reads == "embedding":
        shift, names = shift[:, 0], ("mean_predicted_image_D", "mean_image_D")

    def load(folder: Path, subject: str) -> Any:
        model = model_of(folder, subject)
        inputs = dict(model.inputs) | dict(zip(names, shift, strict=True))
        return dataclasses.replace(
            model, inputs=inputs, split={"validation": world.ids("train", subject)[:7].tolist()}
        )

    monkeypatch.setattr(features, "load_model", load)
    axes_PX = np.linalg.qr(rng.normal(size=(4 * WIDTH, 3)))[0].T.astype(np.float32)
    basis = {
        f"{stream}_{name}": array
        for stream in STREAMS
        for name, array in (
            ("components_PTW", axes_PX.reshape(3, 4, WIDTH)),
            ("mean_TW", np.zeros((4, WIDTH), np.float32)),
        )
    }
    write_basis(world.at.clip_basis("tiny"), basis)
    true_IP = rng.normal(size=(len(cached["nsd_id_I"]), 3)).astype(np.float32)
    for subject in SUBJECTS:
        arrays = {"nsd_id_I": cached["nsd_id_I"], "semantic_components_IP": true_IP}
        write_components(world.at.clip_components("tiny", subject), arrays)
    found = reconstruct(world, tmp_path / "one.h5", source="tokens", reads=reads)
    kind = "embedding" if reads == "embedding" else "tokens"
    for s, subject in enumerate(SUBJECTS):
        ids = world.ids("train", subject)[:7]
        known = predict(world, "tokens", subject, "train", 7)[kind]
        row_I = [np.flatnonzero(cached["nsd_id_I"] == i)[0] for i in ids]
        true = cached["image_embedding_ID"][row_I]
        pooled, means = (known, shift) if reads == "embedding" else (known[:, 0], shift[:, 0])
        p, t = (pooled - means[0]).ravel(), (true.astype(np.float64) - means[1]).ravel()
        factor = max(0.0, np.linalg.lstsq(p[:, None], t, rcond=None)[0][0])
        centred = predict(world, "tokens", subject)[kind] - shift[0]
        feature = shift[1] + factor * centred
        if reads == "semantic":
            known_IP = (known - shift[0])[:, 1:].reshape(len(known), -1) @ axes_PX.T
            wanted_IP = true_IP[row_I] - shift[1][1:].ravel() @ axes_PX.T
            ratios = np.sqrt((wanted_IP**2).sum(axis=0) / (known_IP**2).sum(axis=0))
            ratios[(known_IP * wanted_IP).sum(axis=0) <= 0] = 0
            scores = centred[:, 1:].reshape(len(centred), -1) @ axes_PX.T
            read = (scores * ratios) @ axes_PX
            feature[:, 1:] = shift[1][1:] + read.reshape(-1, 4, WIDTH)
        rows = slice(s * N_IMAGES, (s + 1) * N_IMAGES)
        assert_near(
            found["image_INHWC"][rows, 0],
            paint(world, found["seed_IN"][rows, 0], **{name: feature.astype(np.float32)}),
        )


@pytest.mark.parametrize(
    ("run", "reads", "name"),
    [
        ("demo", "embedding", "embedding_ID"),
        ("tokens", "embedding", "embedding_ID"),
        ("tokens", "semantic", "tokens_ITW"),
    ],
)
def test_pictures_are_those_of_the_decoded_features(
    world: PictureWorld, tmp_path: Path, run: str, reads: str, name: str
) -> None:
    found = reconstruct(world, tmp_path / "one.h5", source=run, reads=reads)
    for s, subject in enumerate(SUBJECTS):
        feature = predict(world, run, subject)["embedding" if reads == "embedding" else "tokens"]
        rows = slice(s * N_IMAGES, (s + 1) * N_IMAGES)
        expected = paint(world, found["seed_IN"][rows, 0], **{name: feature.astype(np.float32)})
        assert_near(found["image_INHWC"][rows, 0], expected)


@pytest.mark.parametrize(
    ("reads", "name", "cached"),
    [
        ("embedding", "embedding_ID", "image_embedding_ID"),
        ("semantic", "tokens_ITW", "semantic_tokens_ITD"),
    ],
)
def test_true_features_stand_there_once(
    world: PictureWorld, tmp_path: Path, reads: str, name: str, cached: str
) -> None:
    found = reconstruct(world, tmp_path / "one.h5", source="target", reads=reads)
    assert "subject_I" not in found
    assert found["nsd_id_I"].tolist() == world.ids("test")[:N_IMAGES].tolist()
    clip = read_cache(world.at.clip_shared("tiny"))
    rows = [clip["nsd_id_I"].tolist().index(i) for i in found["nsd_id_I"]]
    assert_near(
        found["image_INHWC"][:, 0],
        paint(world, found["seed_IN"][:, 0], **{name: clip[cached][rows]}),
    )


def test_the_mean_image_is_that_of_the_training_pictures(
    world: PictureWorld, tmp_path: Path
) -> None:
    found = reconstruct(world, tmp_path / "one.h5", stimuli=True, source="mean_image")
    training = np.unique(np.concatenate([world.ids("train", subject) for subject in SUBJECTS]))
    assert not set(training) & set(found["nsd_id_I"])
    expected = np.rint(world.stimuli(training).mean(axis=0))
    assert (
        "subject_I" not in found
        and found["nsd_id_I"].tolist() == world.ids("test")[:N_IMAGES].tolist()
    )
    for image in found["image_INHWC"][:, 0]:
        np.testing.assert_array_equal(image, expected)


def test_the_mean_image_takes_its_pictures_evenly(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "MEAN_IMAGES", 40)
    found = reconstruct(world, tmp_path / "one.h5", stimuli=True, source="mean_image")
    training = world.ids("train")  # 90 ids: every third
    assert found.attrs["n_training_pictures"] == 30
    np.testing.assert_array_equal(
        found["image_INHWC"][0, 0], np.rint(world.stimuli(training[::3]).mean(axis=0))
    )


def test_pictures_that_are_there_are_left_alone(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, loads = tmp_path / "one.h5", []
    original = generators.load
    monkeypatch.setattr(
        generators, "load", lambda *given: loads.append(given[0]) or original(*given)
    )
    first = reconstruct(world, path, source="demo")
    before = path.stat().st_mtime_ns
    reconstruct(world, path, source="demo")
    assert path.stat().st_mtime_ns == before and loads == ["tokens"]
    other = reconstruct(world, path, source="demo", seed=1)
    assert path.stat().st_mtime_ns != before and loads == ["tokens", "tokens"]
    assert other.attrs["key"] != first.attrs["key"] and (other["seed_IN"] != first["seed_IN"]).all()


def test_all_entries_share_their_generators(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of one generator are painted together, with the pictures of entries painted alone;
    then nothing is.
    """
    tiny = world.settings().generators["tiny"]
    entries = {
        "a": {"generator": "tiny", "source": "target"},
        "b": {"generator": "long", "source": "demo"},
        "c": {"generator": "tiny", "source": "demo", "seed": 4},
    }
    settings = world.settings(
        reconstructions=entries, generators={"tiny": tiny, "long": {**tiny, "steps": 2}}
    )
    loaded: list[int] = []
    load = generators.load
    monkeypatch.setattr(
        generators,
        "load",
        lambda family, config, device: loaded.append(config.steps) or load(family, config, device),
    )
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "dropped.h5").write_bytes(b"painted beforehand")
    paths = Files(world.root, out=folder)
    reconstruction.reconstruct_all(settings, paths)
    assert (paths.aside / "dropped.h5").read_bytes() == b"painted beforehand"
    assert sorted(path.name for path in folder.iterdir()) == ["a.h5", "b.h5", "c.h5"]
    assert loaded == [2, 1]
    for name in entries:
        reconstruction.reconstruct(name, settings, Files(world.root, out=tmp_path))
        both = [
            read_reconstructions(path)["image_INHWC"]
            for path in (folder / f"{name}.h5", tmp_path / f"{name}.h5")
        ]
        np.testing.assert_array_equal(*both)
    loaded.clear()
    reconstruction.reconstruct_all(settings, paths)
    assert not loaded


def test_a_changed_generator_paints_again(world: PictureWorld, tmp_path: Path) -> None:
    first = reconstruct(world, tmp_path / "one.h5", source="target")
    note = world.root / "generator" / "note.txt"
    note.write_text("other weights")
    assert (
        reconstruct(world, tmp_path / "one.h5", source="target").attrs["key"] != first.attrs["key"]
    )
    note.unlink()


def test_the_key_covers_the_adapter_and_nothing_beside_it(tmp_path: Path) -> None:
    """An adapter's subfolder may be named like a folder of the repository, which has no part in the
    pictures.
    """
    for name in ("base", "adapter/models", "models"):
        (tmp_path / name).mkdir(parents=True)
    where = {
        "path": str(tmp_path / "base"),
        "adapter": str(tmp_path / "adapter"),
        "subfolder": "models",
    }
    rest: dict[str, Any] = {"base": "sd", "weights": "w", "embedding_norm": 1.0, "clip_model": "x"}
    config = generators.load_family("ip_adapter").Config(**where, **rest)
    entry = params.Reconstruction(generator="tiny", source="demo")
    given = Conditioning(clip_model="x", embedding_ID=np.ones((1, 2)))

    def key() -> str:
        return reconstruction.make_key(
            entry, config, given, np.zeros((1, 1)), {"nsd_id_I": np.arange(1)}
        )

    first = key()
    (tmp_path / "models" / "note").touch()
    assert key() == first
    (tmp_path / "adapter" / "models" / "w").touch()
    second = key()
    assert second != first
    (tmp_path / "base" / "unet").touch()
    assert key() not in (first, second)


@pytest.mark.parametrize(
    ("run", "entry", "stream"),
    [
        ("demo", {"reads": "semantic"}, "semantic"),
        ("tokens", {"reads": "fused"}, "fused"),
        ("tokens", {"reads": "semantic", "text": True}, "text"),
        ("demo", {"text": True}, "text"),
    ],
)
def test_a_stream_that_the_decoder_lacks(
    world: PictureWorld, tmp_path: Path, run: str, entry: dict[str, Any], stream: str
) -> None:
    with pytest.raises(
        ValueError, match=f"run {run} predicts no {stream}; reconstruct another run"
    ):
        reconstruct(world, tmp_path / "one.h5", source=run, **entry)
    assert not (tmp_path / "one.h5").exists()


@pytest.mark.parametrize("entry", [{}, {"reads": "semantic", "selection": "brain"}])
def test_a_decoder_without_an_embedding(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any]
) -> None:
    monkeypatch.setattr(features, "decode", lambda *given: {})
    with pytest.raises(ValueError, match="run tokens predicts no embedding"):
        reconstruct(world, tmp_path / "one.h5", source="tokens", **entry)


def with_generator(world: PictureWorld, **changes: Any) -> dict[str, Any]:
    """The section generators with some settings changed; None deletes one."""
    entry = dict(world.settings().generators["tiny"]) | changes
    return {
        "generators": {"tiny": {key: value for key, value in entry.items() if value is not None}}
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("demo", "reads features of ViT-other, these are of ViT-tiny"),
        ("target", "generator tiny reads features of ViT-none, which no entry of clips has"),
    ],
)
def test_features_of_another_clip_model_are_refused(
    world: PictureWorld, tmp_path: Path, source: str, message: str
) -> None:
    wanted = "ViT-none" if source == "target" else "ViT-other"
    with pytest.raises(ValueError, match=message):
        reconstruct(
            world,
            tmp_path / "one.h5",
            changes=with_generator(world, clip_model=wanted),
            source=source,
        )
    assert not (tmp_path / "one.h5").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": None}, r"generators\.tiny\.family is missing; choose from"),
        ({"family": "x"}, "'x' does not exist"),
        ({"clip_model": None}, r"generators\.tiny\.clip_model is missing"),
        ({"stepz": 1}, r"generators\.tiny\.stepz"),
    ],
)
@pytest.mark.parametrize("source", ["demo", "target"])
def test_a_wrong_generator_is_no_key_error(
    world: PictureWorld, tmp_path: Path, changes: dict[str, Any], message: str, source: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reconstruct(
            world, tmp_path / "one.h5", changes=with_generator(world, **changes), source=source
        )


PROJECTION = np.random.default_rng(5).normal(size=(16 * 16 * 3, WIDTH))


def embed(images_IHWC: np.ndarray) -> np.ndarray:
    """Stands in for CLIP: all embeddings lie in a cone, so that it matters what is subtracted."""
    projected = (images_IHWC.reshape(len(images_IHWC), -1) / 255 - 0.5) @ PROJECTION
    return (0.3 + 0.1 * projected / np.linalg.norm(projected, axis=1, keepdims=True)).astype(
        np.float32
    )


@pytest.fixture
def clip_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "load", lambda clip, device: SimpleNamespace(images=embed))


def test_the_candidate_nearest_to_the_decoded_embedding_is_kept(
    world: PictureWorld, tmp_path: Path, clip_model: None
) -> None:
    found = reconstruct(
        world,
        tmp_path / "one.h5",
        source="tokens",
        reads="semantic",
        n_candidates=3,
        selection="brain",
    )
    kept = []
    for s, subject in enumerate(SUBJECTS):
        said = predict(world, "tokens", subject)
        seed_IN = generators.draw_seeds(0, found["nsd_id_I"][:N_IMAGES], 3)
        painted = [
            paint(world, seed_IN[:, n], tokens_ITW=said["tokens"].astype(np.float32))
            for n in range(3)
        ]
        for i in range(N_IMAGES):
            query = said["embedding"][i] - said["mean_predicted_image_D"]
            shifted = [embed(painted[n][i : i + 1])[0] - said["mean_image_D"] for n in range(3)]
            cosines = [v @ query / np.linalg.norm(v) / np.linalg.norm(query) for v in shifted]
            kept.append(int(np.argmax(cosines)))
            row = s * N_IMAGES + i
            assert found["seed_IN"][row, 0] == seed_IN[i, kept[-1]]
            assert_near(found["image_INHWC"][row, 0], painted[kept[-1]][i])
    assert len(set(kept)) == 3 and found["image_INHWC"].shape[1] == 1


def test_the_choice_sees_no_stimulus() -> None:
    """All that comes in is what the brain gave and how pictures are embedded; all that is judged
    are candidates.
    """
    assert list(inspect.signature(selection.select_by_brain).parameters) == ["found", "embed"]
    decoded = selection.Decoded(
        nsd_id_I=np.arange(2),
        features={},
        query_ID=np.eye(2, WIDTH),
        mean_D=np.zeros(WIDTH, np.float32),
    )
    select = selection.select_by_brain([decoded], embed)
    assert list(inspect.signature(select).parameters) == ["rows", "image_INHWC"]
    assert set(inspect.getclosurevars(select).nonlocals) == {"embed", "mean_ID", "query_ID"}


class Brightness(Decoder):
    """Every voxel responds with the mean of the picture; pictures 7 and 8 are remembered."""

    def identify(
        self, betas_IV: torch.Tensor, features: Mapping[str, torch.Tensor], n_repeats: int = 1
    ) -> torch.Tensor:
        assert n_repeats == selection.N_TRIALS
        return -torch.cdist(betas_IV, features["mean"].expand(-1, betas_IV.shape[1]))

    def recall(
        self, betas_IV: torch.Tensor, n_repeats: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        is_first_I = torch.arange(len(betas_IV)) % 2 == 0
        weight_IJ = torch.stack([~is_first_I, is_first_I], 1).float()
        return weight_IJ, torch.tensor(self.known)

    known = (7, 8)


def test_the_candidate_that_explains_the_response_is_kept(rng: np.random.Generator) -> None:
    """Two subjects of 3 and 2 images, in blocks that cut through both."""
    image_INHWC = rng.integers(0, 256, (5, 4, 2, 2, 3), dtype=np.uint8)
    mean_IN = image_INHWC.reshape(5, 4, -1).mean(axis=2).astype(np.float32)
    response_I = rng.uniform(100, 150, 5).astype(np.float32)
    found = [
        selection.Decoded(
            nsd_id_I=np.arange(len(part)),
            features={},
            response_IV=np.tile(part[:, None], (1, width)),
            judge=Brightness(),
        )
        for part, width in ((response_I[:3], 2), (response_I[3:], 5))
    ]

    def describe(image_JHWC: np.ndarray) -> dict[str, torch.Tensor]:
        mean_J1 = image_JHWC.reshape(len(image_JHWC), -1).mean(axis=1, keepdims=True)
        return {"mean": torch.from_numpy(mean_J1.astype(np.float32))}

    select = selection.select_by_encoding(found, describe)
    blocks = (slice(0, 2), slice(2, 4), slice(4, 5))
    chosen = np.concatenate([select(rows, image_INHWC[rows]) for rows in blocks])
    np.testing.assert_array_equal(chosen, np.abs(mean_IN - response_I[:, None]).argmin(axis=1))
    assert set(inspect.getclosurevars(select).nonlocals) == {"describe", "found", "start_S"}


def test_what_is_recalled_is_a_training_picture(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Brightness()
    decoder.known = tuple(int(i) for i in world.ids("train")[:2])
    original = reconstruction.load_model
    monkeypatch.setattr(
        reconstruction,
        "load_model",
        lambda *given: dataclasses.replace(original(*given), decoder=decoder),
    )
    entry = {"source": "demo", "reads": "library"}
    found = reconstruct(world, tmp_path / "one.h5", stimuli=True, **entry)
    pictures = read_images(world.at.stimuli(TRAIN), decoder.known)
    for row, image_1HWC in enumerate(found["image_INHWC"]):
        np.testing.assert_array_equal(image_1HWC[0], pictures[1 - row % N_IMAGES % 2])
    assert [str(s) for s in found["subject_I"]] == list(np.repeat(SUBJECTS, N_IMAGES))
    decoder.known = (-1, -2)
    with pytest.raises(ValueError, match="recalls no training pictures of subj01"):
        reconstruct(world, tmp_path / "one.h5", stimuli=True, **entry)


def test_pictures_are_chosen_again_by_another_decoded_embedding(
    world: PictureWorld, tmp_path: Path, clip_model: None
) -> None:
    """The tokens that are painted stay the same; what chooses among the candidates does not."""
    entry = {"source": "tokens", "reads": "semantic", "n_candidates": 3, "selection": "brain"}
    first = reconstruct(world, tmp_path / "one.h5", **entry)
    path = world.root / "models" / "tokens" / "subj01" / "inputs.safetensors"
    content = path.read_bytes()
    inputs = load_file(path)
    save_file(inputs | {"mean_predicted_image_D": -inputs["mean_predicted_image_D"] + 1}, path)
    try:
        second = reconstruct(world, tmp_path / "one.h5", **entry)
    finally:
        path.write_bytes(content)
    assert first.attrs["conditioning_sha256"] == second.attrs["conditioning_sha256"]
    assert first.attrs["key"] != second.attrs["key"]
    assert (first["seed_IN"] != second["seed_IN"]).any()


def test_the_model_folders_are_complete(world: PictureWorld) -> None:
    """The world itself: both runs load as trained runs do."""
    for run, has_tokens in (("demo", False), ("tokens", True)):
        decoder, _ = load(world.root / "models" / run / "subj02")
        assert bool(decoder.sizes) is has_tokens


def test_the_same_pictures_are_painted_by_one_job(world: PictureWorld, tmp_path: Path) -> None:
    """A second one ends at once; afterwards they are painted as ever."""
    lock = Path(".resume/reconstruct/one.lock")
    with locked(lock, 0, "held"), pytest.raises(ValueError, match=r"another job paints .*one\.h5"):
        reconstruct(world, tmp_path / "one.h5", source="target")
    assert not (tmp_path / "one.h5").exists()
    assert len(reconstruct(world, tmp_path / "one.h5", source="target")["nsd_id_I"])
