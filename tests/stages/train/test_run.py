from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fmri2clip.artefacts.clip_cache import read_cache, write_cache
from fmri2clip.artefacts.components import express_tokens, read_basis
from fmri2clip.artefacts.model import load, load_judged, load_model
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import read_betas, read_voxels, write_betas, write_voxels
from fmri2clip.core import params
from fmri2clip.core.params import Clip
from fmri2clip.core.stage import resolve_device
from fmri2clip.decoders import load_decoder
from fmri2clip.stages.components.components import find_token_components
from fmri2clip.stages.select.select import select
from fmri2clip.stages.train import run as run_module
from fmri2clip.stages.train.data import Subject
from fmri2clip.stages.train.inputs import Inputs
from fmri2clip.stages.train.run import fit_decoder, train_run
from fmri2clip.tracking.content import Trained, list_data
from tests.decoders.settings import make_config

SUBJECTS = ("subj01", "subj02")
N_JUDGE = 20
N_IMAGES, WIDTH, N_COMPONENTS = 40, 6, 3
SMALL = {"network": "mlp", "hidden": 8, "batch_size": 16, "max_epochs": 3, "patience": 3}
RUNS = {
    "ridge": "ridge",
    "clip": "brainclip",
    "mclip": "brainmclip",
    "mused": "clip_mused",
    "labels": "label_ridge",
}
MCLIP = {
    "hidden": 8,
    "blocks": 1,
    "token_rank": 2,
    "batch_size": 16,
    "max_epochs": 3,
    "patience": 3,
}
MUSED = {
    "areas": "V1, faces, low",
    "components": 2,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "batch_size": 16,
}
MUSED |= {"max_epochs": 3, "patience": 3}
LABELS = {"areas": "V1, faces, low", "components": 2, "n_alphas": 3, "n_folds": 2}
RIDGE = {"n_alphas": 3, "n_folds": 2, "log10_alpha_min": -2.0, "log10_alpha_max": 6.0}


def make_params(overrides: dict[str, Any] | None = None, **split: Any) -> params.Params:
    def run(decoder: str, **split: Any) -> params.Run:
        return params.Run(
            decoder=decoder,
            clip="mini",
            subjects=SUBJECTS,
            voxels="all",
            seed=1,
            split=split,
            overrides=overrides or {},
        )

    return params.Params(
        note="",
        compute=params.Compute(threads=1, device="cpu"),
        dataset=params.Dataset(),
        download=params.Download(),
        subjects=SUBJECTS,
        world=params.World(),
        rois={"all": ("nsdgeneral",)},
        norm=params.Norm(),
        labels=params.Labels(),
        clips={"mini": params.Clip(model="mini", pretrained="mini.safetensors")},
        split=params.Split(n_validation=8),
        decoders={
            name: asdict(make_config(name, **changes))
            for name, changes in (
                ("ridge", RIDGE),
                ("brainclip", SMALL),
                ("brainmclip", MCLIP),
                ("clip_mused", MUSED),
                ("label_ridge", LABELS),
            )
        },
        runs={name: run(decoder, **split) for name, decoder in RUNS.items()},
        evaluation=params.Evaluation(),
        hierarchy=params.Hierarchy(),
        tracking=params.Tracking(),
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ids = rng.permutation(2 * N_IMAGES)

    def unit(*shape: int) -> np.ndarray:
        x = rng.standard_normal(shape) + 1
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float16)

    embedding = unit(len(ids), WIDTH)
    for s, subject in enumerate(SUBJECTS):
        n_voxels = 12 + s
        seen = np.repeat(np.arange(N_IMAGES) + s * N_IMAGES, 3)
        code = embedding[np.argsort(ids)[seen]].astype(np.float32) @ rng.standard_normal(
            (WIDTH, n_voxels)
        )
        trials = np.arange(1, len(seen) + 1)
        betas = {
            "betas_NV": code + rng.standard_normal(code.shape),
            "nsd_id_N": seen,
            "trial_N": trials,
        }
        numbers = {
            "session_N": 1 + trials * 2 // (len(trials) + 1),
            "repetition_N": 1 + np.arange(len(seen)) % 3,
        }
        write_betas(Paths(tmp_path).train_betas(subject), {**betas, **numbers})
        floats = {name: np.ones(n_voxels, np.float32) for name in ("ncsnr_V", "ncsnr_train_V")}
        floats |= {name: np.ones((2, n_voxels), np.float32) for name in ("mean_SV", "std_SV")}
        voxels = {
            "ijk_V3": np.zeros((n_voxels, 3), np.int16),
            "roi_VG": np.stack(
                [np.arange(n_voxels) < n_voxels - k for k in (0, 6, 9)]
                + [np.arange(n_voxels) > 4, np.arange(n_voxels) < 0],
                1,
            ),
            "roi_names_G": ["group/all", "group/low", "prf-visualrois/V1v", "group/high", "faces"],
            "invalid_SV": np.zeros((2, n_voxels), bool),
        }
        write_voxels(Paths(tmp_path).voxels(subject), {**voxels, **floats})
    labels = np.eye(4, dtype=bool)[ids % 4]
    clip = {
        "nsd_id_I": ids,
        "image_embedding_ID": embedding,
        "text_embedding_KD": embedding,
        "caption_K": [f"picture {i}" for i in ids],
        "caption_image_K": np.arange(len(ids)),
        "labels_IC": labels,
        "area_IC": labels.astype(np.float32),
        "n_objects_I": np.ones(len(ids), np.int16),
        "category_C": ["cat", "dog", "cup", "bus"],
        "present_C": np.ones(4, bool),
        "prompt_P": ["{category}"],
        "prompt_embedding_PCD": unit(1, 4, WIDTH),
        "semantic_tokens_ITD": unit(len(ids), 3, WIDTH),
        "detail_tokens_ITD": unit(len(ids), 3, WIDTH),
        "text_tokens_IUD": unit(len(ids), 2, WIDTH),
        "low_mean_IW": unit(len(ids), 5),
    }
    for subject in SUBJECTS:
        write_cache(Paths(tmp_path).clip_train("mini", subject), clip, {"weights_sha256": "0" * 64})
    tokens = Clip(
        model="mini", pretrained="", tokens=True, detail_layers=(1,), token_components=N_COMPONENTS
    )
    find_token_components(Paths(tmp_path), "mini", tokens, SUBJECTS)
    return tmp_path


@dataclass(frozen=True)
class Outputs(Paths):
    """The inputs of a tree, models and curve in one folder of it."""

    folder: Path = Path()

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def curve(self, run: str) -> Path:
        return self.folder / "curve.csv"


def train(
    tree: Path,
    name: str,
    out: str = "out",
    log: Any = None,
    overrides: dict[str, Any] | None = None,
    **split: Any,
) -> Path:
    settings = make_params(overrides, **split)
    paths = Outputs(tree, folder=tree / out)
    select(name, "mini", SUBJECTS, paths, 1)
    train_run(name, settings, paths, log=log, resume_root=tree / ".resume")
    return tree / out


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["ridge", "clip"])
def test_run_is_complete_repeatable_and_loads_from_its_folder(tree: Path, name: str) -> None:
    out = train(tree, name)
    own = ("README.md", "clip.json", "inputs.safetensors", "split.json")
    files = ("config.yaml", *own, "weights.safetensors")
    assert set(content(out)) == {
        f"models/{name}/{s}/{file}" for s in SUBJECTS for file in files
    } | {"curve.csv"}
    assert not list((tree / ".resume").rglob("*.*"))
    decoder, config = load(out / "models" / name / "subj02")
    assert decoder.decode(torch.zeros(2, 13), "subj02").embedding_ID.shape == (2, WIDTH)
    assert (
        config["voxels"] == "all"
        and config["seed"] == 1
        and config["n_training_images"] == {"subj02": 32}
    )
    assert list(config["digests"]) == ["subj02"]
    assert {kind: len(digest) for kind, digest in config["digests"]["subj02"].items()} == {
        "betas": 64,
        "clip": 64,
        "voxels": 64,
        "basis": 64,
        "components": 64,
    }
    inputs = load_file(out / "models" / name / "subj02/inputs.safetensors")
    means = {f"mean_{kind}_D" for kind in ("image", "text", "predicted_image", "predicted_text")}
    voxels = {"ijk_V3", "voxel_rows_V", "session_mean_SV", "session_std_SV"}
    assert set(inputs) == means | voxels | {
        "present_C",
        "prompt_embedding_PCD",
        "prompt_scale_R",
        "embedding_factor_1",
    }
    assert content(out) == content(train(tree, name, "again"))


def test_a_model_can_name_categories(tree: Path) -> None:
    folder = train(tree, "labels") / "models/labels/subj01"
    path = Paths(tree).clip_train("mini", "subj01")
    with h5py.File(path) as file:
        prompt_PCD = file["prompt_embedding_PCD"][()]
        weights = file.attrs["weights_sha256"]
    model = load_model(folder.parent, "subj01")
    assert np.array_equal(model.inputs["prompt_embedding_PCD"], prompt_PCD)
    assert model.inputs["present_C"].tolist() == [True] * 4
    assert model.clip["category_C"] == ["cat", "dog", "cup", "bus"]
    assert model.clip["prompt_P"] == ["{category}"]
    assert model.clip["weights_sha256"] == weights == "0" * 64


def test_run_with_tokens_keeps_their_means_and_the_voxels_of_its_streams(tree: Path) -> None:
    out = train(tree, "mclip")
    decoder, config = load(out / "models/mclip/subj02")
    assert decoder.semantic_rows.tolist() == list(
        range(5, 13)
    ) and decoder.detail_rows.tolist() == list(range(13))
    assert config["sizes"]["n_semantic"] == 8 and config["parameters"] == decoder.n_parameters()
    tokens = decoder.decode_tokens(torch.zeros(2, 13), "subj02").tokens
    assert {name: tuple(x.shape) for name, x in tokens.items()} == {
        "fused": (2, 3, WIDTH),
        "semantic": (2, 3, WIDTH),
        "detail": (2, 3, WIDTH),
        "text": (2, 2, WIDTH),
    }
    inputs = load_file(out / "models/mclip/subj02/inputs.safetensors")
    for stream, x in tokens.items():
        for kind in ("tokens", "predicted_tokens"):
            assert inputs[f"mean_{kind}_{stream}_TW"].shape == x.shape[1:]
    assert content(out) == content(train(tree, "mclip", "again"))


def test_one_model_serves_all_subjects(tree: Path) -> None:
    out = train(tree, "mused")
    own = ("README.md", "clip.json", "inputs.safetensors", "split.json")
    files = {f"models/mused/{s}/{file}" for s in SUBJECTS for file in own}
    assert set(content(out)) == files | {
        f"models/mused/shared/{f}" for f in ("config.yaml", "weights.safetensors")
    } | {"curve.csv"}
    decoder, config = load(out / "models/mused/shared")
    assert decoder.subjects == SUBJECTS and config["n_voxels"] == {"subj01": 12, "subj02": 13}
    assert decoder.decode(torch.zeros(2, 13), "subj02").logits_IC.shape == (2, 4)
    assert content(out) == content(train(tree, "mused", "again"))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("mused", {"shared": False, "identity": "none", "backbone": "mlp"}), ("labels", {})],
)
def test_label_baselines_have_a_model_for_each_subject(
    tree: Path, name: str, overrides: dict[str, Any]
) -> None:
    out = train(tree, name, overrides=overrides)
    for subject, n_voxels in zip(SUBJECTS, (12, 13), strict=True):
        decoder, config = load(out / "models" / name / subject)
        assert decoder.decode(torch.zeros(2, n_voxels), subject).logits_IC.shape == (2, 4)
        assert list(config["n_training_images"]) == [subject]


def test_a_new_subject_has_its_first_sessions_only(tree: Path) -> None:
    out = train(tree, "mused", overrides={"new_subject": "subj02", "new_sessions": 1})
    config = load(out / "models/mused/shared")[1]
    assert (
        config["n_training_images"]["subj01"] == 32
        and 4 < config["n_training_images"]["subj02"] < 25
    )
    with (out / "curve.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [str(epoch) for epoch in range(6)]
    assert content(out) == content(
        train(tree, "mused", "again", overrides={"new_subject": "subj02", "new_sessions": 1})
    )


@pytest.mark.parametrize(("name", "n_rows"), [("ridge", 1), ("clip", 3)])
def test_curve_has_the_agreed_columns(tree: Path, name: str, n_rows: int) -> None:
    with (train(tree, name) / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == [s for s in SUBJECTS for _ in range(n_rows)]
    assert list(rows[0])[:2] == ["subject", "epoch"]
    assert list(rows[0])[-3:] == ["val_image_top1", "val_text_top1", "val_mean"]
    assert all(
        len(value.lstrip("0.").replace(".", "")) <= 10 for row in rows for value in row.values()
    )


def test_split_file_names_every_image_that_did_not_train(tree: Path) -> None:
    out = train(tree, "ridge", unseen_folds=4, n_images=5, holdout_clusters=4, seed=3)
    split = json.loads((out / "models/ridge/subj01/split.json").read_text())
    assert len(split["validation"]) == 8 and len(split["unseen_categories"]) == 1
    assert len(split["validation"] + split["left_out"] + split["unused"]) == N_IMAGES - 5
    one, two = (load_file(out / f"models/ridge/{s}/inputs.safetensors") for s in SUBJECTS)
    assert np.array_equal(one["centroids_KD"], two["centroids_KD"]) and one[
        "heldout_clusters"
    ].shape == (1,)


def test_killed_run_keeps_finished_subjects_and_shows_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(train(tree, "clip"))
    trained: list[str] = []

    def fit(decoder: Any, data: Any, *args: Any) -> Any:
        trained.append(data[0].subject)
        if trained == ["subj01", "subj02"]:
            raise KeyboardInterrupt
        return fit_decoder(decoder, data, *args)

    monkeypatch.setattr(run_module, "fit_decoder", fit)
    with pytest.raises(KeyboardInterrupt):
        train(tree, "clip", "killed")
    assert not (tree / "killed").exists()
    assert content(train(tree, "clip", "killed")) == expected
    assert trained == ["subj01", "subj02", "subj02"]


def test_log_is_told_of_every_model_and_changes_nothing(tree: Path) -> None:
    told: list[Mapping[str, tuple[float, float]]] = []
    assert content(train(tree, "ridge", log=told.append)) == content(train(tree, "ridge", "silent"))
    (times,) = told
    assert list(times) == list(SUBJECTS)
    assert all(start < end for start, end in times.values())


def test_models_that_are_no_longer_wanted_vanish(tree: Path) -> None:
    old = tree / "out/models/ridge/subj08/weights.safetensors"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    train(tree, "ridge")
    assert not old.exists()


def test_permuted_training_is_another_model_of_the_same_split(tree: Path) -> None:
    true, null = content(train(tree, "ridge")), content(train(tree, "ridge", "null", permute=True))
    model = "models/ridge/subj01/"
    assert true[model + "split.json"] == null[model + "split.json"]
    assert true[model + "weights.safetensors"] != null[model + "weights.safetensors"]


def test_training_refuses_files_that_were_not_selected(tree: Path) -> None:
    paths = Outputs(tree, folder=tree / "out")
    select("ridge", "mini", SUBJECTS, paths, 1)
    path = paths.voxels("subj02")
    voxels = dict(read_voxels(path))
    write_voxels(path, voxels | {"ncsnr_V": voxels["ncsnr_V"] * 2})
    with pytest.raises(ValueError, match=r"voxels/subj02\.h5 is not the file that .*ridge\.json"):
        train_run("ridge", make_params(), paths, resume_root=tree / ".resume")
    assert not (tree / "out").exists()


def test_missing_input_is_named_and_nothing_written(tree: Path) -> None:
    Paths(tree).voxels("subj02").unlink()
    with pytest.raises(ValueError, match=r"voxels/subj02\.h5 does not exist; run the stage"):
        train(tree, "ridge")
    assert not (tree / "out").exists()


def test_device_names() -> None:
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ValueError, match="choose from auto, cpu, cuda"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no GPU"):
            resolve_device("cuda")


def test_mlflow_gets_the_digest_of_every_input(tree: Path) -> None:
    """By the real writer of the models: each file's own sha256; and when each was trained."""
    told: list[Mapping[str, tuple[float, float]]] = []
    before = time.time()
    out = train(tree, "ridge", log=told.append)
    (times,) = told
    assert list(times) == list(SUBJECTS)
    order = [moment for subject in SUBJECTS for moment in times[subject]]
    assert order == sorted(order) and before <= order[0] and order[-1] <= time.time()
    at = Paths(tree)
    trained = Trained(run="ridge", params=make_params(), paths=Outputs(tree, folder=out))
    for subject, data in zip(SUBJECTS, list_data(trained), strict=True):
        files = {
            "clip": at.clip_train("mini", subject),
            "betas": at.train_betas(subject),
            "voxels": at.voxels(subject),
            "basis": at.clip_basis("mini"),
            "components": at.clip_components("mini", subject),
        }
        assert json.loads(data["profile"])["sha256"] == {
            name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
        }


@pytest.mark.parametrize("name", ["ridge", "clip", "mclip", "mused"])
def test_the_judge_gets_what_a_fit_without_its_images_predicts(tree: Path, name: str) -> None:
    """By hand: a decoder trained on data without them; the model itself is what it was."""
    plain = content(train(tree, name, "plain"))
    judged = content(train(tree, name, "judged", n_judge=N_JUDGE))
    weights = [key for key in plain if key.endswith("weights.safetensors")]
    assert weights and all(judged[key] == plain[key] for key in weights)
    second = load_judged(tree / "judged" / "models" / name, "subj02")
    assert second is not None and second.heldout is not None
    settings = make_params(n_judge=N_JUDGE)
    module = load_decoder(RUNS[name])
    config = params.decoder_config(settings, name, module.Config)
    split = params.run_split(settings, name)
    paths = Paths(tree)
    inputs = Inputs(settings.runs[name], paths, split, module.Decoder, config)
    members = list(SUBJECTS) if name == "mused" else ["subj02"]
    data = [subject.data for subject in inputs.load(members, hide_judge=True)]
    decoder = module.Decoder.from_data(config, data, 1)
    fit_decoder(decoder, data, 1, settings.compute, tree / "checkpoint")
    for key, value in second.decoder.state_dict().items():
        np.testing.assert_allclose(value, decoder.state_dict()[key], rtol=1e-4, atol=1e-5)
    heldout = second.heldout
    assert len(heldout["nsd_id_J"]) == N_JUDGE
    assert not np.isin(heldout["nsd_id_J"], data[-1].nsd_id_I.numpy()).any()
    betas = read_betas(paths.train_betas("subj02"))
    for row, nsd_id in enumerate(heldout["nsd_id_J"]):
        trials = betas["betas_NV"][betas["nsd_id_N"] == nsd_id].astype(np.float32)
        for n in (1, 2, 3):
            mean_1V = torch.from_numpy(trials[:n].mean(axis=0, keepdims=True))
            decoded = decoder.decode(mean_1V, "subj02", n)
            offered = {"embedding_RJD": decoded.embedding_ID, "logits_RJC": decoded.logits_IC}
            for key, value in offered.items():
                assert (key in heldout) == (value is not None)
                if value is not None:
                    found = heldout[key][n - 1, row]
                    np.testing.assert_allclose(found, value[0].numpy(), rtol=1e-3, atol=1e-4)
            tokens = decoder.decode_tokens(mean_1V, "subj02", n).tokens
            assert ("fused_tokens_RJX" in heldout) == ("fused" in tokens) == (name == "mclip")
            for stream in {"fused", "semantic"} & set(tokens):
                expected = express_tokens(
                    tokens[stream].numpy(), read_basis(paths.clip_basis("mini")), "semantic"
                )
                found = heldout[f"{stream}_tokens_RJX"][n - 1, row]
                np.testing.assert_allclose(found, expected[0], rtol=1e-3, atol=1e-3)
    cache = read_cache(paths.clip_train("mini", "subj02"))
    known = {int(i): k for k, i in enumerate(cache["nsd_id_I"])}
    true_JD = cache["image_embedding_ID"][[known[int(i)] for i in heldout["nsd_id_J"]]]
    np.testing.assert_allclose(heldout["image_JD"], true_JD, atol=2e-3)
    assert load_judged(tree / "plain" / "models" / name, "subj02") is None


def test_subjects_of_a_model_train_on_nothing_that_another_holds_out(tree: Path) -> None:
    """They see sets of pictures that overlap but differ; by themselves each trains as before."""
    path = Paths(tree).train_betas("subj02")
    betas = dict(read_betas(path))
    betas["nsd_id_N"] = betas["nsd_id_N"] - 3 * N_IMAGES // 4
    write_betas(path, betas)
    settings = make_params(n_judge=N_JUDGE)
    module = load_decoder("clip_mused")
    config = params.decoder_config(settings, "mused", module.Config)
    split = params.run_split(settings, "mused")
    inputs = Inputs(settings.runs["mused"], Paths(tree), split, module.Decoder, config)

    def trained(subject: Subject) -> set[int]:
        return set(subject.data.nsd_id_I[~subject.data.is_validation_I].tolist())

    for hide_judge in (False, True):
        alone = [inputs.load([s], hide_judge)[0] for s in SUBJECTS]
        together = inputs.load(SUBJECTS, hide_judge)
        for k, other in ((0, 1), (1, 0)):
            split_I = alone[other].split
            held_I = split_I.validation_I | (split_I.judge_I & hide_judge)
            held = set(alone[other].nsd_id_I[held_I].tolist())
            assert trained(alone[k]) & held
            assert trained(together[k]) == trained(alone[k]) - held
            validation = [alone[k].split.validation_I, together[k].split.validation_I]
            np.testing.assert_array_equal(*validation)


def test_subjects_who_share_no_pictures_are_read_once(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_params()
    module = load_decoder("clip_mused")
    config = params.decoder_config(settings, "mused", module.Config)
    split = params.run_split(settings, "mused")
    inputs = Inputs(settings.runs["mused"], Paths(tree), split, module.Decoder, config)
    read: list[str] = []
    load_one = inputs._load

    def count(subject: str, *args: Any) -> Any:
        read.append(subject)
        return load_one(subject, *args)

    monkeypatch.setattr(inputs, "_load", count)
    inputs.load(SUBJECTS)
    assert read == list(SUBJECTS)
