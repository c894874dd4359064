"""Stage score_pictures: perfect pictures score perfectly, what is missing says why, no test image
trains a model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.reconstructions import write_reconstructions
from fmri2clip.artefacts.scores import read_predictions
from fmri2clip.artefacts.trials import read_betas, read_voxels, write_betas, write_voxels
from fmri2clip.core import params, store
from fmri2clip.metrics.pictures import networks_torchvision, small_alexnet
from fmri2clip.metrics.pictures.brain_correlation import EncodingModel
from fmri2clip.metrics.pictures.protocols import find_protocol
from fmri2clip.metrics.pictures.resizing import PictureSet
from fmri2clip.stages.score_pictures import picture_scores
from tests import picture_world
from tests.picture_world import N_IMAGES, SUBJECTS, PictureWorld

TWO_WAY = ("alexnet2", "alexnet5")
STRICT = {
    "strict-v1.pixcorr",
    "strict-v1.ssim",
    "strict-v1.brain_correlation.all",
    "strict-v1.brain_correlation.part",
    *(
        f"strict-v1.{name}.{way}"
        for name in TWO_WAY
        for way in ("image_given_reconstruction", "reconstruction_given_image")
    ),
}
MINDEYE = {"mindeye-2023.pixcorr", "mindeye-2023.ssim"} | {
    f"mindeye-2023.{name}.image_given_reconstruction" for name in TWO_WAY
}


@dataclass
class Scored:
    """Outputs of one call, and what the encoding models were fitted on."""

    world: PictureWorld
    root: Path
    fitted: list[tuple[PictureSet, np.ndarray, EncodingModel]] = field(default_factory=list)

    @property
    def at(self) -> Paths:
        return Paths(self.root)

    def tree(self, name: str) -> dict[str, Any]:
        return json.loads((self.at.picture_metrics(name)).read_text())

    def group(self, name: str, subject: str) -> store.Arrays:
        return read_predictions(self.at.picture_scores(name), group=subject)

    def score(self, name: str, subject: str, metric: str) -> np.ndarray:
        arrays = self.group(name, subject)
        return arrays["score_IM"][:, arrays["metric_M"].tolist().index(metric)]


def write_pictures(
    path: Path, ids: np.ndarray, images_IHWC: np.ndarray, subject_I: list[str] | None = None
) -> Path:
    arrays = {
        "nsd_id_I": ids,
        "seed_IN": np.zeros((len(ids), 1), np.int64),
        "image_INHWC": images_IHWC[:, None],
    }
    write_reconstructions(path, arrays | ({"subject_I": subject_I} if subject_I else {}))
    return path


def settings(world: PictureWorld, **pictures: Any) -> Any:
    """Of a measured data set, so that no simulated cortex is asked."""
    entry = {
        "n_images": N_IMAGES,
        "protocols": ["strict-v1"],
        "classifier": str(world.root / "classifier"),
    }
    return world.settings(dataset={"source": "s3"}, pictures=entry | pictures)


def files(world: PictureWorld, root: Path) -> Paths:
    """The world's inputs under another root, where outputs may be written."""
    shutil.copytree(world.root / "data", root / "data")
    return Paths(root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> PictureWorld:
    made = picture_world.write_world(tmp_path_factory.mktemp("world"))
    torch.manual_seed(0)
    (made.root / "classifier").mkdir()
    save_file(
        small_alexnet.SmallAlexNet(7).state_dict(), made.root / "classifier" / small_alexnet.WEIGHTS
    )
    return made


@pytest.fixture(scope="module")
def scored(world: PictureWorld, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Pictures of subj01 alone; the stimuli themselves, of nobody; the stimuli for subj01, others
    for subj02.
    """
    root = tmp_path_factory.mktemp("scored")
    ids = world.ids("test")[:N_IMAGES]
    seen, others = world.stimuli(ids), world.stimuli(ids + 1)
    order = np.arange(N_IMAGES)[::-1]
    both, named = np.concatenate([seen, others]), [s for s in SUBJECTS for _ in ids]
    given = {
        "alone": write_pictures(root / "alone.h5", ids, others, ["subj01"] * N_IMAGES),
        "itself": write_pictures(root / "itself.h5", ids[order], seen[order]),
        "mixed": write_pictures(root / "mixed.h5", np.concatenate([ids, ids]), both, named),
    }
    result = Scored(world, root)
    original = picture_scores.fit_encoding

    def spy(
        classifier: Any, training: PictureSet, betas_IV: np.ndarray, **kwargs: Any
    ) -> EncodingModel:
        result.fitted.append(
            (training, betas_IV, original(classifier, training, betas_IV, **kwargs))
        )
        return result.fitted[-1][2]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_scores, "fit_encoding", spy)
        chosen = settings(world, protocols=["strict-v1", "mindeye-2023"])
        picture_scores.score_pictures(chosen, files(world, root), pictures=given)
    return result


@pytest.mark.parametrize("protocol", ["strict-v1", "mindeye-2023"])
def test_the_stimulus_itself_is_perfect(scored: Scored, protocol: str) -> None:
    tree = scored.tree("itself")
    for part in (tree, *tree["subjects"].values()):
        assert part[protocol]["pixcorr"] == pytest.approx(1, abs=1e-6)
        assert part[protocol]["ssim"] == pytest.approx(1, abs=1e-6)
        for name in TWO_WAY:
            assert part[protocol][name]["image_given_reconstruction"] == 1
    assert set(tree["subjects"]) == set(SUBJECTS)


def test_each_subject_has_its_own_pictures(scored: Scored) -> None:
    tree = scored.tree("mixed")
    assert tree["subjects"]["subj01"]["strict-v1"]["pixcorr"] == pytest.approx(1, abs=1e-6)
    assert tree["subjects"]["subj02"]["strict-v1"]["pixcorr"] < 0.5
    expected = np.mean([tree["subjects"][subject]["strict-v1"]["pixcorr"] for subject in SUBJECTS])
    assert tree["strict-v1"]["pixcorr"] == pytest.approx(expected, abs=1e-5)
    low, high = (tree["strict-v1"][f"pixcorr_ci95_{side}"] for side in ("low", "high"))
    assert low <= tree["strict-v1"]["pixcorr"] <= high
    assert list(scored.tree("alone")["subjects"]) == ["subj01"]


def test_pixel_correlation_is_that_of_numpy(scored: Scored) -> None:
    """Pictures of 16 pixels are enlarged to 256 and 425 first, which a correlation hardly sees."""
    ids = scored.world.ids("test")[:N_IMAGES]
    seen, made = (
        scored.world.stimuli(x).reshape(N_IMAGES, -1).astype(float) for x in (ids, ids + 1)
    )
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(seen, made, strict=True)]
    np.testing.assert_allclose(
        scored.score("mixed", "subj02", "strict-v1.pixcorr"), expected, atol=0.1
    )


def test_metrics_have_the_names_of_their_protocol(scored: Scored) -> None:
    for name, subject in (("itself", "subj01"), ("mixed", "subj02"), ("alone", "subj01")):
        arrays = scored.group(name, subject)
        assert set(arrays["metric_M"]) == STRICT | MINDEYE
        assert arrays["nsd_id_I"].tolist() == scored.world.ids("test")[:N_IMAGES].tolist()


def test_what_is_missing_says_why(scored: Scored) -> None:
    record = json.loads(scored.at.picture_metrics("record").read_text())
    assert set(record) == {"strict-v1", "mindeye-2023"}
    for entry in record.values():
        assert set(entry["missing"]) == {"alone", "itself", "mixed"}
        for missing in entry["missing"].values():
            assert set(missing) == {"inception", "clip", "effnet", "swav"}
            assert missing["clip"] == "pictures.clip names no entry of clips"
            assert "stands in for AlexNet alone" in missing["swav"]
        assert entry["stand_ins"][0] == "alexnet" and set(entry["networks"]) == {"alexnet"}
        assert entry["n_images"]["itself"] == dict.fromkeys(SUBJECTS, N_IMAGES)
        assert entry["n_images"]["alone"] == {"subj01": N_IMAGES}


def test_what_a_subject_lacks_has_no_mean_and_a_reason(world: PictureWorld, tmp_path: Path) -> None:
    """A constant picture, which the protocol gives no correlation, of one subject alone."""
    ids = world.ids("test")[:N_IMAGES]
    seen = world.stimuli(ids)
    grey = np.concatenate([np.full_like(seen[:1], 128), seen[1:]])
    named = [s for s in SUBJECTS for _ in ids]
    both = write_pictures(
        tmp_path / "grey.h5", np.concatenate([ids, ids]), np.concatenate([seen, grey]), named
    )
    at = files(world, tmp_path)
    chosen = settings(world, protocols=["mindeye-2023"])
    picture_scores.score_pictures(chosen, at, pictures={"grey": both})
    tree = json.loads(at.picture_metrics("grey").read_text())
    assert "pixcorr" not in tree["mindeye-2023"] and "ssim" in tree["mindeye-2023"]
    assert tree["subjects"]["subj01"]["mindeye-2023"]["pixcorr"] == pytest.approx(1)
    record = json.loads(at.picture_metrics("record").read_text())["mindeye-2023"]
    assert record["missing"]["grey"]["pixcorr"].startswith("subj02: undefined for 1 images")


def test_reasons_name_their_subjects_where_they_differ() -> None:
    found = picture_scores.join_reasons(
        {
            "subj01": {"swav": "no copy", "pixcorr": "image 1", "ssim": "image 2"},
            "subj02": {"swav": "no copy", "pixcorr": "image 3"},
        }
    )
    assert found == {
        "swav": "no copy",
        "pixcorr": "subj01: image 1; subj02: image 3",
        "ssim": "subj01: image 2",
    }


def test_a_region_of_one_voxel_is_missing_with_its_reason(
    world: PictureWorld, tmp_path: Path
) -> None:
    at = files(world, tmp_path)
    path = at.voxels("subj01")
    arrays = dict(read_voxels(path))
    names = [str(name) for name in arrays["roi_names_G"]]
    arrays["roi_VG"][:, names.index("group/part")] = np.arange(len(arrays["roi_VG"])) == 3
    write_voxels(path, arrays)
    brain = picture_scores.read_brain(settings(world, brain=False), at, "subj01", None)
    assert set(brain.measured.regions) == {"all"}
    assert set(brain.missing) == {"brain_correlation.part"}
    assert "1 voxels" in brain.missing["brain_correlation.part"]


def test_encoding_models_see_training_images_only(scored: Scored) -> None:
    assert len(scored.fitted) == 2
    for subject, (training, betas_IV, _) in zip(SUBJECTS, scored.fitted, strict=True):
        ids = scored.world.ids("train", subject)
        assert not np.isin(training.nsd_id_I, scored.world.ids("test", subject)).any()
        assert training.nsd_id_I.tolist() == ids.tolist()
        np.testing.assert_array_equal(training.images_IHWC, scored.world.stimuli(ids))
        betas = read_betas(scored.world.at.train_betas(subject))
        for row in (0, 40):
            trials = betas["betas_NV"][betas["nsd_id_N"] == ids[row]].astype(float)
            np.testing.assert_allclose(betas_IV[row], trials.mean(axis=0), atol=1e-5)


def test_brain_correlation_is_that_of_numpy(scored: Scored) -> None:
    model, ids = scored.fitted[1][2], scored.world.ids("test", "subj02")[:N_IMAGES]
    predicted_IV = model.predict(scored.world.stimuli(ids + 1))
    betas = read_betas(scored.world.at.test_betas("subj02"))
    measured_IV = np.stack(
        [betas["betas_NV"][betas["nsd_id_N"] == i].astype(float).mean(0) for i in ids]
    )
    part_V = np.arange(measured_IV.shape[1]) % 4 > 0
    for region, member_V in (("all", np.ones_like(part_V)), ("part", part_V)):
        pairs = zip(measured_IV[:, member_V], predicted_IV[:, member_V], strict=True)
        found = scored.score("mixed", "subj02", f"strict-v1.brain_correlation.{region}")
        np.testing.assert_allclose(found, [np.corrcoef(a, b)[0, 1] for a, b in pairs], atol=1e-4)


def test_the_record_has_the_encoding_model_of_every_subject(scored: Scored) -> None:
    """Also where the first file of pictures has one subject alone."""
    record = json.loads(scored.at.picture_metrics("record").read_text())
    brain = record["strict-v1"]["brain"]
    assert set(brain) == set(SUBJECTS) and "brain" not in record["mindeye-2023"]
    assert {one["n_training_images"] for one in brain.values()} == {90}


def test_without_brain_there_is_no_encoding_model(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        picture_scores, "fit_encoding", lambda *given, **kwargs: pytest.fail("a model is fitted")
    )
    ids = world.ids("test")[:N_IMAGES]
    given = {"itself": write_pictures(tmp_path / "itself.h5", ids, world.stimuli(ids))}
    at = files(world, tmp_path)
    picture_scores.score_pictures(settings(world, brain=False), at, pictures=given)
    record = json.loads(at.picture_metrics("record").read_text())
    assert (
        record["strict-v1"]["missing"]["itself"]["brain_correlation"] == "pictures.brain is false"
    )
    found = read_predictions(at.picture_scores("itself"), group="subj01")
    assert set(found["metric_M"]) == {name for name in STRICT if "brain" not in name}
    chosen = settings(world, protocols=["mindeye-2023"])
    picture_scores.score_pictures(chosen, at, pictures=given)


def test_every_subject_is_measured_on_its_own_images(world: PictureWorld, tmp_path: Path) -> None:
    """Pictures that are the same for all are of the images of any subject; one lacks the first of
    them.
    """
    at = files(world, tmp_path)
    path = at.test_betas("subj02")
    betas, ids = dict(read_betas(path)), world.ids("test")
    keep_N = betas["nsd_id_N"] != ids[0]
    write_betas(path, {k: v[keep_N] if k.endswith(("_N", "_NV")) else v for k, v in betas.items()})
    wanted = ids[: N_IMAGES + 1]
    given = {"itself": write_pictures(tmp_path / "itself.h5", wanted, world.stimuli(wanted))}
    picture_scores.score_pictures(settings(world), at, pictures=given)
    for subject, first in (("subj01", 0), ("subj02", 1)):
        found = read_predictions(at.picture_scores("itself"), group=subject)
        assert found["nsd_id_I"].tolist() == ids[first : first + N_IMAGES].tolist()


def test_nothing_to_score_still_leaves_the_outputs(world: PictureWorld, tmp_path: Path) -> None:
    at = files(world, tmp_path)
    picture_scores.score_pictures(settings(world), at, pictures={})
    assert json.loads(at.picture_metrics("record").read_text()) == {}
    assert at.picture_scores_folder.is_dir()


def test_copies_are_found_by_their_published_names(tmp_path: Path) -> None:
    names = (
        "alexnet-owt-7be5be79.pth",
        "swav_800ep_pretrain.pth.tar",
        "resnet50-0676ba61.pth",
        "alexnet.pth",
    )
    for name in names:
        (tmp_path / name).touch()
    assert picture_scores.find_copies(tmp_path) == {
        "AlexNet_Weights.IMAGENET1K_V1": str(tmp_path / names[0]),
        "swav_800ep_pretrain": str(tmp_path / names[1]),
    }
    with pytest.raises(
        ValueError,
        match=r"pictures\.weights is .*, no folder; name one, or '' for torch's hub cache",
    ):
        picture_scores.find_copies(tmp_path / "none")


def test_published_networks_that_are_not_there_are_missing(
    world: PictureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(networks_torchvision, "load", lambda tag, path, device: (tag, path))
    (tmp_path / "copies").mkdir()
    local = tmp_path / "copies" / "alexnet-owt-7be5be79.pth"
    local.touch()
    chosen = settings(world, classifier="", weights=str(tmp_path / "copies"))
    found = picture_scores.load_networks(chosen, find_protocol("strict-v1"), "cpu")
    assert found.networks == {"alexnet": ("AlexNet_Weights.IMAGENET1K_V1", str(local))}
    assert set(found.missing) == {"inception", "efficientnet", "swav", "clip"}
    assert "downloads are off" in found.missing["inception"]


def test_the_projects_clip_is_a_stand_in(world: PictureWorld, root: Path) -> None:
    folder = root / "assets" / "mini" / "clip"
    clip = {"model": "fmri2clip-mini", "config": str(folder / "fmri2clip-mini.json")}
    clip |= {"pretrained": str(folder / "model.safetensors")}
    chosen = world.settings(
        clips={"tiny": clip},
        pictures={"clip": "tiny", "classifier": str(world.root / "classifier")},
    )
    found = picture_scores.load_networks(chosen, find_protocol("strict-v1"), "cpu")
    assert set(found.networks) == {"alexnet", "clip"} and set(found.missing) == {
        "inception",
        "efficientnet",
        "swav",
    }
    assert found.networks["clip"].info.stand_in and found.classifier is found.networks["alexnet"]


def test_clip_is_measured_in_single_precision_and_known_by_its_hash(
    world: PictureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-precision features in the cache do not make strict-v1 refuse the network; a local copy
    is no stand-in.
    """
    tag = "ViT-L-14-quickgelu/openai"
    loaded: list[tuple[str, str]] = []

    class Loaded:
        def __init__(self, clip: params.Clip, sha256: str) -> None:
            self.clip, self.weights_sha256 = clip, sha256

    def load(clip: params.Clip, device: str) -> Loaded:
        loaded.append((clip.precision, device))
        return Loaded(
            clip, picture_scores.CLIP_SHA256[tag] if "copy" in clip.pretrained else "another"
        )

    def describe(encoder: Any, *, stand_in: bool, weights: str) -> tuple[bool, str]:
        return stand_in, weights

    monkeypatch.setattr(picture_scores.encoder, "load", load)
    monkeypatch.setattr(picture_scores, "from_encoder", describe)
    picture_scores._load_encoder.cache_clear()
    clips = [
        params.Clip(model="ViT-L-14-quickgelu", pretrained=name, precision="fp16")
        for name in ("openai", "/a/copy.pt", "/another.pt")
    ]
    found = [picture_scores.load_clip(clip, tag, "cpu") for clip in clips]
    assert found == [(False, tag), (False, tag), (True, "")]
    picture_scores.load_clip(clips[0], tag, "cpu")
    picture_scores._load_encoder.cache_clear()
    assert loaded == [("fp32", "cpu")] * 3


def test_the_stimuli_are_a_ceiling_of_brain_correlation(scored: Scored) -> None:
    """Row `stimulus`: correlations alone, equal to those of a reconstruction that is the
    stimulus.
    """
    tree, itself = scored.tree("stimulus"), scored.tree("itself")
    assert set(tree["strict-v1"]) == {"brain_correlation"} and "mindeye-2023" not in tree
    assert tree["strict-v1"]["brain_correlation"] == itself["strict-v1"]["brain_correlation"]


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch
