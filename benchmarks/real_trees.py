"""Synthetic NSD of real size for benchmarks: betas on subj01's grid, with NSD's chunks and noise
that packs like real betas; pictures with COCO's notes; CLIP caches of random tokens.

A Grid says how large, so that tests make a toy of the same kind. Letters: I images, K captions,
V voxels, T tokens.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from scipy import ndimage

from fmri2clip.artefacts.clip_cache import open_cache
from fmri2clip.artefacts.components import write_basis
from fmri2clip.artefacts.components import write_components as write_components_file
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, write_stimuli
from fmri2clip.artefacts.trials import list_images, read_voxels, write_voxels
from fmri2clip.core.schema import Rows
from fmri2clip.datasets.mini.volume import make_volume
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.areas import PRF
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES

SUBJECT, PREPARATION = "subj01", "betas_fithrf_GLMdenoise_RR"
SHAPE = layout.VOLUME_SHAPES[0]  # X, Y, Z
N_BRAIN, N_RIBBON = 370_503, layout.NSDGENERAL_VOXELS[0]
N_TRIALS = layout.TRIALS_PER_SESSION
N_DISTINCT = {".hdf5": 2, ".nii.gz": 1}  # files; further sessions are hard links to them
N_CAPTIONS = 5  # of a picture
BLOCK = 256  # images of a CLIP cache that are in memory at a time, 100 MB of tokens


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Size of a betas tree."""

    shape: tuple[int, int, int] = SHAPE
    n_brain: int = N_BRAIN
    n_ribbon: int = N_RIBBON
    n_images: int = layout.IMAGES_PER_SUBJECT
    n_shared: int = layout.N_SHARED


REAL = Grid()
TOY = Grid(shape=(14, 16, 12), n_brain=900, n_ribbon=300, n_images=500, n_shared=50)


# Betas


def write_trees(
    scratch: Path,
    sessions: Mapping[str, int],
    n_distinct: Mapping[str, int] = N_DISTINCT,
    grid: Grid = REAL,
) -> None:
    """A tree for each suffix with so many sessions, below `scratch`, and the ribbon as ribbon.npy.

    n_distinct: files of a suffix that are written; the others are hard links to them.
    """
    rng = np.random.default_rng(0)
    brain, ribbon = make_masks(rng, grid)
    np.save(scratch / "ribbon.npy", ribbon)
    for suffix, n_sessions in sessions.items():
        root = tree(scratch, suffix)
        betas_path(scratch, suffix, 1).parent.mkdir(parents=True)
        write_design(root, rng, grid)
        write_volume(
            layout.roi_path(root, SUBJECT, layout.GENERAL_ROI),
            np.where(ribbon, 1.0, np.where(brain, 0.0, -1.0)),
        )
        write_volume(
            layout.ncsnr_path(root, SUBJECT, PREPARATION),
            np.where(brain, rng.random(grid.shape), np.nan),
        )
        for session in range(1, n_sessions + 1):
            path = betas_path(scratch, suffix, session)
            if session > n_distinct[suffix]:
                os.link(betas_path(scratch, suffix, (session - 1) % n_distinct[suffix] + 1), path)
            else:
                write = write_hdf5 if suffix == ".hdf5" else write_nifti
                write(path, make_session(brain, rng))


def make_masks(rng: np.random.Generator, grid: Grid = REAL) -> tuple[np.ndarray, np.ndarray]:
    """Brain (an ellipsoid) and a folded ribbon near its surface at the back, both boolean (X, Y,
    Z).
    """
    centre = (np.array(grid.shape) - 1) / 2
    position = np.moveaxis(np.indices(grid.shape), 0, -1) - centre
    half_axes = np.array(grid.shape) * (np.array([36, 48, 38]) / SHAPE)
    radius = np.linalg.norm(position / half_axes, axis=-1) + 0.03 * smooth_noise(rng, 3, grid)
    brain = np.zeros(grid.shape, dtype=bool)
    brain.flat[np.argsort(radius, axis=None)[: grid.n_brain]] = True
    depth = np.abs(radius / radius[brain].max() - 0.86 + 0.05 * smooth_noise(rng, 1.5, grid))
    backwards = position[..., 1] + 0.25 * np.abs(position[..., 2])
    # A toy has too few voxels for a thin ribbon: all of its brain may be one.
    thin = depth < 0.045 if grid == REAL else depth < np.inf
    ribbon = np.zeros(grid.shape, dtype=bool)
    order = np.argsort(np.where(brain & thin, backwards, np.inf), axis=None)
    ribbon.flat[order[: grid.n_ribbon]] = True
    return brain, ribbon


def smooth_noise(rng: np.random.Generator, width: float, grid: Grid = REAL) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape), width)
    return noise / noise.std()


def make_session(brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stored integers (Z, Y, X, 750): 2 to 3 percent of noise around a mean inside the brain, zero
    outside.
    """
    session = np.zeros((*brain.shape[::-1], N_TRIALS), dtype="<i2")
    for plane, inside in zip(session, brain.T, strict=True):
        sd, mean = (
            600 * (1 + 0.5 * rng.random(inside.sum())),
            150 * rng.standard_normal(inside.sum()),
        )
        values = (
            rng.standard_normal((inside.sum(), N_TRIALS), dtype=np.float32) * sd[:, None]
            + mean[:, None]
        )
        plane[inside] = np.clip(np.rint(values), -32768, 32767)
    return session


def write_hdf5(path: Path, session: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "betas",
            shape=(N_TRIALS, *session.shape[:3]),
            dtype="<i2",
            chunks=(N_TRIALS, 1, 1, 1),
        )
        for z, y, x in np.ndindex(session.shape[:3]):
            data.id.write_direct_chunk((0, z, y, x), session[z, y, x].tobytes())


def write_nifti(path: Path, session: np.ndarray) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((*session.shape[2::-1], N_TRIALS))
    header.set_data_dtype("<i2")
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.GzipFile(path, "wb", compresslevel=6) as stream:
        stream.write(header.binaryblock + bytes(4))
        for first in range(0, N_TRIALS, 50):
            stream.write(np.moveaxis(session[..., first : first + 50], -1, 0).tobytes())


def write_volume(path: Path, volume: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1])), path)


def write_design(root: Path, rng: np.random.Generator, grid: Grid = REAL) -> None:
    """Every picture three times, in random order: 40 sessions with the sizes of the real design."""
    n_own = grid.n_images - grid.n_shared
    ids = rng.permutation(layout.N_IMAGES)[: grid.n_shared + 8 * n_own] + 1
    shared = np.sort(ids[: grid.n_shared])[None]
    own_SJ = ids[grid.n_shared :].reshape(8, -1)
    ordering = rng.permutation(np.repeat(np.arange(1, grid.n_images + 1), layout.REPETITIONS))
    subjectim = np.hstack([np.tile(shared, (8, 1)), own_SJ])
    save_design(root, ordering, subjectim, grid.n_shared)


def save_design(root: Path, ordering: np.ndarray, subjectim: np.ndarray, n_shared: int) -> None:
    """nsd_expdesign.mat of an ordering of columns and the pictures behind them, 1-based."""
    tables = {
        "masterordering": ordering[None].astype(np.uint16),
        "subjectim": subjectim.astype(np.int32),
        "sharedix": subjectim[:1, :n_shared].astype(np.int32),
    }
    layout.expdesign_path(root).parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(layout.expdesign_path(root), tables)


def tree(scratch: Path, suffix: str) -> Path:
    return scratch / suffix.strip(".")


def betas_path(scratch: Path, suffix: str, session: int) -> Path:
    return layout.betas_path(tree(scratch, suffix), SUBJECT, PREPARATION, session, suffix)


# Pictures


def write_pictures(root: Path, n_pictures: int, n_shared: int, size: int, *, noise: bool) -> None:
    """A tree with pictures, COCO's notes on them and a design that shows them all to subj01.

    noise: random pixels; else black ones, which HDF5 need not keep.
    """
    n_columns = -(-n_pictures // 250) * 250  # three times 250 pictures are a session
    shown = np.resize(np.arange(1, n_pictures + 1), layout.REPETITIONS * n_columns)
    save_design(root, shown, np.tile(np.arange(1, n_columns + 1), (8, 1)), n_shared)
    layout.stimuli_dir(root).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(layout.stimuli_path(root), "w") as file:
        brick = file.create_dataset(layout.IMAGES_DATASET, (n_columns, size, size, 3), "uint8")
        if noise:
            for i in range(n_pictures):
                brick[i] = rng.integers(0, 256, brick.shape[1:], dtype=np.uint8)
    with layout.stim_info_path(root).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "cocoId", "cocoSplit", "cropBox", "nsdId"])
        crop = "(0.0, 0.0, 0.0, 0.0)"
        writer.writerows([i, 1000 + i, "train2017", crop, i] for i in range(n_columns))
    _write_notes(root, n_columns)


def _write_notes(root: Path, n_pictures: int) -> None:
    """Five captions and three objects of each picture."""
    ids = [category.id for category in COCO_CATEGORIES]
    images = [{"id": 1000 + i, "width": 640, "height": 480} for i in range(n_pictures)]
    objects = [
        {
            "image_id": 1000 + i,
            "category_id": ids[(i + 7 * k) % len(ids)],
            "area": 9000.0,
            "bbox": [100.0 * k, 50.0, 150.0, 120.0],
        }
        for i in range(n_pictures)
        for k in range(3)
    ]
    captions = [
        {"image_id": 1000 + i, "caption": f"A scene of kind {i} with {k} things on a wide table."}
        for i in range(n_pictures)
        for k in range(N_CAPTIONS)
    ]
    layout.annotations_dir(root).mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": objects}
    layout.instances_path(root, "train2017").write_text(json.dumps(content))
    layout.captions_path(root, "train2017").write_text(json.dumps({"annotations": captions}))


# What training reads


def name_areas(paths: Paths, subject: str) -> None:
    """Give the voxels of an extraction areas and ROI groups."""
    voxels = read_voxels(paths.voxels(subject))
    n_voxels = len(voxels["ijk_V3"])
    columns = areas_of(n_voxels)
    voxels["roi_VG"] = np.stack(list(columns.values()), axis=1)
    voxels["roi_names_G"] = np.array(list(columns), dtype=object)
    write_voxels(paths.voxels(subject), voxels)


def areas_of(n_voxels: int) -> dict[str, np.ndarray]:
    """Members (V) of all areas, and of the groups low, high and all.

    In the shares that they have in the simulated head of subject 1, which follow the real one's.
    """
    head = make_volume(SUBJECT, 1)
    n_head = int(head.nsdgeneral.sum())
    row_V = np.arange(n_voxels) * n_head // n_voxels
    areas = {}
    for roi, labels in layout.ROI_LABELS.items():
        areas[roi] = head.member(roi)[head.nsdgeneral][row_V]
        for label in labels:
            areas[f"{roi}/{label}"] = head.member(roi, label)[head.nsdgeneral][row_V]
    high_V = np.any([member for roi, member in areas.items() if roi.startswith("floc")], axis=0)
    everything_V = np.ones(n_voxels, bool)
    return areas | {"group/low": areas[PRF], "group/high": high_V, "group/all": everything_V}


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Axes of a CLIP cache: T image tokens, U text tokens, D embedding, W width of block 1, P
    components of tokens.
    """

    T: int = 257
    U: int = 77
    D: int = 768
    W: int = 1024
    P: int = 512


REAL_WIDTHS = Widths()
SMALL_WIDTHS = Widths(T=65, U=20, D=192, W=64, P=256)


def write_clip(path: Path, nsd_id_I: np.ndarray, widths: Widths, seed: int, partial: Path) -> None:
    """A CLIP cache of random features, through the writer of the stage; a block in memory."""
    rng = np.random.default_rng(seed)
    n_images = len(nsd_id_I)
    names = [category.name for category in COCO_CATEGORIES]
    labels_IC = rng.random((n_images, len(names))) < 0.04
    labels_IC[np.arange(n_images), rng.integers(0, len(names), n_images)] = True
    fixed: dict[str, Any] = {
        "nsd_id_I": np.asarray(nsd_id_I, np.int64),
        "caption_K": [f"picture {i}, caption {k}" for i in nsd_id_I for k in range(N_CAPTIONS)],
        "caption_image_K": np.repeat(np.arange(n_images), N_CAPTIONS).astype(np.int32),
        "labels_IC": labels_IC,
        "area_IC": (0.1 * labels_IC).astype(np.float32),
        "n_objects_I": labels_IC.sum(axis=1).astype(np.int16),
        "category_C": names,
        "present_C": np.ones(len(names), bool),
        "prompt_P": ["a photo of a {category}"],
        "prompt_embedding_PCD": draw_unit(rng, 1, len(names), widths.D),
    }
    shapes = {
        "image_embedding_ID": (widths.D,),
        "low_cls_IW": (widths.W,),
        "low_mean_IW": (widths.W,),
        "semantic_tokens_ITD": (widths.T, widths.D),
        "detail_tokens_ITD": (widths.T, widths.D),
        "text_tokens_IUD": (widths.U, widths.D),
    }
    # In this file P counts prompts.
    sizes = {axis: n for axis, n in vars(widths).items() if axis != "P"}
    sizes |= {"I": n_images, "K": N_CAPTIONS * n_images}
    streamed = [*shapes, "text_embedding_KD"]
    with open_cache(path, fixed=fixed, sizes=sizes, names=streamed, partial=partial) as stream:
        for start, n in _blocks(n_images):
            stream.write("image_embedding_ID", start, draw_unit(rng, n, widths.D))
            for name, shape in shapes.items():
                if name != "image_embedding_ID":
                    stream.write(name, start, draw_half(rng, n, *shape))
        for start, n in _blocks(N_CAPTIONS * n_images):
            stream.write("text_embedding_KD", start, draw_unit(rng, n, widths.D))


def write_components(
    paths: Paths, clip: str, subject: str, nsd_id_I: np.ndarray, widths: Widths
) -> None:
    """Random components of tokens, and the subject's scores on them."""
    rng = np.random.default_rng(0)
    basis: dict[str, np.ndarray] = {}
    scores = {"nsd_id_I": np.asarray(nsd_id_I, np.int64)}
    for stream, n_tokens in (
        ("semantic", widths.T - 1),
        ("detail", widths.T - 1),
        ("text", widths.U),
    ):
        basis[f"{stream}_mean_TW"] = np.zeros((n_tokens, widths.D), np.float32)
        norm = (n_tokens * widths.D) ** 0.5
        components_PTW = np.empty((widths.P, n_tokens, widths.D), np.float16)
        for component_TW in components_PTW:  # the float32 of one, not of all
            component_TW[:] = rng.standard_normal(component_TW.shape, dtype=np.float32) / norm
        basis[f"{stream}_components_PTW"] = components_PTW
        scores[f"{stream}_components_IP"] = rng.standard_normal(
            (len(nsd_id_I), widths.P), dtype=np.float32
        )
    scores["detail_class_IW"] = draw_unit(rng, len(nsd_id_I), widths.D)
    write_basis(paths.clip_basis(clip), basis)
    write_components_file(paths.clip_components(clip, subject), scores)


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    """(first row, number of rows) of successive blocks."""
    for start in range(0, n, BLOCK):
        yield start, min(BLOCK, n - start)


def draw_unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float16 rows of norm 1 around a common direction, as embeddings lie."""
    x = rng.standard_normal(shape, dtype=np.float32) + 1
    unit: np.ndarray = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float16)
    return unit


def draw_half(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float16 numbers between 2^-5 and 2^-4 of either sign: 768 of them have a norm near 1.3.

    By their bits (sign and fraction are random), which is ten times as fast as normal ones.
    """
    bits = rng.integers(0, 2**16, shape, dtype=np.uint16)
    bits &= 0x83FF
    bits |= 0x2800
    return bits.view(np.float16)


def write_test_pictures(paths: Paths, size: int) -> None:
    """data/stimuli/test.h5 of the test images of subj01: random pixels, one object each."""
    nsd_id_I = list_images(paths.test_betas(SUBJECT))
    rng = np.random.default_rng(3)
    n_images = len(nsd_id_I)
    names = [category.name for category in COCO_CATEGORIES]
    labels_IC = np.arange(len(names)) == rng.integers(0, len(names), n_images)[:, None]
    images = (rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8) for _ in range(n_images))
    write_stimuli(
        paths.stimuli(TEST),
        {
            "nsd_id_I": nsd_id_I,
            "image_IHW3": Rows((n_images, size, size, 3), images),
            "caption_K": [f"picture {i}" for i in nsd_id_I],
            "caption_image_K": np.arange(n_images, dtype=np.int32),
            "labels_IC": labels_IC,
            "area_IC": (0.1 * labels_IC).astype(np.float32),
            "n_objects_I": np.ones(n_images, np.int16),
            "category_C": names,
            "largest_I3": rng.random((n_images, 3)).astype(np.float32),
        },
    )


def check_names(found: Sequence[str], allowed: Sequence[str], what: str) -> None:
    """Raise ValueError for a name that is not among those allowed."""
    for name in found:
        if name not in allowed:
            raise ValueError(f"{what} {name!r} does not exist; choose from {', '.join(allowed)}")
