"""Training data of a subject in memory, and the batches of an epoch drawn from it.

The test set is sealed: only files of training trials and training images are opened here. Axis
letters: N trials, I images, V voxels, D embedding width, K captions, C categories, G ROI groups, R
repeats, P captions of one image, B images of a batch, S sessions.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmri2clip.artefacts.trials import average_repeats, read_betas, read_voxels
from fmri2clip.clip.clusters import Clusters
from fmri2clip.core import store
from fmri2clip.core.params import Split
from fmri2clip.core.rows import find_rows
from fmri2clip.datasets.nsd.layout import REPETITIONS
from fmri2clip.decoders.batches import Batch, MixedBatch, TrainingData
from fmri2clip.stages.train.split import SplitResult, derangement, make_split
from fmri2clip.stages.train.targets import select_images

Array = NDArray[Any]
GROUP = "group/"  # in front of the names of ROI groups in a voxel file


@dataclass(frozen=True)
class Subject:
    """Data of one subject with what the model folder keeps about it."""

    data: TrainingData
    split: SplitResult
    nsd_id_I: Array  # all training images of the subject, the axis of `split`
    inputs: dict[str, Array]  # ijk_V3, voxel_rows_V, session_mean_SV, session_std_SV
    unseen: list[str]  # names of the unseen categories


def load_subject(
    subject: str,
    rois_train: Path,
    voxels: Path,
    clip: store.Arrays,
    group: str,
    split: Split,
    clusters: Clusters | None = None,
    targets: Sequence[str] = (),
    hide_judge: bool = False,
) -> Subject:
    """Read one subject's training trials of one voxel group and join them with the CLIP cache.

    group: name in params `rois`; hide_judge: without the images of the judge. With split.permute,
    all trials of a training image go to another training image. Raises ValueError if files disagree
    or a value is not finite.
    """
    betas = read_betas(rois_train, ["betas_NV", "nsd_id_N", "session_N"])
    inputs, members, ncsnr_V = _select_voxels(voxels, group, betas["betas_NV"].shape[1])
    nsd_id_I = np.unique(betas["nsd_id_N"])
    rows_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the training images")
    # An unseen category must not show at all: any area counts, also below labels.min_area.
    visible_IC = clip["labels_IC"][rows_I] | (clip["area_IC"][rows_I] > 0)
    embedding_ID = clip["image_embedding_ID"][rows_I]
    result = make_split(
        nsd_id_I, visible_IC, embedding_ID, clip["present_C"], split, clusters, hide_judge
    )
    image_N = np.searchsorted(nsd_id_I, betas["nsd_id_N"])
    # The images stay where the split puts them; only whose trials they get changes.
    if split.permute:
        image_N = _permuted(result.train_I, split.seed)[image_N]
    used_N = _first_sessions(betas["session_N"], split.n_sessions, rois_train)
    if split.n_sessions:
        seen_I = np.bincount(image_N[used_N], minlength=len(nsd_id_I)) > 0
        result = _restrict(result, seen_I, subject)
    kept_I = result.train_I | result.validation_I
    keep_N = kept_I[image_N] & used_N
    # Trials as rows in memory: NumPy leaves them as columns here, which doubles the time of every
    # batch.
    betas_NV = np.ascontiguousarray(
        betas["betas_NV"][keep_N][:, inputs["voxel_rows_V"]], dtype=np.float32
    )
    if not np.isfinite(betas_NV).all():
        raise ValueError(
            f"{rois_train} has values that are not finite among the voxels of {group!r}; "
            "extract it again"
        )
    # Row of a kept image among the kept ones; those of the others are never asked for.
    new_row_I = np.cumsum(kept_I) - 1
    data = TrainingData(
        subject=subject,
        betas_NV=torch.from_numpy(betas_NV),
        image_N=torch.from_numpy(new_row_I[image_N[keep_N]]),
        nsd_id_I=torch.from_numpy(nsd_id_I[kept_I].astype(np.int64)),
        is_validation_I=torch.from_numpy(result.validation_I[kept_I]),
        groups={
            name.removeprefix(GROUP): torch.from_numpy(member_V)
            for name, member_V in members.items()
            if name.startswith(GROUP)
        },
        rois={
            name: torch.from_numpy(member_V)
            for name, member_V in members.items()
            if not name.startswith(GROUP)
        },
        ncsnr_V=torch.from_numpy(ncsnr_V),
        **select_images(clip, rows_I[kept_I], targets),
    )
    unseen = [str(clip["category_C"][c]) for c in result.unseen_C]
    return Subject(data, result, nsd_id_I, inputs, unseen)


@dataclass(frozen=True, kw_only=True)
class JudgeImages:
    """Images of one subject that the judge is fitted on.

    betas_RJV: mean of the first 1, 2 and 3 trials of each; image_JD, text_JD: CLIP embeddings, of
    the picture and the mean of its captions.
    """

    subject: str
    nsd_id_J: Array
    betas_RJV: Array
    image_JD: Array
    text_JD: Array


def load_judge(
    subject: str,
    rois_train: Path,
    voxels: Path,
    clip: store.Arrays,
    group: str,
    split: Split,
    clusters: Clusters | None = None,
) -> JudgeImages:
    """As load_subject, the images that it leaves out with hide_judge, which show all their trials.

    Their brains are their own, with split.permute too: a decoder that knows nothing must find
    nothing.
    """
    betas = read_betas(rois_train, ["betas_NV", "nsd_id_N", "repetition_N"])
    inputs, _, _ = _select_voxels(voxels, group, betas["betas_NV"].shape[1])
    nsd_id_I = np.unique(betas["nsd_id_N"])
    rows_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the training images")
    visible_IC = clip["labels_IC"][rows_I] | (clip["area_IC"][rows_I] > 0)
    embedding_ID = clip["image_embedding_ID"][rows_I]
    judge_I = make_split(
        nsd_id_I, visible_IC, embedding_ID, clip["present_C"], split, clusters
    ).judge_I
    nsd_id_J = nsd_id_I[judge_I]
    means = []
    for n_repeats in range(1, REPETITIONS + 1):
        kept_N = np.isin(betas["nsd_id_N"], nsd_id_J) & (betas["repetition_N"] <= n_repeats)
        mean_JV, _ = average_repeats(
            betas["betas_NV"][kept_N][:, inputs["voxel_rows_V"]], betas["nsd_id_N"][kept_N]
        )
        means.append(mean_JV)
    targets = select_images(clip, rows_I[judge_I], ())
    text_JD = torch.zeros_like(targets["image_embedding_ID"])
    text_JD.index_add_(0, targets["caption_image_K"], targets["text_embedding_KD"])
    return JudgeImages(
        subject=subject,
        nsd_id_J=nsd_id_J,
        betas_RJV=np.stack(means),
        image_JD=targets["image_embedding_ID"].numpy(),
        text_JD=torch.nn.functional.normalize(text_JD, dim=1).numpy(),
    )


def _select_voxels(
    path: Path, group: str, n_columns: int
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """(inputs, members, ncsnr_V) of the voxels of a ROI group.

    inputs: their columns, coordinates and session statistics; members: which of them lie in each
    ROI.
    """
    voxels = read_voxels(
        path, ["ijk_V3", "roi_VG", "roi_names_G", "mean_SV", "std_SV", "ncsnr_train_V"]
    )
    groups = {
        name.removeprefix(GROUP): k
        for k, name in enumerate(voxels["roi_names_G"])
        if name.startswith(GROUP)
    }
    if group not in groups:
        raise ValueError(f"{path} has no voxel group {group!r}; it has {', '.join(groups)}")
    if len(voxels["ijk_V3"]) != n_columns:
        raise ValueError(
            f"{path} lists {len(voxels['ijk_V3'])} voxels, the betas have {n_columns}; "
            "extract both again"
        )
    rows_V = np.flatnonzero(voxels["roi_VG"][:, groups[group]])
    if not len(rows_V):
        raise ValueError(
            f"{path}: voxel group {group!r} is empty; choose another for runs.<run>.voxels"
        )
    statistics = {f"session_{name}_SV": voxels[f"{name}_SV"][:, rows_V] for name in ("mean", "std")}
    inputs = {"ijk_V3": voxels["ijk_V3"][rows_V], "voxel_rows_V": rows_V, **statistics}
    members = {
        str(name): voxels["roi_VG"][rows_V, k] for k, name in enumerate(voxels["roi_names_G"])
    }
    return inputs, members, voxels["ncsnr_train_V"][rows_V]


def _first_sessions(session_N: Array, n_sessions: int, path: Path) -> Array:
    """Trials of the first n_sessions sessions, 0 for all. Raises ValueError if there are fewer."""
    if n_sessions > session_N.max():
        raise ValueError(
            f"split.n_sessions is {n_sessions}, but {path} has {session_N.max()} sessions; "
            "take fewer"
        )
    return np.logical_or(session_N <= n_sessions, n_sessions == 0)


def _restrict(split: SplitResult, seen_I: Array, subject: str) -> SplitResult:
    """The split among images that trials show.

    Validation images are among the seen too: the rest is unknown here.
    """
    train_I = split.train_I & seen_I
    validation_I = split.validation_I & seen_I
    if train_I.sum() < 2 or not validation_I.any():
        raise ValueError(
            f"{subject}: the sessions of split.n_sessions show {train_I.sum()} training and "
            f"{validation_I.sum()} validation images; "
            "take more sessions, or a larger n_validation"
        )
    unused_I = split.unused_I | ~(seen_I | split.left_out_I)
    return replace(split, train_I=train_I, validation_I=validation_I, unused_I=unused_I)


def _permuted(train_I: Array, seed: int) -> Array:
    """Row of the image that gets the trials of each image: a derangement of the training images."""
    rows = np.arange(len(train_I))
    train = np.flatnonzero(train_I)
    rows[train] = train[derangement(len(train), seed)]
    return rows


def text_ids(captions: Sequence[str]) -> Array:
    """Equal numbers for equal captions, case and spacing aside: CLIP's tokenizer drops them."""
    plain = [" ".join(text.lower().split()) for text in captions]
    return np.unique(plain, return_inverse=True)[1]


class EpochBatches:
    """Batches of one epoch; a pure function of (seed, epoch). Set `epoch`, then iterate.

    Each training image of each subject occurs once, in steps of nearly equal size, at most
    batch_size. An image shows a random convex combination of its repeats (weights uniform on the
    simplex; share `convex`), their mean (share `mean`) or a single repeat (the rest), and one of
    its captions. Steps of several subjects come in random order.
    """

    def __init__(
        self,
        data: TrainingData | Sequence[TrainingData],
        batch_size: int,
        seed: int,
        epoch: int = 0,
        convex: float = 0.5,
        mean: float = 0.3,
    ) -> None:
        self.data = [data] if isinstance(data, TrainingData) else list(data)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.convex = convex
        self.mean = mean
        # Which rows belong to which image is the same in every epoch, so it is found once.
        self.train = [np.flatnonzero((~d.is_validation_I).cpu().numpy()) for d in self.data]
        self.trials = [members(d.image_N.cpu().numpy(), len(d.nsd_id_I)) for d in self.data]
        self.captions = [
            members(d.caption_image_K.cpu().numpy(), len(d.nsd_id_I)) for d in self.data
        ]
        self.text_ids = [
            torch.from_numpy(text_ids(d.caption_K)).to(d.image_N.device) for d in self.data
        ]

    @property
    def streams(self) -> bool:
        """Whether features come batch by batch, from another device than the betas are on."""
        return any(
            value.device != d.betas_NV.device for d in self.data for value in d.features.values()
        )

    def __len__(self) -> int:
        return sum(-(-len(rows) // self.batch_size) for rows in self.train)

    def __iter__(self) -> Iterator[Batch]:
        # From (seed, epoch) alone: a training that was killed and goes on at this epoch draws what
        # it would have drawn.
        rng = np.random.default_rng([self.seed, self.epoch])
        steps = []
        for s, rows in enumerate(self.train):
            chunks = np.array_split(rng.permutation(rows), -(-len(rows) // self.batch_size))
            steps += [(s, chunk) for chunk in chunks]
        # The steps of one subject are in random order already.
        order = rng.permutation(len(steps)) if len(self.data) > 1 else range(len(steps))
        for index in order:
            yield self._batch(*steps[index], rng)

    def _batch(self, s: int, rows_B: Array, rng: np.random.Generator) -> Batch:
        data = self.data[s]
        device = data.betas_NV.device
        trial_BR = self.trials[s][rows_B]
        caption_BP = self.captions[s][rows_B]
        weights = repeat_weights(trial_BR >= 0, self.convex, self.mean, rng)
        weight_BR = torch.from_numpy(weights).to(device)
        # -1 stands for no repeat: trial 0 is read in its place, with weight 0.
        betas_BRV = data.betas_NV[torch.from_numpy(trial_BR.clip(min=0)).to(device)]
        # A caption of each image, all of its own equally likely.
        pick_B = (rng.random(len(rows_B)) * (caption_BP >= 0).sum(1)).astype(np.int64)
        caption_B = torch.from_numpy(caption_BP[np.arange(len(rows_B)), pick_B]).to(device)
        rows = torch.from_numpy(rows_B)
        image_B = rows.to(device)
        return Batch(
            subject=data.subject,
            betas_BV=torch.einsum("brv,br->bv", betas_BRV, weight_BR),
            image_embedding_BD=data.image_embedding_ID[image_B],
            text_embedding_BD=data.text_embedding_KD[caption_B],
            image_id_B=data.nsd_id_I[image_B],
            text_id_B=self.text_ids[s][caption_B],
            features={name: _take(value, rows, image_B) for name, value in data.features.items()},
            mean_text_BD=data.mean_text_ID[image_B],
            labels_BC=None if data.labels_IC is None else data.labels_IC[image_B].float(),
        )


def _take(value_IX: Tensor, rows_B: Tensor, image_B: Tensor) -> Tensor:
    """Rows of a feature on the device of image_B, which may not be that of the feature.

    From pinned memory: then neither reading it nor the copy to a GPU holds up the thread that
    computes (on the GPU, the copy waits for the step before).
    """
    if value_IX.device == image_B.device:
        return value_IX[image_B]
    taken = value_IX[rows_B]
    if image_B.device.type == "cuda":
        taken = taken.pin_memory()
    return taken.to(image_B.device, non_blocking=True)


class MixedBatches(EpochBatches):
    """Batches of one epoch that mix subjects: equally many images (to one) of each in every step.

    An epoch shows each image of the subject with most images once; another subject starts over when
    all its images have been shown. Subjects stand in order of their names and draw from generators
    of their own, so the order in which they are given changes nothing, and the batches are a pure
    function of (seed, epoch).
    """

    def __init__(
        self, data: Sequence[TrainingData], batch_size: int, seed: int, *rest: Any
    ) -> None:
        super().__init__(sorted(data, key=lambda d: d.subject), batch_size, seed, *rest)
        if batch_size < len(self.data):
            raise ValueError(
                f"batch_size is {batch_size}, "
                f"expected at least one image of each of {len(data)} subjects"
            )

    def __len__(self) -> int:
        return -(-max(map(len, self.train)) * len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[MixedBatch]:  # type: ignore[override]
        # A generator for each name: a subject's draws do not depend on who else is there.
        rngs = [
            np.random.default_rng([self.seed, self.epoch, zlib.crc32(d.subject.encode())])
            for d in self.data
        ]
        steps = [np.array_split(self._order(s, rng), len(self)) for s, rng in enumerate(rngs)]
        for chunks in zip(*steps, strict=True):
            yield MixedBatch([self._batch(s, rows_B, rngs[s]) for s, rows_B in enumerate(chunks)])

    def _order(self, s: int, rng: np.random.Generator) -> Array:
        """Images of one subject, as many as the largest subject has, in shuffle after shuffle."""
        rows = self.train[s]
        n = max(map(len, self.train))
        n_shuffles = -(-n // len(rows))  # rounded up
        return np.concatenate([rng.permutation(rows) for _ in range(n_shuffles)])[:n]


def members(group: Array, n: int) -> Array:
    """Indices of the members of each of n groups, one group a row, filled up with -1."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=n)
    column = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((n, counts.max()), -1, dtype=np.int64)
    table[group[order], column] = order
    return table


def repeat_weights(valid_BR: Array, convex: float, mean: float, rng: np.random.Generator) -> Array:
    """Weights of the repeats of each image, float32; rows sum to 1, 0 where there is no repeat."""
    # Normalised exponentials are uniform on the simplex, and the largest of them is a uniform
    # choice.
    draws_BR = rng.exponential(size=valid_BR.shape) * valid_BR
    single_BR = np.arange(valid_BR.shape[1]) == draws_BR.argmax(1)[:, None]
    # All three kinds are weights; one number an image says which of them it gets.
    kind_B1 = rng.random((len(valid_BR), 1))
    chosen_BR = np.where(
        kind_B1 < convex, draws_BR, np.where(kind_B1 < convex + mean, valid_BR, single_BR)
    )
    return (chosen_BR / chosen_BR.sum(1, keepdims=True)).astype(np.float32)
