"""What the data are like: figures that no decoder enters, a sheet of sample pictures and the noise
ceiling by region.

Axis letters: I images, V voxels, G ROI groups, K captions.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmri2clip import figures, store
from fmri2clip.clip import encoder
from fmri2clip.datasets.mini.world import SubjectFiles, describe_world
from fmri2clip.datasets.nsd import layout, stimuli
from fmri2clip.params import Clip

N_SCENES = 12  # sample pictures: evenly spaced through the test images, not chosen
WITHHELD_GREY = 200


def describe_data(
    root: Path,
    subjects: Sequence[str],
    preparation: str,
    clip: Clip,
    *,
    device: str,
    rois_dir: Path,
    clip_dir: Path,
    references_json: Path,
    world_json: Path,
    scenes_png: Path,
    ncsnr_png: Path,
) -> None:
    """Write the figures of the world as JSON and two pictures.

    root: NSD tree; rois_dir holds train, test, voxels; clip_dir the cache of `clip`;
    references_json its references.
    """
    files = {
        s: SubjectFiles(*(rois_dir / part / f"{s}.h5" for part in SubjectFiles._fields))
        for s in subjects
    }
    truth = {
        s: read_noise_free(layout.noise_free_path(root, s, preparation), files[s].voxels)
        for s in subjects
    }
    observer = (
        json.loads(references_json.read_text())
        .get("reference.ideal_observer", {})
        .get("subjects", {})
    )
    tree = describe_world(
        files,
        [clip_dir / "train.h5", clip_dir / "shared.h5"],
        root,
        encoder.load(clip, device),
        truth,
        {s: scores["retrieval"]["image_given_brain"]["top1"] for s, scores in observer.items()},
    )
    with store.replacing(world_json) as (temporary,):
        temporary.write_text(json.dumps(tree, indent=1) + "\n")
    simulated = any(responses is not None for responses in truth.values())
    draw_scenes(root, clip_dir / "shared.h5", scenes_png, withhold=not simulated)
    draw_ncsnr({s: files[s].voxels for s in subjects}, ncsnr_png)


def read_noise_free(path: Path, voxels_path: Path) -> store.Arrays | None:
    """betas_IV (float32, percent signal change), nsd_id_I, and high_V, low_V: membership in these
    groups.

    None if the tree has no noise-free responses, that is, if it is real.
    """
    if not path.is_file():
        return None
    with h5py.File(path, "r") as file:
        ijk_V3, nsd_id_I, betas_IV = (file[name][()] for name in ("ijk", "nsd_id", "betas"))
    voxels = store.read(voxels_path, "voxels", ["ijk_V3", "roi_VG", "roi_names_G"])
    columns = {name: k for k, name in enumerate(voxels["roi_names_G"])}
    arrays = {"betas_IV": betas_IV, "nsd_id_I": nsd_id_I.astype(np.int64)}
    for group in ("high", "low"):
        members = {
            tuple(ijk)
            for ijk in voxels["ijk_V3"][voxels["roi_VG"][:, columns[f"group/{group}"]]].tolist()
        }
        arrays[f"{group}_V"] = np.array([tuple(ijk) in members for ijk in ijk_V3.tolist()])
    return store.Arrays(arrays, {})


def draw_scenes(root: Path, shared_path: Path, path: Path, *, withhold: bool) -> None:
    """Sample pictures, each with its first caption; withhold: grey panels, as NSD forbids to
    pass its pictures on.
    """
    clip = store.read(shared_path, "clip", ["nsd_id_I", "caption_K", "caption_image_K"])
    rows = np.unique(np.linspace(0, len(clip["nsd_id_I"]) - 1, N_SCENES).astype(int))
    pictures = stimuli.read_images(root, clip["nsd_id_I"][rows])
    if withhold:
        pictures = np.full_like(pictures, WITHHELD_GREY)
    figures.draw_gallery(pictures, [_wrapped(_first_caption(clip, row)) for row in rows], path)


def draw_ncsnr(voxels_paths: Mapping[str, Path], path: Path) -> None:
    """Distribution of ncsnr over the voxels of each region, one panel a subject."""
    figures.draw_boxes(
        {s: _ncsnr_by_region(voxels) for s, voxels in voxels_paths.items()}, path, y_label="ncsnr"
    )


def _ncsnr_by_region(voxels_path: Path) -> dict[str, NDArray[np.floating[Any]]]:
    """Finite values of every group and whole ROI that has voxels; single labels are left out."""
    voxels = store.read(voxels_path, "voxels", ["ncsnr_V", "roi_VG", "roi_names_G"])
    finite_V = np.isfinite(voxels["ncsnr_V"])
    names = {str(name): column for column, name in enumerate(voxels["roi_names_G"])}
    shown = {name: c for name, c in names.items() if name.startswith("group/") or "/" not in name}
    values = {
        name: voxels["ncsnr_V"][voxels["roi_VG"][:, c] & finite_V] for name, c in shown.items()
    }
    return {name.removeprefix("group/"): value for name, value in values.items() if len(value)}


def _first_caption(clip: Mapping[str, Any], row: int) -> str:
    own = np.flatnonzero(clip["caption_image_K"] == row)
    return str(clip["caption_K"][own[0]]) if len(own) else ""


def _wrapped(text: str, width: int = 44) -> str:
    return "\n".join(textwrap.wrap(text, width))
