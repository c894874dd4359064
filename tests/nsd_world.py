"""A small simulated NSD tree for tests: real layout and ids, pictures of 8 pixels, a cortex that
costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmri2clip.core.params import World
from fmri2clip.datasets.mini.pictures.scene import Instance, Scene
from fmri2clip.datasets.mini.volume import Volume
from fmri2clip.datasets.mini.write import write_stimuli, write_subject

WORLD = World(seed=3, n_sessions=2, n_shared=30, image_size=8)
SUBJECT = "subj05"
PREPARATION = "betas_fithrf_GLMdenoise_RR"


def write_tree(
    root: Path, subjects: Sequence[str] = (SUBJECT,), container: str = "both", world: World = WORLD
) -> None:
    """Pictures, annotations, design and the subjects' files."""
    write_stimuli(root, world, subjects, threads=1, render=render)
    for subject in subjects:
        write_subject(
            root, world, subject, PREPARATION, container, 1, render=render, simulate=simulate
        )


def render(
    seed: int, indices: Sequence[int], image_size: int, captions: str, threads: int
) -> list[Scene]:
    """Noise for a picture, with the annotation of one dog."""
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
    shape = (image_size, image_size, 3)
    return [
        Scene(
            image=np.random.default_rng((seed, index)).integers(0, 256, shape, dtype=np.uint8),
            width=640,
            height=480,
            crop_box=(0.0, 0.0, 0.25, 0.0),
            background="field",
            instances=[thing],
            captions=[f"caption {k} of {index}" for k in range(5)],
            n_faces=0,
            n_words=0,
        )
        for index in indices
    ]


@dataclass
class Cortex:
    """Voxels whose signal-to-noise ratio differs."""

    signal_IV: np.ndarray
    image_N: np.ndarray
    noise_free_IV: np.ndarray

    def sessions(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(1)
        for image_T in self.image_N.reshape(-1, 750):
            yield self.signal_IV[image_T] + rng.standard_normal(
                (750, self.signal_IV.shape[1]), dtype=np.float32
            )


def simulate(
    images_IHWC: np.ndarray, image_N: np.ndarray, volume: Volume, world: World, subject: str
) -> Cortex:
    """Random tuning; the pictures are not looked at."""
    rng = np.random.default_rng(2)
    strength = rng.permutation(np.linspace(0.1, 1, int(volume.brainmask.sum()), dtype=np.float32))
    signal = rng.standard_normal((len(images_IHWC), strength.size), dtype=np.float32) * strength
    return Cortex(signal, image_N, signal[:, volume.nsdgeneral[volume.brainmask]])
