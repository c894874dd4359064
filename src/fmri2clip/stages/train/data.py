"""Training data of a subject in memory, and the images that the judge is fitted on.

The test set is sealed: only files of training trials and training images are opened here. Axis
letters: N trials, I images, V voxels, D embedding width, K captions, C categories, G ROI groups, R
repeats, S sessions, J images of the judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.trials import average_repeats, read_betas, read_voxels
from fmri2clip.clip.clusters import Clusters
from fmri2clip.core import store
from fmri2clip.core.params import Split
from fmri2clip.core.rows import find_rows
from fmri2clip.datasets.nsd.layout import REPETITIONS
from fmri2clip.decoders.batches import Basis, TrainingData
from fmri2clip.stages.train.library import load_pictures
from fmri2clip.stages.train.split import SplitResult, derangement, make_split
from fmri2clip.stages.train.targets import select_images

Array = NDArray[Any]
TOKEN_SCORES = "semantic_components_IP"
GROUP = "group/"  # in front of the names of ROI groups in a voxel file


@dataclass(frozen=True)
class Subject:
    """Data of one subject with what the model folder keeps about it."""

    data: TrainingData
    split: SplitResult
    nsd_id_I: Array  # all training images of the subject, the axis of `split`
    # ijk_V3, voxel_rows_V, session_mean_SV, session_std_SV; what `find_origin` gives
    inputs: dict[str, Array]
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
    bases: Mapping[str, Basis] | None = None,
    hide_judge: bool = False,
    library: Sequence[Path] = (),
    held_elsewhere: Sequence[int] | Array = (),
) -> Subject:
    """Read one subject's training trials of one voxel group and join them with the CLIP cache.

    group: name in params `rois`; bases: of the scores among the targets; hide_judge: without the
    images of the judge; library: files of the pictures that its model may weigh; held_elsewhere:
    ids that may not train. With split.permute, all trials of a training image go to another
    training image. Raises ValueError if files disagree or a value is not finite.
    """
    betas = read_betas(rois_train, ["betas_NV", "nsd_id_N", "session_N"])
    inputs, members, ncsnr_V = _select_voxels(voxels, group, betas["betas_NV"].shape[1])
    nsd_id_I = np.unique(betas["nsd_id_N"])
    rows_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the training images")
    result = _split_images(nsd_id_I, clip, rows_I, split, clusters, hide_judge, held_elsewhere)
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
        bases=dict(bases or {}),
        library=load_pictures(library, nsd_id_I, kept_I),
        **select_images(clip, rows_I[kept_I], targets),
    )
    unseen = [str(clip["category_C"][c]) for c in result.unseen_C]
    return Subject(data, result, nsd_id_I, inputs, unseen)


@dataclass(frozen=True, kw_only=True)
class JudgeImages:
    """Images of one subject that the judge is fitted on.

    betas_RJV: mean of the first 1, 2 and 3 trials that there are of each; image_JD, text_JD: CLIP
    embeddings, of the picture and the mean of its captions; scores_JP: of the picture's tokens on
    their components, None where the clip has none.
    """

    subject: str
    nsd_id_J: Array
    betas_RJV: Array
    image_JD: Array
    text_JD: Array
    scores_JP: Array | None = None


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

    With split.permute their brains are those of others among them, unless split.permute_judge is
    false: the judge learns from true pairs, and finds something by itself.
    """
    betas = read_betas(rois_train, ["betas_NV", "nsd_id_N"])
    inputs, _, _ = _select_voxels(voxels, group, betas["betas_NV"].shape[1])
    nsd_id_I = np.unique(betas["nsd_id_N"])
    rows_I = find_rows(clip["nsd_id_I"], nsd_id_I, "the CLIP cache of the training images")
    judge_I = _split_images(nsd_id_I, clip, rows_I, split, clusters).judge_I
    nsd_id_J = nsd_id_I[judge_I]
    is_judge_N = np.isin(betas["nsd_id_N"], nsd_id_J)
    place_N = _count_places(betas["nsd_id_N"])
    means = []
    for n_repeats in range(1, REPETITIONS + 1):
        kept_N = is_judge_N & (place_N < n_repeats)
        mean_JV, _ = average_repeats(
            betas["betas_NV"][kept_N][:, inputs["voxel_rows_V"]], betas["nsd_id_N"][kept_N]
        )
        means.append(mean_JV)
    betas_RJV = np.stack(means)
    if split.permute and split.permute_judge:
        betas_RJV = betas_RJV[:, derangement(len(nsd_id_J), split.seed)]
    targets = select_images(clip, rows_I[judge_I], ())
    text_JD = torch.zeros_like(targets["image_embedding_ID"])
    text_JD.index_add_(0, targets["caption_image_K"], targets["text_embedding_KD"])
    return JudgeImages(
        subject=subject,
        nsd_id_J=nsd_id_J,
        betas_RJV=betas_RJV,
        image_JD=targets["image_embedding_ID"].numpy(),
        text_JD=torch.nn.functional.normalize(text_JD, dim=1).numpy(),
        scores_JP=clip[TOKEN_SCORES][rows_I[judge_I]] if TOKEN_SCORES in clip else None,
    )


def _split_images(
    nsd_id_I: Array,
    clip: store.Arrays,
    rows_I: Array,
    split: Split,
    clusters: Clusters | None,
    hide_judge: bool = False,
    held_elsewhere: Sequence[int] | Array = (),
) -> SplitResult:
    """The split of a subject's training images, which are rows_I of the CLIP cache."""
    # An unseen category must not show at all: any area counts, also below labels.min_area.
    visible_IC = clip["labels_IC"][rows_I] | (clip["area_IC"][rows_I] > 0)
    embedding_ID = clip["image_embedding_ID"][rows_I]
    return make_split(
        nsd_id_I,
        visible_IC,
        embedding_ID,
        clip["present_C"],
        split,
        clusters,
        hide_judge,
        held_elsewhere,
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
    inputs |= find_origin(path, voxels.attrs, rows_V)
    members = {
        str(name): voxels["roi_VG"][rows_V, k] for k, name in enumerate(voxels["roi_names_G"])
    }
    return inputs, members, voxels["ncsnr_train_V"][rows_V]


def find_origin(path: Path, attrs: store.Attrs, rows_V: Array) -> dict[str, Array]:
    """What a voxel file says of a folder's files, so that the model can read them; else nothing.

    betas_scale_1: stored numbers are betas times this; session_labels_B: a JSON list in UTF-8;
    mask_row_V, n_mask_rows_1: rows of the model's voxels among all; grid_3, affine_44: of volumes.
    """
    if "betas_scale" not in attrs:
        return {}
    found = {
        "betas_scale_1": np.array([attrs["betas_scale"]]),
        "session_labels_B": np.frombuffer(str(attrs["session_labels"]).encode(), dtype=np.uint8),
        "mask_row_V": read_voxels(path, ["mask_row_V"])["mask_row_V"][rows_V],
        "n_mask_rows_1": np.array([attrs["n_mask_rows"]]),
    }
    for name, key in (("grid", "grid_3"), ("affine", "affine_44")):
        if name in attrs:
            found[key] = np.array(json.loads(str(attrs[name])))
    return found


def _count_places(nsd_id_N: Array) -> Array:
    """0 for the first trial of an image, 1 for its second, ...: in the file an image may lack
    repetitions, those of sessions that are not there or any that own data state.
    """
    order = np.argsort(nsd_id_N, kind="stable")
    sorted_N = nsd_id_N[order]
    place_N = np.empty_like(order)
    place_N[order] = np.arange(len(order)) - np.searchsorted(sorted_N, sorted_N)
    return place_N


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
