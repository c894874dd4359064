"""A simulated GOD: BData files as released, drawn pictures under ImageNet's names, responses that
are noisy projections of what a CLIP model says of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from fmri2clip.datasets.mini.pictures.scene import make_scene

ROIS = {"V1": 60, "V2": 60, "LOC": 40, "FFA": 40}
N_OTHER = 7  # voxels in no ROI


@dataclass
class Stimuli:
    """Pictures with the name of their category, an adjective and a thing: 'red bus'."""

    images: list[np.ndarray]
    names: list[str]
    is_test: np.ndarray

    @property
    def synset_of(self) -> dict[str, int]:
        return {name: 1443537 + 31 * k for k, name in enumerate(sorted(set(self.names)))}

    @property
    def ids(self) -> list[float]:
        """As GOD writes them: synset before the point, number of the picture behind it."""
        return [self.synset_of[name] + (k + 10) * 1e-5 for k, name in enumerate(self.names)]


def draw_stimuli(n_scenes: int, n_test: int) -> Stimuli:
    """Scenes of one object; each test category has one picture, and none in training."""
    images, names = [], []
    index = 0
    while len(images) < n_scenes:
        scene = make_scene(77, index, 64, n_objects=1)
        index += 1
        if len(scene.instances) == 1:
            images.append(scene.image)
            names.append(f"{scene.instances[0].colour} {scene.instances[0].category}".strip())
    count = {name: names.count(name) for name in names}
    rare = sorted(set(names), key=lambda name: (count[name], name))[:n_test]
    assert len(rare) == n_test
    kept = [k for k, name in enumerate(names) if name not in rare or names.index(name) == k]
    return Stimuli(
        images=[images[k] for k in kept],
        names=[names[k] for k in kept],
        is_test=np.array([names[k] in rare for k in kept]),
    )


def write_pictures(source: Path, stimuli: Stimuli) -> None:
    for k, (image, name) in enumerate(zip(stimuli.images, stimuli.names, strict=True)):
        part = "test" if stimuli.is_test[k] else "training"
        folder = source / "images" / part
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(
            folder / f"n{stimuli.synset_of[name]:08d}_{10 * (k + 10)}.JPEG", quality=95
        )
    rows = [f"n{synset:08d}\t{name}" for name, synset in stimuli.synset_of.items()]
    (source / "categories.tsv").write_text("\n".join(["synset\tname", *rows]) + "\n")


def write_subject(
    path: Path, code_ID: np.ndarray, stimuli: Stimuli, n_repeats: int, seed: int, new: bool = True
) -> None:
    """One file. code_ID: what the voxels answer to, (I, D). new: with the newer keys."""
    rng = np.random.default_rng(seed)
    n_voxels = sum(ROIS.values()) + N_OTHER
    train = np.flatnonzero(~stimuli.is_test)
    test = np.repeat(np.flatnonzero(stimuli.is_test), n_repeats)
    shown = np.concatenate([rng.permutation(train), rng.permutation(test), test[:5]])
    data_type = np.repeat([1, 2, 3], [len(train), len(test), 5])
    tuning = rng.standard_normal((code_ID.shape[1], n_voxels)) / np.sqrt(code_ID.shape[1])
    voxels = code_ID[shown] @ tuning + 0.5 * rng.standard_normal((len(shown), n_voxels))
    labels: dict[str, Sequence[float] | np.ndarray] = {
        "DataType": data_type,
        "Run": np.arange(len(shown)) // 50 + 1,
        "stimulus_id" if new else "Label": np.array(stimuli.ids)[shown],
    }
    keys = ["VoxelData", *(f"ROI_{name}" for name in ROIS), "ROI_VC", *labels]
    keys += [f"voxel_{axis}" for axis in "xyz"]
    values = np.full((len(keys), n_voxels + len(labels)), np.nan)
    values[0, :n_voxels] = 1
    start = 0
    for k, size in enumerate(ROIS.values(), start=1):
        values[k, :n_voxels] = 0
        values[k, start : start + size] = 1
        start += size
    values[len(ROIS) + 1, :n_voxels] = np.arange(n_voxels) < start
    for column, name in enumerate(labels):
        values[keys.index(name), n_voxels + column] = 1
    places = np.stack(np.unravel_index(np.arange(n_voxels), (10, 10, 10)))
    values[-3:, :n_voxels] = 3.0 * places - 40.5
    with h5py.File(path, "w") as file:
        matrix, meta = ("dataset", "metadata") if new else ("dataSet", "metaData")
        file[matrix] = np.column_stack([voxels, *labels.values()])
        file[f"{meta}/key"] = np.array(keys, dtype="S")
        file[f"{meta}/description"] = np.array([""] * len(keys), dtype="S1")
        file[f"{meta}/value"] = values
