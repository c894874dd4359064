"""Evaluation of a linear decoder in a tiny world: recomputed by hand from the files, and its
optional branches.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fmri2clip import decoders
from fmri2clip.artefacts import model
from fmri2clip.artefacts.clip_cache import read_cache, write_cache
from fmri2clip.artefacts.model import decode_tokens, load, load_model, read_streams
from fmri2clip.artefacts.scores import read_predictions, read_scores
from fmri2clip.artefacts.trials import (
    average_repeats,
    read_betas,
    read_voxels,
    write_betas,
    write_voxels,
)
from fmri2clip.decoders.batches import Decoded
from fmri2clip.metrics.decoding.truth import average_captions
from fmri2clip.metrics.statistics import mean_score, paired_difference
from fmri2clip.stages.evaluate import evaluation
from fmri2clip.stages.evaluate.picture_maps import PictureMaps
from fmri2clip.stages.evaluate.picture_readout import score_picture_readout
from tests.scoring_world import (
    EVALUATION,
    N_CATEGORIES,
    N_TEST,
    SUBJECTS,
    WIDTH,
    World,
    unit,
    write_world,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path)


def run(world: World, name: str = "demo", subjects: tuple[str, ...] = SUBJECTS) -> dict:
    settings = world.settings((name,), subjects)
    return evaluation.evaluate_run(name, settings, world.at, read_pictures=False)


def test_whole_gallery_score_recomputed_from_the_files(world: World) -> None:
    tree = run(world)
    assert json.loads((world.at.metrics("demo")).read_text()) == tree
    clip = read_cache(world.clip_test)
    scores = []
    for subject in SUBJECTS:
        inputs = load_file(world.models / "demo" / subject / "inputs.safetensors")
        decoder, _ = load(world.models / "demo" / subject)
        betas = read_betas(world.paths("test")[subject])
        mean_IV = np.stack(
            [
                betas["betas_NV"][betas["nsd_id_N"] == i].astype(np.float32).mean(0)
                for i in clip["nsd_id_I"]
            ]
        )
        embedding_ID = decoder.decode(
            torch.from_numpy(mean_IV[:, inputs["voxel_rows_V"]]), subject
        ).embedding_ID.numpy()
        query_ID = unit(embedding_ID - inputs["mean_predicted_image_D"])
        gallery_ID = unit(clip["image_embedding_ID"].astype(float) - inputs["mean_image_D"])
        hits_I = (query_ID @ gallery_ID.T).argmax(axis=1) == np.arange(N_TEST)
        assert tree["subjects"][subject]["retrieval_all"]["image_given_brain"][
            "top1"
        ] == pytest.approx(hits_I.mean(), abs=1e-6)
        stored = read_predictions(world.at.predictions("demo"), group=subject)
        np.testing.assert_allclose(stored["embedding_ID"], embedding_ID, rtol=1e-5, atol=1e-6)
        scores.append(hits_I.mean())
    assert tree["retrieval_all"]["image_given_brain"]["top1"] == pytest.approx(
        np.mean(scores), abs=1e-6
    )


def test_tree_has_every_promised_score(world: World) -> None:
    tree = run(world)
    directions = {
        "image_given_brain",
        "brain_given_image",
        "text_given_brain",
        "text_given_brain_fixed",
    }
    for part in (tree, tree["subjects"]["subj01"], tree["reference"]["noise_free"]):
        for gallery in ("retrieval", "retrieval_hard", "retrieval_all"):
            assert set(part[gallery]) == directions
        assert part["zero_shot"]["chance"] == pytest.approx(1 / (N_CATEGORIES - 1))
        assert {"top1", "top1_ci95_low", "top1_ci95_high", "top5"} <= set(
            part["retrieval"]["text_given_brain"]
        )
        assert {"map", "map_ci95_low", "auc", "n_classes"} <= set(part["classification"])
    assert "hamming" not in tree["classification"]
    assert "unseen" not in tree
    assert (
        tree["parameters"]["deployed"]
        == load(world.models / "demo" / "subj01")[0].n_parameters()["deployed"]
    )
    noisy, clean = (
        t["retrieval"]["image_given_brain"]["top1"] for t in (tree, tree["reference"]["noise_free"])
    )
    assert 2 / EVALUATION.n_way < noisy < clean and clean > 0.95


def test_same_inputs_give_same_bytes(world: World) -> None:
    files = [world.at.metrics("demo"), world.at.predictions("demo")]
    run(world)
    before = [path.read_bytes() for path in files]
    run(world)
    assert [path.read_bytes() for path in files] == before


def test_scores_survive_the_predictions_file(world: World) -> None:
    tree = run(world)
    scores = read_scores(world.at.predictions("demo"), world.clip_test)
    for name in (
        "retrieval.text_given_brain.top1",
        "zero_shot.top1",
        "classification.map",
        "classification.auc",
    ):
        group, leaf = name.rsplit(".", 1)
        node = tree
        for part in group.split("."):
            node = node[part]
        found = mean_score([scores], name, EVALUATION.n_bootstrap, EVALUATION.seed)
        assert found.value == pytest.approx(node[leaf], abs=1e-5)
        assert found.low == pytest.approx(node[f"{leaf}_ci95_low"], abs=1e-5)
    assert paired_difference([(scores, scores)], "classification.map", 20).estimate.value == 0.0


def test_no_noise_free_no_reference(tmp_path: Path) -> None:
    assert "reference" not in run(write_world(tmp_path, noise_free=False))


def test_unseen_categories_are_scored_among_unseen_and_among_all(world: World) -> None:
    for subject in SUBJECTS:
        path = world.models / "demo" / subject / "split.json"
        path.write_text(json.dumps({"unseen_categories": ["category1", "category3"]}))
    unseen = run(world)["unseen"]
    assert unseen["zero_shot"]["only"]["chance"] == pytest.approx(0.5)
    assert unseen["zero_shot"]["all"]["chance"] == pytest.approx(0.2)
    assert (
        unseen["zero_shot"]["only"]["n_images"] == unseen["zero_shot"]["all"]["n_images"] < N_TEST
    )
    assert unseen["zero_shot"]["only"]["top1"] >= unseen["zero_shot"]["all"]["top1"]
    assert unseen["noise_free"]["zero_shot"]["only"]["top1"] > 0.5


def test_held_out_clusters_restrict_the_queries(world: World) -> None:
    clip = read_cache(world.clip_test)
    centroids_KD = clip["image_embedding_ID"][:3].astype(np.float32)
    for subject in SUBJECTS:
        path = world.models / "demo" / subject / "inputs.safetensors"
        save_file(
            load_file(path) | {"centroids_KD": centroids_KD, "heldout_clusters": np.array([2])},
            path,
        )
    tree = run(world)
    distance_IK = np.linalg.norm(
        clip["image_embedding_ID"].astype(float)[:, None] - centroids_KD, axis=2
    )
    held_out_I = distance_IK.argmin(axis=1) == 2
    assert tree["unseen"]["n_held_out_images"] == held_out_I.sum()
    scores = read_scores(world.at.predictions("demo"), world.clip_test)["subj01"].per_image
    every_I, own_I = (
        scores[f"{p}retrieval_all.image_given_brain.top1"][0] for p in ("", "unseen.")
    )
    np.testing.assert_array_equal(np.isfinite(own_I), held_out_I)
    np.testing.assert_array_equal(own_I[held_out_I], every_I[held_out_I])


class LogitsOnly(decoders.Decoder):
    """A decoder that offers nothing but category logits."""

    def predict(self, betas_IV: torch.Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        return Decoded(logits_IC=betas_IV[:, :N_CATEGORIES] - 0.5)

    def n_parameters(self) -> dict[str, int]:
        return {"trained": 1, "deployed": 1}


def test_only_what_is_offered_is_scored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "load", lambda folder: (LogitsOnly(), {}))
    tree = run(world)
    assert set(tree) == {"classification", "parameters", "reference", "subjects", "training"}
    assert 0 < tree["classification"]["hamming"] < 1
    stored = read_predictions(world.at.predictions("demo"), group="subj01")
    assert "embedding_ID" not in stored and stored["class_score_IC"].shape == (N_TEST, N_CATEGORIES)


class WithFacts(LogitsOnly):
    """One that also states numbers about itself, by subject."""

    def facts(self, subject: str) -> dict[str, float]:
        return {
            "input_map.explained_variance": {"subj01": 0.25}.get(subject, 0.75),
            "parameters.per_subject": 7.0,
        }


def test_what_a_decoder_states_stands_in_the_tree(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "load", lambda folder: (WithFacts(), {}))
    tree = run(world)
    assert tree["subjects"]["subj01"]["input_map"] == {"explained_variance": 0.25}
    assert tree["input_map"]["explained_variance"] == 0.5 and tree["parameters"]["per_subject"] == 7
    assert (
        tree["parameters"]["trained"] == 1
        and "explained_variance_ci95_low" not in tree["input_map"]
    )


def test_a_class_without_positives_changes_no_mean(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is said of a category that no test image shows, mAP, AUC and Hamming stay as they
    are.
    """
    trees = []
    unseen_C = ~read_cache(world.clip_test, ["labels_IC"])["labels_IC"].any(0)
    for shift in (0.0, 50.0):

        class Shifted(LogitsOnly):
            def decode(self, betas_IV: torch.Tensor, subject: str, shift: float = shift) -> Decoded:
                logits_IC = super().decode(betas_IV, subject).logits_IC
                assert logits_IC is not None
                logits_IC[:, unseen_C] += shift
                return Decoded(logits_IC=logits_IC)

        monkeypatch.setattr(model, "load", lambda folder, made=Shifted: (made(), {}))
        trees.append(run(world))
    assert unseen_C.any() and trees[0]["classification"] == trees[1]["classification"]


SHAPES = {"semantic_tokens_ITD": (5, 12), "detail_tokens_ITW": (5, 7), "text_tokens_IUD": (3, 12)}
STREAMS = {
    "fused": (5, 12),
    "semantic": (5, 12),
    "detail": (1, 7),
    "text": (3, 12),
}  # detail: its class token only


class TokensOnly(LogitsOnly):
    """Tokens that are a fixed linear map of the voxels, offset by 3."""

    def predict_tokens(self, betas_IV: torch.Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        generator, n_voxels = torch.Generator().manual_seed(1), betas_IV.shape[1]
        maps = {
            s: torch.randn(n_voxels, t * w, generator=generator) for s, (t, w) in STREAMS.items()
        }
        return Decoded(
            tokens={s: (betas_IV @ m).view(-1, *STREAMS[s]) + 3 for s, m in maps.items()}
        )


@pytest.fixture
def token_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cache of noisy tokens that the decoder would predict from the noise-free responses of
    subj01.
    """
    monkeypatch.setattr(model, "load", lambda folder: (TokensOnly(), {}))
    clip, rng = dict(read_cache(world.clip_test)), np.random.default_rng(0)
    betas = read_betas(world.paths("test")["subj01"])
    rows_V = load_file(world.models / "demo" / "subj01" / "inputs.safetensors")["voxel_rows_V"]
    order = np.argsort(betas["noise_free_nsd_id_I"])
    true_IV = torch.from_numpy(betas["noise_free_IV"][order][:, rows_V].astype(np.float32))
    tokens = TokensOnly().decode_tokens(true_IV, "subj01").tokens
    for name, stream in (
        ("semantic_tokens_ITD", "fused"),
        ("detail_tokens_ITW", "detail"),
        ("text_tokens_IUD", "text"),
    ):
        array = 6 * rng.standard_normal((N_TEST, *SHAPES[name]))
        array[:, : STREAMS[stream][0]] += tokens[stream].numpy() + 5
        clip[name] = array.astype(np.float16)
    write_cache(world.clip_test, clip, {"clip": "tiny"})
    for subject in SUBJECTS:
        path = world.models / "demo" / subject / "inputs.safetensors"
        means = {
            f"mean_predicted_tokens_{s}_TW": np.full(shape, 3, np.float32)
            for s, shape in STREAMS.items()
        }
        means |= {
            f"mean_tokens_{s}_TW": np.full(shape, 8, np.float32) for s, shape in STREAMS.items()
        }
        save_file(load_file(path) | means, path)
    return world


def test_token_retrieval_recomputed_from_the_files(
    token_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = run(token_world, subjects=("subj01",))
    clip = read_cache(token_world.clip_test)
    inputs = load_file(token_world.models / "demo" / "subj01" / "inputs.safetensors")
    betas = read_betas(token_world.paths("test")["subj01"])
    mean_IV = np.stack(
        [
            betas["betas_NV"][betas["nsd_id_N"] == i].astype(np.float32).mean(0)
            for i in clip["nsd_id_I"]
        ]
    )
    tokens = (
        TokensOnly()
        .decode_tokens(torch.from_numpy(mean_IV[:, inputs["voxel_rows_V"]]), "subj01")
        .tokens
    )
    branches = {
        "semantic": (
            tree["retrieval_tokens_all"]["semantic"]["image_given_brain"],
            "semantic_tokens_ITD",
        ),
        "fused": (
            tree["retrieval_tokens_all"]["fused"]["image_given_brain"],
            "semantic_tokens_ITD",
        ),
        "detail": (tree["retrieval_detail_all"]["image_given_brain"], "detail_tokens_ITW"),
        "text": (tree["retrieval_text_tokens_all"]["text_given_brain"], "text_tokens_IUD"),
    }
    for stream, (found, target) in branches.items():
        n_tokens = STREAMS[stream][0]
        query_IX = unit(tokens[stream].numpy().reshape(N_TEST, -1).astype(float) - 3)
        gallery_IX = unit(clip[target][:, :n_tokens].reshape(N_TEST, -1).astype(float) - 8)
        hits_I = (query_IX @ gallery_IX.T).argmax(axis=1) == np.arange(N_TEST)
        assert found["top1"] == pytest.approx(hits_I.mean(), abs=1e-6)
    assert tree["retrieval_tokens"]["fused"]["image_given_brain"]["top1"] > 0.3
    clean = tree["reference"]["noise_free"]["retrieval_tokens"]["fused"]["image_given_brain"]
    assert clean["top1"] > tree["retrieval_tokens"]["fused"]["image_given_brain"]["top1"]
    assert "tokens" not in " ".join(
        read_predictions(token_world.at.predictions("demo"), group="subj01")
    )
    monkeypatch.setattr(evaluation, "GALLERY_BYTES", 8 * 60 * 7)  # galleries of 7 images and fewer
    monkeypatch.setattr(evaluation, "QUERY_BYTES", 1)  # each block of predictions alone
    assert run(token_world, subjects=("subj01",)) == tree


def test_true_tokens_are_centred_once_for_all_that_share_them(
    token_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fused and semantic have one target and one mean; noisy and noise-free responses meet the same
    galleries.
    """
    centre_tokens, galleries = evaluation._centre_tokens, []

    def record(tokens_ITW: np.ndarray, mean_TW: np.ndarray) -> np.ndarray:
        galleries.append(float(mean_TW.flat[0]) == 8.0)  # predictions have another mean
        return centre_tokens(tokens_ITW, mean_TW)

    monkeypatch.setattr(evaluation, "_centre_tokens", record)
    tree = run(token_world, subjects=("subj01",))
    assert sum(galleries) == 3
    assert tree["reference"]["noise_free"]["retrieval_tokens"]["semantic"]
    monkeypatch.setattr(evaluation, "GALLERY_BYTES", 8 * 60 * 7)
    assert run(token_world, subjects=("subj01",)) == tree
    assert sum(galleries) > 3 + 2 * 4  # too large to be kept


def test_tokens_are_decoded_once_for_scores_and_readout(
    token_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass over the measured betas, one over the noise-free ones, whatever the tokens serve."""
    without = run(token_world, subjects=("subj01",))
    predict_tokens = TokensOnly.predict_tokens
    rows: list[int] = []

    def count(
        self: TokensOnly, betas_IV: torch.Tensor, subject: str, n_repeats: int = 1
    ) -> Decoded:
        rows.append(len(betas_IV))
        return predict_tokens(self, betas_IV, subject, n_repeats)

    monkeypatch.setattr(TokensOnly, "predict_tokens", count)
    nsd_id_I = read_cache(token_world.clip_test)["nsd_id_I"]
    luminance_IM = np.random.default_rng(0).random((N_TEST, 3)).astype(np.float32)
    maps = PictureMaps(nsd_id_I=nsd_id_I, maps={"luminance": luminance_IM})
    monkeypatch.setattr(evaluation, "load_maps", lambda path, ids: maps)
    settings = token_world.settings(("demo",), ("subj01",))
    tree = evaluation.evaluate_run("demo", settings, token_world.at)
    assert rows == [N_TEST, N_TEST]
    assert tree["retrieval_tokens"] == without["retrieval_tokens"]
    scores = read_scores(token_world.at.predictions("demo"), token_world.clip_test)["subj01"]
    model = load_model(token_world.models / "demo", "subj01")
    betas = read_betas(token_world.paths("test")["subj01"])
    mean_IV, _ = average_repeats(betas["betas_NV"], betas["nsd_id_N"])
    tokens = read_streams(
        model, "subj01", mean_IV[:, model.inputs["voxel_rows_V"]], ("fused", "detail")
    )
    expected = score_picture_readout(maps, nsd_id_I, None, tokens)
    assert set(expected.per_image) == {"readout.luminance", "readout_detail.luminance"}
    for name, (score_I, _) in expected.per_image.items():
        np.testing.assert_allclose(scores.per_image[name][0], score_I, rtol=1e-6)


def test_the_look_is_read_out_of_what_a_generator_gets() -> None:
    """Fused tokens, else semantic ones, else the embedding; detail tokens have their own row."""
    rng = np.random.default_rng(0)
    ids = np.arange(40)
    map_IM = rng.random((40, 2)).astype(np.float32)
    maps = PictureMaps(nsd_id_I=ids, maps={"luminance": map_IM})
    told = np.concatenate([map_IM, map_IM], axis=1)
    silent = rng.standard_normal((40, 4)).astype(np.float32)

    def explain(embedding_ID: np.ndarray | None, **tokens: np.ndarray) -> dict[str, bool]:
        shaped = {name: value[:, None] for name, value in tokens.items()}
        found = score_picture_readout(maps, ids, embedding_ID, shaped)
        return {name: np.nanmean(score_I) > 0.5 for name, (score_I, _) in found.per_image.items()}

    both = {"readout.luminance": True, "readout_detail.luminance": False}
    assert explain(silent, semantic=silent, fused=told, detail=silent) == both
    assert explain(silent, semantic=told, projected=silent) == {"readout.luminance": True}
    assert explain(told, detail=silent) == both
    assert explain(silent) == {"readout.luminance": False}


def test_tokens_come_in_blocks_of_rows(token_world: World) -> None:
    model = load_model(token_world.models / "demo", "subj01")
    betas_IV = (
        np.random.default_rng(0)
        .standard_normal((10, len(model.inputs["voxel_rows_V"])))
        .astype(np.float32)
    )
    whole = TokensOnly().decode_tokens(torch.from_numpy(betas_IV), "subj01").tokens
    blocks = list(decode_tokens(model, "subj01", betas_IV, n_block=4))
    assert [rows for rows, _ in blocks] == [slice(0, 4), slice(4, 8), slice(8, 12)]
    for stream in STREAMS:
        np.testing.assert_allclose(
            np.concatenate([t[stream] for _, t in blocks]), whole[stream], rtol=1e-5, atol=1e-5
        )


def test_a_cache_without_the_tokens_says_what_to_set(token_world: World) -> None:
    clip = {k: v for k, v in read_cache(token_world.clip_test).items() if "detail" not in k}
    write_cache(token_world.clip_test, clip, {"clip": "tiny"})
    with pytest.raises(
        ValueError, match=r"has no 'detail_tokens_ITW'.*set tokens of the clip to true"
    ):
        run(token_world)


class SharedEmbedding(LogitsOnly):
    """One embedding for images and texts, as a contrastive decoder has."""

    def predict(self, betas_IV: torch.Tensor, subject: str, n_repeats: int = 1) -> Decoded:
        embedding_ID = betas_IV[:, :12]
        return Decoded(embedding_ID=embedding_ID, text_embedding_ID=embedding_ID)


def test_shared_embedding_is_searched_for_text_without_a_second_zero_shot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "load", lambda folder: (SharedEmbedding(), {}))
    tree = run(world)
    assert "text_given_brain" in tree["retrieval"] and "zero_shot_text" not in tree
    assert "zero_shot_text" in run_original(world, monkeypatch)


def run_original(world: World, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.undo()
    return run(world)


def test_a_shared_model_serves_every_subject(world: World) -> None:
    own = world.models / "demo" / "subj01"
    expected = run(world, subjects=("subj01",))
    shared = world.models / "demo" / "shared"
    shared.mkdir()
    for name in ("weights.safetensors", "config.yaml"):
        (own / name).rename(shared / name)
    assert run(world, subjects=("subj01",)) == expected


def test_average_repeats_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    nsd_id_N = rng.choice([7, 3, 9, 40], 11)
    betas_NV = rng.standard_normal((11, 4)).astype(np.float16)
    mean_IV, nsd_id_I = average_repeats(betas_NV, nsd_id_N)
    assert mean_IV.dtype == np.float32 and list(nsd_id_I) == sorted(set(nsd_id_N))
    for row, nsd_id in zip(mean_IV, nsd_id_I, strict=True):
        np.testing.assert_allclose(
            row, betas_NV[nsd_id_N == nsd_id].astype(float).mean(axis=0), rtol=1e-5
        )


def test_average_captions_handles_order_and_missing_ones(world: World) -> None:
    clip = dict(read_cache(world.clip_test))
    order = np.random.default_rng(0).permutation(len(clip["caption_image_K"]))
    row_I = np.array([5, 0, 44])
    moved = clip | {name: clip[name][order] for name in ("caption_image_K", "text_embedding_KD")}
    mean_ID, _ = average_captions(moved, row_I)
    for row, mean_D in zip(row_I, mean_ID, strict=True):
        np.testing.assert_allclose(
            mean_D,
            unit(clip["text_embedding_KD"][clip["caption_image_K"] == row].astype(float).mean(0)),
        )
    _, fixed_ID = average_captions(clip, row_I, 4)
    last = np.flatnonzero(clip["caption_image_K"] == 5)[-1]
    np.testing.assert_array_equal(fixed_ID[0], clip["text_embedding_KD"][last].astype(float))
    keep_K = clip["caption_image_K"] != 44
    fewer = clip | {name: clip[name][keep_K] for name in ("caption_image_K", "text_embedding_KD")}
    np.testing.assert_allclose(average_captions(fewer, row_I[:2])[0], mean_ID[:2])
    with pytest.raises(ValueError, match=f"no caption of NSD id {clip['nsd_id_I'][44]}"):
        average_captions(fewer, row_I)


def test_other_voxels_than_trained_on_are_refused(world: World) -> None:
    path = world.paths("voxels")["subj02"]
    voxels = read_voxels(path)
    voxels["ijk_V3"][9] += 1
    write_voxels(path, voxels)
    with pytest.raises(ValueError, match="other voxels"):
        run(world)
    assert not (world.at.metrics("demo")).exists() and not (world.at.predictions("demo")).exists()


def test_missing_inputs_name_the_folder(world: World) -> None:
    (world.models / "demo" / "subj02" / "split.json").unlink()
    with pytest.raises(ValueError, match=r"subj02 has no split\.json"):
        run(world)


def test_betas_that_are_not_finite_name_the_file(world: World) -> None:
    path = world.paths("test")["subj01"]
    betas = read_betas(path)
    betas["betas_NV"][3, 5] = np.nan
    write_betas(path, betas)
    with pytest.raises(ValueError, match=r"subj01\.h5: betas are not all finite"):
        run(world)


def test_the_judge_is_asked_about_the_fit_that_it_was_fitted_to(world: World) -> None:
    """The second fit here is the first one, turned round: it tells as much, without any cosine; and
    the scores of the first do not move.
    """
    plain = run(world)
    turn_DD = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0]
    train = read_cache(world.clip_train)
    for subject in SUBJECTS:
        second = world.models / "demo" / model.JUDGE / subject
        shutil.copytree(world.models / "demo" / subject, second)
        weights = load_file(second / "weights.safetensors")
        turned = {name: (value @ turn_DD).astype(np.float32) for name, value in weights.items()}
        save_file(turned, second / "weights.safetensors")
        inputs = load_file(second / "inputs.safetensors")
        mean_D = (inputs["mean_predicted_image_D"] @ turn_DD).astype(np.float32)
        save_file({**inputs, "mean_predicted_image_D": mean_D}, second / "inputs.safetensors")
        betas = read_betas(world.paths("train")[subject])
        of_image = [betas["betas_NV"][betas["nsd_id_N"] == i] for i in train["nsd_id_I"]]
        mean_IV = np.stack([trials.astype(np.float32).mean(axis=0) for trials in of_image])
        decoded = model.decode(
            load_model(second.parent, subject), subject, mean_IV[:, inputs["voxel_rows_V"]]
        )
        target_JD = train["image_embedding_ID"].astype(np.float32)
        arrays = {
            name.replace("_ID", "_RJD"): np.stack([decoded[name]] * 3)
            for name in ("embedding_ID", "text_embedding_ID")
        }
        arrays |= {"nsd_id_J": train["nsd_id_I"], "image_JD": target_JD, "text_JD": target_JD}
        model.save_heldout(second, arrays)
    judged = run(world)
    assert judged["retrieval"] == plain["retrieval"] and "judge" not in plain
    cosine, channel = (
        judged["judge"][name]["retrieval_all"]["image_given_brain"]["top1"]
        for name in ("cosine", "channel")
    )
    assert cosine < 0.2 < channel
    assert channel > 0.9 * plain["retrieval_all"]["image_given_brain"]["top1"]
