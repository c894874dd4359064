from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fmri2clip import decoders
from fmri2clip.artefacts.clip_cache import CLIP, read_cache, read_clip, write_cache
from fmri2clip.artefacts.trials import BETAS, read_betas, read_voxels, write_betas, write_voxels
from fmri2clip.core import store
from fmri2clip.core.params import Split
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.stages.train.batches import EpochBatches, members, repeat_weights, text_ids
from fmri2clip.stages.train.data import JudgeImages, load_judge, load_subject
from fmri2clip.stages.train.validation import top1, training_means, validation_scores

N_IMAGES, N_VOXELS, WIDTH = 24, 10, 6
SPLIT = Split(n_validation=6, seed=0)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float16)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files of one subject who saw the images 3, 6, 9, ...; the cache holds more images, not in
    order.
    """
    rng = np.random.default_rng(0)
    seen = 3 * np.arange(1, N_IMAGES + 1)
    paths = {name: tmp_path / f"{name}.h5" for name in ("betas", "voxels", "clip")}
    order = rng.permutation(np.repeat(seen, 3))
    trials = np.arange(1, len(order) + 1)
    betas = rng.standard_normal((len(order), N_VOXELS)).astype(np.float16)
    numbers = {
        "session_N": np.ones_like(trials),
        "trial_N": trials,
        "repetition_N": np.ones_like(trials),
    }
    write_betas(paths["betas"], {"betas_NV": betas, "nsd_id_N": order, **numbers})
    low = np.arange(N_VOXELS) % 2 == 0
    voxels = {
        "ijk_V3": rng.integers(0, 20, (N_VOXELS, 3)),
        "roi_VG": np.stack([low, np.zeros_like(low), np.arange(N_VOXELS) > 5, low], 1),
        "roi_names_G": ["group/low", "group/none", "group/high", "floc-faces"],
        "ncsnr_V": np.ones(N_VOXELS, np.float32),
        "ncsnr_train_V": np.arange(N_VOXELS, dtype=np.float32),
        "mean_SV": np.arange(2 * N_VOXELS, dtype=np.float32).reshape(2, -1),
        "std_SV": np.ones((2, N_VOXELS), np.float32),
        "invalid_SV": np.zeros((2, N_VOXELS), bool),
    }
    write_voxels(paths["voxels"], voxels)
    cached = rng.permutation(np.concatenate([seen, seen + 1]))
    caption_image = rng.permutation(np.repeat(np.arange(len(cached)), 2))
    area = np.zeros((len(cached), 4), np.float32)
    area[np.arange(len(cached)), cached % 4] = 0.001
    clip = {
        "nsd_id_I": cached,
        "image_embedding_ID": unit(rng, len(cached), WIDTH),
        "text_embedding_KD": unit(rng, len(caption_image), WIDTH),
        "caption_K": [f"picture {cached[i]}" for i in caption_image],
        "caption_image_K": caption_image,
        "labels_IC": area > 0.005,
        "area_IC": area,
        "n_objects_I": np.ones(len(cached), np.int16),
        "category_C": ["cat", "dog", "cup", "bus"],
        "present_C": np.ones(4, bool),
        "prompt_P": ["{category}"],
        "prompt_embedding_PCD": unit(rng, 1, 4, WIDTH),
        "block_2_ITW": rng.standard_normal((len(cached), 3, 2)).astype(np.float16),
    }
    write_cache(paths["clip"], clip)
    return paths


def load(
    files: dict[str, Path], split: Split = SPLIT, group: str = "low", targets: tuple[str, ...] = ()
):
    clip = read_clip(files["clip"], targets)
    return load_subject(
        "subj01", files["betas"], files["voxels"], clip, group, split, targets=targets
    )


def test_labels_and_rois_come_with_the_data(files: dict[str, Path]) -> None:
    data, clip = load(files, group="high").data, read_cache(files["clip"])
    rows_I = [clip["nsd_id_I"].tolist().index(i) for i in data.nsd_id_I.tolist()]
    assert data.labels_IC is not None and np.array_equal(
        data.labels_IC.numpy(), clip["labels_IC"][rows_I]
    )
    assert set(data.rois) == {"floc-faces"} and set(data.groups) == {"low", "none", "high"}
    assert data.rois["floc-faces"].tolist() == [v % 2 == 0 for v in range(6, N_VOXELS)]


def test_what_reads_the_files_of_a_folder_goes_into_the_model(files: dict[str, Path]) -> None:
    before = load(files).inputs
    assert "betas_scale_1" not in before and "grid_3" not in before
    voxels = dict(read_voxels(files["voxels"]))
    voxels["mask_row_V"] = 2 * np.arange(len(voxels["ijk_V3"]))
    attrs = {"betas_scale": 12.5, "session_labels": '["b", "a"]', "n_mask_rows": 99}
    write_voxels(files["voxels"], voxels, {**attrs, "grid": "[3, 4, 5]"})
    found = load(files).inputs
    assert found["betas_scale_1"].tolist() == [12.5] and found["n_mask_rows_1"].tolist() == [99]
    assert found["session_labels_B"].tobytes() == b'["b", "a"]'
    assert np.array_equal(found["mask_row_V"], 2 * before["voxel_rows_V"])
    assert found["grid_3"].tolist() == [3, 4, 5] and "affine_44" not in found


def write_sessions(files: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
    """The same trials over four sessions; ids and sessions of the trials."""
    betas = dict(read_betas(files["betas"]))
    betas["session_N"] = 1 + np.arange(len(betas["nsd_id_N"])) * 4 // len(betas["nsd_id_N"])
    write_betas(files["betas"], betas)
    return betas["nsd_id_N"], betas["session_N"]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_first_sessions_alone_are_read(files: dict[str, Path], k: int) -> None:
    id_N, session_N = write_sessions(files)
    whole, part = load(files), load(files, replace(SPLIT, n_sessions=k))
    seen = set(id_N[session_N <= k])
    for which in ("train_I", "validation_I"):
        ids = [set(s.nsd_id_I[getattr(s.split, which)]) for s in (whole, part)]
        assert ids[1] == ids[0] & seen
    assert set(part.data.nsd_id_I.tolist()) == seen
    assert len(part.data.betas_NV) == (
        session_N <= k
    ).sum() and part.split.unused_I.sum() == N_IMAGES - len(seen)
    assert not (part.split.train_I & part.split.unused_I).any()
    rows_N = session_N <= k
    betas_NV = read_betas(files["betas"])["betas_NV"][rows_N][:, ::2].astype(np.float32)
    assert np.array_equal(part.data.betas_NV.numpy(), betas_NV)
    assert part.data.nsd_id_I[part.data.image_N].tolist() == id_N[rows_N].tolist()


def test_sessions_that_do_not_exist_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(
        ValueError, match=r"split\.n_sessions is 9, but .* has 1 sessions; take fewer"
    ):
        load(files, replace(SPLIT, n_sessions=9))


def test_every_row_belongs_to_its_image(files: dict[str, Path]) -> None:
    subject = load(files, targets=("block_2_ITW",))
    data, clip = subject.data, read_cache(files["clip"])
    betas = read_betas(files["betas"])
    assert data.betas_NV.shape == (3 * N_IMAGES, N_VOXELS // 2) and data.is_validation_I.sum() == 6
    for i, nsd_id in enumerate(data.nsd_id_I.tolist()):
        row = int(np.flatnonzero(clip["nsd_id_I"] == nsd_id)[0])
        expected = betas["betas_NV"][betas["nsd_id_N"] == nsd_id][:, ::2].astype(np.float32)
        assert np.array_equal(data.betas_NV[data.image_N == i], expected)
        assert np.allclose(data.image_embedding_ID[i], clip["image_embedding_ID"][row], atol=1e-3)
        assert np.array_equal(data.features["block_2_ITW"][i], clip["block_2_ITW"][row])
        own = np.flatnonzero(data.caption_image_K == i)
        assert {data.caption_K[k] for k in own} == {f"picture {nsd_id}"} and len(own) == 2
        expected = clip["text_embedding_KD"][clip["caption_image_K"] == row]
        assert np.allclose(data.text_embedding_KD[own], expected, atol=1e-3)
    assert torch.allclose(data.image_embedding_ID.norm(dim=1), torch.ones(N_IMAGES), atol=1e-6)
    assert subject.inputs["voxel_rows_V"].tolist() == [0, 2, 4, 6, 8]
    assert subject.inputs["session_mean_SV"][1].tolist() == [10, 12, 14, 16, 18]


def test_members_of_every_group_and_ncsnr_are_those_of_the_voxels_of_the_run(
    files: dict[str, Path],
) -> None:
    data = load(files).data  # voxels 0, 2, 4, 6, 8
    assert {name: member.tolist() for name, member in data.groups.items()} == {
        "low": [True] * 5,
        "none": [False] * 5,
        "high": [False, False, False, True, True],
    }
    assert data.ncsnr_V.tolist() == [0, 2, 4, 6, 8]


def test_a_target_is_the_first_of_its_names_that_the_cache_has(files: dict[str, Path]) -> None:
    data = load(files, targets=("block_1_ITW|block_2_ITW",)).data
    assert set(data.features) == {"block_2_ITW"}
    with pytest.raises(
        ValueError, match=r"has no 'text_tokens_IUD'; it has .*; set tokens of the clip to true"
    ):
        load(files, targets=("text_tokens_IUD",))


def test_left_out_and_unused_images_are_not_in_memory(files: dict[str, Path]) -> None:
    subject = load(files, replace(SPLIT, unseen_folds=4, unseen_fold=1, n_images=5))
    (name,) = subject.unseen
    index = ["cat", "dog", "cup", "bus"].index(name)
    assert len(subject.data.nsd_id_I) == 11 and not (subject.data.nsd_id_I % 4 == index).any()
    assert (
        subject.split.left_out_I.sum() == 6
    )  # counted by area: labels of these small objects are all False
    assert set(subject.data.caption_K) == {f"picture {i}" for i in subject.data.nsd_id_I.tolist()}
    assert len(subject.data.betas_NV) == 33 and subject.data.image_N.max() == 10


def test_permutation_moves_every_training_image_and_no_validation_image(
    files: dict[str, Path],
) -> None:
    true, null = load(files).data, load(files, replace(SPLIT, permute=True)).data
    assert torch.equal(true.nsd_id_I, null.nsd_id_I) and torch.equal(
        true.image_embedding_ID, null.image_embedding_ID
    )
    same_I = (true.mean_betas_IV == null.mean_betas_IV).all(1)
    assert torch.equal(same_I, true.is_validation_I)
    order = [
        x[~true.is_validation_I].sum(1).sort().values
        for x in (true.mean_betas_IV, null.mean_betas_IV)
    ]
    assert torch.allclose(*order)


def test_the_judges_pairs_are_permuted_too_unless_it_may_know(files: dict[str, Path]) -> None:
    """Each of its images has the brain of another of them, for 1, 2 and 3 trials alike."""
    clip = read_clip(files["clip"], ())
    split = replace(SPLIT, n_judge=20, n_validation=1)
    true, null, knows = (
        load_judge("subj01", files["betas"], files["voxels"], clip, "low", changed)
        for changed in (
            split,
            replace(split, permute=True),
            replace(split, permute=True, permute_judge=False),
        )
    )
    assert len(true.nsd_id_J) == 20 and np.array_equal(true.nsd_id_J, null.nsd_id_J)
    np.testing.assert_array_equal(true.image_JD, null.image_JD)
    np.testing.assert_array_equal(knows.betas_RJV, true.betas_RJV)
    for moved_JV, own_JV in zip(null.betas_RJV, true.betas_RJV, strict=True):
        assert not (moved_JV == own_JV).all(axis=1).any()
        assert sorted(map(tuple, moved_JV)) == sorted(map(tuple, own_JV))


@pytest.mark.parametrize("repetitions", [[1, 2, 3], [2, 3, 5], [3, 3, 3]])
def test_the_judge_takes_the_first_trials_whatever_their_numbers(
    files: dict[str, Path], repetitions: list[int]
) -> None:
    """Repetitions as the file states them; of one image the last trial is the only one."""
    betas = dict(read_betas(files["betas"]))
    for nsd_id in np.unique(betas["nsd_id_N"]):
        betas["repetition_N"][betas["nsd_id_N"] == nsd_id] = repetitions
    split = replace(SPLIT, n_judge=20, n_validation=1)

    def judge() -> JudgeImages:
        clip = read_clip(files["clip"], ())
        return load_judge("subj01", files["betas"], files["voxels"], clip, "low", split)

    single = judge().nsd_id_J[4]
    last = np.flatnonzero(betas["nsd_id_N"] == single)[:-1]
    write_betas(files["betas"], {name: np.delete(x, last, axis=0) for name, x in betas.items()})
    found = judge()
    for row, nsd_id in enumerate(found.nsd_id_J):
        trials = betas["betas_NV"][betas["nsd_id_N"] == nsd_id][:, ::2].astype(np.float32)
        trials = trials[-1:] if nsd_id == single else trials
        for n in (1, 2, 3):
            expected = trials[:n].mean(axis=0)
            np.testing.assert_allclose(found.betas_RJV[n - 1, row], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "clip",
            {"nsd_id_I": np.arange(1000, 1000 + 2 * N_IMAGES)},
            "lacks 24 of",
        ),
        (
            "clip",
            {"caption_image_K": np.zeros(4 * N_IMAGES, np.int32)},
            "training images have no caption",
        ),
        (
            "betas",
            {"betas_NV": np.full((3 * N_IMAGES, N_VOXELS), np.nan, np.float16)},
            "not finite",
        ),
        (
            "betas",
            {"betas_NV": np.zeros((3 * N_IMAGES, 3), np.float16)},
            "lists 10 voxels, the betas have 3",
        ),
    ],
)
def test_files_that_disagree_are_refused(files, kind: str, change: dict, message: str) -> None:
    schema = {"clip": CLIP, "betas": BETAS}[kind]
    store.write(files[kind], schema, {**store.read(files[kind], schema), **change})
    with pytest.raises(ValueError, match=message):
        load(files)


@pytest.mark.parametrize(
    ("group", "message"), [("lwo", "no voxel group 'lwo'; it has low"), ("none", "is empty")]
)
def test_voxel_group_must_exist_and_hold_voxels(
    files: dict[str, Path], group: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(files, group=group)


def test_epoch_shows_every_training_image_once_with_its_own_parts(tiny: TrainingData) -> None:
    batches = EpochBatches(tiny, 10, seed=1, epoch=4)
    steps = list(batches)
    assert len(steps) == len(batches) == 5 and {len(b.image_id_B) for b in steps} == {9, 10}
    ids = torch.cat([b.image_id_B for b in steps])
    assert sorted(ids.tolist()) == tiny.nsd_id_I[~tiny.is_validation_I].tolist()
    for batch in steps:
        for b, nsd_id in enumerate(batch.image_id_B.tolist()):
            i = nsd_id // 7
            assert torch.equal(batch.image_embedding_BD[b], tiny.image_embedding_ID[i])
            own = tiny.text_embedding_KD[tiny.caption_image_K == i]
            assert (own == batch.text_embedding_BD[b]).all(1).any()
            trials = tiny.betas_NV[tiny.image_N == i].T.numpy()
            weight = np.linalg.lstsq(trials, batch.betas_BV[b].numpy(), rcond=None)[0]
            assert np.allclose(trials @ weight, batch.betas_BV[b], atol=1e-4)
            assert weight.min() > -1e-4 and weight.sum() == pytest.approx(1, abs=1e-4)


def test_epoch_is_a_function_of_seed_and_epoch(tiny: TrainingData) -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(iter(EpochBatches(tiny, 10, seed, epoch))).betas_BV

    batches = EpochBatches(tiny, 10, 1)
    list(batches)
    batches.epoch = 2
    assert torch.equal(next(iter(batches)).betas_BV, first(1, 2))
    assert not torch.equal(first(1, 2), first(1, 3)) and not torch.equal(first(1, 2), first(2, 2))


def test_two_subjects_share_an_epoch_step_by_step(tiny: TrainingData) -> None:
    other = replace(tiny, subject="subj02", betas_NV=tiny.betas_NV[:, :7])
    steps = list(EpochBatches([tiny, other], 10, seed=0))
    assert [b.subject for b in steps] != sorted(b.subject for b in steps)
    assert [b.betas_BV.shape[1] for b in steps] == [
        30 if b.subject == "subj01" else 7 for b in steps
    ]


def test_shares_of_convex_mean_and_single() -> None:
    valid = np.ones((4000, 3), bool)
    weights = repeat_weights(valid, 0.5, 0.3, np.random.default_rng(0))
    single, mean = (weights == 1).any(1), np.isclose(weights, 1 / 3).all(1)
    assert np.allclose(weights.sum(1), 1, atol=1e-6)
    assert single.mean() == pytest.approx(0.2, abs=0.02) and mean.mean() == pytest.approx(
        0.3, abs=0.02
    )
    assert np.allclose(weights[~single & ~mean].mean(0), 1 / 3, atol=0.02)
    assert np.allclose(weights[single].mean(0), 1 / 3, atol=0.05)


@pytest.mark.parametrize(("convex", "mean"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_a_missing_repeat_has_no_weight(convex: float, mean: float) -> None:
    valid = np.array([[True, False, False], [True, True, False]])
    weights = repeat_weights(valid, convex, mean, np.random.default_rng(0))
    assert not weights[~valid].any() and np.allclose(weights.sum(1), 1)


def test_members_lists_each_group() -> None:
    assert members(np.array([1, 0, 1, 2, 1]), 3).tolist() == [[1, -1, -1], [0, 2, 4], [3, -1, -1]]


def test_equal_captions_have_equal_ids() -> None:
    ids = text_ids(["A cat.", "a  cat. ", "a dog."])
    assert ids[0] == ids[1] != ids[2]


def test_top1_matches_argsort_and_shares_ties() -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.standard_normal((40, 5)), rng.standard_normal((40, 5))
    gallery += 2 * query
    cosine = np.corrcoef(np.c_[query, -query], np.c_[gallery, -gallery])[
        :40, 40:
    ]  # mirrored rows have mean 0
    expected = (np.argsort(-cosine, 1)[:, 0] == np.arange(40)).mean()
    assert 0.2 < expected < 1 and top1(torch.tensor(query), torch.tensor(gallery)) == pytest.approx(
        expected
    )
    assert top1(torch.ones(4, 3), torch.ones(4, 3)) == pytest.approx(1 / 4)


class Oracle(decoders.Decoder):
    """Decodes the true image embedding, moved by a constant; its text embedding is the same
    constant for all.
    """

    def __init__(self, data: TrainingData) -> None:
        super().__init__()
        self.data = data

    def predict(self, betas_IV: torch.Tensor, subject: str, n_repeats: int = 1):
        from fmri2clip.decoders.batches import Decoded

        rows = [int((self.data.mean_betas_IV == beta).all(1).nonzero()[0, 0]) for beta in betas_IV]
        return Decoded(self.data.image_embedding_ID[rows] + 5, torch.ones(len(rows), 8))


def test_validation_scores_centre_predictions_by_their_own_mean(tiny: TrainingData) -> None:
    scores = validation_scores(Oracle(tiny), tiny)
    assert (
        scores["val_image_top1"] == 1.0
        and scores["val_mean"] == (1.0 + scores["val_text_top1"]) / 2
    )
    means = training_means(Oracle(tiny), tiny)
    assert torch.allclose(means["mean_predicted_image_D"], means["mean_image_D"] + 5, atol=1e-5)
