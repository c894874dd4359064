"""A small NSD tree for the tests of the checks: two sessions of one subject, written in a
second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from fmri2clip.core.params import Dataset, World
from fmri2clip.datasets.mini.pictures.scene import Instance, Scene
from fmri2clip.datasets.mini.write import write_stimuli, write_subject
from fmri2clip.datasets.nsd import layout, manifest

WORLD = World(seed=3, n_sessions=2, n_shared=30, image_size=8)
SUBJECT = "subj05"


def render(seed, indices, image_size, captions, threads):
    thing = Instance(
        category="dog",
        category_id=18,
        colour="red",
        texture="plain",
        view="",
        pose="",
        form="",
        bbox=(200.0, 100.0, 80.0, 60.0),
        segmentation=[[200.0, 100.0, 280.0, 100.0, 280.0, 160.0]],
        area=2400.0,
        centre=(0.4, 0.3),
    )
    return [
        Scene(
            image=np.random.default_rng((seed, index))
            .integers(0, 256, (image_size, image_size, 3))
            .astype(np.uint8),
            width=640,
            height=480,
            crop_box=(0.0, 0.0, 0.25, 0.0),
            background="field",
            instances=[thing],
            captions=[f"caption {k}" for k in range(5)],
            n_faces=0,
            n_words=0,
        )
        for index in indices
    ]


@dataclass
class Cortex:
    """Voxels with a signal that grows along the brain mask."""

    signal_IV: np.ndarray
    image_N: np.ndarray
    noise_free_IV: np.ndarray

    def sessions(self):
        rng = np.random.default_rng(1)
        for image_T in self.image_N.reshape(-1, 750):
            yield self.signal_IV[image_T] + rng.standard_normal(
                (750, self.signal_IV.shape[1]), dtype=np.float32
            )


def simulate(images_IHWC, image_index_N, volume, world, subject):
    strength = np.linspace(0.1, 1, int(volume.brainmask.sum()), dtype=np.float32)
    rng = np.random.default_rng(2)
    signal = rng.standard_normal(
        (len(images_IHWC), strength.size), dtype=np.float32
    ) * rng.permutation(strength)
    return Cortex(signal, image_index_N, signal[:, volume.nsdgeneral[volume.brainmask]])


def write_tree(root: Path, container: str = "hdf5") -> None:
    """Stimuli and SUBJECT, without manifests."""
    write_stimuli(root, WORLD, [SUBJECT], render=render)
    write_subject(
        root, WORLD, SUBJECT, Dataset().preparation, container, render=render, simulate=simulate
    )


def write_manifests(root: Path) -> None:
    """Both manifests, as the download stages leave them."""
    manifest.record(layout.stimuli_manifest_path(root), root, layout.stimuli_folders(root))
    manifest.record(
        layout.manifest_path(root, SUBJECT), root, layout.subject_folders(root, SUBJECT)
    )


def small_mat(folder: Path, **changes: np.ndarray) -> Path:
    """A tree with two sessions, 500 images a subject, 20 of them shared."""
    rng = np.random.default_rng(2)
    own = 21 + np.arange(8 * 480).reshape(8, 480)
    arrays = {
        "masterordering": rng.permutation(np.repeat(np.arange(1, 501), 3))[None].astype(np.uint16),
        "subjectim": np.hstack([np.tile(np.arange(1, 21), (8, 1)), own]).astype(np.int32),
        "sharedix": np.arange(1, 21, dtype=np.int32)[None],
    }
    path = layout.expdesign_path(folder)
    path.parent.mkdir(parents=True)
    scipy.io.savemat(
        path, {k: v for k, v in (arrays | changes).items() if v is not None}, format="5"
    )
    return path
