"""Writes the simulated NSD as a tree of files that a reader of the real release cannot tell apart
by their layout.

Two entry points that do not need each other's files: `write_stimuli` (pictures, COCO annotations,
design) and `write_subject` (betas, masks, ROIs, behaviour). Both are functions of the world alone:
same world, same bytes. One extra file has no counterpart in the release: noise_free.hdf5, the
responses before noise, for reference scores.

Axis letters: I images, N trials, T trials of a session, V voxels, S sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from fmri2clip.core.files import describe_failure
from fmri2clip.core.params import World
from fmri2clip.datasets.mini.annotations import CocoFiles, ctab, responses
from fmri2clip.datasets.mini.design import BLOCK, design_mat, make_design, stim_info
from fmri2clip.datasets.mini.files import (
    finished,
    remove_others,
    write_arrays,
    write_betas,
    write_bytes,
    write_nifti,
)
from fmri2clip.datasets.mini.pictures import scene as scenes
from fmri2clip.datasets.mini.sessions import Faults, NoiseCeiling, make_faults, quantise
from fmri2clip.datasets.mini.volume import Volume, make_volume
from fmri2clip.datasets.nsd import layout, manifest

CONTAINERS = {"hdf5": ".hdf5", "nifti": ".nii.gz"}
RENDER_BLOCK = 2000  # pictures held in memory at once
RELEASE_BYTES = layout.N_IMAGES * layout.IMAGE_SIZE**2 * 3  # of imgBrick, which is not compressed

# render_many(seed, indices, image_size, captions, threads)
Render = Callable[..., Sequence[scenes.Scene]]


class Responses(Protocol):
    """What a simulated cortex gives: session after session psc_TV, float32 percent signal change
    for the voxels of the brain mask in C order, and noise_free_IV float32 for the voxels of
    nsdgeneral.
    """

    @property
    def noise_free_IV(self) -> np.ndarray:
        """Responses to the shared images without any noise, percent signal change."""
        ...

    def sessions(self) -> Iterator[np.ndarray]:
        """Betas (T, V) of one session after the other, percent signal change."""
        ...


Simulate = Callable[[np.ndarray, np.ndarray, Volume, World, str], Responses]


def write_stimuli(
    root: Path,
    world: World,
    subjects: Sequence[str],
    threads: int = 2,
    render: Render = scenes.render_many,
) -> None:
    """imgBrick, COCO annotations, nsd_expdesign.mat and nsd_stim_info_merged.csv of a world.

    Only pictures that one of ``subjects`` sees are drawn and annotated; the other rows of imgBrick
    read as zeros. ValueError if the tree holds the pictures of the real release.
    """
    _refuse_real_stimuli(root)
    design = make_design(world.seed, world.n_sessions, world.n_shared)
    info = stim_info(world.seed, design, {})
    coco_ids = info["cocoId"].tolist()
    splits = info["cocoSplit"].tolist()
    coco = CocoFiles()
    crop_boxes = {}
    with finished(layout.stimuli_path(root)) as partial, h5py.File(partial, "w") as file:
        size = world.image_size
        brick = file.create_dataset(
            layout.IMAGES_DATASET,
            shape=(design.n_images, size, size, 3),
            dtype="u1",
            chunks=(1, size, size, 3),
        )
        for nsd_id, scene in _draw(world, design.nsd_ids(tuple(subjects)), threads, render):
            brick.id.write_direct_chunk(
                (nsd_id, 0, 0, 0), np.ascontiguousarray(scene.image).tobytes()
            )
            coco.add(scene, coco_ids[nsd_id], splits[nsd_id])
            crop_boxes[nsd_id] = scene.crop_box
    tables = {layout.expdesign_path(root): design_mat(design)}
    tables[layout.stim_info_path(root)] = (
        stim_info(world.seed, design, crop_boxes).to_csv().encode()
    )
    for split in layout.COCO_SPLITS:
        tables[layout.instances_path(root, split)] = coco.instances(split)
        tables[layout.captions_path(root, split)] = coco.captions(split)
    for path, content in tables.items():
        write_bytes(path, content)
    remove_others(layout.stimuli_folders(root), {layout.stimuli_path(root), *tables})


def write_subject(
    root: Path,
    world: World,
    subject: str,
    preparation: str,
    container: str = "hdf5",
    threads: int = 2,
    render: Render = scenes.render_many,
    simulate: Simulate | None = None,
) -> None:
    """Betas, ncsnr, masks, ROI volumes, label names and behaviour of one subject.

    ``container`` is 'hdf5', 'nifti' or 'both'. Files of the subject that this world does not name
    (sessions beyond ``world.n_sessions``, other preparations) are deleted. ValueError for unknown
    names and for a real subject's folder.
    """
    suffixes = _suffixes(preparation, container)
    _refuse_real_subject(root, subject)
    design = make_design(world.seed, world.n_sessions, world.n_shared)
    volume = make_volume(subject, world.seed)
    ids_I = design.nsd_ids((subject,))
    nsd_id_N = design.nsd_id_N(subject)
    images_IHWC = np.stack([scene.image for _, scene in _draw(world, ids_I, threads, render)])
    image_index_N = np.searchsorted(ids_I, nsd_id_N)
    cortex = (simulate or _load_cortex(threads))(images_IHWC, image_index_N, volume, world, subject)

    written = _write_anatomy(root, subject, volume)
    behaviour = responses(design, subject, (world.seed, layout.subject_number(subject), 0xBE4))
    written.append(layout.responses_path(root, subject))
    text = behaviour.to_csv(sep="\t", index=False, na_rep="NaN", float_format="%.10g")
    write_bytes(written[-1], text.encode())
    written.append(layout.noise_free_path(root, subject, preparation))
    ijk_V3 = np.argwhere(volume.nsdgeneral).astype(np.int16)
    write_arrays(
        written[-1],
        {"ijk": ijk_V3, "nsd_id": ids_I, "betas": np.asarray(cortex.noise_free_IV, np.float32)},
    )
    written += _write_sessions(root, world, volume, preparation, suffixes, cortex, image_index_N)
    kept = {*written, *layout.own_masks(root, subject)}
    remove_others(layout.subject_folders(root, subject), kept)


def _load_cortex(threads: int) -> Simulate:
    """The simulated cortex; imported here because the stimuli do not need its network."""
    from fmri2clip.datasets.mini.brain.cortex import Brains, simulate_subject

    def simulate(
        images_IHWC: np.ndarray, image_N: np.ndarray, volume: Volume, world: World, subject: str
    ) -> Responses:
        brains = Brains.of(world)
        return simulate_subject(images_IHWC, image_N, volume, brains, subject, threads)

    return simulate


def _draw(
    world: World, ids: np.ndarray, threads: int, render: Render
) -> Iterator[tuple[int, scenes.Scene]]:
    """(nsd id, scene) in the order of the ids; a picture is a function of the world's seed and its
    nsd id.
    """
    for start in range(0, ids.size, RENDER_BLOCK):
        block = [int(i) for i in ids[start : start + RENDER_BLOCK]]
        drawn = render(
            world.seed, block, image_size=world.image_size, captions=world.captions, threads=threads
        )
        yield from zip(block, drawn, strict=True)


def _write_anatomy(root: Path, subject: str, volume: Volume) -> list[Path]:
    """Brain mask, ROI volumes (float64, merged and per hemisphere) and label names."""
    brainmask = layout.brainmask_path(root, subject)
    write_nifti(brainmask, volume.brainmask.astype(np.int16), volume.affine)
    written = [brainmask]
    for roi in layout.ROI_LABELS:
        for hemisphere in ("", *layout.HEMISPHERES):
            path = layout.roi_path(root, subject, roi, hemisphere)
            labels = volume.rois[f"{hemisphere}.{roi}" if hemisphere else roi]
            write_nifti(path, labels.astype(np.float64), volume.affine)
            written.append(path)
        written.append(layout.ctab_path(root, subject, roi))
        write_bytes(written[-1], ctab(roi).encode())
    return written


def _write_sessions(
    root: Path,
    world: World,
    volume: Volume,
    preparation: str,
    suffixes: Sequence[str],
    cortex: Responses,
    image_index_N: np.ndarray,
) -> list[Path]:
    """Betas and valid mask of every session, then what is computed over all of them."""
    subject = volume.subject
    seed = (world.seed, layout.subject_number(volume.subject))
    faults = make_faults(volume, world.n_sessions, (*seed, 0xFA17))
    ijk_V3 = np.argwhere(volume.brainmask)
    ceiling = NoiseCeiling(int(image_index_N.max()) + 1, len(ijk_V3))
    image_ST = image_index_N.reshape(-1, BLOCK)
    written = []
    for session, (psc_TV, image_T) in enumerate(zip(cortex.sessions(), image_ST, strict=True)):
        betas_TV = quantise(
            psc_TV, faults, session, np.random.default_rng((*seed, 0x591E, session))
        )
        ceiling.add(betas_TV, image_T)
        for suffix in suffixes:
            written.append(layout.betas_path(root, subject, preparation, session + 1, suffix))
            _write_session(written[-1], betas_TV, ijk_V3, volume)
        written.append(layout.valid_path(root, subject, session + 1))
        valid = _fill(~faults.invalid_V(session), volume, np.int16(0))
        write_nifti(written[-1], valid, volume.affine)
    written.append(layout.ncsnr_path(root, subject, preparation))
    write_nifti(written[-1], _fill(ceiling.ncsnr_V(), volume, np.float32(np.nan)), volume.affine)
    written.append(layout.valid_path(root, subject))
    write_nifti(written[-1], _fill(_coverage_V(faults), volume, np.float32(0)), volume.affine)
    return written


def _write_session(path: Path, betas_TV: np.ndarray, ijk_V3: np.ndarray, volume: Volume) -> None:
    if path.suffix == ".hdf5":
        write_betas(path, np.ascontiguousarray(betas_TV.T), ijk_V3, volume.shape)
    else:
        block = np.zeros((*volume.shape, betas_TV.shape[0]), dtype=np.int16)
        block[volume.brainmask] = betas_TV.T
        write_nifti(path, block, volume.affine, level=1)


def _coverage_V(faults: Faults) -> np.ndarray:
    """Fraction of the sessions in which a voxel has signal, (V,)."""
    return np.mean([~faults.invalid_V(s) for s in range(len(faults.missing_SV))], axis=0)


def _fill(values_V: np.ndarray, volume: Volume, outside: np.generic) -> np.ndarray:
    """Values of the brain mask's voxels as an (X, Y, Z) volume with the dtype of ``outside``, which
    fills the rest.
    """
    block = np.full(volume.shape, outside)
    block[volume.brainmask] = values_V
    return block


def _suffixes(preparation: str, container: str) -> list[str]:
    if preparation not in layout.PREPARATIONS:
        raise ValueError(
            f"preparation {preparation!r} is not in NSD; choose from "
            f"{', '.join(layout.PREPARATIONS)}"
        )
    if container != "both" and container not in CONTAINERS:
        raise ValueError(
            f"container {container!r} is not known; choose from {', '.join(CONTAINERS)}, both"
        )
    return list(CONTAINERS.values()) if container == "both" else [CONTAINERS[container]]


def _refuse_real_stimuli(root: Path) -> None:
    """Simulation overwrites and deletes: never in a folder with pictures of the size of the
    release.
    """
    _refuse_fetched(root, layout.stimuli_folders(root), layout.stimuli_manifest_path(root))
    path = layout.stimuli_path(root)
    if not path.is_file():
        return
    try:
        with h5py.File(path, "r") as file:
            size = file[layout.IMAGES_DATASET].shape[1] if layout.IMAGES_DATASET in file else 0
    except OSError as error:
        if error.errno or path.stat().st_size > RELEASE_BYTES / 2:
            raise describe_failure(path, error, "HDF5", "move it away") from None
        return  # damaged, and too small for the release: ours, which is written anew
    if size == layout.IMAGE_SIZE:
        raise ValueError(
            f"{path} holds pictures of NSD itself; move {root} away before simulating into it"
        )


def _refuse_real_subject(root: Path, subject: str) -> None:
    """Betas without noise-free responses beside them were not written by us."""
    folders = layout.subject_folders(root, subject)
    _refuse_fetched(root, folders, layout.manifest_path(root, subject))
    betas = folders[0]
    if any(betas.rglob("betas_session*")) and not any(betas.rglob("noise_free.hdf5")):
        raise ValueError(
            f"{betas} holds betas that were not simulated; move {root} away before simulating into "
            "it"
        )


def _refuse_fetched(root: Path, folders: Iterable[Path], manifest_path: Path) -> None:
    """Parts of a download that was interrupted, and files that a bucket has given."""
    names = (".*.part", ".*.part.log")
    parts = [path for folder in folders for name in names for path in folder.rglob(name)]
    fetched = manifest_path.is_file() and any(e.etag for e in manifest.read(manifest_path))
    if parts or fetched:
        what = f"{parts[0].name} of a download" if parts else "files that were downloaded"
        raise ValueError(
            f"{manifest_path.parent} holds {what}; move {root} away before simulating into it"
        )
