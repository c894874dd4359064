"""How large the data are, from parameters alone: trials, pictures, voxels, features, files.

Letters: N trials, I images, V voxels, C categories, D embedding width, T tokens, W token width, U
text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.clip.names import read_architecture
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core.params import Clip, Params
from fmri2clip.datasets.interface import GROUP_PREFIX
from fmri2clip.datasets.mini.volume import BRAIN_FRACTION, GRIDS, VOXEL_RATIO, make_volume
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.voxels import roi_groups

Members = Mapping[str, NDArray[np.bool_]]  # group or ROI -> members among V
HALF = 2  # bytes of float16
SINGLE = 4  # bytes of float32
N_CATEGORIES = 80  # of COCO
N_CAPTIONS = 5  # of a picture
# Longest caption in bytes, which each of them takes in our files: in NSD's part of COCO about 250.
CAPTION_BYTES = {"simulated": 98, "s3": 250, "folder": 250}
# Voxels of the brain masks of the release, subjects 1 to 8, func1pt8mm.
BRAIN_VOXELS = (370503, 343107, 358199, 329650, 302566, 412281, 296155, 321595)
HDF5_OVERHEAD = 1.051  # of betas whose chunks hold one voxel each: the index of the chunks
NIFTI_PACKED = 0.867  # of the brain's int16 betas: measured on noise like theirs
# Sessions of the release -> trials and images of training, trials and images of the test set:
# counted in nsd_expdesign.mat, whose order of trials all subjects share.
SEEN = {
    1: (688, 536, 62, 47),
    3: (2049, 1431, 201, 145),
    27: (18265, 7907, 1985, 872),
    29: (19637, 8188, 2113, 894),
    30: (20312, 8302, 2188, 907),
    32: (21629, 8481, 2371, 930),
    37: (24980, 8859, 2770, 982),
    40: (27000, 9000, 3000, 1000),
}
BUNCHED = 0.3  # of the images, whose three presentations lie so near that they are as one


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one subject saw, and the size of its volumes."""

    name: str
    n_sessions: int
    n_train_trials: int
    n_train_images: int
    n_test_trials: int
    n_test_images: int
    n_voxels: int  # of nsdgeneral
    grid: tuple[int, int, int]
    n_brain: int  # voxels of the brain mask


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What one CLIP model gives for a picture, and what it costs."""

    width_D: int
    arrays: Mapping[str, tuple[int, ...]]  # cached float16 arrays of a picture -> shape
    bases: Mapping[str, tuple[int, int, int]]  # stream -> components, tokens, width of a token
    n_weights: float
    image_flops: float  # of a picture
    text_flops: float  # of a caption
    token_numbers: int  # T x W: numbers of one picture between two blocks
    n_blocks: int  # of the image tower
    is_known: bool  # False: open_clip has no file of this model, so it is counted as ViT-H-14


def find_subjects(params: Params) -> dict[str, Subject]:
    """Every subject of the parameters, real or simulated."""
    return {name: find_subject(params, name) for name in params.subjects}


def find_subject(params: Params, name: str) -> Subject:
    """One subject: constants of the release, or of the simulated world, or what a folder has."""
    if params.dataset.source == "folder":
        return _find_in_folder(Path(params.dataset.folder), name)
    number = layout.subject_number(name) - 1
    simulated = params.dataset.source == "simulated"
    planned = params.world.n_sessions if simulated else max(layout.SESSIONS_RELEASED)
    n_sessions = count_sessions(params.dataset.sessions, name, planned)
    grid = GRIDS[name] if simulated else layout.VOLUME_SHAPES[number]
    n_voxels = layout.NSDGENERAL_VOXELS[number]
    trials = count_seen(n_sessions, planned, params.world.n_shared if simulated else 0)
    return Subject(
        name=name,
        n_sessions=n_sessions,
        n_train_trials=trials[0],
        n_train_images=trials[1],
        n_test_trials=trials[2],
        n_test_images=trials[3],
        n_voxels=round(n_voxels / VOXEL_RATIO) if simulated else n_voxels,
        grid=grid,
        n_brain=round(BRAIN_FRACTION * prod(grid)) if simulated else BRAIN_VOXELS[number],
    )


def _find_in_folder(root: Path, name: str) -> Subject:
    """A subject of an exchange folder, by its tables."""
    from fmri2clip.datasets.folder.recordings import FolderRecordings

    recordings = FolderRecordings.open(root, name)
    trials = recordings.trials()
    masks = recordings.masks()
    is_test_N = trials.is_shared_N
    return Subject(
        name=name,
        n_sessions=len(recordings.sessions),
        n_train_trials=int(np.sum(~is_test_N)),
        n_train_images=len(np.unique(trials.nsd_id_N[~is_test_N])),
        n_test_trials=int(is_test_N.sum()),
        n_test_images=len(np.unique(trials.nsd_id_N[is_test_N])),
        n_voxels=len(masks.ijk_V3),
        grid=(masks.grid[0], masks.grid[1], masks.grid[2]),
        n_brain=len(masks.ijk_V3),
    )


def count_sessions(wanted: str | int, subject: str, planned: int) -> int:
    """Sessions that are read, as design.count_sessions counts them with the design at hand."""
    most = {"released": layout.released_sessions(subject), "old37": layout.old37_sessions(subject)}
    n = wanted if isinstance(wanted, int) else most[wanted]
    return min(n, most["released"], planned)


def count_seen(n_sessions: int, planned: int, n_shared: int) -> tuple[int, int, int, int]:
    """Trials and images of training, trials and images of the test set, in the first sessions.

    n_shared: test images of a simulated world, 0 for the released one, where SEEN has most numbers.
    Else trials are in proportion, and of the images a share b f + (1 - b) (1 - (1 - f)^3) was seen
    in a share f of the sessions, b of them bunched: within 6 % of SEEN from 27 sessions on, and of
    the simulated design.
    """
    if not n_shared and n_sessions in SEEN:
        return SEEN[n_sessions]
    n_test = n_shared or layout.N_SHARED
    n_train = planned * layout.TRIALS_PER_SESSION // layout.REPETITIONS - n_test
    f = n_sessions / planned
    seen = BUNCHED * f + (1 - BUNCHED) * (1 - (1 - f) ** layout.REPETITIONS)
    trials = layout.REPETITIONS * f
    return (
        round(trials * n_train),
        round(seen * n_train),
        round(trials * n_test),
        round(seen * n_test),
    )


def find_members(params: Params, subject: Subject) -> tuple[dict[str, Any], dict[str, Any]]:
    """(groups, rois): members among the voxels of nsdgeneral of each group and each named ROI.

    Of a real subject an estimate: ROIs take the shares of nsdgeneral that they have in the
    simulated head of subject 1, which follow the counts of the real one. An ROI that this head
    lacks (file:..., HCP_MMP1, ...) is counted as all of nsdgeneral.
    """
    if params.dataset.source == "folder":
        return _find_folder_members(params, subject.name)
    simulated = params.dataset.source == "simulated"
    name, seed = (subject.name, params.world.seed) if simulated else (layout.SUBJECTS[0], 1)
    columns = dict(_head_columns(name, seed))
    parsed = roi_groups.parse_groups(params.rois)
    groups = {}
    for group, expression in parsed.items():
        written = {n: _find_column(columns, name, seed, n) for n in roi_groups.names(expression)}
        groups[group] = roi_groups.evaluate(expression, written)
    n_head = len(next(iter(columns.values())))
    # Each voxel of the head stands for as many of the subject's, so that overlaps stay as they are.
    row_V = np.arange(subject.n_voxels) * n_head // subject.n_voxels
    return (
        {group: member[row_V] for group, member in groups.items()},
        {roi: member[row_V] for roi, member in columns.items()},
    )


def _find_folder_members(params: Params, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from fmri2clip.datasets.folder.masks import make_rois, read_masks

    found = make_rois(read_masks(Path(params.dataset.folder), name), params.rois)
    columns = dict(zip(found.names_G, found.roi_VG.T, strict=True))
    groups = {group: columns[GROUP_PREFIX + group] for group in params.rois}
    return groups, {n: own for n, own in columns.items() if not n.startswith(GROUP_PREFIX)}


@cache
def _head_columns(subject: str, seed: int) -> Members:
    """Members of every ROI and every label of it, over nsdgeneral of a simulated head."""
    head = make_volume(subject, seed)
    columns = {}
    for roi, labels in layout.ROI_LABELS.items():
        columns[roi] = head.member(roi)[head.nsdgeneral]
        for label in labels:
            columns[f"{roi}/{label}"] = head.member(roi, label)[head.nsdgeneral]
    return columns


def _find_column(
    columns: dict[str, Any], subject: str, seed: int, written: str
) -> NDArray[np.bool_]:
    """Members of an ROI by the way a group writes it."""
    hemisphere, roi, label = layout.split_roi_name(written)
    name = f"{roi}/{label}" if label else roi
    everything = np.ones_like(next(iter(columns.values())))
    member: NDArray[np.bool_] = columns.get(name, everything)
    if hemisphere:
        head = make_volume(subject, seed)
        member = member & (head.lh[head.nsdgeneral] == (hemisphere == "lh"))
    return member


def find_clip(clip: Clip) -> ClipShape:
    """Shapes, weights and FLOP of a CLIP model with two transformers, from its open_clip file.

    Weights: 12 W^2 a block, embeddings and projections beside. FLOP: 2 x 12 W^2 and 4 T W a token
    and block.
    """
    content = find_architecture(clip)
    is_known = content is not None
    if content is None:
        content = find_architecture(Clip(model="ViT-H-14", pretrained="any"))
        assert content is not None, "open_clip comes with ViT-H-14"
    vision = content["vision_cfg"]
    text = content["text_cfg"]
    width_D = content["embed_dim"]
    n_tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
    width = vision["width"]
    n_text = text["context_length"]
    width_text = text["width"]
    patches = 3 * vision["patch_size"] ** 2 * width
    return ClipShape(
        width_D=width_D,
        arrays=list_arrays(clip, width_D, n_tokens, width, n_text),
        bases=list_bases(clip, width_D, n_tokens, width, n_text),
        n_weights=12 * vision["layers"] * width**2
        + 12 * text["layers"] * width_text**2
        + patches
        + text["vocab_size"] * width_text
        + (width + width_text) * width_D,
        image_flops=count_tower(vision["layers"], n_tokens, width),
        text_flops=count_tower(text["layers"], n_text, width_text),
        token_numbers=n_tokens * width,
        n_blocks=vision["layers"],
        is_known=is_known,
    )


def count_tower(layers: int, n_tokens: int, width: int) -> float:
    """FLOP of a transformer for one picture or caption, see find_clip."""
    return float(layers * n_tokens * (24 * width**2 + 4 * n_tokens * width))


def find_architecture(clip: Clip) -> dict[str, Any] | None:
    """Content of the model's open_clip file; None if it has none, or its image tower is no ViT."""
    try:
        content = read_architecture(clip)
    except ValueError:
        return None
    is_vit = isinstance(content["vision_cfg"].get("layers"), int)
    return content if is_vit and "layers" in content["text_cfg"] else None


def list_arrays(
    clip: Clip, width_D: int, n_tokens: int, width: int, n_text: int
) -> dict[str, tuple[int, ...]]:
    """Arrays that cache_clip writes for a picture, captions aside: name -> shape."""
    arrays: dict[str, tuple[int, ...]] = {"image_embedding_ID": (width_D,)}
    if clip.low_level:
        arrays |= dict.fromkeys(("low_cls_IW", "low_mean_IW"), (width,))
    arrays |= {f"block_{b}_ITW": (n_tokens, width) for b in clip.blocks}
    if clip.tokens:
        projected, raw = TOKEN_TARGETS["detail"].split("|")
        arrays[TOKEN_TARGETS["semantic"]] = (n_tokens, width_D)
        if clip.aggregation == "raw":
            arrays[raw] = (n_tokens, width)
        else:
            arrays[projected] = (n_tokens, width_D)
        arrays[TOKEN_TARGETS["text"]] = (n_text, width_D)
    return arrays


def list_bases(
    clip: Clip, width_D: int, n_tokens: int, width: int, n_text: int
) -> dict[str, tuple[int, int, int]]:
    """What the stage components finds: stream -> shape of its components."""
    if not clip.tokens:
        return {}
    n = clip.token_components
    return {
        "semantic": (n, n_tokens - 1, width_D),
        "detail": (n, n_tokens - 1, width if clip.aggregation == "raw" else width_D),
        "text": (n, n_text, width_D),
    }


# Bytes of files


def count_betas(subject: Subject, container: str) -> float:
    """Bytes of one session of raw betas: 750 int16 a voxel of the grid (hdf5), packed (nifti).

    A simulated tree stores voxels of the brain only.
    """
    n_stored = subject.n_brain
    if container == "hdf5" and subject.grid not in GRIDS.values():
        n_stored = prod(subject.grid)
    factor = HDF5_OVERHEAD if container == "hdf5" else NIFTI_PACKED
    return n_stored * layout.TRIALS_PER_SESSION * 2 * factor


def count_annotations(source: str) -> float:
    """Bytes of one picture's captions and labels in our files."""
    captions = N_CAPTIONS * (CAPTION_BYTES[source] + 4)
    labels = N_CATEGORIES * (1 + SINGLE)
    return captions + labels + 10  # id and number of objects


def count_clip_file(clip: ClipShape, n_images: int, source: str) -> float:
    """Bytes of a CLIP cache of so many pictures: float16 features, captions and labels."""
    numbers = sum(prod(shape) for shape in clip.arrays.values()) + N_CAPTIONS * clip.width_D
    return n_images * (HALF * numbers + count_annotations(source))


def count_components_file(clip: ClipShape, n_images: int) -> float:
    """Bytes of the scores of so many pictures, float32, and of the class tokens of detail."""
    numbers = sum(n for n, _, _ in clip.bases.values())
    _, _, width = clip.bases.get("detail", (0, 0, 0))
    return n_images * (SINGLE * numbers + HALF * width + 8)


def count_basis(clip: ClipShape) -> float:
    """Bytes of the components themselves, float16, and of the means."""
    return float(
        sum(HALF * prod(shape) + SINGLE * prod(shape[1:]) for shape in clip.bases.values())
    )


def count_stimuli(n_images: int, side: int, source: str) -> float:
    """Bytes of pictures of so many pixels, uint8 RGB, with captions and labels."""
    return n_images * (side**2 * 3 + count_annotations(source) + 3 * SINGLE)
